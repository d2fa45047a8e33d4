"""Base classes of text environments: `TextEnv`, `Task`, `TaskSource` and the `Unicode` space.

Observations and actions are text. A `Task` is data, a `TaskSource` makes tasks, and `TextEnv` implements what all
environments share: seeding, choosing the task, the step limit, the info dictionary, refusing to step a finished
episode, snapshots. An environment of your own implements six abstract methods: `_begin`, `_act`, `_commands`, `_save`,
`_load` and `_env_id`; `examples/own_env.py` is a whole one, and `sdar_envs.check_env` tests it.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeGuard, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector.utils import create_empty_array
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit
from gymnasium.wrappers.utils import create_zero_array

from sdar_envs.errors import EpisodeOver, InvalidAction, InvalidOption, UnknownName, did_you_mean
from sdar_envs.orders import SharedWalk, Walk
from sdar_envs.printing import say

__all__ = [
    "INFO_TYPES",
    "FrozenDict",
    "Outcome",
    "Snapshot",
    "Task",
    "TaskSource",
    "TextEnv",
    "Unicode",
    "check_render_mode",
    "index_from_id",
    "is_integer",
    "rebuilt",
    "task_id_of",
    "text_env",
]

INFO_TYPES: Mapping[str, type] = MappingProxyType(
    {
        "task_id": str,
        "task_type": str,
        "instruction": str,
        "split": str,
        "is_success": bool,
        "won": bool,
        "score": float,
        "is_action_valid": bool,
        "admissible_commands": list,
        "step": int,
    }
)
"""Keys of `info` at reset and at every step, in every environment, with their types."""


_OPTIONS = ("task_id", "task")

_HARMLESS_WRAPPERS = (OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics)


class FrozenDict(dict[str, Any]):
    """Immutable dictionary that serialises to JSON and pickles like any other."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a task's data cannot be changed, because environments share it: copy it with dict(...).")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling a dict subclass would set its items one by one.
        return FrozenDict, (dict(self),)


@dataclass(frozen=True, slots=True)
class Task:
    """Task of an environment: immutable data that names one episode.

    Attributes:
        id: `<suite>/<split>/<rest>`, for example `alfworld/valid_unseen/0017`; the same in every version.
        env: the environment that plays it, for example `sdar/ALFWorld-v0`.
        split: `train`, `valid_seen`, ...
        task_type: the kind of task, for example `pick_heat_then_place_in_recep`; keys the skills.
        instruction: the goal in words, as the player reads it.
        data: what the environment needs to build the episode; JSON values.
        suite: the benchmark that the task belongs to, for example `alfworld`: keys skills, prompt styles and presets.
            By default the first part of the id.
    """

    id: str
    env: str
    split: str
    task_type: str
    instruction: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)
    suite: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.data, FrozenDict):
            object.__setattr__(self, "data", FrozenDict(self.data))
        if not self.suite:
            object.__setattr__(self, "suite", self.id.partition("/")[0])

    def to_json(self) -> dict[str, Any]:
        """Return the task as a dictionary of JSON values."""
        return {
            "id": self.id,
            "env": self.env,
            "split": self.split,
            "task_type": self.task_type,
            "instruction": self.instruction,
            "data": dict(self.data),
            "suite": self.suite,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Task:
        """Return the task of a dictionary from `to_json`; `suite` may be missing, as in files of older versions."""
        return cls(**fields)


class TaskSource(Protocol):
    """Source of an environment's tasks, such as a generator or files; environments may share one."""

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Number of tasks in each split; None for a split without end."""
        ...

    def task(self, split: str, index: int) -> Task:
        """Return task `index` of `split`, in the split's fixed order."""
        ...

    def find(self, task_id: str) -> Task:
        """Return the task with that id; raise `UnknownName` with the closest id if there is none."""
        ...


class Unicode(gym.Space[str]):
    """Space of all strings.

    Gymnasium's `Text` wants a fixed alphabet, and full Unicode takes it 1.5 s and 47 MB. `sample` draws short lines
    from a fixed alphabet that includes accents, CJK and an emoji.
    """

    _ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"[]<>/-éñß漢字🙂"

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return a random line of 1 to 40 characters."""
        if mask is not None or probability is not None:
            raise InvalidOption(
                "Unicode.sample got a mask or probability; text has neither: call it without arguments."
            )
        length = int(self.np_random.integers(1, 41))
        return "".join(self._ALPHABET[i] for i in self.np_random.integers(len(self._ALPHABET), size=length))

    def contains(self, x: Any) -> bool:
        """Return whether `x` is a string."""
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no flat array form."""
        return False

    def __repr__(self) -> str:
        return "Unicode()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode)

    def __hash__(self) -> int:
        return hash(Unicode)


@create_empty_array.register(Unicode)
def _create_empty_text(space: Unicode, n: int = 1, fn: Any = np.zeros) -> tuple[str, ...]:
    # Without this, wrappers that stack observations cannot allocate for a custom space.
    return ("",) * n


@create_zero_array.register(Unicode)
def _create_zero_text(space: Unicode) -> str:  # type: ignore[misc]
    return ""


class Outcome(NamedTuple):
    """Result of an action, returned by an environment's `_act`.

    Attributes:
        observation: what the player reads.
        score: progress from 0 to 1.
        terminated: whether the task's end was reached.
        is_success: whether the task is solved.
        is_action_valid: whether the environment accepted the action.
        truncated: end an episode that cannot go on before its step limit.
    """

    observation: str
    score: float
    terminated: bool
    is_success: bool
    is_action_valid: bool
    truncated: bool = False


StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[StateT]):
    """State of an episode at one moment; can be restored any number of times, in any environment of the same kind."""

    task: Task
    variant: str
    step: int
    over: bool
    observation: str
    outcome: Outcome
    state: StateT


