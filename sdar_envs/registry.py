"""Environment registry: ids, construction, task lists and vectors of environments.

An environment is named by a registered id, or by `module:id`, which imports the module first (found in the working
directory too), as `gymnasium.make` does. A plain Gymnasium environment with text observations and actions is wrapped by
`sdar_envs.from_gym`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode

from sdar_envs.core import Task, TaskSource, TextEnv, check_render_mode, is_integer, text_env
from sdar_envs.errors import InvalidOption, SdarError, UnknownName, did_you_mean
from sdar_envs.gym_adapter import from_gym
from sdar_envs.importing import add_working_directory, tell_import
from sdar_envs.orders import spread
from sdar_envs.vector import TextVectorEnv

__all__ = [
    "ENV_IDS",
    "count_tasks",
    "env_arguments",
    "env_creator",
    "env_spec",
    "iter_tasks",
    "make_text_env",
    "make_vec",
    "open_split",
    "register_all",
    "sample_indices",
    "sample_tasks",
    "suite_of",
    "tasks",
]

_ENTRY_POINTS = {
    "sdar/ALFWorld-v0": ("sdar_envs.alfworld.env:ALFWorldEnv", "sdar_envs.registry:make_alfworld_vec"),
    "sdar/WebShop-v0": ("sdar_envs.webshop.env:WebShopEnv", "sdar_envs.registry:make_webshop_vec"),
    "sdar/SearchQA-v0": ("sdar_envs.search_qa.env:SearchQAEnv", "sdar_envs.registry:make_search_qa_vec"),
}

ENV_IDS: tuple[str, ...] = tuple(_ENTRY_POINTS)
"""Ids of the environments of this package."""


def register_all() -> None:
    """Register the environments with Gymnasium. Entry points are strings, so nothing heavy is imported."""
    for env_id, (entry_point, vector_entry_point) in _ENTRY_POINTS.items():
        if env_id not in gym.registry:
            # Gymnasium's passive checker cannot step once a first reset has failed; `check_env` has all its checks.
            gym.register(
                id=env_id,
                entry_point=entry_point,
                vector_entry_point=vector_entry_point,
                disable_env_checker=True,
            )


# -- looking up ---------------------------------------------------------------------------------


def env_spec(env_id: str) -> EnvSpec:
    """Return Gymnasium's specification of an environment.

    Args:
        env_id: a registered id, such as `sdar/ALFWorld-v0`, or `module:id`.

    Raises:
        UnknownName: the module cannot be imported, or there is no such environment.
    """
    module, colon, name = env_id.rpartition(":")
    before = set(gym.registry)
    if colon:
        tell_import(env_id, what="an environment")
        add_working_directory()
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UnknownName(
                f"the module of {env_id!r} cannot be imported ({type(error).__name__}: {error}); wanted an environment "
                "as module:id, the module as `import` finds it from the working directory."
            ) from error
    if name in gym.registry:
        return gym.registry[name]
    # Gymnasium's own ids are left out of the message: almost none of them is a text environment.
    own = [known for known in gym.registry if known not in before or known.partition("/")[0] == name.partition("/")[0]]
    known = list(dict.fromkeys([*own, *ENV_IDS]))
    hint = "" if colon else " Your own is named module:id, where importing the module registers the id."
    raise UnknownName(
        f"no environment {name!r}; the environments are {', '.join(known)}.{did_you_mean(name, known)}{hint}"
    )


def env_creator(env_id: str) -> Any:
    """Return the class or function that makes an environment.

    Raises:
        UnknownName: there is no such environment.
    """
    entry_point = env_spec(env_id).entry_point
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def env_arguments(env_id: str) -> dict[str, Any]:
    """Return an environment's keyword arguments with their defaults, in the order of its signature.

    Those of `from_gym` come before a plain Gymnasium environment's own.

    Raises:
        UnknownName: there is no such environment.
    """
    creator = env_creator(env_id)
    defaults = _defaults(creator)
    if _is_plain(creator):
        defaults = {**_ADAPTER_ARGUMENTS, **defaults}
    return {**defaults, **env_spec(env_id).kwargs}


def suite_of(env_id: str) -> str:
    """Return the suite of an environment's tasks, such as `alfworld`; empty if it declares none.

    A plain Gymnasium environment's is the namespace of its id, unless `suite` is given to it.

    Args:
        env_id: a registered id or `module:id`.

    Raises:
        UnknownName: there is no such environment.
    """
    creator = env_creator(env_id)
    if _is_plain(creator):
        return env_spec(env_id).namespace or creator.__name__.lower()
    return str(getattr(creator, "suite", ""))


# -- making -------------------------------------------------------------------------------------


def make_text_env(env_id: str, **kwargs: Any) -> TextEnv[Any]:
    """Make an environment, without Gymnasium's wrappers and its checker, which costs time at every step.

    Args:
        env_id: a registered id or `module:id` of a `TextEnv`, or of a plain Gymnasium environment with text
            observations and actions, which `from_gym` wraps.
        **kwargs: the environment's arguments, and for a plain environment those of `from_gym` too.

    Raises:
        UnknownName: there is no such environment, or it has no such argument.
        InvalidOption: `max_episode_steps` was given, the environment is no text environment, or it is registered in a
            wrapper that changes its episodes.
    """
    return _maker(env_id, kwargs)()


def make_vec(
    env_id: str,
    num_envs: int,
    *,
    group_size: int = 1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ignore_finished: bool = False,
    **kwargs: Any,
) -> TextVectorEnv:
    """Make a vector of environments, stepped in this process (see `TextVectorEnv`).

    `gymnasium.make_vec(env_id, num_envs, group_size=...)` makes the same for the environments of this package: they
    are registered with it as their `vector_entry_point`.

    Args:
        env_id: a registered id or `module:id`.
        num_envs: how many.
        group_size: so many consecutive environments share their tasks, for group-relative advantages.
        autoreset_mode: what happens after an episode's end, as in Gymnasium.
        ignore_finished: in `DISABLED` mode, ignore commands for finished environments instead of refusing them.
        **kwargs: as for `make_text_env`.

    Raises:
        InvalidOption: an argument is out of range.
        UnknownName: there is no such environment, or it has no such argument.
    """
    if not is_integer(num_envs) or num_envs < 1:
        raise InvalidOption(f"num_envs is {num_envs!r}; wanted an integer of at least 1.")
    make = _maker(env_id, kwargs)
    envs: list[TextEnv[Any]] = []
    for _ in range(num_envs):
        envs.append(make())
        envs[-1].spec = envs[0].spec  # they are equal, and each takes half a KiB
    vector = TextVectorEnv(envs, group_size=group_size, autoreset_mode=autoreset_mode, ignore_finished=ignore_finished)
    vector.spec = envs[0].spec
    return vector


def open_split(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: str | None,
    *,
    usual: str | None = None,
    setting: str = "split",
) -> tuple[TextEnv[Any], str]:
    """Make the environment that plays a split, and return the split's own name.

    A split reaches an environment in two ways. Most have all their splits in one source, and are reset to a task by its
    id. In others the argument `split` decides what tasks there are, such as the seeds of a plain Gymnasium environment.
    So every environment that has the argument is made with the split. It may know a split by several names, as ALFWorld
    does; the one returned is that of its tasks.

    Args:
        env_id: a registered id or `module:id`.
        env_kwargs: arguments of the environment; a split among them is left out.
        split: the one that is asked for; None for the usual one.
        usual: what None stands for, by default the environment's `evaluation_split`; an environment that has only
            one other split plays that.
        setting: what the split is called where it was set, for messages.

    Raises:
        UnknownName: there is no such environment, argument or split, or it is not clear which split is meant.
    """
    make = partial(make_text_env, env_id, **{name: value for name, value in env_kwargs.items() if name != "split"})
    takes_split = "split" in env_arguments(env_id)
    if split is not None:
        if not takes_split:
            _check_split(make, split, setting)
            return make(), split
        try:
            env = make(split=split)
        except UnknownName:
            # Perhaps another name is unknown; if it is the split, this names the setting and the splits there are.
            _check_split(make, split, setting)
            raise
        return env, env.split
    usual = usual or getattr(env_creator(env_id), "evaluation_split", None) or make().evaluation_split
    if takes_split:
        # Before the default split, which the data may lack, as a data set with nothing but a test file does.
        with suppress(LookupError, ValueError):
            env = make(split=usual)
            return env, env.split
    env = make()
    splits = env.source.splits
    if usual not in splits and len(splits) > 1:
        raise UnknownName(f"{env_id} has no split {usual!r}; set {setting} to one of {', '.join(splits)}.")
    chosen = usual if usual in splits else next(iter(splits))
    return make(split=chosen) if takes_split and env.split != chosen else env, chosen


def _check_split(make: Callable[[], TextEnv[Any]], split: str, setting: str) -> None:
    """Refuse a split that an environment does not have; pass over an environment that cannot be made."""
    try:
        env = make()
    except SdarError:
        return
    env.close()
    known = env.source.splits
    if split not in known:
        raise UnknownName(
            f"{setting} is {split!r}; the environment has {', '.join(known)}.{did_you_mean(split, known)}"
        )


# Gymnasium calls a vector entry point without the environment's id.
make_alfworld_vec = partial(make_vec, "sdar/ALFWorld-v0")
make_webshop_vec = partial(make_vec, "sdar/WebShop-v0")
make_search_qa_vec = partial(make_vec, "sdar/SearchQA-v0")


# -- tasks --------------------------------------------------------------------------------------


def tasks(env_id: str, *, split: str, limit: int | None = None, **kwargs: Any) -> tuple[Task, ...]:
    """Return the tasks of a split, in its fixed order.

    Args:
        env_id: a registered id or `module:id`.
        split: the split's name.
        limit: only the first so many tasks; needed for a split without end. What comes first may be of one kind:
            `sample_tasks` represents the split.
        **kwargs: as for `make_text_env`, for example `data="official"`.

    Raises:
        InvalidOption: the split has no end and no limit was given.
        UnknownName: there is no such environment, split or argument.
    """
    env = make_text_env(env_id, split=split, **kwargs)
    source, split = env.source, env.split  # an environment may know a split by several names
    return tuple(source.task(split, index) for index in range(count_tasks(source, split, limit)))


def iter_tasks(env_id: str, *, split: str, limit: int | None = None, **kwargs: Any) -> Iterator[Task]:
    """Return an iterator over the tasks of a split, in its fixed order; each task is made when it is asked for.

    For large splits and for those without end, which it goes through without end. Arguments are those of `tasks`.

    Raises:
        InvalidOption: the limit is negative.
        UnknownName: there is no such environment, split or argument.
    """
    env = make_text_env(env_id, split=split, **kwargs)
    source, split = env.source, env.split
    is_endless = source.splits[split] is None and limit is None
    indices = count() if is_endless else range(count_tasks(source, split, limit))
    return (source.task(split, index) for index in indices)


def count_tasks(source: TaskSource, split: str, limit: int | None = None) -> int:
    """Return how many tasks of a split there are to go through.

    Args:
        source: where the tasks come from.
        split: one of its splits.
        limit: at most so many; needed for a split without end.

    Raises:
        InvalidOption: the split has no end and no limit was given, or the limit is negative.
    """
    size = source.splits[split]
    if limit is not None and limit < 0:
        raise InvalidOption(f"limit is {limit}; wanted None or a number from 0.")
    if size is None and limit is None:
        raise InvalidOption(f"split {split!r} has tasks without end: say how many with a limit.")
    return min(n for n in (size, limit) if n is not None)


def sample_indices(source: TaskSource, split: str, limit: int | None = None, *, first: int = 0) -> Sequence[int]:
    """Return which tasks of a split stand for it when only so many are taken: the same ones everywhere.

    A listing may be sorted by type (official ALFWorld games are, by their paths), so that its first tasks are of one
    kind. A sample is therefore taken in the order of `sdar_envs.orders.spread`, whose every prefix is spread evenly
    over the listing; a larger sample holds the smaller one. The tasks of a split without end are random by
    generation: its sample is the first ones. All of a split is in the split's own order.

    Args:
        source: where the tasks come from.
        split: one of its splits.
        limit: how many; None for all. Needed for a split without end.
        first: how many of the sample to leave out at its start, for another one that shares no task with it.

    Returns:
        `limit - first` indices of the split, to be taken in this order.

    Raises:
        InvalidOption: the split has no end and no limit was given, or the limit is negative.
    """
    size, count_ = source.splits[split], count_tasks(source, split, limit)
    if size is None or (count_ == size and not first):
        return range(first, count_)
    return spread(size, count_)[first:]


def sample_tasks(source: TaskSource, split: str, limit: int | None = None) -> tuple[Task, ...]:
    """Return the tasks of `sample_indices`."""
    return tuple(source.task(split, index) for index in sample_indices(source, split, limit))


def _maker(env_id: str, kwargs: Mapping[str, Any]) -> Callable[[], TextEnv[Any]]:
    """Return a function that makes an environment as `make_text_env` does; the arguments' names are checked here."""
    if "max_episode_steps" in kwargs:
        # It would add a wrapper, and what we hand out here has none.
        raise InvalidOption("max_episode_steps belongs to Gymnasium's wrapper: pass max_steps instead.")
    spec = env_spec(env_id)
    creator = env_creator(env_id)
    parameters = inspect.signature(creator).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    own = {name: value for name, value in kwargs.items() if takes_any or name in parameters}
    # What a function makes is known only when it is made.
    others = () if isinstance(creator, type) and issubclass(creator, TextEnv) else _ADAPTER_ARGUMENTS
    for name in kwargs:
        if name not in own and name not in others:
            raise _no_argument(env_id, name, [*parameters, *others])
    if _is_plain(creator) and "render_mode" in own:
        check_render_mode(own["render_mode"], _render_modes(creator))

    def make() -> TextEnv[Any]:
        env = gym.make(spec, disable_env_checker=True, **own)
        if not isinstance(env.unwrapped, TextEnv):
            return from_gym(env, **{name: value for name, value in kwargs.items() if name in _ADAPTER_ARGUMENTS})
        for name in kwargs:
            if name not in own:
                raise _no_argument(env_id, name, [*parameters])
        return text_env(env)

    return make


def _is_plain(creator: Any) -> bool:
    """Return whether an environment's creator is the class of a plain Gymnasium environment."""
    return isinstance(creator, type) and not issubclass(creator, TextEnv)


def _render_modes(creator: Any) -> list[str]:
    """Return the render modes of a plain environment's class, with those that Gymnasium's wrappers add."""
    metadata = getattr(creator, "metadata", None)
    modes = list(metadata.get("render_modes") or ()) if isinstance(metadata, dict) else []
    shown = ["human"] if {"rgb_array", "rgb_array_list"} & set(modes) else []
    return list(dict.fromkeys([*modes, *shown, *(f"{mode}_list" for mode in modes)]))


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _no_argument(env_id: str, name: str, known: Sequence[str]) -> UnknownName:
    return UnknownName(
        f"{env_id} has no argument {name!r}; its arguments are {', '.join(known)}.{did_you_mean(name, known)}"
    )


_ADAPTER_ARGUMENTS = MappingProxyType(_defaults(from_gym))
