"""Vectorised text environments: `TextVectorEnv` steps many environments in one process.

It follows Gymnasium's vector API with its three autoreset modes, and returns what `SyncVectorEnv` returns over the same
environments, at a fraction of the cost. It adds groups (consecutive environments that play the same tasks), one task id
per environment, and freezing of finished environments where autoreset is disabled.

There are no subprocesses: a text environment steps in microseconds, a message between processes takes a hundred. All
actions are validated before any environment is stepped, so a refused batch changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sdar_envs.core import Snapshot, Task, TextEnv, is_integer
from sdar_envs.errors import EpisodeOver, InvalidAction, InvalidOption, UnknownName, did_you_mean
from sdar_envs.orders import Walk

__all__ = ["TextVectorEnv"]

_OPTIONS = ("task_id", "task", "reset_mask")
_CHOICES: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("task_id", (str,), "a task id as str"),
    ("task", (Task, Mapping), "a Task or a row of a data set"),
)
_NUMBERS = {kind: np.dtype(kind) for kind in (bool, int, float)}
_OBJECT = np.dtype(object)
_ATOMS = frozenset({str, int, float, bool, type(None)})


class TextVectorEnv(VectorEnv[tuple[str, ...], Sequence[str | None], npt.NDArray[Any]]):
    """Vector of text environments, stepped one after the other in this process.

    Args:
        envs: the environments; all of one kind, each object once. Available as the attribute `envs`.
        group_size: how many consecutive environments form a group. The members of a group get the same
            seed, so the k-th episode of each member is the same task.
        autoreset_mode: what `step` does with a finished environment. `NEXT_STEP`: the next `step` resets it
            and ignores its action (which may be None). `SAME_STEP`: it is reset at once, and the end is in
            `info["final_obs"]` and `info["final_info"]`. `DISABLED`: it is frozen until `reset`.
        ignore_finished: in `DISABLED` mode, accept commands for finished environments, as `SyncVectorEnv` does, and
            ignore them: the environment stays as it is, with reward 0. By default a finished environment wants None.

    Raises:
        InvalidOption: there are no environments, one object came twice, the spaces differ, `group_size` does
            not divide the number of environments, or there is no such mode.
    """

    envs: list[TextEnv[Any]]
    num_groups: int

    def __init__(
        self,
        envs: Sequence[TextEnv[Any]],
        *,
        group_size: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        ignore_finished: bool = False,
    ) -> None:
        envs = list(envs)
        self.num_envs = len(envs)
        if not envs:
            raise InvalidOption("TextVectorEnv got no environments; wanted at least one.")
        for index, env in enumerate(envs):
            if not isinstance(env, gym.Env):
                raise InvalidOption(
                    f"envs[{index}] is {env!r} ({type(env).__name__}); wanted an environment (not a function for one)."
                )
            if env.observation_space != envs[0].observation_space or env.action_space != envs[0].action_space:
                raise InvalidOption(
                    f"envs[{index}] has other spaces than envs[0]; wanted environments of one kind: "
                    "make one vector environment for each kind."
                )
        if len({id(env) for env in envs}) < self.num_envs:
            raise InvalidOption("the same environment object came twice; wanted a separate one for each place.")
        if not is_integer(group_size) or group_size < 1 or self.num_envs % group_size:
            divisors = [n for n in range(1, self.num_envs + 1) if self.num_envs % n == 0]
            raise InvalidOption(
                f"group_size is {group_size!r} with {self.num_envs} environments; wanted a divisor of their number: "
                f"one of {', '.join(map(str, divisors))}."
            )
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            raise InvalidOption(
                f"autoreset_mode is {autoreset_mode!r}; wanted one of {', '.join(str(mode) for mode in AutoresetMode)}."
            ) from None
        self.envs = envs
        self.ignore_finished = ignore_finished
        self.group_size = int(group_size)
        self.num_groups = self.num_envs // self.group_size
        self.metadata = {**self.envs[0].metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = self.envs[0].render_mode
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        # Lists, not arrays: reading one element of an array costs as much as a small environment's step.
        bases = [(i, env.unwrapped) for i, env in enumerate(envs)]
        self._preparable = [
            (i, env) for i, env in bases if isinstance(env, TextEnv) and type(env).prepare != TextEnv.prepare
        ]
        self._observations = [""] * self.num_envs
        self._terminated = [False] * self.num_envs
        self._truncated = [False] * self.num_envs
        self._final_infos: list[dict[str, Any]] = [{} for _ in self.envs]  # read only where DISABLED froze
        self._is_seeded = [False] * self.num_envs
        self._seed: int | None = None  # of what is reset without a seed
        self._walk: Walk | None = None
        self._taken: list[dict[int, list[int]]] = [{} for _ in range(self.num_groups)]

    # -- the vector API ---------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start an episode in every environment, or in those of `reset_mask`.

        Args:
            seed: an integer `s` gives environment `i` the seed `s + i // group_size`; a list has one seed for
                each environment or for each group. None goes on in the order of the last seed. Environments that were
                never seeded share one order through the split: no two groups play the same task before all tasks were
                played.
            options: `{"task_id": id or ids}` plays those tasks, a list has one id for each environment or for each
                group; so does `{"task": task or tasks}`, with a `Task` or a row of a data set (see `TextEnv.reset`) in
                the place of each id; `{"reset_mask": (num_envs,) bool array}` leaves the environments alone where it is
                False. The dictionary is not changed.

        Returns:
            All observations (those of environments left alone are repeated), and the infos of those that were reset.

        Raises:
            UnknownName: there is no such option or task.
            InvalidOption: the seed, the ids or the mask have a wrong type or length.
        """
        seeds = self._seeds(seed)
        chosen, mask = self._options(options)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        for i, env in enumerate(self.envs):
            if not mask[i]:
                continue
            infos[i] = self._reset_one(i, env, self._first_seed(i, seeds[i]), chosen[i])
            self._terminated[i] = self._truncated[i] = False
        return tuple(self._observations), _stack(infos)

    def step(
        self, actions: Sequence[str | None]
    ) -> tuple[tuple[str, ...], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Give one command to each environment.

        Args:
            actions: `num_envs` commands. None is allowed only for a finished environment: in `DISABLED` mode it is
                required there (unless `ignore_finished`), in `NEXT_STEP` mode the action of an environment that is
                about to be reset is ignored.

        Returns:
            observations: `num_envs` strings.
            rewards: `(num_envs,)` float64.
            terminations: `(num_envs,)` bool.
            truncations: `(num_envs,)` bool.
            infos: one array `(num_envs,)` for each key of the environments' infos, and a mask `_key`; `list_infos`
                turns it into a list of plain dictionaries.
                A frozen environment repeats its last observation, flags and info, with reward 0.

        Raises:
            InvalidAction: `actions` is not a sequence of `num_envs` commands. No environment was stepped.
            EpisodeOver: a frozen environment got a command (no environment was stepped), or there was no `reset`.
        """
        self._check_actions(actions)
        rewards = np.zeros(self.num_envs)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        final: list[dict[str, Any] | None] = [None] * self.num_envs
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            self._terminated = [False] * self.num_envs
            self._truncated = [False] * self.num_envs
        has_final = False
        self._prepare(actions)
        for i, env in enumerate(self.envs):
            if self._terminated[i] or self._truncated[i]:
                if self.autoreset_mode is AutoresetMode.DISABLED:
                    infos[i] = _copied(self._final_infos[i])
                else:
                    infos[i] = self._reset_one(i, env, self._first_seed(i, None), None)
                    self._terminated[i] = self._truncated[i] = False
                continue
            action = actions[i]
            assert action is not None  # _check_actions saw to it
            observation, reward, terminated, truncated, info = env.step(action)
            rewards[i] = reward
            self._observations[i] = observation
            self._terminated[i] = terminated
            self._truncated[i] = truncated
            infos[i] = info
            if terminated or truncated:
                if self.autoreset_mode is AutoresetMode.DISABLED:
                    self._final_infos[i] = _copied(info)
                elif self.autoreset_mode is AutoresetMode.SAME_STEP:
                    has_final = True
                    final[i] = {"final_obs": observation, "final_info": info}
                    infos[i] = self._reset_one(i, env, self._first_seed(i, None), None)
        stacked = _stack(infos)
        if has_final:
            stacked.update(_stack(final))
        return (
            tuple(self._observations),
            rewards,
            np.array(self._terminated, dtype=np.bool_),
            np.array(self._truncated, dtype=np.bool_),
            stacked,
        )

    def list_infos(self, infos: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the infos of `reset` or `step` as one dictionary per environment, of Python values.

        What the environments of this package put into their infos is JSON, so that the list is too.

        Args:
            infos: the dictionary of arrays and masks that `reset` or `step` returned.

        Returns:
            `num_envs` dictionaries; a key that an environment had no value for is left out of its dictionary.
        """
        return _unstack(infos, self.num_envs)

    def render(self) -> tuple[Any, ...]:
        """Return what each environment renders."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments; `close` calls this once."""
        for env in getattr(self, "envs", ()):
            env.close()

    # -- single environments ----------------------------------------------------------------

    def snapshot(self, index: int) -> Snapshot[Any]:
        """Return the state of one environment's episode."""
        return self.envs[index].snapshot()

    def restore(self, index: int, snapshot: Snapshot[Any]) -> tuple[str, dict[str, Any]]:
        """Put one environment back to a snapshot, of its own or of another one, and return its observation and info.

        Use this and not `envs[index].restore`: whether the environment is finished is known here too.

        Raises:
            InvalidOption: the snapshot is of another kind of environment, or it is of a finished episode and the
                mode is `SAME_STEP`, where no environment stays finished.
        """
        if snapshot.over and self.autoreset_mode is AutoresetMode.SAME_STEP:
            raise InvalidOption(
                "the snapshot is of a finished episode, and in SAME_STEP mode no environment stays finished: "
                "restore an earlier one, or use another autoreset mode."
            )
        observation, info = self.envs[index].restore(snapshot)
        self._observations[index] = observation
        self._terminated[index] = snapshot.over and snapshot.outcome.terminated
        self._truncated[index] = snapshot.over and not snapshot.outcome.terminated
        self._final_infos[index] = _copied(info)
        return observation, info

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, or read an attribute, and return the results."""
        values = [env.get_wrapper_attr(name) for env in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each environment."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment: a list or tuple has one value for each, anything else goes to all.

        Raises:
            InvalidOption: the list has another length than `num_envs`.
        """
        if not isinstance(values, (list, tuple)):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise InvalidOption(
                f"set_attr({name!r}) got {len(values)} values for {self.num_envs} environments; wanted one for each, "
                "or one value that is neither list nor tuple for all."
            )
        for env, value in zip(self.envs, values, strict=True):
            env.set_wrapper_attr(name, value)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The environments' generators."""
        return self.get_attr("np_random")

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seeds of the environments' generators."""
        return self.get_attr("np_random_seed")

    # -- inside -----------------------------------------------------------------------------

    def _prepare(self, actions: Sequence[str | None]) -> None:
        """Let environments do together what their steps would do one by one, if their class has a way to."""
        prepared: dict[type[TextEnv[Any]], tuple[list[Any], list[str]]] = {}
        for i, env in self._preparable:
            action = actions[i]
            if action is not None and not (self._terminated[i] or self._truncated[i]):
                envs, of = prepared.setdefault(type(env), ([], []))
                envs.append(env)
                of.append(action)
        for kind, (envs, of) in prepared.items():
            kind.prepare(envs, of)

    def _reset_one(
        self, index: int, env: TextEnv[Any], seed: int | None, options: dict[str, Any] | None
    ) -> dict[str, Any]:
        self._observations[index], info = env.reset(seed=seed, options=options)
        return info

    def _first_seed(self, index: int, seed: int | None) -> int | None:
        # Environments that were never seeded would play different tasks in a group, and the same ones in several.
        if seed is None and not self._is_seeded[index]:
            if self._seed is None:
                self._seed = seeding.np_random()[1]
            group = index // self.group_size
            seed = self._seed + group
            env = self.envs[index].unwrapped
            size = env.source.splits[env.split] if isinstance(env, TextEnv) else None
            if size and self._walk is None:
                self._walk = Walk(size, self._seed % size, self._seed)
            if isinstance(env, TextEnv) and self._walk is not None and self._walk.size == size:
                env._join_walk(self._walk, self._taken[group], self.group_size, seed)
                seed = None
        self._is_seeded[index] = True
        return seed

    def _seeds(self, seed: Any) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if is_integer(seed):
            return [int(seed) + i // self.group_size for i in range(self.num_envs)]
        seeds = self._each("seed", seed, "an integer, None")
        for value in seeds:
            if value is not None and not is_integer(value):
                raise InvalidOption(f"seed holds {value!r} ({type(value).__name__}); wanted integers or None.")
        return [None if value is None else int(value) for value in seeds]

    def _options(self, options: Mapping[str, Any] | None) -> tuple[list[dict[str, Any] | None], list[bool]]:
        """Return the reset options of each environment, and which are reset."""
        options = {} if options is None else options
        for key in options:
            if key not in _OPTIONS:
                raise UnknownName(
                    f"no reset option {key!r}; there are {', '.join(map(repr, _OPTIONS))}.{did_you_mean(key, _OPTIONS)}"
                )
        mask = [True] * self.num_envs
        if "reset_mask" in options:
            given = options["reset_mask"]
            array = np.asarray(given)
            if array.dtype != np.bool_ or array.shape != (self.num_envs,) or not array.any():
                raise InvalidOption(
                    f"options['reset_mask'] is {given!r}; wanted {self.num_envs} booleans, at least one of them True."
                )
            mask = array.tolist()
        if "task_id" in options and "task" in options:
            raise InvalidOption("options has 'task_id' and 'task'; wanted one of them.")
        for key, kinds, wanted in _CHOICES:
            if key in options:
                given = options[key]
                tasks = (
                    [given] * self.num_envs
                    if isinstance(given, kinds)
                    else self._each(f"options[{key!r}]", given, wanted.partition(" as ")[0])
                )
                for i, task in enumerate(tasks):
                    if mask[i] and not isinstance(task, kinds):
                        raise InvalidOption(f"options[{key!r}] has {task!r:.80} for environment {i}; wanted {wanted}.")
                return [{key: task} for task in tasks], mask
        return [None] * self.num_envs, mask

    def _each(self, name: str, values: Any, scalar: str) -> list[Any]:
        """Return one value for each environment, out of a list with one for each environment or group."""
        if isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, (str, bytes)):
            if len(values) == self.num_envs:
                return list(values)
            if len(values) == self.num_groups:
                return [values[i // self.group_size] for i in range(self.num_envs)]
            came = f"{len(values)} values"
        else:
            came = f"{values!r} ({type(values).__name__})"
        groups = f" or {self.num_groups} (one for each group)" if self.group_size > 1 else ""
        raise InvalidOption(f"{name} is {came}; wanted {scalar}, or a list of {self.num_envs}{groups}.")

    def _check_actions(self, actions: Any) -> None:
        wanted = f"wanted a list of {self.num_envs} commands, one for each environment"
        if isinstance(actions, (str, bytes)) or not isinstance(actions, (Sequence, np.ndarray)):
            came = repr(actions) if len(repr(actions)) <= 80 else f"{repr(actions)[:80]}..."
            raise InvalidAction(f"actions is {came} ({type(actions).__name__}); {wanted}.")
        if len(actions) != self.num_envs:
            raise InvalidAction(f"actions has {len(actions)} elements; {wanted}.")
        is_disabled = self.autoreset_mode is AutoresetMode.DISABLED
        for i, action in enumerate(actions):
            if is_disabled and (self._terminated[i] or self._truncated[i]):
                if action is not None and not (self.ignore_finished and isinstance(action, str)):
                    raise EpisodeOver(
                        f"the episode of environment {i} is over, and actions[{i}] is {action!r:.80}: give it None, "
                        "start it again by reset(options={'reset_mask': ...}), or make the vector with "
                        "ignore_finished=True."
                    )
            elif not isinstance(action, str):
                is_reset_now = self.autoreset_mode is AutoresetMode.NEXT_STEP and (
                    self._terminated[i] or self._truncated[i]
                )
                if action is None and is_reset_now:
                    continue
                raise InvalidAction(
                    f"actions[{i}] is {action!r:.80} ({type(action).__name__}); wanted a command as str, such as 'look'"
                    " (None is for finished environments)."
                )


def _copied(value: Any) -> Any:
    """Return a copy that shares no list, dictionary or array; `copy.deepcopy` takes ten times as long."""
    if type(value) in _ATOMS:
        return value
    if type(value) is list:
        return [_copied(item) for item in value]
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return copy.deepcopy(value)


def _stack(infos: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Turn infos into one dictionary of arrays and masks, as `VectorEnv._add_info` does one at a time.

    Args:
        infos: one for each environment; None where there is none.
    """
    size = len(infos)
    present = [info for info in infos if info is not None]
    if not present:
        return {}
    keys = present[0].keys()
    stacked: dict[str, Any] = {}
    if len(present) == size and all(info.keys() == keys for info in present):
        # The usual case, each key in each info: no masks to compute, no columns to fill up.
        for key, mask in zip(keys, np.ones((len(keys), size), dtype=np.bool_), strict=True):
            stacked[key] = _column(key, [info[key] for info in present])
            stacked[f"_{key}"] = mask
        return stacked
    for key in dict.fromkeys(key for info in present for key in info):
        mask = np.array([info is not None and key in info for info in infos], dtype=np.bool_)
        values = [info[key] for info in present if key in info]
        if isinstance(values[0], dict) and key != "final_obs":
            stacked[key] = _stack([None if info is None else info.get(key) for info in infos])
        else:
            column = _column(key, values)
            stacked[key] = np.full((size, *column.shape[1:]), None if column.dtype == object else 0, dtype=column.dtype)
            stacked[key][mask] = column
        stacked[f"_{key}"] = mask
    return stacked


def _unstack(stacked: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Undo `_stack`, with Python values in the place of numpy's."""
    infos: list[dict[str, Any]] = [{} for _ in range(size)]
    for key, column in stacked.items():
        mask = stacked.get(f"_{key}")
        if mask is None:
            continue  # the mask of another key
        values = _unstack(column, size) if isinstance(column, Mapping) else column.tolist()
        for info, is_present, value in zip(infos, mask.tolist(), values, strict=True):
            if is_present:
                info[key] = value
    return infos


def _column(key: str, values: list[Any]) -> Any:
    """Return the array (or, for dictionaries, the dictionary of arrays) that Gymnasium makes of these values."""
    first = values[0]
    kind = type(first)
    if kind is not str and kind is not list and key != "final_obs":
        if kind in _NUMBERS:
            return np.array(values, dtype=_NUMBERS[kind])
        if isinstance(first, dict):
            return _stack(values)
        if isinstance(first, (np.ndarray, np.number)):
            return np.array(values, dtype=first.dtype)
    # Not np.array: it would make lists of equal length into a matrix.
    return np.fromiter(values, dtype=_OBJECT, count=len(values))