class TextEnv(gym.Env[str, str], Generic[StateT], ABC):
    """Base class of multi-turn text environments: observations are text, actions are bare commands.

    `reset(seed=s)` maps `s` to the same task and the same episode on every machine. Each `reset()` after it goes on to
    another task of the split, until all were played, then through all of them again in another order, and so on; the
    order depends on `s` alone (without any seed, on one that the system gives). A split without end gives independent
    random tasks. `reset(options={"task_id": ...})` plays one task and, like restoring a snapshot, leaves the place in
    that order as it is. `terminated` means that the task's end was reached, `truncated` that `max_steps` ran out. An
    attribute `prompt_style`, a `sdar_envs.PromptStyle`, gives an environment a prompt style of its own.

    Args:
        source: the source of tasks.
        split: the split that `reset` draws from.
        max_steps: actions in an episode, counting useless ones.
        reward_scale: factor on the reward (the reward is 0 or 1 by default).
        render_mode: None, "ansi" (`render` returns the last exchange) or "human" (prints it).

    Raises:
        UnknownName: `split` is not one of the source's splits.
        InvalidOption: another argument is out of range.
    """

    suite: str = ""
    """The suite of the environment's tasks, such as `alfworld`; keys skills, prompt styles, presets. Empty for none."""

    evaluation_split: str = "test"
    """The held-out split that results are reported on by default."""

    path_arguments: Mapping[str, Collection[str]] = MappingProxyType({"data_dir": ()})
    """Arguments that are paths, which the records of runs keep absolute (`sdar_envs.storage.absolute_arguments`)."""

    @classmethod
    def panel_name(cls, arguments: Mapping[str, Any]) -> str:
        """Return what tables call the tasks that these arguments choose, beside the split; empty if that says it all.

        Args:
            arguments: of the environment, with or without its defaults.
        """
        return ""

    blocks_on_io: bool = False
    """Whether `reset` and `step` may wait for a server or a disk. An event loop then calls them in threads."""

    def __init__(
        self,
        source: TaskSource,
        *,
        split: str,
        max_steps: int,
        reward_scale: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(split, str) or split not in source.splits:
            raise UnknownName(
                f"no split {split!r} here; choose one with split=: {', '.join(source.splits)}."
                f"{did_you_mean(split, source.splits)}"
            )
        if not is_integer(max_steps) or max_steps < 1:
            raise InvalidOption(f"max_steps is {max_steps!r}; wanted an integer of at least 1.")
        if isinstance(reward_scale, (bool, str)) or not math.isfinite(reward_scale):
            raise InvalidOption(f"reward_scale is {reward_scale!r}; wanted a finite number.")
        check_render_mode(render_mode, self.metadata.get("render_modes", ()))
        self.observation_space = Unicode()
        self.action_space = Unicode()
        self.render_mode = render_mode
        self.source = source
        self.split = split
        self.max_steps = int(max_steps)
        self.reward_scale = float(reward_scale)
        self._task: Task | None = None
        self._step_count = 0
        self._over = True
        self._observation = ""
        self._action: str | None = None
        self._outcome = Outcome("", 0.0, False, False, True)
        self._walk: Walk | SharedWalk | None = None

    # -- the contract -----------------------------------------------------------------------

    # A property, as Gymnasium's wrappers have: where the class holds a dictionary, gymnasium.make looks at a mode
    # before this class does, and raises an AttributeError for one that is no str.
    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Gymnasium's description of the environment: its render modes, and frames per second."""
        return {"render_modes": ["ansi", "human"], "render_fps": 4}

    @property
    def task(self) -> Task:
        """The task being played.

        Raises:
            EpisodeOver: nothing was reset yet.
        """
        if self._task is None:
            raise EpisodeOver("there is no task before the first reset(): call reset() first.")
        return self._task

    @property
    def variant(self) -> str:
        """What, besides the task, decides how an episode reads, such as the corpus that is searched."""
        return self._variant()

    @property
    def data_flags(self) -> Mapping[str, Any]:
        """How this installation's data depart from the reference ones and change scores; empty if they do not.

        Results with different flags do not compare. JSON values by name, such as `{"title_nouns": "guessed"}`.
        """
        return self._data_flags()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: maps to a task of the split; None goes on to one that was not played since the last seed, or in this
                pass through the split.
            options: `{"task_id": id}` plays that task, of any split. `{"task": task}` plays a `Task`, or the one that a
                row of a data set names (`task_id_of`); the row may have any other columns. Search-QA plays questions
                that come in the row.

        Returns:
            The first observation, and `info` (see `INFO_TYPES`).

        Raises:
            UnknownName: there is no such option or task.
            InvalidOption: the task is another one than that of this environment's data, or the row names none.
        """
        # After a reset that fails, step must not continue the old episode.
        self._over = True
        super().reset(seed=int(seed) if seed is not None and is_integer(seed) else seed)
        self._task = self._choose_task(options)
        self._step_count = 0
        self._action = None
        self._observation = self._begin(self._task)
        self._over = False
        self._outcome = Outcome(self._observation, 0.0, False, False, True)
        if self.render_mode == "human":
            say(self._frame())
        return self._observation, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one action, a command.

        Any text is allowed: a command that the environment does not accept changes nothing and is answered in words.

        Raises:
            InvalidAction: the action is not a string.
            EpisodeOver: the episode has ended, or none was started.
        """
        if not isinstance(action, str):
            raise InvalidAction(
                f"the action is {action!r} ({type(action).__name__}); wanted a command as str, such as 'look'."
            )
        if self._over:
            raise EpisodeOver(
                "step() was called, but the episode is over: call reset() first."
                if self._task is not None
                else "step() was called before reset(): call reset() first."
            )
        outcome = self._act(action)
        self._outcome = outcome
        self._observation = outcome.observation
        self._action = action
        self._step_count += 1
        truncated = not outcome.terminated and (outcome.truncated or self._step_count >= self.max_steps)
        self._over = outcome.terminated or truncated
        if self.render_mode == "human":
            say(self._frame())
        reward = self._reward(outcome) * self.reward_scale
        return outcome.observation, reward, outcome.terminated, truncated, self._info()

    def render(self) -> str | None:
        """Return the last action and observation as text ("ansi"); "human" prints while playing and returns None."""
        return self._frame() if self.render_mode == "ansi" else None

    def snapshot(self) -> Snapshot[StateT]:
        """Return the episode's state, for tree search and branching rollouts.

        Raises:
            EpisodeOver: nothing was reset yet.
        """
        task = self.task
        return Snapshot(
            task, self._variant(), self._step_count, self._over, self._observation, self._outcome, self._save()
        )

    def restore(self, snapshot: Snapshot[StateT]) -> tuple[str, dict[str, Any]]:
        """Restore a snapshot, taken here or in another environment of the same kind, arguments and data.

        Returns:
            The observation and info of when the snapshot was taken.

        Raises:
            InvalidOption: it is of another kind or variant of environment, or of a task that is not in this one's
                data.
        """
        if snapshot.task.env != self._env_id():
            raise InvalidOption(
                f"the snapshot is of {snapshot.task.env!r}, this environment is {self._env_id()!r}: "
                "restore it in an environment of its own kind."
            )
        if snapshot.variant != self._variant():
            raise InvalidOption(
                f"the snapshot is of the variant {snapshot.variant!r}, this environment is {self._variant()!r}: "
                "restore it in an environment that was made with the same arguments."
            )
        try:
            self._check_known(snapshot.task)
        except UnknownName as error:
            raise InvalidOption(
                f"the snapshot is of task {snapshot.task.id!r}, which is not in the data of this environment: "
                "restore it in an environment with the same data."
            ) from error
        self._task = snapshot.task
        self._step_count = snapshot.step
        self._over = snapshot.over
        self._observation = snapshot.observation
        self._outcome = snapshot.outcome
        self._action = None
        self._load(snapshot.task, snapshot.state)
        return self._observation, self._info()

    def oracle_plan(self) -> tuple[str, ...]:
        """Return an expert's commands that solve the task from the current state; the expert sees the hidden state.

        Returns:
            The commands; none if the task is solved.

        Raises:
            UnsolvableGame: no sequence of commands solves it.
            EpisodeOver: nothing was reset yet.
            UnknownName: this environment has no oracle.
        """
        raise UnknownName(f"{self._env_id()} has no oracle.")

    @classmethod
    def prepare(cls, envs: Sequence[Self], actions: Sequence[str]) -> None:
        """Batch hook: do work that the next steps of several environments share, such as searches; none by default.

        `TextVectorEnv` calls it before it steps them. It changes no episode, and if it raises, no environment was
        stepped.

        Args:
            envs: environments of this class whose episodes are running.
            actions: one command for each.
        """

    # -- what an environment implements -----------------------------------------------------

    @abstractmethod
    def _begin(self, task: Task) -> str:
        """Set the initial state of `task` and return the first observation."""

    @abstractmethod
    def _act(self, action: str) -> Outcome:
        """Apply an action to the state and return its outcome."""

    @abstractmethod
    def _commands(self) -> list[str]:
        """Return a new list of the admissible commands, in an order that depends on the state alone.

        Prompts list them in this order: sorted, or as they stand on the page that the player reads.
        """

    @abstractmethod
    def _save(self) -> StateT:
        """Return a copy of the state, which further steps do not change."""

    @abstractmethod
    def _load(self, task: Task, state: StateT) -> None:
        """Set a state that `_save` returned, as a copy: the same state may be loaded again."""

    @abstractmethod
    def _env_id(self) -> str:
        """Return the id under which the environment is registered."""

    def _variant(self) -> str:
        """Return what, besides the task, decides how an episode reads; snapshots are restored within one variant."""
        return ""

    def _data_flags(self) -> Mapping[str, Any]:
        """Return what `data_flags` says; nothing by default."""
        return {}

    def _given_task(self, given: object) -> Task:
        """Return the task to play for `options["task"]`: by default the one of the data that has its id.

        Raises:
            UnknownName: there is no such task.
            InvalidOption: it is no task of this environment, or differs from the one of the data.
        """
        env_id: object
        instruction: object
        if isinstance(given, Task):
            task_id, env_id, instruction = given.id, given.env, given.instruction
        elif isinstance(given, Mapping):
            named = task_id_of(given)
            if named is None:
                columns = ", ".join(map(str, given))[:200]
                raise InvalidOption(
                    f"the row names no task; it has {columns or 'no column'}. Wanted 'task_id', by itself or in "
                    "'env_kwargs' or 'extra_info': sdar_envs.task_rows makes such rows."
                )
            task_id, env_id, instruction = named, given.get("env_id"), given.get("instruction")
        else:
            raise InvalidOption(
                f"options['task'] is {given!r:.80} ({type(given).__name__}); wanted a sdar_envs.Task or a row with a "
                "'task_id'. A task id by itself is options['task_id']."
            )
        if isinstance(env_id, str) and env_id.rpartition(":")[2] != self._env_id():
            raise InvalidOption(
                f"the task {task_id!r:.200} is of {env_id!r:.80}, this environment is {self._env_id()!r}: play it in "
                "an environment of its own kind."
            )
        found = self.source.find(task_id)
        # Some environments know an instruction only at the reset.
        if found.instruction and isinstance(instruction, str) and instruction != found.instruction:
            raise InvalidOption(
                f"the task {task_id!r} says {instruction!r:.120}, but the one of that id here says "
                f"{found.instruction!r:.120}: it was made from other data. Make it again, or give the environment the "
                "arguments that it was made with."
            )
        return found

    def _check_known(self, task: Task) -> None:
        """Raise `UnknownName` if a snapshot's task cannot be played here; by default if it is not in the data."""
        self.source.find(task.id)

    def _reward(self, outcome: Outcome) -> float:
        """Return the unscaled reward: 1 for success, else 0."""
        return 1.0 if outcome.is_success else 0.0

    def _extra_info(self) -> dict[str, Any]:
        """Return further info keys of this environment, always the same ones with the same types."""
        return {}

    # -- shared -----------------------------------------------------------------------------

    def _join_walk(self, walk: Walk, group: dict[int, list[int]], takers: int, seed: int) -> None:
        """Seed the environment, and take the tasks of its unseeded resets from a walk that several share.

        Args:
            walk: through the split.
            group: see `SharedWalk`.
            takers: see `SharedWalk`.
            seed: of everything else that is drawn.
        """
        self._np_random, self._np_random_seed = seeding.np_random(seed)
        self._walk = SharedWalk(walk, group, takers, self._np_random)

    def _choose_task(self, options: dict[str, Any] | None) -> Task:
        if options:
            return self._chosen_task(options)
        size = self.source.splits[self.split]
        if size is None:
            return self.source.task(self.split, int(self.np_random.integers(2**31)))
        walk = self._walk
        # Seeding makes a new generator, and a user may set one.
        if walk is None or walk.owner is not self._np_random or walk.size != size:
            generator = self.np_random
            first = int(generator.integers(size))
            # The order is no draw from the generator: what an environment draws in its episodes must not change it.
            seed = self.np_random_seed
            seed = int(generator.integers(2**63)) if seed is None or seed < 0 else seed
            walk = self._walk = Walk(size, first, seed, generator)
        return self.source.task(self.split, next(walk))

    def _chosen_task(self, options: Mapping[str, Any]) -> Task:
        if not isinstance(options, Mapping):
            raise InvalidOption(f"options is {options!r}; wanted a dictionary such as {{'task_id': ...}}.")
        for key in options:
            if key not in _OPTIONS:
                raise UnknownName(
                    f"no reset option {key!r}; there are {' and '.join(map(repr, _OPTIONS))}."
                    f"{did_you_mean(key, _OPTIONS)}"
                )
        if len(options) > 1:
            raise InvalidOption(f"options has {' and '.join(map(repr, options))}; wanted one of them.")
        if "task" in options:
            return self._given_task(options["task"])
        task_id = options["task_id"]
        if not isinstance(task_id, str):
            raise InvalidOption(
                f"options['task_id'] is {task_id!r}; wanted a task id as str: sdar_envs.tasks() lists them."
            )
        return self.source.find(task_id)

    def _info(self) -> dict[str, Any]:
        task = self.task
        outcome = self._outcome
        return {
            "task_id": task.id,
            "task_type": task.task_type,
            "instruction": task.instruction,
            "split": task.split,
            "is_success": outcome.is_success,
            "won": outcome.is_success,
            "score": outcome.score,
            "is_action_valid": outcome.is_action_valid,
            "admissible_commands": self._commands(),
            "step": self._step_count,
            **self._extra_info(),
        }

    def _position(self) -> tuple[Any, ...]:
        """Return the seeding and episode state, for `rebuilt`."""
        episode = None if self._task is None else self.snapshot()
        return self.spec, self._np_random, self._np_random_seed, self._walk, episode

    def _frame(self) -> str:
        command = "" if self._action is None else f"> {self._action}\n"
        return f"{command}{self._observation}"


def rebuilt(kind: type[TextEnv[Any]], arguments: Mapping[str, Any], position: tuple[Any, ...]) -> TextEnv[Any]:
    """Re-create an environment at the same episode state; for pickling environments whose data is shared, not copied.

    Args:
        kind: its class.
        arguments: of the class.
        position: what `TextEnv._position` returned.
    """
    env = kind(**arguments)
    env.spec, env._np_random, env._np_random_seed, env._walk, episode = position
    if episode is not None:
        env.restore(episode)
    return env


def task_id_of(row: Mapping[str, Any]) -> str | None:
    """Return the id of the task that a row of a data set names; None if it names none.

    Args:
        row: with `task_id`, by itself or in `env_kwargs` or `extra_info`, where trainers keep what is theirs.
    """
    for place in (row, row.get("env_kwargs"), row.get("extra_info")):
        if isinstance(place, Mapping) and isinstance(task_id := place.get("task_id"), str):
            return task_id
    return None


def check_render_mode(mode: object, known: Collection[str]) -> None:
    """Check that a render mode is None or one of those known.

    Raises:
        InvalidOption: it is something else.
    """
    if mode is not None and not (isinstance(mode, str) and mode in known):
        raise InvalidOption(
            f"render_mode is {mode!r:.80}; wanted None or one of {', '.join(known)}.{did_you_mean(mode, known)}"
        )


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether `value` is an integer, Python's or numpy's, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def text_env(env: gym.Env[Any, Any]) -> TextEnv[Any]:
    """Return the `TextEnv` inside Gymnasium's wrappers.

    Wrappers that only check or record (`OrderEnforcing`, `PassiveEnvChecker`, `RecordEpisodeStatistics`, any that
    leaves `reset` and `step` as they are) are taken off. Wrappers that change what an episode is are refused:
    rollouts, snapshots and training use the environment inside, where their effect would be lost.

    Raises:
        InvalidOption: it is another kind of environment, or in a wrapper that changes observations, rewards, actions
            or the episode's end.
    """
    inner = env.unwrapped
    if not isinstance(inner, TextEnv):
        raise InvalidOption(
            f"the environment is a {type(inner).__name__}; wanted a sdar_envs.TextEnv. Wrap a Gymnasium environment "
            "with text observations and actions in sdar_envs.from_gym(env)."
        )
    while isinstance(env, gym.Wrapper):
        kind = type(env)
        is_unchanged = kind.step is gym.Wrapper.step and kind.reset is gym.Wrapper.reset
        if not is_unchanged and kind not in _HARMLESS_WRAPPERS:
            raise InvalidOption(f"{type(inner).__name__} is in the wrapper {kind.__name__}, which {_effect(env)}")
        env = env.env
    return inner


def _effect(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> str:
    """Return what a wrapper changes, why it is refused, and what to do instead."""
    if isinstance(wrapper, TimeLimit):
        return "ends episodes on its own: pass max_steps to the environment instead of max_episode_steps."
    if isinstance(wrapper, gym.RewardWrapper):
        what, where = "changes rewards", "override _reward in a subclass"
    elif isinstance(wrapper, gym.ActionWrapper):
        what, where = "changes actions", "override _act in a subclass"
    elif isinstance(wrapper, gym.ObservationWrapper):
        what, where = "changes observations", "override _begin and _act in a subclass"
    else:
        what, where = "has a step or reset of its own", "override _begin, _act or _reward in a subclass"
    return (
        f"{what}; rollouts use the environment inside, where that would be lost: {where}, or play it without its tasks "
        "as a plain environment, sdar_envs.from_gym(env)."
    )


def index_from_id(task_id: str, prefix: str, size: int | None) -> int:
    """Return the number at the end of a task id such as `alfworld/train/0017`.

    Args:
        task_id: the id.
        prefix: what precedes the number.
        size: tasks in the split, None for a stream without end.

    Raises:
        UnknownName: the rest of the id is not the number of a task.
    """
    rest = task_id.removeprefix(prefix)
    # Only the canonical spelling is an id: 17, +17 and 00017 would give one task several names.
    number = int(rest[:12]) if rest.isascii() and rest.isdigit() else -1
    in_range = number >= 0 and (size is None or number < size)
    if in_range and rest == f"{number:04d}":
        return number
    wanted = "a number of at least four digits" if size is None else f"0000 to {size - 1:04d}"
    known = (f"{prefix}{index:04d}" for index in ([number] if in_range else range(size or 1000)))
    raise UnknownName(
        f"no task {task_id[:200]!r}; the ids of this split are {prefix!r} and {wanted}.{did_you_mean(task_id, known)}"
    )
