#!/bin/sh
# Plays the fixed panels with SmolLM2-135M, as it came and with the adapters of benchmarks/models, for `make
# leaderboard-smollm2`. From a clean checkout: a run of a changed one becomes no record.
#
# The panels are subsets, the same for both models: on a CPU all tasks would take days. With `make vllm` done, the model
# answers behind a vLLM server on this machine; otherwise in this process, by transformers.
set -eu
runs=runs/leaderboard
panels=${PANELS:-SearchQA:96 WebShop:12 ALFWorld:6}
adapters=benchmarks/models/smollm2-sft
settings="--temperature 0.4 --max-tokens 96"
mkdir -p "$runs"

# play NAME PROGRAM OPTION...: a model on all panels
play() {
    name=$1 program=$2
    shift 2
    for panel in $panels; do
        # The adapters were made of demonstrations on the facts.
        case $panel in SearchQA:*) corpus="--set corpus=facts" ;; *) corpus="" ;; esac
        "$program" eval "sdar/${panel%:*}-v0" $corpus "$@" $settings --limit "${panel#*:}" --out "$runs/$name-${panel%:*}"
    done
}

# serve NAME FOLDER: play with a model behind a server
serve() {
    port=${PORT:-8137}
    export VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
    # A request with a seed stops a server that prefills in chunks, on a CPU.
    .venv-vllm/bin/python -m vllm.entrypoints.openai.api_server --model "$2" --served-model-name "$1" \
        --host 127.0.0.1 --port "$port" --dtype float32 --max-model-len 8192 --max-num-batched-tokens 32768 \
        --enforce-eager --no-enable-chunked-prefill > "$runs/$1.log" 2>&1 &
    server=$!
    trap 'kill $server 2> /dev/null || true' EXIT
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
        kill -0 $server || { tail "$runs/$1.log"; exit 1; }
        sleep 2
    done
    play "$1" .venv-vllm/bin/sdar --agent openai --base-url "http://127.0.0.1:$port/v1" --model "$1"
    kill $server
    wait $server || true
    trap - EXIT
}

if [ -x .venv-vllm/bin/sdar ] && [ "${ENGINE:-vllm}" = vllm ]; then
    [ -d "$runs/smollm2-sft.model" ] ||
        .venv-vllm/bin/sdar data smollm2 --adapter "$adapters" --out "$runs/smollm2-sft.model"
    serve smollm2 "$(.venv-vllm/bin/sdar data smollm2)"
    serve smollm2-sft "$runs/smollm2-sft.model"
else
    play smollm2 .venv/bin/sdar --agent transformers --agent-set dtype=float32 --model smollm2
    play smollm2-sft .venv/bin/sdar --agent transformers --agent-set dtype=float32 --model "$adapters"
fi
