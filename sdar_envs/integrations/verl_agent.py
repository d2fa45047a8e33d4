"""verl-agent's environments, played by the engines of this package, without Ray, Java or gym.

    import sdar_envs.integrations.verl_agent as drop_in

    drop_in.install()
    envs, val_envs = make_envs(config)  # verl-agent's own, unchanged, and in SDAR, SkillRL and other forks

Its environment managers, prompts and projections stay its own; what steps beneath them is a `TextVectorEnv`. Forks with
builders of other names call `build_alfworld_envs`, `build_webshop_envs` and `build_search_envs` themselves.

Differences from the original: finished environments stay as they are when they are stepped on; a group's tasks come
from one order through the split, so that no two groups play the same task before all were played; and the data are
those of the environments here: what the configuration says about files of ALFWorld and WebShop is not read.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.orders import Walk
from sdar_envs.registry import make_text_env, make_vec
from sdar_envs.search_qa.reference import project
from sdar_envs.vector import TextVectorEnv
from sdar_envs.webshop.verl_agent import VerlAgentWebShop

__all__ = ["VerlAgentEnvs", "build_alfworld_envs", "build_search_envs", "build_webshop_envs", "install"]

_PACKAGE = "agent_system.environments.env_package"
_FREEZE = AutoresetMode.DISABLED
_NO_LIMIT = 10**6
_VALIDATION_SEED = 1000
_SHARED = ("task_id", "task_type", "won", "score", "is_action_valid", "step")


def install(
    *,
    alfworld: Mapping[str, Any] | None = None,
    webshop: Mapping[str, Any] | None = None,
    search_qa: Mapping[str, Any] | None = None,
) -> None:
    """Put the builders of this module where verl-agent's `make_envs` imports its own from.

    Call it in the process that calls `make_envs`, before it does.

    Args:
        alfworld: arguments of `ALFWorldEnv`, such as `{"data": "official"}`.
        webshop: arguments of `WebShopEnv`; `{"protocol": "verl-agent"}` plays the goals that verl-agent draws.
        search_qa: arguments of `SearchQAEnv`; `{"retriever": "embedded"}` searches the embedded passages instead of
            the server of the configuration (`env.search.search_url`).

    Raises:
        MissingData: verl-agent's package `agent_system` is not found.
    """
    spec = importlib.util.find_spec("agent_system")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    folder = next((found for place in places if (found := place / "environments" / "env_package").is_dir()), None)
    if folder is None:
        raise MissingData(
            "there is no agent_system/environments/env_package on sys.path: run in the folder of your clone of "
            "verl-agent, or put it on PYTHONPATH."
        )
    for suite, build, arguments in (
        ("alfworld", build_alfworld_envs, alfworld),
        ("webshop", build_webshop_envs, webshop),
        ("search", build_search_envs, search_qa),
    ):
        if not (folder / suite / "projection.py").is_file():
            continue  # older forks have fewer suites
        name = f"{_PACKAGE}.{suite}"
        module = ModuleType(name)
        module.__path__ = [str(folder / suite)]
        sys.modules[name] = module
        projection = importlib.import_module(f"{name}.projection")
        setattr(module, f"{suite}_projection", getattr(projection, f"{suite}_projection"))
        setattr(module, f"build_{suite}_envs", partial(build, **(arguments or {})))


def build_alfworld_envs(
    alf_config_path: str | None,
    seed: int,
    env_num: int,
    group_n: int,
    *,
    resources_per_worker: Any = None,
    is_train: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> VerlAgentEnvs:
    """Return verl-agent's ALFWorld environments: `env_num` groups of `group_n`, which play the same task.

    Args:
        alf_config_path: not read.
        seed: what the order of tasks depends on.
        env_num: groups.
        group_n: environments in a group.
        resources_per_worker: not read: all run in this process.
        is_train: play `train`, else the split `env_kwargs["eval_dataset"]`.
        env_kwargs: verl-agent's.
        **arguments: of `ALFWorldEnv`.
    """
    split = "train" if is_train else (env_kwargs or {}).get("eval_dataset", "eval_in_distribution")
    vector = _vector("sdar/ALFWorld-v0", env_num, group_n, {"split": split, "reward_scale": 10.0, **arguments})
    return VerlAgentEnvs(vector, _of_alfworld, draws=_draws(vector, seed), images=(None,))


def build_webshop_envs(
    seed: int,
    env_num: int,
    group_n: int,
    *,
    resources_per_worker: Any = None,
    is_train: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> VerlAgentEnvs:
    """Return verl-agent's WebShop environments.

    They play `train` (goals from 1,500) or `test` (0 to 499); with `protocol="verl-agent"` the goals that verl-agent
    draws, of which training has those from 500. Steps are counted by the trainer alone.

    Args:
        seed: what the order of tasks depends on; `make_envs` adds 1,000 for validation.
        env_num: groups.
        group_n: environments in a group.
        resources_per_worker: not read: all run in this process.
        is_train: play the training split.
        env_kwargs: verl-agent's; `human_goals` is read.
        **arguments: of `WebShopEnv`.
    """
    goals = "human" if (env_kwargs or {}).get("human_goals") else "synthetic"
    arguments = {"goals": goals, "max_steps": _NO_LIMIT, "reward_scale": 10.0, **arguments}
    if arguments.get("protocol") != "verl-agent":
        split = "train" if is_train else "test"
        vector = _vector("sdar/WebShop-v0", env_num, group_n, {"split": split, "reward": "success", **arguments})
        return VerlAgentEnvs(vector, _of_webshop, draws=_draws(vector, seed))
    if not is_train and seed < _VALIDATION_SEED:
        raise InvalidOption(f"seed is {seed}; for validation wanted the trainer's env.seed plus {_VALIDATION_SEED}.")
    del arguments["protocol"]
    first = seed if is_train else seed - _VALIDATION_SEED
    vector = VerlAgentWebShop(seed=first, is_train=is_train, env_num=env_num, group_n=group_n, **arguments)
    return VerlAgentEnvs(vector, _of_webshop)


def build_search_envs(
    seed: int = 0,
    env_num: int = 1,
    group_n: int = 1,
    is_train: bool = True,
    env_config: Any = None,
    **arguments: Any,
) -> VerlAgentEnvs:
    """Return verl-agent's search environments; they play the questions of the rows that they are reset with.

    Args:
        seed: not read: nothing is drawn.
        env_num: groups.
        group_n: environments in a group.
        is_train: not read: the rows say what is played.
        env_config: verl-agent's `config.env`: `max_steps`, and of `search` `search_url` and `topk` are read.
        **arguments: of `SearchQAEnv`.
    """
    search = getattr(env_config, "search", None)
    urls = getattr(search, "search_url", None)
    configured = {"max_steps": getattr(env_config, "max_steps", None), "topk": getattr(search, "topk", None)}
    given = {name: value for name, value in configured.items() if value is not None}
    _check_numbers(env_num, group_n)
    # As the original, each environment asks one of several servers.
    servers = [urls] if urls is None or isinstance(urls, str) else list(urls)
    envs = [
        make_text_env("sdar/SearchQA-v0", **{"compat": "sdar", "retriever": server, **given, **arguments})
        for server in islice(cycle(servers), env_num * group_n)
    ]
    vector = TextVectorEnv(envs, autoreset_mode=_FREEZE, ignore_finished=True)
    return VerlAgentEnvs(vector, _of_search, command=lambda action: project(action).action)


def _vector(env_id: str, env_num: int, group_n: int, arguments: Mapping[str, Any]) -> TextVectorEnv:
    _check_numbers(env_num, group_n)
    return make_vec(
        env_id, env_num * group_n, group_size=group_n, autoreset_mode=_FREEZE, ignore_finished=True, **arguments
    )


def _check_numbers(env_num: object, group_n: object) -> None:
    for name, number in (("env_num", env_num), ("group_n", group_n)):
        if not is_integer(number) or number < 1:
            raise InvalidOption(f"{name} is {number!r}; wanted an integer of at least 1.")


def _draws(vector: TextVectorEnv, seed: int) -> Iterator[list[str]]:
    """Yield the ids of a reset's tasks, one for each group."""
    env = vector.envs[0]
    size = env.source.splits[env.split]
    rng = np.random.default_rng(seed)
    walk = iter(lambda: int(rng.integers(2**31)), -1) if size is None else Walk(size, seed % size, seed)
    while True:
        yield [env.source.task(env.split, next(walk)).id for _ in range(vector.num_groups)]


