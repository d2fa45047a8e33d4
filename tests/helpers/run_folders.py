"""Run folders for tests: made up row by row, or played by scripted agents who pretend to be a model."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

import sdar_envs
from sdar_agents import make_agent

ALFWORLD, WEBSHOP = "sdar/ALFWorld-v0", "sdar/WebShop-v0"
HOSTILE = (
    "</script><img src=x onerror=alert(1)> \x1b[31m\u202egnp.exe\ud800 \U0001f642 \u0627\u0644\u0633\u0644\u0627\u0645"
)


def config(**changes: Any) -> dict[str, Any]:
    panel = {
        "env_id": ALFWORLD,
        "split": "valid_unseen",
        "limit": None,
        "env_kwargs": {"split": "valid_unseen", "data": "embedded", "max_steps": 50},
        "tasks": 2,
        "variant": "auto",
        "fingerprint": "0123456789abcdef" * 2,
    }
    return {
        "format": 2,
        "command": "sdar eval sdar/ALFWorld-v0 --agent explorer",
        "created": "2026-11-24T10:00:00+00:00",
        "finished": "2026-11-24T10:05:00+00:00",
        "panels": [panel],
        "agent": {"name": "explorer", "settings": {}},
        "seeds": [0],
        "concurrency": 32,
        "limits": {"max_turn_seconds": None, "episode_seconds": None, "episode_tokens": None, "attempts": 3},
        "versions": {"python": "3.11.2", "sdar-envs": "0.1.0", "gymnasium": "1.4.0", "numpy": "2.4.6"},
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "platform": {"cpu": "Example CPU", "cores": 2, "system": "Linux-6.1"},
        "resumed": [],
        **changes,
    }


def episode(task: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "env_id": ALFWORLD,
        "task_id": f"alfworld/valid_unseen/{task:04d}",
        "task_type": "pick_and_place_simple",
        "split": "valid_unseen",
        "seed": 0,
        "attempt": 1,
        "status": "ok",
        "is_success": True,
        "score": 1.0,
        "return": 1.0,
        "steps": 2,
        "invalid_actions": 0,
        "malformed_answers": None,
        "terminated": True,
        "truncated": False,
        "stop_reason": "terminated",
        "error": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "cost": None,
        "seconds": 0.25,
        "agent_seconds": 0.125,
        **changes,
    }


def turn(observation: str = "You are in a room.", action: str = "look", **changes: Any) -> dict[str, Any]:
    return {
        "observation": observation,
        "messages": None,
        "response": None,
        "reasoning": None,
        "action": action,
        "reward": 0.0,
        "is_well_formed": None,
        "is_action_valid": True,
        "score": 0.0,
        "admissible_commands": ["inventory", "look"],
        **changes,
    }


def trajectory(row: Mapping[str, Any], turns: Iterable[Mapping[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    names = ("env_id", "task_id", "task_type", "split", "seed", "attempt", "is_success", "score", "stop_reason")
    return {
        **{name: row[name] for name in names},
        "instruction": "Put a mug on the desk.",
        "turns": list(turns) or [turn(), turn("A mug is here.", "take mug 1")],
        "final_observation": "You won.",
        **changes,
    }


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def write_run(
    folder: Path,
    episodes: Iterable[Mapping[str, Any]],
    trajectories: Iterable[Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    metrics: Iterable[Mapping[str, Any]] = (),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(episodes)
    (folder / "config.json").write_text(json.dumps(settings or config()))
    write_lines(folder / "episodes.jsonl", rows)
    write_lines(
        folder / "trajectories.jsonl", [trajectory(row) for row in rows] if trajectories is None else trajectories
    )
    if metrics:
        write_lines(folder / "metrics.jsonl", metrics)
    return folder


def training_metrics(steps: int = 150, *, seed: int = 0, speed: float = 40.0) -> list[dict[str, float]]:
    rng = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        rise = 1 - math.exp(-step / speed)
        row = {
            "step": step,
            "rollout/success": min(1.0, max(0.0, 0.15 + 0.6 * rise + rng.gauss(0, 0.06))),
            "loss/policy": 0.02 * math.exp(-step / 60) + rng.gauss(0, 0.004),
            "loss/distill": 0.3 * math.exp(-step / 50) + rng.gauss(0, 0.01),
            "gap/mean": -0.16 + 0.08 * rise + rng.gauss(0, 0.01),
            "gate/mean": 0.42 + 0.1 * rise + rng.gauss(0, 0.01),
            "time/rollout": 42 + rng.gauss(0, 3),
        }
        if step % 10 == 0:
            row["eval/success"] = 0.1 + 0.65 * rise + rng.gauss(0, 0.02)
        rows.append(row)
    return rows


def played_run(folder: Path, agents: Mapping[str, str], *, tasks: int = 12, seeds: int = 1, seed: int = 0) -> Path:
    """Let scripted agents play, one per environment, and add what a model and a teacher would have left."""
    rng = random.Random(seed)
    rows, trajectories, panels = [], [], []
    for env_id, name in agents.items():
        env = gym.make(env_id, split=_split(env_id))
        panels.append(
            {
                "env_id": env_id,
                "split": _split(env_id),
                "limit": tasks,
                "env_kwargs": {"split": _split(env_id), "data": "embedded"},
                "tasks": tasks,
                "variant": "auto",
                "fingerprint": hashlib.sha256(env_id.encode()).hexdigest()[:32],
            }
        )
        for number in range(seeds):
            for task in sdar_envs.tasks(env_id, split=_split(env_id), limit=tasks):
                row, played = _play(env, make_agent(name), task, number, rng)
                rows.append(row)
                trajectories.append(played)
    settings = config(
        panels=panels,
        seeds=list(range(seeds)),
        command=f"sdar eval {' '.join(agents)} --agent openai --limit {tasks} --seeds {seeds}",
        agent={"name": "openai", "settings": {"model": "example-3b-instruct", "temperature": 0.4}},
    )
    return write_run(folder, rows, trajectories, settings)


def _split(env_id: str) -> str:
    return "valid_unseen" if env_id == ALFWORLD else "test"


def _play(env, agent, task, seed, rng):
    observation, info = env.reset(seed=seed, options={"task_id": task.id})
    agent.reset(env, observation, info, seed)
    system = {
        "role": "system",
        "content": "You are a careful player. Answer with <think>...</think><action>...</action>.",
    }
    history, turns, total = [system], [], 0.0
    terminated = truncated = False
    while not (terminated or truncated):
        action = agent.act(observation, info)
        if rng.random() < 0.05:
            action = "polish the moon"
        thought = f"The task says: {info['instruction']} So the next thing to do is {action}."
        history = [*history, {"role": "user", "content": observation}]
        turns.append(
            {
                "observation": observation,
                "messages": history,
                "response": f"<think>{thought}</think><action>{action}</action>",
                "reasoning": thought,
                "action": action,
                "admissible_commands": info["admissible_commands"],
                "skills": ["general/look-before-you-take", f"{info['task_type']}/where-to-look"],
            }
        )
        words = turns[-1]["response"].replace(" ", " \0").split("\0")
        turns[-1]["tokens"] = [_token(word, rng) for word in words]
        history = [*history, {"role": "assistant", "content": turns[-1]["response"]}]
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        turns[-1] |= {
            "reward": reward,
            "is_well_formed": True,
            "is_action_valid": info["is_action_valid"],
            "score": info["score"],
        }
    row = episode(
        env_id=task.env,
        task_id=task.id,
        task_type=task.task_type,
        split=task.split,
        seed=seed,
        is_success=info["is_success"],
        score=info["score"],
        steps=len(turns),
        invalid_actions=sum(not t["is_action_valid"] for t in turns),
        malformed_answers=0,
        terminated=terminated,
        truncated=truncated,
        stop_reason="terminated" if terminated else "step_limit",
        prompt_tokens=sum(len(m["content"]) for t in turns for m in t["messages"]) // 4,
        completion_tokens=sum(len(t["response"]) for t in turns) // 4,
        cost=None,
        seconds=round(sum(rng.lognormvariate(0, 0.5) for _ in turns), 3),
        agent_seconds=1.0,
    )
    row["return"] = total
    return row, trajectory(row, turns, instruction=info["instruction"], final_observation=observation)


def _token(text, rng):
    gap = rng.gauss(-0.1, 0.8)
    return {"text": text, "gap": gap, "gate": 1 / (1 + math.exp(-5 * gap))}


def training_run(folder: Path, *, steps: int = 2, group_size: int = 2, seed: int = 0) -> Path:
    """Write what the trainer writes: groups, the teacher's prompt, and the gap and gate of each token."""
    rng = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        for task in range(2):
            for member in range(group_size):
                turns = [_training_turn(f"You are in room {number}.", rng) for number in range(3)]
                won = bool(member)
                rows.append(
                    {
                        "env_id": ALFWORLD,
                        "task_id": f"alfworld/train/{task:04d}",
                        "suite": "alfworld",
                        "task_type": "pick_and_place_simple",
                        "split": "train",
                        "seed": 1000 * step + 10 * task + member,
                        "attempt": 1,
                        "instruction": "Put a mug on the desk.",
                        "is_success": won,
                        "score": float(won),
                        "stop_reason": "terminated" if won else "truncated",
                        "group_id": f"{step}-{task}",
                        "episode_id": f"{step}-{task}-{member}",
                        "final_observation": "You won." if won else "",
                        "step": step,
                        "advantage": 1.0 if won else -1.0,
                        "turns": turns,
                    }
                )
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "trajectories.jsonl", rows)
    write_lines(folder / "metrics.jsonl", training_metrics(20, seed=seed))
    (folder / "config.yaml").write_text("algorithm:\n  name: sdar\nsteps: 20\n")
    (folder / "run.json").write_text(json.dumps({"started": "2026-11-24T10:00:00Z", "revision": "0" * 40, "format": 2}))
    return folder


def _training_turn(observation: str, rng: random.Random) -> dict[str, Any]:
    words = ["<think>", "The", " mug", " is", " here", ".", "</think>", "\n", "<action>", "take mug 1", "</action>"]
    system, user = "You are a careful player.", f"{observation}\nYour task: put a mug on the desk."
    skills = "Skills:\n- Look before you take: open what is closed.\n- Carry one thing at a time."
    marks = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    return turn(
        observation,
        "take mug 1",
        messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
        response="".join(words),
        reasoning="The mug is here.",
        is_well_formed=True,
        skills=["alfworld/look-before-you-take"],
        prompt_ids=[1, 2, 3],
        completion={"token_ids": list(range(len(words))), "logprobs": None, "stop_reason": "eos"},
        teacher_prompt=marks.format(system, f"{skills}\n{user}"),
        tokens=[_token(word, rng) for word in words],
        admissible_commands=None,
    )
