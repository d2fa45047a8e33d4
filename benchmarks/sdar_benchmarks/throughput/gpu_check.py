"""GPU check: correctness and speed of training on one accelerator, in at most eight minutes.

    python -m sdar_benchmarks.throughput.gpu_check --out gpu_check.jsonl
    python benchmarks/sdar_benchmarks/throughput/gpu_check.py    # from a checkout that is not installed

It needs torch, transformers and the base dependencies, and no network: models have published shapes and random weights.
First the GPU is compared with the CPU: log-probabilities, gradients and a step of the learner of a tiny model, in
float32 and under bfloat16. Then, for each shape, come generation (trained weights under autocast, and a copy in
bfloat16), the update with its share of the card's peak (MFU), memory beside the plan, and a step of GRPO and of SDAR
with teacher prompts as long as with six skills; then vLLM, where it is installed.

Each number is a line of the record as soon as it is there, so a check that is cut off tells what it has measured. A
section that fails, or for which no time is left, is a line too.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import json
import math
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file of a checkout
    _ROOT = Path(__file__).resolve().parents[3]
    # In the place of this file's own folder, whose `http` would hide Python's.
    sys.path[:1] = [str(_ROOT), *(str(_ROOT / name) for name in ("skills", "agents", "benchmarks"))]

import torch
import transformers

from sdar_agents.algorithms import make_algorithm
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.reader import merge
from sdar_agents.sft.tiny import train_tokenizer
from sdar_agents.training.checks.memory_plan import MemoryPlan, plan_memory
from sdar_agents.training.config import TrainConfig, make_config
from sdar_agents.types import Row
from sdar_benchmarks.throughput.trainer import PEAKS, SHAPES, Shape, forward_flop, random_model, random_rows

__all__ = ["Check", "main"]

_GIB = 2**30
_TINY = Shape(hidden=64, layers=2, heads=4, kv_heads=2, mlp=128, vocabulary=1024, rows=16, prompt=48, response=16)
# Of ALFWorld with six skills: what the student and its teacher read.
_PROMPT, _TEACHER_PROMPT = 484, 1911
_MINUTES = 8.0
# Below which no further section of a shape is begun, by section.
_LEAST_SECONDS = {"generation": 45.0, "update": 40.0, "methods": 60.0, "vllm": 150.0}


class Check:
    """The check of one device.

    Args:
        device: such as `cuda`.
        out: file of the record; appended to.
        minutes: of the whole.
        is_tiny: shapes that a CPU computes in seconds, for a test of the check itself.
        say: called with each line for a person.
    """

    def __init__(
        self, device: str, out: Path, *, minutes: float, is_tiny: bool, say: Callable[[str], None] = print
    ) -> None:
        self.device = torch.device(device)
        self.problems: list[str] = []
        self._out = out
        self._end = time.monotonic() + 60 * minutes
        self._is_tiny = is_tiny
        self._say = say

    def run(self, shapes: dict[str, Shape]) -> None:
        """Run all sections."""
        with self._section("machine"):
            self._machine()
        with self._section("correctness"):
            self._correctness()
        for name, shape in shapes.items():
            for section, measure in (
                ("generation", self._generation),
                ("update", self._update),
                ("methods", self._methods),
            ):
                with self._section(f"{name}: {section}", least=_LEAST_SECONDS[section]) as has_time:
                    if has_time:
                        measure(name, shape)
        first = next(iter(shapes.items()))
        with self._section("vllm", least=_LEAST_SECONDS["vllm"]) as has_time:
            if has_time:
                self._vllm(*first)
        self._say(f"record: {self._out}")

    # -- records ----------------------------------------------------------------------------

    def note(self, what: str, value: Any, unit: str = "") -> None:
        """Write a line of the record."""
        line = {"what": what, "value": value, "unit": unit, "seconds_left": round(self._end - time.monotonic(), 1)}
        with open(self._out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        shown = f"{value:,.4g}" if isinstance(value, float) else value
        self._say(f"{what:<58} {shown} {unit}")

    def expect(self, what: str, value: float, most: float, unit: str = "") -> None:
        """Write a line, and a problem if the value is above its limit or not a number."""
        self.note(what, value, unit)
        if not value <= most:
            self.problems.append(f"{what} is {value:.3g}; wanted at most {most:g}")
            self.note(f"PROBLEM: {what}", value, f"wanted at most {most:g}")

    @contextmanager
    def _section(self, name: str, least: float = 0.0) -> Iterator[bool]:
        left = self._end - time.monotonic()
        if left < (0.0 if self._is_tiny else least):
            self.note(f"{name}: left out", f"{left:.0f} s are left")
            yield False
            return
        try:
            yield True
        except Exception as error:  # so that one section does not cost the others
            self.problems.append(f"{name}: {type(error).__name__}: {error}")
            self.note(f"PROBLEM: {name}", f"{type(error).__name__}: {' '.join(str(error).split()):.400}")
        finally:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)

    # -- sections ---------------------------------------------------------------------------

    def _machine(self) -> None:
        self.note("python", platform.python_version())
        self.note("torch", torch.__version__)
        self.note("transformers", transformers.__version__)
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            self.note("device", properties.name)
            self.note("memory of the device", properties.total_memory / _GIB, "GiB")
            self.note("CUDA", str(torch.version.cuda))

    def _correctness(self) -> None:
        """Compare the device with the CPU on a tiny model."""
        torch.backends.cuda.matmul.allow_tf32 = False
        model = random_model(replace(_TINY, layers=4), "cpu", torch.float32)
        rows = _taught(_varied_rows(32), _TINY.vocabulary, length=60)
        batch = make_batch(rows, pad_id=0)
        there: Any = copy.deepcopy(model).to(self.device)
        scores, gradients = [], []
        for each, device in ((model, torch.device("cpu")), (there, self.device)):
            moved = batch.to(device)
            found = score(each, moved.student, moved.mask, ScoringOptions(entropies=True))
            (found.logprobs.sum() / 100).backward()  # type: ignore[no-untyped-call]
            scores.append(torch.stack([found.logprobs, found.entropies]).detach().cpu())  # type: ignore[list-item]
            gradients.append(torch.cat([p.grad.flatten().cpu() for p in each.parameters() if p.grad is not None]))
        difference = (scores[0] - scores[1]).abs().max()
        self.expect("float32: log-probs and entropies, largest difference to the CPU", float(difference), 1e-3, "nats")
        relative = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
        self.expect("float32: gradient, relative difference to the CPU", float(relative), 1e-3)
        with torch.autocast(self.device.type, dtype=torch.bfloat16), torch.no_grad():
            moved = batch.to(self.device)
            halved = score(there, moved.student, moved.mask).logprobs.cpu()
        mean = ((halved - scores[0][0]).abs() * batch.mask).sum() / batch.mask.sum()
        self.expect("bfloat16: log-probs, mean difference to float32", float(mean), 0.05, "nats")
        metrics = []
        for place in ("cpu", self.device.type):
            learner = Learner(
                random_model(_TINY, place, torch.float32),
                make_algorithm("sdar", suite="alfworld"),
                LearnerSettings(lr=1e-4, mini_batches=2, max_tokens=512, gradient_parts_every=0),
                pad_id=0,
            )
            metrics.append(learner.learn(rows, 1).metrics)
        for name in ("loss/total", "distill/gap", "kl/ref", "optimizer/gradient_norm"):
            self.expect(
                f"a step of sdar: {name}, difference to the CPU", abs(metrics[0][name] - metrics[1][name]), 1e-3
            )

    def _generation(self, name: str, shape: Shape) -> None:
        rows = random_rows(shape)
        tokenizer = train_tokenizer(["a few words, for this model never speaks them"])
        requests = [Request(row.prompt_ids, i) for i, row in enumerate(rows)]
        weights = random_model(shape, str(self.device), torch.float32)
        for what, model, autocast in (
            ("trained weights under autocast", weights, torch.bfloat16),
            ("a copy in bfloat16", random_model(shape, str(self.device)), None),
        ):
            policy = TransformersPolicy(model, tokenizer, max_batch_tokens=1 << 20, autocast=autocast)
            policy.generate(requests[:2], Sampling(max_new_tokens=2))
            phases = Phases(self.device)
            with phases("generation"):
                answers = policy.generate(requests, Sampling(max_new_tokens=shape.response))
            generated = sum(len(answer.token_ids) for answer in answers)
            seconds = phases.seconds["generation"]
            self.note(f"{name}: generation, {what}", generated / seconds, "tokens/s")
            self.note(f"{name}: generation, {what}, a step", 1000 * seconds / shape.response, "ms")

    def _update(self, name: str, shape: Shape) -> None:
        config = self._config(shape, "grpo")
        learner = self._learner(shape, config)
        rows = random_rows(shape)
        learner.learn(rows[:8], 1)
        before = self._reset_peak()
        best = math.inf
        for step in (2, 3):
            phases = Phases(self.device)
            learner.learn(rows, step, phases=phases)
            best = min(best, phases.seconds["update"])
        self.note(f"{name}: update", shape.rows * (shape.prompt + shape.response) / best, "tokens/s")
        flop = 3 * forward_flop(shape) / best
        self.note(f"{name}: model FLOP of the update", flop / 1e12, "TFLOP/s")
        if self.device.type != "cuda":
            return
        card = torch.cuda.get_device_name(self.device)
        peak = next((value for key, value in PEAKS.items() if key in card), None)
        if peak is not None:
            self.note(f"{name}: MFU of the update", flop / peak)
        plan = self._plan(shape, config)
        planned = sum(plan.kept.values()) + sum(plan.update.values())
        found = torch.cuda.max_memory_allocated(self.device)
        self.note(f"{name}: memory between updates, measured", before / _GIB, "GiB")
        self.note(f"{name}: memory between updates, planned", sum(plan.kept.values()) / _GIB, "GiB")
        self.note(f"{name}: peak memory of the update, measured", found / _GIB, "GiB")
        self.note(f"{name}: peak memory of the update, planned", planned / _GIB, "GiB")
        self.expect(f"{name}: peak memory, measured over planned", found / planned, 1.1)

    def _methods(self, name: str, shape: Shape) -> None:
        """Measure a learning step of GRPO and SDAR on the same rows, teacher prompts as long as with six skills."""
        is_tiny = self._is_tiny
        shape = replace(shape, prompt=_TINY.prompt if is_tiny else _PROMPT)
        rows = _taught(random_rows(shape), shape.vocabulary, length=3 * _TINY.prompt if is_tiny else _TEACHER_PROMPT)
        spent = {}
        for method in ("grpo", "sdar"):
            learner = self._learner(shape, self._config(shape, method))
            learner.learn(rows[:8], 1)
            phases = Phases(self.device)
            learner.learn(rows, 2, phases=phases)
            spent[method] = sum(phases.seconds.values())
            for phase, seconds in phases.seconds.items():
                self.note(f"{name}: {method}: {phase}", seconds, "s")
            del learner
            gc.collect()
        # Of a whole step, rollouts take about half (design: 43 to 54 % in transformers), and they are the same.
        self.note(f"{name}: learning of sdar over grpo", spent["sdar"] / spent["grpo"], "x")
        self.note(
            f"{name}: a step whose rollout is half of GRPO's, sdar over grpo",
            (spent["grpo"] + spent["sdar"]) / (2 * spent["grpo"]),
            "x",
        )

    def _vllm(self, name: str, shape: Shape) -> None:
        """Measure generation and weight sync of a vLLM server, and compare its log-probabilities."""
        missing = [package for package in ("vllm", "httpx2") if importlib.util.find_spec(package) is None]
        if missing:
            self.note("vllm", f"left out: {missing[0]} is not installed")
            return
        from sdar_agents.engines.servers.vllm import VllmPolicy  # noqa: PLC0415  (needs an extra)

        model: Any = random_model(shape, str(self.device))
        tokenizer = train_tokenizer(["a few words, for this model never speaks them"])
        options = ("--gpu-memory-utilization", "0.4", "--max-model-len", str(2 * (shape.prompt + shape.response)))
        started = time.monotonic()
        policy = VllmPolicy(model, tokenizer, start=1, dtype="bfloat16", server_options=options, seconds_to_start=140.0)
        try:
            self.note(f"{name}: vllm: start", time.monotonic() - started, "s")
            requests = [Request(row.prompt_ids, i) for i, row in enumerate(random_rows(shape))]
            policy.generate(requests[:4], Sampling(max_new_tokens=4))
            started = time.monotonic()
            answers = policy.generate(requests, Sampling(max_new_tokens=shape.response))
            seconds = time.monotonic() - started
            generated = sum(len(answer.token_ids) for answer in answers)
            self.note(f"{name}: vllm: generation", generated / seconds, "tokens/s")
            started = time.monotonic()
            policy.load_weights(((key, value) for key, value in model.named_parameters()), version=1)
            self.note(f"{name}: vllm: weight sync by folder", time.monotonic() - started, "s")
            ids = policy.probe_ids()
            row = make_batch([Row(ids[:1], ids[1:])], pad_id=0).to(self.device)
            with torch.no_grad():
                wanted = score(model, row.student, row.mask).logprobs[0].tolist()
            [found] = policy.score([ids[:1]], [ids[1:]])
            mean = sum(abs(a - b) for a, b in zip(found, wanted, strict=True)) / len(wanted)
            self.expect(f"{name}: vllm: log-probs of the probe, mean difference", mean, 0.1, "nats")
        finally:
            policy.close()

    # -- parts ------------------------------------------------------------------------------

    def _config(self, shape: Shape, method: str) -> TrainConfig:
        tokens = 512 if self._is_tiny else 16_384
        settings: dict[str, Any] = {
            "model": {"path": "random weights"},
            "rollout": {"env_id": "sdar/ALFWorld-v0", "max_new_tokens": shape.response},
            "method": method,
            "learner": {"max_tokens": tokens, "gradient_parts_every": 0, "mini_batches": 2},
        }
        return make_config(merge(settings, {"learner": {"autocast": True, "gradient_checkpointing": True}}))

    def _learner(self, shape: Shape, config: TrainConfig) -> Learner:
        model = random_model(shape, str(self.device), torch.float32)
        return Learner(model, config.make_algorithm(), config.learner, pad_id=0)

    def _plan(self, shape: Shape, config: TrainConfig) -> MemoryPlan:
        with tempfile.TemporaryDirectory() as folder:
            with torch.device("meta"):
                model: Any = random_model(shape, "meta", torch.float32)
            model.config.save_pretrained(folder)
            model = replace(config.model, path=folder)
            return plan_memory(replace(config, model=model), processes=1)

    def _reset_peak(self) -> float:
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return float(torch.cuda.memory_allocated(self.device))


def _varied_rows(count: int) -> list[Row]:
    """Return rows of different lengths, in groups of eight."""
    rng = random.Random(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, _TINY.vocabulary) for _ in range(rng.randint(low, high)))

    return [Row(ids(5, 60), ids(1, 20), None, f"{i // 8}", f"{i}", 0, float(rng.choice((0, 10)))) for i in range(count)]


def _taught(rows: list[Row], vocabulary: int, *, length: int) -> list[Row]:
    """Return the rows with teacher prompts: a text of their group, then the student's prompt."""
    skills: dict[str, tuple[int, ...]] = {}
    taught = []
    for row in rows:
        rng = random.Random(f"skills {row.group_id}")
        more = max(1, length - len(row.prompt_ids))
        text = skills.setdefault(row.group_id, tuple(rng.randrange(1, vocabulary) for _ in range(more)))
        taught.append(replace(row, teacher_prompt_ids=text + row.prompt_ids))
    return taught


def main(arguments: list[str] | None = None) -> int:
    """Run the check; return 0, 1 after a problem, 2 without a device."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="gpu_check.jsonl", metavar="FILE", help="record (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="of the whole (default: %(default)s)")
    parser.add_argument("--shapes", default=",".join(SHAPES), metavar="NAMES", help="of Qwen2.5 (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to test the check itself on a CPU")
    args = parser.parse_args(arguments)
    names = [name for name in args.shapes.split(",") if name]
    unknown = [name for name in names if name not in SHAPES]
    if unknown:
        print(f"error: no shape {unknown[0]!r}; there are {', '.join(SHAPES)}.", file=sys.stderr)
        return 2
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "error: there is no NVIDIA GPU, or this torch was built without CUDA. The check itself can be tried by "
            "--device cpu --tiny.",
            file=sys.stderr,
        )
        return 2
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    check = Check(args.device, out, minutes=args.minutes, is_tiny=args.tiny)
    check.run({"tiny": _TINY} if args.tiny else {name: SHAPES[name] for name in names})
    for problem in check.problems:
        print("problem:", problem, file=sys.stderr)
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
