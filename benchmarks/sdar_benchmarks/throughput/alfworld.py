"""Throughput of ALFWorld compared with the original engine, TextWorld.

Both engines play the same commands on the same exported games, so the ratio does not depend on the machine. TextWorld
is measured if it is installed (`pip install 'sdar-envs[peer]'`, Python below 3.13); it is slow, so it plays few steps.
Times are CPU seconds of one process.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import gymnasium as gym

import sdar_envs
from sdar_benchmarks.throughput.figures import ONE_ENVIRONMENT, Figures, median_seconds, seconds
from sdar_envs.alfworld.export import export_game
from sdar_envs.alfworld.generator import generate
from sdar_envs.alfworld.official import load_game
from sdar_envs.alfworld.wording import DIALECTS
from sdar_envs.alfworld.world import Game

__all__ = ["measure"]

_ENV_ID = "sdar/ALFWorld-v0"
_GAMES = 6
_PEER_STEPS = 25


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of ALFWorld's engine and of TextWorld; takes about a minute."""
    add = figures.add
    progress("the bare engine")
    bare = add("steps, bare engine", _engine_steps(40_000), "steps/CPU s")
    indices = iter(range(10**6))
    add("make and load an embedded game", median_seconds(lambda: _compile(next(indices)), 200) * 1e3, "CPU ms")
    with tempfile.TemporaryDirectory() as folder:
        paths = [export_game("valid_seen", index, Path(folder)) for index in range(60)]
        first_loads = [seconds(lambda path=path: load_game(path), 1) for path in paths]  # type: ignore[misc]
        add("load a game file for the first time", median(first_loads) * 1e3, "CPU ms")
        if importlib.util.find_spec("textworld") is None:
            return
        progress("TextWorld")
        jobs = [(path, _random_commands(path)) for path in paths[:_GAMES]]
        theirs = _textworld(jobs, Path(folder))
        their_step = theirs["step_seconds"] / theirs["steps"]
        add("TextWorld: steps", 1 / their_step, "steps/CPU s")
        add("TextWorld: load and reset a game", theirs["reset_seconds"] / len(jobs) * 1e3, "CPU ms")
        ours = add("the same commands, gymnasium.make", _replay(jobs), "steps/CPU s")
        add("ratio, same commands", ours * their_step, "x")
        add("ratio, one environment", figures.value(ONE_ENVIRONMENT) * their_step, "x")
        add("ratio, bare engine", bare * their_step, "x")


def _compile(index: int) -> Game:
    made = generate("train", index)
    return Game(made.problem, made.task_sentence, DIALECTS["move"])


def _engine_steps(steps: int) -> float:
    game = _compile(0)
    rng = random.Random(0)
    state = game.initial.copy()
    local = game.local_actions(state)
    commands = game.commands(state, local)
    started = time.process_time()
    for _ in range(steps):
        action = game.parse(state, rng.choice(commands), local)
        if action is not None:
            game.apply(state, action)
        local = game.local_actions(state)
        commands = game.commands(state, local)
    return steps / (time.process_time() - started)


def _random_commands(path: Path) -> list[str]:
    game = load_game(path)
    state = game.initial.copy()
    rng = random.Random(0)
    commands = []
    for _ in range(_PEER_STEPS):
        local = game.local_actions(state)
        command = rng.choice(game.commands(state, local))
        action = game.parse(state, command, local)
        if action is not None:
            game.apply(state, action)
        commands.append(command)
    return commands


def _replay(jobs: list[tuple[Path, list[str]]], rounds: int = 40) -> float:
    folder = jobs[0][0].parents[3]
    env = gym.make(_ENV_ID, data="official", data_dir=str(folder), split="valid_seen")
    ids = {task.data["gamefile"]: task.id for task in _tasks(folder)}
    steps, seconds = 0, 0.0
    for _ in range(rounds):
        for path, commands in jobs:
            env.reset(options={"task_id": ids[str(path)]})
            started = time.process_time()
            for command in commands:
                _, _, terminated, truncated, _ = env.step(command)
                steps += 1
                if terminated or truncated:
                    break
            seconds += time.process_time() - started
    return steps / seconds


def _tasks(folder: Path) -> tuple[sdar_envs.Task, ...]:
    return sdar_envs.tasks(_ENV_ID, split="valid_seen", data="official", data_dir=str(folder))


_TEXTWORLD = """
import json, sys, time
import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

jobs_path, result_path = sys.argv[1:3]  # loading a game overwrites sys.argv
jobs = json.load(open(jobs_path))
result = {"steps": 0, "step_seconds": 0.0, "reset_seconds": 0.0}
infos = textworld.EnvInfos(won=True, admissible_commands=True)
for game, commands in jobs:
    started = time.process_time()
    env = textworld.start(game, infos, wrappers=[AlfredDemangler(shuffle=False)])
    env.reset()
    result["reset_seconds"] += time.process_time() - started
    started = time.process_time()
    for command in commands:
        state, _, _ = env.step(command)
        state["admissible_commands"]
    result["step_seconds"] += time.process_time() - started
    result["steps"] += len(commands)
    env.close()
json.dump(result, open(result_path, "w"))
"""


def _textworld(jobs: list[tuple[Path, list[str]]], folder: Path) -> dict[str, float]:
    """Play in a process of its own: TextWorld overwrites `sys.argv` and keeps its memory."""
    jobs_path, result_path = folder / "jobs.json", folder / "result.json"
    jobs_path.write_text(json.dumps([(str(path), commands) for path, commands in jobs]))
    subprocess.run([sys.executable, "-c", _TEXTWORLD, str(jobs_path), str(result_path)], check=True)
    result: dict[str, float] = json.loads(result_path.read_text())
    return result
