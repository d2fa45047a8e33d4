"""Cost of a training step by phase, in windowed prompts and in growing chats, for a small study on a CPU.

    python -m sdar_benchmarks.throughput.training_step MODEL OUTPUT.json

The settings are those of a study that tells methods apart on two cores: small rooms of one home, objects to be put into
furniture, seven turns, 16 tasks of four episodes, two mini-batches; the rollout in float32, the update in bfloat16, no
reference policy, old log-probs from the sampler. MODEL is a tiny model that was fine-tuned on demonstrations of both
forms (`sdar demos --history appended`); what a step costs depends on how long its answers are.

GRPO and SDAR learn from the same rollout, each from the same weights. Times are CPU seconds of one thread, the mean of
the steps; the first step of each form warms up and is not counted.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from sdar_agents.algorithms import make_algorithm
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Row, make_rows
from sdar_benchmarks.records.provenance import platform_facts, versions
from sdar_envs import Task
from sdar_envs.chat import ChatMode
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.registry import iter_tasks
from sdar_envs.storage import write_atomic
from sdar_skills import Library, make_retriever

__all__ = ["LEARNER", "METHODS", "measure_step"]

METHODS: Mapping[str, dict[str, float]] = {"grpo": {}, "sdar": {"distill_coef": 1.0}}
"""Methods with the settings that differ from their defaults."""

LEARNER = LearnerSettings(
    lr=2e-4, mini_batches=2, max_tokens=8192, autocast=True, old="sampler", idle_rows="skip", gradient_parts_every=0
)

_ENV, _ROOMS, _KIND = "sdar/ALFWorld-v0", {"rooms": "small"}, "pick_and_place_simple"
_TASKS, _GROUP, _TURNS, _NEW_TOKENS = 16, 4, 7, 64


def measure_step(
    policy: TransformersPolicy,
    history: ChatMode,
    *,
    steps: int = 2,
    learner: LearnerSettings = LEARNER,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return seconds by method and phase, and what was played, as means over steps.

    Args:
        policy: generates; its weights stay as they are.
        history: form of the episodes.
        steps: that are measured, after one that is not.
        learner: settings of the update.
        progress: called with what is measured next.
    """
    retriever = make_retriever("home", Library.load())
    settings = RolloutSettings(
        _ENV,
        {**_ROOMS, "max_steps": _TURNS, "reward_scale": 10, "split": "home"},
        history=history,
        terse=True,
        max_new_tokens=_NEW_TOKENS,
    )
    rollout = Rollout(settings, policy, skills=SkillPrompts(retriever, k=1))
    tasks = _tasks(_TASKS * (steps + 1))
    seconds: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
    played: Counter[str] = Counter()
    for step in range(steps + 1):
        progress(f"{history}, step {step} of {steps}")
        started = time.process_time()
        chosen = tasks[_TASKS * step : _TASKS * (step + 1)]
        result = rollout.collect(chosen, group_size=_GROUP, seed=0, step=step)
        rollout_seconds = time.process_time() - started
        rows = [row for each in result.trajectories for row in make_rows(each)]
        for method in METHODS:
            found = _learn(policy, method, rows, learner, step) | {"rollout": rollout_seconds}
            if step:
                seconds[method].update(found)
        if step:
            played.update(_counts(result.metrics, rows))
    rollout.close()
    return {
        "seconds": {
            method: {name: value / steps for name, value in sorted(found.items())} | {"all": found.total() / steps}
            for method, found in seconds.items()
        },
        "played": {name: value / steps for name, value in played.items()},
    }


def _learn(
    policy: TransformersPolicy, method: str, rows: Sequence[Row], settings: LearnerSettings, step: int
) -> dict[str, float]:
    """Return the CPU seconds of the phases of a learning step."""
    algorithm = make_algorithm(method, suite="alfworld", kl_coef=0.0, **METHODS[method])
    if not algorithm.needs_teacher:
        rows = [replace(row, teacher_prompt_ids=None) for row in rows]
    learner = Learner(copy.deepcopy(policy.model), algorithm, settings, pad_id=0)
    phases = Phases(learner.device, time.process_time)
    learner.learn(rows, step + 1, phases=phases)
    return dict(phases.seconds)


def _counts(metrics: Any, rows: Sequence[Row]) -> dict[str, float]:
    trained = sum(len(row.prompt_ids) + len(row.response_ids) for row in rows)
    names = (
        "rollout/turns",
        "rollout/prompt_tokens",
        "rollout/response_tokens",
        "rollout/success",
        "rollout/malformed",
    )
    return {name: metrics[name] for name in names} | {"rows": float(len(rows)), "row_tokens": float(trained)}


def _tasks(count: int) -> list[Task]:
    """Return tasks of one kind, in the order of the split."""
    of_kind = (task for task in iter_tasks(_ENV, split="home", **_ROOMS) if task.task_type == _KIND)
    return list(islice(of_kind, count))


def main(arguments: Sequence[str]) -> int:
    """Measure both forms and write the record."""
    try:
        if len(arguments) != 2:
            raise InvalidOption(f"{len(arguments)} arguments came; wanted two: the folder of a model, and a file.")
        torch.set_num_threads(1)
        policy = TransformersPolicy.load(arguments[0], device="cpu", dtype="float32")
        forms: tuple[ChatMode, ...] = ("windowed", "appended")
        record = {
            "hardware": platform_facts(),
            "versions": versions(),
            "forms": {
                form: measure_step(policy, form, progress=lambda at: print(at, file=sys.stderr)) for form in forms
            },
        }
        write_atomic(Path(arguments[1]), json.dumps(record, indent=1) + "\n")
    except SdarError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
