"""Cost of a training step by phase, in windowed prompts and in growing chats, at the size of a study on a CPU.

    python -m sdar_benchmarks.throughput.training_step record.json

The settings are those of a study that tells methods apart on two cores: small rooms of one home, objects to be put into
furniture, seven turns, 16 tasks of four episodes, two mini-batches; all in float32, packed, no reference policy, old
log-probs from the sampler. The model has a million random parameters. What it answers is told to it: the expert's
thoughts and commands, some of them replaced by other commands, so that lengths and successes are those of a model that
has learnt the task. It computes them as if it had sampled them.

GRPO and SDAR learn from the same rollout, each from the same weights. Times are CPU seconds of one thread, the mean of
the steps; a first step warms up and is not counted.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from sdar_agents.algorithms import make_algorithm
from sdar_agents.baselines.scripted import Agent, default_agent, make_agent
from sdar_agents.engines import transformers
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.sft.demonstrations import DemonstrationSettings, demonstrate
from sdar_agents.sft.thoughts import think
from sdar_agents.sft.tiny import TINY_MODELS, make_model, train_tokenizer
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, Row, make_rows
from sdar_benchmarks.throughput.bench import write_record
from sdar_benchmarks.throughput.figures import Figure, Figures
from sdar_envs import Task
from sdar_envs.chat import ChatMode
from sdar_envs.prompt import Turn, render_completion, style_of, terse
from sdar_envs.registry import iter_tasks
from sdar_skills import Library, make_retriever

__all__ = ["LEARNER", "METHODS", "ToldPolicy", "measure_step", "told_policy"]

METHODS: Mapping[str, dict[str, Any]] = {"grpo": {}, "sdar": {"distill_coef": 1.0}}
"""Methods with the settings that differ from their defaults."""

LEARNER = LearnerSettings(
    lr=2e-4, mini_batches=2, max_tokens=8192, old="sampler", idle_rows="skip", packing=True, gradient_parts_every=0
)

_ENV, _KIND = "sdar/ALFWorld-v0", "pick_and_place_simple"
_ROOMS: dict[str, Any] = {"rooms": "small"}
_TASKS, _GROUP, _TURNS, _NEW_TOKENS = 16, 4, 7, 64
_MISTAKES = 0.3


def measure_step(
    policy: TransformersPolicy,
    history: ChatMode,
    *,
    steps: int = 2,
    warm_up: int = 1,
    learner: LearnerSettings = LEARNER,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return seconds by method and phase, and what was played, as means over steps.

    Args:
        policy: generates; its weights stay as they are.
        history: form of the episodes.
        steps: that are measured.
        warm_up: steps before them.
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
    tasks = _tasks(_TASKS * (warm_up + steps))
    seconds: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
    played: Counter[str] = Counter()
    for step in range(warm_up + steps):
        progress(f"{history}, step {step + 1} of {warm_up + steps}")
        started = time.process_time()
        chosen = tasks[_TASKS * step : _TASKS * (step + 1)]
        result = rollout.collect(chosen, group_size=_GROUP, seed=0, step=step)
        rollout_seconds = time.process_time() - started
        rows = [row for each in result.trajectories for row in make_rows(each)]
        for method in METHODS:
            found = _learn(policy, method, rows, learner, step) | {"rollout": rollout_seconds}
            if step >= warm_up:
                seconds[method].update(found)
        if step >= warm_up:
            played.update(_counts(result.metrics, rows))
    rollout.close()
    return {
        "seconds": {
            method: {name: value / steps for name, value in sorted(found.items())} | {"all": found.total() / steps}
            for method, found in seconds.items()
        },
        "played": {name: value / steps for name, value in played.items()},
    }


class ToldPolicy(TransformersPolicy):
    """A policy whose answers are an expert's, with mistakes; the model computes them as if it had sampled them."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model, tokenizer)
        self.answers: dict[Request, tuple[int, ...]] = {}
        self._episodes: dict[int, tuple[Agent, random.Random, list[Turn]]] = {}

    def generate(self, requests: Sequence[Request], sampling: Sampling, **options: Any) -> list[Completion]:
        """Return the answers, with the log-probabilities that the model gives them."""
        self.answers = {request: self._answer(request) for request in requests}
        with patch.object(transformers, "_Batch", _ToldBatch):
            return super().generate(requests, sampling, **options)

    def _answer(self, request: Request) -> tuple[int, ...]:
        at = request.situation
        assert at is not None
        if at.turn_index == 0:
            agent, rng = make_agent(default_agent(_ENV)), random.Random(request.seed)
            agent.reset(at.env, at.observation, at.info, rng.randrange(2**31))
            self._episodes[id(at.env)] = agent, rng, []
        agent, rng, past = self._episodes[id(at.env)]
        commands = at.info["admissible_commands"]
        action = agent.act(at.observation, at.info)
        if rng.random() < _MISTAKES:
            action = rng.choice(commands)
        thought = think(at.env.task, past, at.observation, action, commands=commands, shown=len(past))
        past.append(Turn(at.observation, action))
        text = render_completion(terse(style_of(at.env, at.env.task)), action, thought)
        end: int = self.tokenizer.eos_token_id
        return (*self.encode(text), end)[:_NEW_TOKENS]


class _ToldBatch(transformers._Batch):
    """A batch that goes on with what the rows are told, after it has sampled."""

    def __init__(self, policy: ToldPolicy, requests: Sequence[Request], sampling: Sampling) -> None:
        super().__init__(policy, requests, sampling)
        self._told = [policy.answers[request] for request in requests]

    def _choose(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        running = {row for row in rows if self._reasons[row] is None}
        tokens = super()._choose(logits, rows)
        told = [self._told[row][len(self._ids[row]) - 1] if row in running else 0 for row in rows]
        logprobs = torch.log_softmax(logits, dim=-1)[range(len(rows)), told].tolist()
        for row, token, logprob in zip(rows, told, logprobs, strict=True):
            if row in running:
                self._ids[row][-1], self._logprobs[row][-1] = token, logprob
                self._reasons[row] = self._policy.stop_reason(self._ids[row], self._sampling)
        return torch.tensor(told, device=tokens.device)


def told_policy() -> ToldPolicy:
    """Return a random model with a tokenizer of the words of its tasks."""
    shown = DemonstrationSettings(env_id=_ENV, env_kwargs=dict(_ROOMS), episodes=60, noise=_MISTAKES, terse=True)
    rows = [row for played in demonstrate(shown) for row in played.rows]
    texts = [message["content"] for row in rows for message in row["messages"]]
    tokenizer = train_tokenizer([*texts, *(row["completion"] for row in rows)])
    return ToldPolicy(make_model(TINY_MODELS["tiny-1m"], tokenizer, seed=0), tokenizer)


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


def _figures(form: ChatMode, measured: Mapping[str, Any]) -> Figures:
    """Return what `measure_step` has measured as figures of a record."""
    figures = Figures(f"Training step of 64 episodes, {form} prompts")
    for method, phases in measured["seconds"].items():
        for phase, seconds in phases.items():
            figures.add(f"{method}: {phase}", seconds, "CPU s")
    for name, value in measured["played"].items():
        figures.add(name.removeprefix("rollout/").replace("_", " "), value, "")
    return figures


def _measure() -> list[Figure]:
    torch.set_num_threads(1)
    policy = told_policy()
    forms: tuple[ChatMode, ...] = ("windowed", "appended")
    found: list[Figure] = []
    for form in forms:
        found += _figures(form, measure_step(policy, form, progress=lambda at: print(at, file=sys.stderr)))
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure both forms and write the record."""
    return write_record("training_step", arguments, _measure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
