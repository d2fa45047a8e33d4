"""Throughput and memory of any environment: steps, chat, vectors, whole episodes, resets.

The commands of random episodes are drawn before they are timed, so the time is the environment's alone; as chat, the
same commands come as completions, and prompts are built and parsed. Only "whole episodes" contain an agent, the suite's
scripted one.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import gymnasium as gym

import sdar_envs
from sdar_agents import Agent, default_agent, make_agent
from sdar_benchmarks.evaluation.panels import evaluation_split
from sdar_benchmarks.throughput.figures import ONE_ENVIRONMENT, Figures, resident_megabytes, seconds
from sdar_envs.chat import ChatEpisode, ChatMode
from sdar_envs.core import TextEnv, text_env
from sdar_envs.prompt import render_completion
from sdar_envs.registry import make_text_env

__all__ = ["measure"]

_STEPS = 40_000
_RESETS = 2_000
_EPISODES = 100
_VECTORS = (64, 1024)
_TASKS = 100
_STEPS_IN = 5


def measure(env_id: str, progress: Callable[[str], None] = lambda _: None) -> Figures:
    """Measure an environment with its default arguments on its evaluation split."""
    figures = Figures(env_id)
    split = evaluation_split(env_id)
    env = make_text_env(env_id, split=split)
    ids = [task.id for task in sdar_envs.tasks(env_id, split=split, limit=_TASKS)]
    progress("stepping one environment")
    drawn = list(_random_episodes(env, make_agent("random"), ids))
    bare = _seconds_per_step(drawn, lambda task_id: env.reset(options={"task_id": task_id}), env.step)
    figures.add(ONE_ENVIRONMENT, 1 / bare, "steps/CPU s")
    figures.add("a step, bare", bare * 1e6, "CPU us")
    progress("stepping one environment as chat")
    for mode in get_args(ChatMode):
        figures.add(f"a step as chat, {mode}", _chat_seconds(env, drawn, mode) * 1e6, "CPU us")
    for count in _VECTORS:
        progress(f"stepping {count:,} environments")
        figures.add(f"steps, make_vec({count})", _vector_steps(env_id, count, split), "env-steps/CPU s")
    progress("whole episodes")
    name = default_agent(env_id)
    episodes, steps = _episodes(env, make_agent(name), ids)
    figures.add(f"whole episodes of the agent {name}", episodes, "episodes/CPU s")
    figures.add(f"steps in episodes of the agent {name}", steps, "steps/CPU s")
    progress("resetting")
    turns = iter(range(2 * _RESETS))
    by_id = seconds(lambda: env.reset(options={"task_id": ids[next(turns) % len(ids)]}), _RESETS)
    figures.add("reset by id to a task that was played before", by_id * 1e6, "CPU us")
    by_seed = seconds(lambda: env.reset(seed=next(turns) % len(ids)), _RESETS)
    figures.add("reset by seed", by_seed * 1e6, "CPU us")
    progress("memory")
    shared = _bytes_per_environment(env_id, split, ids) / 1024
    figures.add("memory per environment, on shared tasks", shared, "KiB")
    few, many = (resident_megabytes(env_id, count) for count in _VECTORS)
    each = (many - few) * 1024 / (_VECTORS[1] - _VECTORS[0])
    figures.add("memory per environment, each on a task of its own", each, "KiB")
    figures.add(f"process with {_VECTORS[1]:,} environments", many, "MB")
    return figures


def _seconds_per_step(
    episodes: Iterable[tuple[str, Sequence[str]]], reset: Callable[[str], Any], step: Callable[[str], Any]
) -> float:
    """Return the CPU seconds per step of drawn episodes, resets included."""
    steps = 0
    started = time.process_time()
    for task_id, commands in episodes:
        reset(task_id)
        for command in commands:
            step(command)
        steps += len(commands)
    return (time.process_time() - started) / steps


def _chat_seconds(env: TextEnv[Any], episodes: Sequence[tuple[str, Sequence[str]]], mode: ChatMode) -> float:
    """Return the CPU seconds per step of drawn episodes as chat."""
    episode = ChatEpisode(env, mode=mode)
    episode.reset()
    completions = [
        (task_id, [render_completion(episode.style, command, "So.") for command in commands])
        for task_id, commands in episodes
    ]
    return _seconds_per_step(completions, lambda task_id: episode.reset(task_id=task_id), episode.step)


def _random_episodes(env: gym.Env[str, str], agent: Agent, ids: list[str]) -> Iterator[tuple[str, list[str]]]:
    steps = episode = 0
    while steps < _STEPS:
        task_id = ids[episode % len(ids)]
        commands = list(_play(env, agent, task_id, episode))
        steps += len(commands)
        episode += 1
        yield task_id, commands


def _play(env: gym.Env[str, str], agent: Agent, task_id: str, seed: int) -> Iterator[str]:
    observation, info = env.reset(options={"task_id": task_id})
    agent.reset(env, observation, info, seed)
    terminated = truncated = False
    while not (terminated or truncated):
        command = agent.act(observation, info)
        observation, _, terminated, truncated, info = env.step(command)
        yield command


def _episodes(env: gym.Env[str, str], agent: Agent, ids: list[str]) -> tuple[float, float]:
    """Return the episodes and the steps per CPU second, the agent's time included."""
    steps = 0
    started = time.process_time()
    for episode in range(_EPISODES):
        steps += sum(1 for _ in _play(env, agent, ids[episode % len(ids)], episode))
    spent = time.process_time() - started
    return _EPISODES / spent, steps / spent


def _bytes_per_environment(env_id: str, split: str, ids: list[str]) -> float:
    """Return the bytes of an environment in the middle of an episode, when others play the same tasks."""
    agent = make_agent("random")
    first = make_text_env(env_id, split=split)
    for task_id in ids:
        # What is kept of a task belongs to all environments.
        first.reset(options={"task_id": task_id})
    count = _VECTORS[1]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        envs = [text_env(make_text_env(env_id, split=split)) for _ in range(count)]
        for i, env in enumerate(envs):
            for _ in zip(range(_STEPS_IN), _play(env, agent, ids[i % len(ids)], i), strict=False):
                pass
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / count


def _vector_steps(env_id: str, count: int, split: str) -> float:
    envs = sdar_envs.make_vec(env_id, count, split=split)
    agent = make_agent("random")
    _, infos = envs.reset(seed=0)
    rounds = max(2, _STEPS // count)
    spent = 0.0
    for _ in range(rounds):
        commands = [_command(agent, infos, i) for i in range(count)]
        started = time.process_time()
        *_, infos = envs.step(commands)
        spent += time.process_time() - started
    envs.close()
    return rounds * count / spent


def _command(agent: Agent, infos: Mapping[str, Any], i: int) -> str:
    # The command after an episode's end is not looked at: the environment is reset.
    if not infos["admissible_commands"][i]:
        return ""
    return agent.act("", {name: infos[name][i] for name in ("admissible_commands", "instruction", "task_id")})
