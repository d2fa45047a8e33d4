"""Adapter from plain Gymnasium text environments to `TextEnv`: `from_gym`.

A plain text environment is a `gymnasium.Env` whose observations and actions are strings, with or without wrappers. It
has no `Task`, so the adapter makes one of each seed: task `acme/default/0007` is the episode of `reset(seed=7)`. A
split of another name, such as `train` or `test`, has seeds of its own.

What such an environment cannot do:

- It has no `oracle_plan`, so no expert demonstrations.
- `snapshot` and `restore` copy the whole environment with `copy.deepcopy`, and are refused where that fails.
- Admissible commands are known only if the environment lists them in `info["admissible_commands"]`.
- A task's type is one for all (`task_type`), and its instruction is known after the reset only, unless you pass one.
- Other keys of its infos are not passed on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import PassiveEnvChecker

from sdar_envs.core import Outcome, Task, TextEnv, Unicode, index_from_id, is_integer
from sdar_envs.errors import ContractViolation, InvalidOption, UnknownName
from sdar_envs.importing import import_named
from sdar_envs.rng import derive_seed

__all__ = ["DEFAULT_SPLIT", "GymTextEnv", "SeedTasks", "Success", "from_gym"]

DEFAULT_SPLIT = "default"
_MAX_STEPS = 100

Success: TypeAlias = Callable[[float, bool, Mapping[str, Any]], bool]
"""Decides after a step whether the task is solved, from the reward, `terminated` and the environment's info."""


class SeedTasks:
    """Task source of an environment that knows only seeds: each task is the episode of one seed.

    Args:
        template: what all tasks have in common; only id and data are filled in.
        size: how many there are; None for no end.
    """

    def __init__(self, template: Task, size: int | None) -> None:
        self.template = template
        self.split = template.split
        self.splits: Mapping[str, int | None] = {template.split: size}
        self._prefix = f"{template.suite}/{template.split}/"

    def task(self, split: str, index: int) -> Task:
        """Return the task of a seed."""
        seed = index if split == DEFAULT_SPLIT else derive_seed(index, split)
        return replace(self.template, id=f"{self._prefix}{index:04d}", data={"seed": seed})

    def find(self, task_id: str) -> Task:
        """Return the task with that id."""
        if not task_id.startswith(self._prefix):
            raise UnknownName(f"no task {task_id[:200]!r}; ids look like {self._prefix + '0007'!r}.")
        return self.task(self.split, index_from_id(task_id, self._prefix, self.splits[self.split]))


