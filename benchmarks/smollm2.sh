#!/bin/sh
# Evaluates SmolLM2-135M on the three fixed panels, as it came and with the adapters of benchmarks/models, behind a vLLM
# server on this machine, and makes the leaderboard's records. From a clean checkout, after `make vllm`:
#
#     make leaderboard-smollm2
#
# The panels are subsets, the same for both models: a CPU needs hours for all of them. Without vLLM the same model plays by
# `--agent transformers --model smollm2 --agent-set dtype=float32` (or benchmarks/models/smollm2-sft), batch by batch.
set -eu
bin=.venv-vllm/bin
port=${PORT:-8137}
runs=runs/leaderboard
export VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
mkdir -p "$runs"

# play FOLDER NAME: serve the model of a folder under a name, and let it play
play() {
    "$bin/python" -m vllm.entrypoints.openai.api_server --model "$1" --served-model-name "$2" --host 127.0.0.1 \
        --port "$port" --dtype float32 --max-model-len 8192 --max-num-batched-tokens 32768 --enforce-eager \
        --no-enable-chunked-prefill > "$runs/$2.log" 2>&1 &
    server=$!
    trap 'kill $server 2> /dev/null || true' EXIT
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
        kill -0 $server || { tail "$runs/$2.log"; exit 1; }
        sleep 2
    done
    for panel in SearchQA:96 WebShop:24 ALFWorld:16; do
        "$bin/sdar" eval "sdar/${panel%:*}-v0" --agent openai --base-url "http://127.0.0.1:$port/v1" --model "$2" \
            --temperature 0.4 --max-tokens 128 --concurrency 16 --limit "${panel#*:}" --out "$runs/$2-${panel%:*}"
    done
    kill $server
    wait $server || true
    trap - EXIT
}

[ -d "$runs/smollm2-sft.model" ] || "$bin/sdar" data smollm2 --adapter benchmarks/models/smollm2-sft \
    --out "$runs/smollm2-sft.model"
play "$("$bin/sdar" data smollm2)" smollm2
play "$runs/smollm2-sft.model" smollm2-sft
