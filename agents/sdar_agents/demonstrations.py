"""Demonstrations: an expert plays, and every turn of it becomes a row to be fine-tuned on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sdar_envs
from sdar_agents.scripted import ExplorerAgent, make_agent
from sdar_agents.thoughts import think
from sdar_envs import Task
from sdar_envs.prompt import Turn, prompt_parts, render_completion, style_for, terse
from sdar_skills import Library, make_retriever, teacher_messages
import sdar_skills.homes


@dataclass(frozen=True, slots=True)
class DemonstrationConfig:
    env_id: str = "sdar/ALFWorld-v0"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"
    episodes: int = 100
    first: int = 0
    expert: str = "explorer"
    with_skills: float = 0.0
    retriever: str = "task_type"
    k: int = 1
    history_length: int = 2
    terse: bool = False
    noise: float = 0.0
    seed: int = 0


def demonstrate(config: DemonstrationConfig) -> Iterator[dict[str, Any]]:
    (env,) = sdar_envs.make_vec(config.env_id, 1, split=config.split, **config.env_kwargs).envs
    retriever = make_retriever(config.retriever, Library.load())
    for index in range(config.first, config.first + config.episodes):
        task = env.source.task(config.split, index)
        rng = random.Random(f"{config.seed}/{task.id}")
        observation, info = env.reset(options={"task_id": task.id})
        expert = make_agent(config.expert)
        expert.reset(env, observation, info, rng.randrange(2**31))
        skills = ()
        if rng.random() < config.with_skills:
            skills = tuple(r.skill for r in retriever.retrieve(task, config.k, None, rng))
            expert.read(skills)
        style = style_for(task.id)
        if config.terse:
            style = terse(style)
        history: list[Turn] = []
        over = False
        while not over:
            commands = info["admissible_commands"]
            action = expert.act(observation, info)
            noisy = rng.random() < config.noise
            if noisy:
                action = rng.choice([c for c in commands if c not in style.hidden_commands])
            else:
                thought = think(
                    task.id.split("/")[0],
                    info["instruction"],
                    history,
                    config.history_length,
                    observation,
                    commands,
                    action,
                )
                parts = prompt_parts(
                    style, info["instruction"], history, observation, commands, history_length=config.history_length
                )
                yield {
                    "task_id": task.id,
                    "task_type": task.task_type,
                    "turn": len(history),
                    "skills": [skill.id for skill in skills],
                    "messages": teacher_messages(parts, skills),
                    "completion": render_completion(style, action, thought),
                    "commands": commands,
                }
            history.append(Turn(observation, action))
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