class GymTextEnv(TextEnv[Any]):
    """A plain Gymnasium text environment behind the contract of `TextEnv`; made by `from_gym`, which has the arguments.

    **Observation** and **action**: the environment's own; an action is passed on as it is, also where the action
    space does not contain it.

    **Reward**: the environment's own, times `reward_scale`.

    **Episode end**: `terminated` and `truncated` as the environment says (`terminated` alone where it says both), and
    `truncated` after `max_steps`.

    **Info**: the common keys. `admissible_commands`, `is_action_valid`, `is_success`, `score` and `instruction` are
    taken from the environment's info where it has them with these types. Otherwise there are no commands; an action is
    valid if it is one of the admissible commands, or if there are none; success is as `from_gym` says; the score is 1
    for success, else 0; and the instruction is the first observation.
    """

    evaluation_split = DEFAULT_SPLIT

    def __init__(
        self, env: gym.Env[Any, Any], source: SeedTasks, *, success: Success, max_steps: int, reward_scale: float
    ) -> None:
        super().__init__(source, split=source.split, max_steps=max_steps, reward_scale=reward_scale)
        self.env = env
        self.suite = source.template.suite
        self.prompt_style = getattr(env.unwrapped, "prompt_style", None)
        self.blocks_on_io = bool(getattr(env.unwrapped, "blocks_on_io", False))
        self._id = source.template.env
        self._success = success
        self._last_reward = 0.0
        self._admissible: list[str] = []

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, task: Task) -> str:
        observation, info = self.env.reset(seed=task.data["seed"])
        _check_text(observation, "reset")
        self._last_reward = 0.0
        self._admissible = _commands_in(info)
        if not task.instruction:
            given = info.get("instruction")
            self._task = replace(task, instruction=given if isinstance(given, str) else observation)
        return str(observation)

    def _act(self, action: str) -> Outcome:
        was_listed = not self._admissible or action in self._admissible
        observation, reward, terminated, truncated, info = self.env.step(action)
        _check_text(observation, f"step({action!r:.60})")
        self._last_reward = float(reward)
        self._admissible = _commands_in(info)
        is_success = bool(self._success(self._last_reward, bool(terminated), info))
        score = info.get("score")
        is_valid = _flag(info, "is_action_valid")
        return Outcome(
            str(observation),
            float(score) if isinstance(score, (int, float)) else float(is_success),
            bool(terminated),
            is_success,
            was_listed if is_valid is None else is_valid,
            bool(truncated),
        )

    def _commands(self) -> list[str]:
        return list(self._admissible)

    def _reward(self, outcome: Outcome) -> float:
        return self._last_reward

    def _save(self) -> _State:
        return _State(self._copied(self.env), self._last_reward, list(self._admissible))

    def _load(self, task: Task, state: _State) -> None:
        self.env = self._copied(state.env)
        self._last_reward = state.last_reward
        self._admissible = list(state.admissible)

    def _copied(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        try:
            return copy.deepcopy(env)
        except Exception as error:
            raise InvalidOption(
                f"{self._id} cannot be copied ({type(error).__name__}: {error}); snapshot() and restore() of a plain "
                "Gymnasium environment use copy.deepcopy: give it a __deepcopy__, or make it a TextEnv."
            ) from error

    def _env_id(self) -> str:
        return self._id


def from_gym(
    env: gym.Env[Any, Any],
    *,
    suite: str | None = None,
    split: str = DEFAULT_SPLIT,
    n_tasks: int | None = None,
    task_type: str = "default",
    instruction: str | None = None,
    success: Success | str | None = None,
    max_steps: int | None = None,
    reward_scale: float = 1.0,
) -> GymTextEnv:
    """Wrap a plain Gymnasium text environment as a `TextEnv`, so that it plays, evaluates and trains.

    The module's docstring says what it cannot do. Its wrappers are kept and applied: time limits and changed rewards,
    observations and actions are part of what is played. Gymnasium's passive checker alone is taken out.

    Args:
        env: the environment, with text observations and actions; `reset(seed=...)` has to decide the whole episode.
        suite: the suite of its tasks; by default the namespace of its id (`acme` of `acme/Up-v0`), or the name of its
            class in lower case.
        split: the name of its one split. Number 7 of `default` is seed 7; other splits draw their seeds from name and
            number, so that what is trained on (`split="train"`) and what is evaluated are different tasks.
        n_tasks: size of the split; None for one without end.
        task_type: the type of all tasks; keys the skills.
        instruction: the goal in words; by default `info["instruction"]` of the reset, or the first observation.
        success: decides whether a step solved the task, or its name as `module:function`. By default
            `info["is_success"]` where the environment has it, else whether it terminated with a positive last reward.
        max_steps: actions in an episode; by default the `max_episode_steps` that it was registered with, or 100.
        reward_scale: factor on the reward.

    Raises:
        InvalidOption: it is no Gymnasium environment, or a TextEnv already, its spaces are not text, or an argument is
            out of range.
    """
    if not isinstance(env, gym.Env):
        raise InvalidOption(f"from_gym got {env!r:.80} ({type(env).__name__}); wanted a gymnasium.Env.")
    if isinstance(env, TextEnv):
        raise InvalidOption(
            f"{type(env).__name__} is a TextEnv already: use it as it is, from_gym would drop its tasks."
        )
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not _is_text(space):
            raise InvalidOption(
                f"the {name} of {type(env.unwrapped).__name__} is {space!r:.80}; wanted text: sdar_envs.Unicode() or "
                "gymnasium.spaces.Text. Write it as text first, for example with a gymnasium.ObservationWrapper and a "
                "gymnasium.ActionWrapper."
            )
    if n_tasks is not None and (not is_integer(n_tasks) or n_tasks < 1):
        raise InvalidOption(f"n_tasks is {n_tasks!r}; wanted an integer of at least 1, or None for no end.")
    if isinstance(success, str):
        success = import_named(success, what="a success function")
    if success is not None and not callable(success):
        raise InvalidOption(
            f"success is {success!r:.80}; wanted a function of (reward, terminated, info), or its name."
        )
    kind = type(env.unwrapped).__name__
    spec = env.spec
    if suite is None:
        suite = (None if spec is None else spec.namespace) or kind.lower()
    for name, value in (("suite", suite), ("split", split)):
        if not isinstance(value, str) or not value or "/" in value:
            raise InvalidOption(f"{name} is {value!r}; wanted a name without '/': it is a part of task ids.")
    if max_steps is None:
        max_steps = (None if spec is None else spec.max_episode_steps) or _MAX_STEPS
    env_id = f"{suite}/{kind}" if spec is None else spec.id
    source = SeedTasks(Task("", env_id, split, task_type, instruction or "", suite=suite), n_tasks)
    return GymTextEnv(
        _without_checker(env),
        source,
        success=_solved if success is None else success,
        max_steps=max_steps,
        reward_scale=reward_scale,
    )


def _without_checker(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Return the environment without Gymnasium's passive checker, which cannot step once a first reset has failed."""
    if type(env) is PassiveEnvChecker:
        return _without_checker(env.env)
    if isinstance(env, gym.Wrapper):
        env.env = _without_checker(env.env)
    return env


class _State(NamedTuple):
    env: gym.Env[Any, Any]
    last_reward: float
    admissible: list[str]


def _solved(reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
    told = _flag(info, "is_success")
    return terminated and reward > 0 if told is None else told


def _flag(info: Mapping[str, Any], key: str) -> bool | None:
    value = info.get(key)
    return bool(value) if isinstance(value, (bool, np.bool_)) else None


def _is_text(space: Any) -> bool:
    if isinstance(space, (Unicode, gym.spaces.Text)):
        return True
    # Other packages have text spaces of their own, as BrowserGym does.
    return isinstance(space, gym.Space) and isinstance(space.sample(), str)


def _check_text(observation: Any, where: str) -> None:
    if not isinstance(observation, str):
        raise ContractViolation(
            f"the observation of {where} is {observation!r:.80} ({type(observation).__name__}); wanted a str."
        )


def _commands_in(info: Mapping[str, Any]) -> list[str]:
    commands = info.get("admissible_commands")
    return list(map(str, commands)) if isinstance(commands, (list, tuple)) else []
