"""Evaluation: an agent plays every task of a split once, in order; success counts with their uncertainty.

An evaluation is reproducible: the seed of an episode follows from the evaluation's seed and the task id
alone, so neither the order nor the number of tasks changes an episode. An error of the agent or of the
environment ends the evaluation; nothing is retried, and a result never replaces an existing file
unless that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sdar_agents import Agent, make_agent
from sdar_benchmarks.arguments import env_defaults, make_env
from sdar_envs import Task
from sdar_envs.core import text_env
from sdar_envs.errors import InvalidOption, UnsolvableGame
from sdar_envs.registry import count_tasks
from sdar_envs.storage import write_atomic

__all__ = [
    "Config",
    "Episode",
    "Evaluation",
    "Summary",
    "check_output",
    "episode_seed",
    "evaluate",
    "run_episode",
    "save",
    "summarize",
    "wilson_interval",
]

_FORMAT = 1
_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Config:
    """What was evaluated, with every default filled in.

    Attributes:
        env_id: the environment, as `gymnasium.make` knows it.
        agent: the agent's name.
        split: the split that was walked.
        limit: only the first so many tasks; None for all.
        seed: from which the seeds of the episodes are derived.
        env_kwargs: all arguments that the environment was made with, `max_steps` among them.
    """

    env_id: str
    agent: str
    split: str
    limit: int | None
    seed: int
    env_kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode.

    Attributes:
        task_id: the task.
        task_type: its kind.
        seed: of the agent and the environment.
        success: the task was done.
        score: the environment's score at the end.
        episode_return: sum of rewards.
        steps: commands given.
        terminated: the task's end was reached.
        truncated: the steps ran out. Neither: the agent gave up, for lack of any plan that wins.
        invalid_actions: commands that the environment could not use.
        seconds: time for the episode, agent and environment.
    """

    task_id: str
    task_type: str
    seed: int
    success: bool
    score: float
    episode_return: float
    steps: int
    terminated: bool
    truncated: bool
    invalid_actions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Episodes in numbers.

    Attributes:
        episodes: how many.
        success_rate: the share of successes, 0 to 1.
        success_interval: its 95 % Wilson interval.
        mean_score: the mean of the environment's scores.
        mean_steps: over all episodes.
        mean_steps_won: over the successes; None if there are none.
        invalid_share: invalid actions over all actions, 0 to 1.
    """

    episodes: int
    success_rate: float
    success_interval: tuple[float, float]
    mean_score: float
    mean_steps: float
    mean_steps_won: float | None
    invalid_share: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` returns.

    Attributes:
        config: what was evaluated.
        versions: of the software that took part.
        episodes: one per task, in the split's order.
        total: all episodes in numbers.
        task_types: the same for each task type, sorted by name.
    """

    config: Config
    versions: Mapping[str, str]
    episodes: tuple[Episode, ...]
    total: Summary
    task_types: Mapping[str, Summary]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as a dictionary of JSON values."""
        return {
            "format": _FORMAT,
            "config": {**_fields(self.config), "env_kwargs": dict(self.config.env_kwargs)},
            "versions": dict(self.versions),
            "total": asdict(self.total),
            "task_types": {name: asdict(summary) for name, summary in self.task_types.items()},
            "episodes": [asdict(episode) for episode in self.episodes],
        }


def evaluate(
    env_id: str,
    agent_name: str,
    *,
    split: str,
    limit: int | None = None,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Play each task of a split once.

    Args:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        agent_name: a name from `sdar_agents.AGENTS`.
        split: the split's name.
        limit: only the first so many tasks; needed for a split without end.
        seed: from which the seeds of the episodes are derived.
        env_kwargs: further arguments of the environment, such as `{"data": "official", "max_steps": 30}`.
        progress: called with the number of episodes done and of all, first with (0, all).

    Raises:
        InvalidOption: `limit` is not positive or missing for a split without end, or there are no tasks.
        UnknownName: there is no such agent, environment, argument or split.
    """
    if limit is not None and limit < 1:
        raise InvalidOption(f"limit is {limit}; wanted an integer of at least 1.")
    agent = make_agent(agent_name)
    env_kwargs = {**(env_kwargs or {}), "split": split}
    env = make_env(env_id, env_kwargs)
    source = text_env(env).source
    count = count_tasks(source, split, limit)
    if not count:
        raise InvalidOption(f"split {split!r} of {env_id} has no tasks: there is nothing to evaluate.")
    episodes: list[Episode] = []
    for index in range(count):
        if progress:
            progress(index, count)
        task = source.task(split, index)
        episodes.append(run_episode(env, agent, task, episode_seed(seed, task.id)))
    if progress:
        progress(count, count)
    env.close()
    resolved = MappingProxyType({**env_defaults(env_id), **env_kwargs})
    return Evaluation(
        config=Config(env_id, agent_name, split, limit, seed, resolved),
        versions=_versions(),
        episodes=tuple(episodes),
        total=summarize(episodes),
        task_types=MappingProxyType(
            {
                task_type: summarize(episode for episode in episodes if episode.task_type == task_type)
                for task_type in sorted({episode.task_type for episode in episodes})
            }
        ),
    )


