"""CPU seconds of a training step by phase, with the engines transformers and vllm, in one run.

    .venv-vllm/bin/python -m sdar_benchmarks.throughput.engines benchmarks/studies/throughput_engines.json

SmolLM2-135M, saved untied (vLLM on a CPU does not reload a tied head), plays two episodes of two turns of Search-QA;
two steps of GRPO and two of SDAR, so that new weights travel between them, all in float32. Seconds are those of the
trainer's process and of the servers that it has started, together; those of a server's start are told apart. Needs vLLM
(`make vllm` makes its environment) and Linux.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from sdar_agents.engines.smollm2 import SMOLLM2
from sdar_agents.engines.transformers import load_model, without_bars
from sdar_agents.learner import Phases
from sdar_agents.training import trainer as training
from sdar_agents.training.config import make_config
from sdar_benchmarks.throughput.bench import write_record
from sdar_benchmarks.throughput.figures import Figure, Figures

__all__ = ["measure_engine", "save_untied", "tree_seconds"]

METHODS = ("grpo", "sdar")

# A request with a seed stops a server that prefills in chunks, on a CPU.
_SERVER_OPTIONS = (
    *("--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"),
    *("--max-model-len", "4096", "--max-num-seqs", "16"),
)
ENGINES: Mapping[str, Mapping[str, Any]] = {
    "transformers": {},
    "vllm": {"start": 1, "dtype": "float32", "server_options": list(_SERVER_OPTIONS)},
}
"""Engines with their options."""

_STEPS = 2
_PHASES = ("rollout", "sync", "teacher", "update")


def save_untied(path: str, folder: Path) -> None:
    """Write a model with a head of its own, which begins as a copy of the embedding.

    Args:
        path: of a model that may share them.
        folder: is made.
    """
    model, tokenizer = load_model(path, device="cpu", dtype="float32")
    model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with without_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def tree_seconds() -> float:
    """Return the CPU seconds of this process and of all that it has started (Linux)."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        process = int(stat.parent.name)
        parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))
    own = os.getpid()

    def is_ours(process: int) -> bool:
        while process not in (own, 0):
            process = parents.get(process, 0)
        return process == own

    return sum(count for process, count in ticks.items() if is_ours(process)) / os.sysconf("SC_CLK_TCK")


def measure_engine(
    figures: Figures,
    engine: str,
    options: Mapping[str, Any],
    *,
    model: Path,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> None:
    """Add the figures of an engine: CPU seconds by phase, the mean of the steps of each method.

    Args:
        figures: to which the figures are added.
        engine: of the rollouts.
        options: of the engine.
        model: folder of the model.
        folder: for the runs.
        progress: called with what is measured next.
        **settings: of the runs, instead of those here.
    """
    for method in METHODS:
        progress(f"{engine}, {method}")
        config = make_config(
            {
                "model": {"path": str(model), "device": "cpu", "engine": engine, "engine_options": dict(options)},
                "rollout": {"env_id": "sdar/SearchQA-v0", "env_kwargs": {"max_steps": 2}, "max_new_tokens": 24},
                "method": method,
                "algorithm": {"kl_coef": 0.0},
                "steps": _STEPS,
                "tasks_per_step": 1,
                "group_size": 2,
                "skills": {"k": 2},
                "learner": {"lr": 1e-6, "gradient_parts_every": 0},
                "evaluation": {"every": 0},
                "log": {"tracker": "none", "trajectories_every": 0, "progress": False},
                **settings,
            }
        )
        clocked, started = time.monotonic(), tree_seconds()
        with patch.object(training, "Phases", partial(Phases, clock=tree_seconds)):
            run = training.Trainer(config, folder / f"{engine}-{method}")
            if method == METHODS[0] and "start" in options:
                figures.add("start of a server", tree_seconds() - started, "CPU s")
                figures.add("start of a server, by the clock", time.monotonic() - clocked, "s")
            synced = _count_syncs(run)
            run.run()
        lines = (folder / f"{engine}-{method}" / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        for phase in _PHASES:
            seconds = synced if phase == "sync" else [row[f"time/{phase}"] for row in rows if f"time/{phase}" in row]
            if seconds:
                figures.add(f"{method}: {phase}", sum(seconds) / len(seconds), "CPU s")
        generated = sum(row["rollout/response_tokens"] for row in rows)
        figures.add(f"{method}: new tokens", generated / sum(row["time/rollout"] for row in rows), "tokens/CPU s")
        probes = [row["sampler/probe_difference"] for row in rows if "sampler/probe_difference" in row]
        if probes:
            figures.add(f"{method}: log-probs of the probe, largest mean difference", max(probes), "nats")


def _count_syncs(run: Any) -> list[float]:
    """Return a list that gets the CPU seconds of each transfer of weights."""
    bring, seconds = run._engine_weights.bring, []

    def timed(version: int) -> dict[str, float]:
        started = tree_seconds()
        found: dict[str, float] = bring(version)
        if found:
            seconds.append(tree_seconds() - started)
        return found

    run._engine_weights.bring = timed
    return seconds


def _measure() -> list[Figure]:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_untied(SMOLLM2, folder / "model")
        for engine, options in ENGINES.items():
            figures = Figures(f"SmolLM2-135M, {engine}")
            measure_engine(
                figures,
                engine,
                options,
                model=folder / "model",
                folder=folder / "runs",
                progress=lambda at: print(at, file=sys.stderr),
            )
            found += figures
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure both engines and write the record."""
    return write_record("engines", arguments, _measure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
