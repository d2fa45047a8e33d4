"""A stand-in for verl-agent's `agent_system`: the calls that its `make_envs` and environment managers make.

It is written from the interface (the names, signatures, keys and shapes that they use), not from its text.
"""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PROJECTIONS = {
    "alfworld": """
def alfworld_projection(actions, action_pools):
    return [action[1:-1] for action in actions], [1] * len(actions)
""",
    "webshop": """
def webshop_projection(actions):
    return [action[1:-1] for action in actions], [1] * len(actions)
""",
    "search": """
def search_projection(actions):
    parts = [action[1:-1].partition("[") for action in actions]
    return [f"<{tag}>{text[:-1]}</{tag}>" if text else "" for tag, _, text in parts], [1] * len(actions)
""",
}
"""Projections of this stand-in: the action stands in one bracket of any kind. Real ones read tags."""

TYPES = ("pick_and_place", "pick_two_obj", "look_at_obj", "pick_heat", "pick_cool", "pick_clean")


def write_package(folder: Path) -> None:
    """Write `agent_system` into a folder; importing one of its own environments fails, as without their packages."""
    environments = folder / "agent_system" / "environments"
    environments.mkdir(parents=True)
    (environments / "__init__.py").write_text("from helpers.verl_agent_stand_in import make_envs\n")
    for suite, projection in PROJECTIONS.items():
        package = folder / "agent_system" / "environments" / "env_package" / suite
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ModuleNotFoundError('No module named ray')\n")
        (package / "projection.py").write_text(projection)


def forget_package() -> None:
    """Take `agent_system` out of the imported modules."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "agent_system"]:
        del sys.modules[name]


def config(env_name: str, *, train: int, val: int, group_n: int, **search: Any) -> Any:
    """Return a trainer's configuration."""
    env = SimpleNamespace(
        env_name=env_name,
        seed=0,
        max_steps=4,
        rollout=SimpleNamespace(n=group_n),
        alfworld=SimpleNamespace(eval_dataset="eval_out_of_distribution"),
        webshop=SimpleNamespace(human_goals=False),
        search=SimpleNamespace(**{"search_url": "http://127.0.0.1:9/retrieve", "topk": 3, **search}),
    )
    return SimpleNamespace(env=env, data=SimpleNamespace(train_batch_size=train, val_batch_size=val))


def make_envs(config: Any) -> tuple[Manager, Manager]:
    """Return managers of training and validation environments, made by the calls of verl-agent's `make_envs`."""
    env, data, group_n = config.env, config.data, config.env.rollout.n
    sizes = ((env.seed, data.train_batch_size, group_n, True), (env.seed + 1000, data.val_batch_size, 1, False))
    if "alfworld" in env.env_name.lower():
        module = importlib.import_module("agent_system.environments.env_package.alfworld")
        kwargs = {"eval_dataset": env.alfworld.eval_dataset}
        made = [
            module.build_alfworld_envs(
                "config_tw.yaml", seed, number, group, is_train=is_train, env_kwargs=kwargs, resources_per_worker={}
            )
            for seed, number, group, is_train in sizes
        ]
        return tuple(ALFWorldManager(envs, partial(module.alfworld_projection)) for envs in made)
    if "webshop" in env.env_name.lower():
        module = importlib.import_module("agent_system.environments.env_package.webshop")
        kwargs = {
            "observation_mode": "text",
            "num_products": None,
            "human_goals": env.webshop.human_goals,
            "file_path": "items_shuffle.json",
            "attr_path": "items_ins_v2.json",
        }
        made = [
            module.build_webshop_envs(
                seed=seed,
                env_num=number,
                group_n=group,
                is_train=is_train,
                env_kwargs=kwargs,
                resources_per_worker={},
            )
            for seed, number, group, is_train in sizes
        ]
        return tuple(WebShopManager(envs, partial(module.webshop_projection)) for envs in made)
    module = importlib.import_module("agent_system.environments.env_package.search")
    made = [
        module.build_search_envs(seed=seed, env_num=number, group_n=group, is_train=is_train, env_config=config.env)
        for seed, number, group, is_train in sizes
    ]
    return tuple(SearchManager(envs, partial(module.search_projection)) for envs in made)