def run_episode(env: gym.Env[str, str], agent: Agent, task: Task, seed: int) -> Episode:
    """Play one task from its beginning to its end."""
    start = time.perf_counter()
    observation, info = env.reset(seed=seed, options={"task_id": task.id})
    agent.reset(env, observation, info, seed)
    episode_return, invalid_actions, steps = 0.0, 0, 0
    terminated = truncated = False
    while not (terminated or truncated):
        try:
            action = agent.act(observation, info)
        except UnsolvableGame:
            # The oracle gives up: the task cannot be done, and that is a result.
            break
        observation, reward, terminated, truncated, info = env.step(action)
        episode_return += float(reward)
        invalid_actions += not info["is_action_valid"]
        steps += 1
    return Episode(
        task_id=task.id,
        task_type=task.task_type,
        seed=seed,
        success=info["is_success"],
        score=info["score"],
        episode_return=episode_return,
        steps=steps,
        terminated=terminated,
        truncated=truncated,
        invalid_actions=invalid_actions,
        seconds=time.perf_counter() - start,
    )


def episode_seed(seed: int, task_id: str) -> int:
    """Derive the seed of a task's episode: the same on every machine, 0 to 2**32 - 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{task_id}".encode()).digest()[:4], "big")


def summarize(episodes: Iterable[Episode]) -> Summary:
    """Put episodes in numbers.

    Raises:
        InvalidOption: there is no episode.
    """
    rows = list(episodes)
    if not rows:
        raise InvalidOption("there is no episode to summarize.")
    won = [row.steps for row in rows if row.success]
    steps = sum(row.steps for row in rows)
    return Summary(
        episodes=len(rows),
        success_rate=len(won) / len(rows),
        success_interval=wilson_interval(len(won), len(rows)),
        mean_score=sum(row.score for row in rows) / len(rows),
        mean_steps=steps / len(rows),
        mean_steps_won=sum(won) / len(won) if won else None,
        invalid_share=sum(row.invalid_actions for row in rows) / max(steps, 1),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion p = successes / trials.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96. Unlike the normal approximation it
    stays within 0 and 1 and holds for few trials and for rates near the ends.

    Raises:
        InvalidOption: not 0 <= successes <= trials, or no trials.

    Source: Wilson (1927), JASA 22:209-212; Newcombe (1998), Statistics in Medicine 17:857-872, method 3.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise InvalidOption(f"{successes} successes in {trials} trials; wanted 0 <= successes <= trials, trials > 0.")
    rate = successes / trials
    z2n = _Z_95**2 / trials
    center = rate + z2n / 2
    half = math.sqrt(z2n * (rate * (1 - rate) + z2n / 4))
    # At the ends the formula gives exactly 0 and 1, but rounding does not.
    low = 0.0 if successes == 0 else (center - half) / (1 + z2n)
    high = 1.0 if successes == trials else (center + half) / (1 + z2n)
    return low, high


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written later, before hours are spent on what belongs in it.

    Raises:
        InvalidOption: the file exists and may not be overwritten, it is a folder, or it cannot be made.
    """
    if path.is_dir():
        raise InvalidOption(f"{path} is a folder; wanted the name of a JSON file.")
    if path.exists() and not overwrite:
        raise InvalidOption(f"{path} exists: choose another name, or overwrite it with --overwrite.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidOption(f"{path} cannot be written: {folder} is no folder that one may write to.")


def save(evaluation: Evaluation, path: Path, *, overwrite: bool = False) -> None:
    """Write an evaluation as JSON, all or nothing.

    Raises:
        InvalidOption: the file exists and may not be overwritten, or it cannot be written.
    """
    check_output(path, overwrite=overwrite)
    try:
        write_atomic(path, json.dumps(evaluation.to_json(), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InvalidOption(f"{path} cannot be written ({error}).") from error


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("sdar-envs", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def _fields(config: Config) -> dict[str, Any]:
    # asdict would deep-copy the mapping proxy of env_kwargs, which cannot be copied.
    return {name: getattr(config, name) for name in Config.__slots__}