class VerlAgentEnvs:
    """Environments behind the interface of verl-agent's: lists in, lists out.

    Args:
        vector: what plays.
        own: returns what the suite's environment manager reads of an info, besides `won`.
        draws: task ids of each reset, one for each group; None if rows or the vector say what is played.
        command: turns what a projection returns into a command.
        images: stands between texts and infos.
    """

    def __init__(
        self,
        vector: TextVectorEnv,
        own: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        draws: Iterator[list[str]] | None = None,
        command: Callable[[str], str] = str,
        images: tuple[None, ...] = (),
    ) -> None:
        self._envs = vector.envs
        self._vector = vector
        self._own, self._draws, self._command, self._images = own, draws, command, images

    @property
    def get_admissible_commands(self) -> list[list[str]]:
        """The admissible commands of each environment."""
        return self._admissible

    def reset(self, kwargs: Sequence[Mapping[str, Any]] | None = None) -> tuple[Any, ...]:
        """Start an episode everywhere; return texts, for ALFWorld None for the images, and infos.

        Args:
            kwargs: rows with the questions to play, of search environments: one for each environment, or fewer, and
                then only so many environments play.
        """
        options: dict[str, Any] | None = None if self._draws is None else {"task_id": next(self._draws)}
        if kwargs is not None:
            rows = list(kwargs)
            if not 0 < len(rows) <= len(self._envs):
                raise InvalidOption(f"kwargs has {len(rows)} rows; wanted 1 to {len(self._envs)}, the environments.")
            self._vector = TextVectorEnv(self._envs[: len(rows)], autoreset_mode=_FREEZE, ignore_finished=True)
            options = {"task": rows}
        texts, infos = self._vector.reset(options=options)
        return (list(texts), *self._images, self._listed(infos))

    def step(self, actions: Sequence[str]) -> tuple[Any, ...]:
        """Give each environment an action; return texts, for ALFWorld None for the images, rewards, dones, infos."""
        texts, rewards, terminations, truncations, infos = self._vector.step([*map(self._command, actions)])
        dones = (terminations | truncations).tolist()
        return (list(texts), *self._images, rewards.tolist(), dones, self._listed(infos))

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def _listed(self, infos: Mapping[str, Any]) -> list[dict[str, Any]]:
        listed = self._vector.list_infos(infos)
        self._admissible = [info["admissible_commands"] for info in listed]
        return [{**{name: info[name] for name in _SHARED}, **self._own(info)} for info in listed]


def _of_alfworld(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in ("admissible_commands", "extra.gamefile")}


def _of_webshop(info: Mapping[str, Any]) -> dict[str, Any]:
    return {"available_actions": info["available_actions"], "task_score": info["score"]}


def _of_search(info: Mapping[str, Any]) -> dict[str, Any]:
    return {"data_source": info["data_set"]}