class Manager:
    """What all environment managers do."""

    def __init__(self, envs: Any, project: Any) -> None:
        self.envs, self.project = envs, project

    def success(self, infos: list[list[dict[str, Any]]], active: list[list[bool]]) -> dict[str, float]:
        """Return success rates from the infos of the last active step of each environment."""
        found: dict[str, list[float]] = defaultdict(list)
        for row, alive in zip(infos, active, strict=True):
            last = row[max(i for i, is_active in enumerate(alive) if is_active)]
            found["success_rate"].append(float(last["won"]))
            self.add(last, found)
        return {name: float(np.mean(values)) for name, values in found.items()}


class ALFWorldManager(Manager):
    """Reads task and commands out of texts and infos."""

    def reset(self, kwargs: Any) -> tuple[list[str], list[dict[str, Any]]]:
        """Start all episodes."""
        texts, images, infos = self.envs.reset()
        assert images is None
        self.gamefiles = [info["extra.gamefile"] for info in infos]
        assert all("Your task is to: " in text for text in texts)
        assert [len(commands) > 0 for commands in self.envs.get_admissible_commands] == [True] * len(texts)
        return texts.copy(), infos

    def step(self, texts: list[str]) -> tuple[list[str], Any, Any, list[dict[str, Any]]]:
        """Take a step everywhere, also where the episode is over."""
        actions, _ = self.project(texts, self.envs.get_admissible_commands)
        observations, images, rewards, dones, infos = self.envs.step(actions)
        assert images is None
        return observations.copy(), np.array(rewards), np.array(dones), infos

    def add(self, info: dict[str, Any], found: dict[str, list[float]]) -> None:
        """Add the success of a task type, which the path of the game names."""
        found[next(name for name in TYPES if name in info["extra.gamefile"])].append(float(info["won"]))


class WebShopManager(Manager):
    """Reads instruction and available actions out of texts and infos."""

    def reset(self, kwargs: Any) -> tuple[list[str], list[dict[str, Any]]]:
        """Start all episodes."""
        texts, infos = self.envs.reset()
        parts = [text.split(" [SEP] ") for text in texts]
        assert {part[1] for part in parts} == {"Instruction:"}
        self.tasks = [part[2] for part in parts]
        self._check(infos)
        return texts.copy(), infos

    def step(self, texts: list[str]) -> tuple[list[str], Any, Any, list[dict[str, Any]]]:
        """Take a step everywhere, also where the episode is over."""
        actions, _ = self.project(texts)
        observations, rewards, dones, infos = self.envs.step(actions)
        self._check(infos)
        return observations.copy(), np.array(rewards), np.array(dones), infos

    def _check(self, infos: list[dict[str, Any]]) -> None:
        for info in infos:
            assert set(info["available_actions"]) == {"has_search_bar", "clickables"}
            assert all(isinstance(name, str) for name in info["available_actions"]["clickables"])

    def add(self, info: dict[str, Any], found: dict[str, list[float]]) -> None:
        """Add the score."""
        found["task_score"].append(float(info["task_score"]))


class SearchManager(Manager):
    """Resets to rows; the first text is the question."""

    def reset(self, kwargs: Any) -> tuple[list[str], list[dict[str, Any]]]:
        """Start an episode for each row."""
        texts, infos = self.envs.reset(kwargs=kwargs)
        return texts.copy(), infos

    def step(self, texts: list[str]) -> tuple[list[str], Any, Any, list[dict[str, Any]]]:
        """Take a step everywhere, also where the episode is over."""
        actions, _ = self.project(texts)
        observations, rewards, dones, infos = self.envs.step(actions)
        return observations.copy(), np.array(rewards), np.array(dones), infos

    def add(self, info: dict[str, Any], found: dict[str, list[float]]) -> None:
        """Add the success of a data set."""
        found[f"{info['data_source']}_success_rate"].append(float(info["won"]))
