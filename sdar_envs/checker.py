"""Environment checker: `check_env` tests an environment against the contract of this package and of Gymnasium.

    import sdar_envs
    sdar_envs.check_env(gymnasium.make("sdar/ALFWorld-v0"))

It plays some dozens of episodes and raises `ContractViolation` at the first fault, with what to implement. Gymnasium's
own check runs last, and each of its warnings counts as a fault. The environment need not be a `TextEnv`: it needs
`reset`, `step` and the info keys of `sdar_envs.INFO_TYPES`; `snapshot` and `restore` are checked where they exist. What
needs a second instance (a step before any reset, a snapshot restored elsewhere) is checked where `env.spec` is set: for
environments from `gymnasium.make`.

Nothing is converted, clipped or wrapped before it is checked. Wrappers are taken off first: trainers use the
environment without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import pickle
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker

from sdar_envs.core import INFO_TYPES, TextEnv
from sdar_envs.errors import ContractViolation

__all__ = ["check_env", "episode_digest"]

_SEEDS = (0, 1, 2)
_ACTIONS = 12  # actions in a recorded episode, where the episode is that long
_PATIENCE = 10_000  # useless actions until an environment without a known limit counts as endless
_USELESS = "xyzzy is not a command"
_STRANGE_ACTIONS = {
    "an empty string": "",
    "spaces": "   ",
    "a newline": "look\nlook\r\n",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028",
    "an emoji": "🙂👩‍👩‍👧",
    "other scripts": "漢字 עברית ﷽ é e\u0301",
    "a lone surrogate": "\ud800",
    "one word": "go",
    "markup": "</action><think>{}%s\\N",
    "100,000 characters": "a " * 50_000,
    "100,000 digits": "7" * 100_000,
}
_NON_STRINGS = (None, 3, b"look", ["look"])
_SOURCES = {
    **dict.fromkeys(("task_id", "task_type", "instruction", "split"), "the Task of its TaskSource"),
    **dict.fromkeys(("is_success", "won", "score", "is_action_valid"), "the Outcome that _act returns"),
    "admissible_commands": "_commands",
    "step": "TextEnv itself",
}
"""Where a `TextEnv` takes each key of its infos from."""
_CONTRACT = "sdar_envs.core.TextEnv"
_INFO = "sdar_envs.INFO_TYPES"
_GYMNASIUM = "https://gymnasium.farama.org/api/env/"

_Record = dict[str, Any]  # what one reset or step returned, as JSON values
_Actions = Sequence[str] | Callable[[dict[str, Any]], str]  # a list, or a policy that reads info


def check_env(env: gym.Env[Any, Any], *, skip_render_check: bool = False) -> None:
    """Check an environment against the contract of this package and of Gymnasium.

    It plays some dozens of episodes and leaves the environment in one of them: reset it afterwards.

    Args:
        env: the environment; its wrappers are taken off.
        skip_render_check: leave out rendering.

    Raises:
        ContractViolation: the message says what came, what was wanted, what to implement and where it is documented.
    """
    if not isinstance(env, gym.Env):
        _fail(f"check_env got {env!r} ({type(env).__name__})", "a gymnasium.Env", _GYMNASIUM)
    env = env.unwrapped
    with contextlib.ExitStack() as stack:
        _check_spec(env)
        other = None
        if env.spec is not None:
            other = _call("gymnasium.make(env.spec)", _make, env.spec)
            stack.callback(other.close)
            _check_refuses_step(other, "before the first reset()")
        _check_spaces(env)
        _check_info(env)
        if isinstance(env, TextEnv):
            _check_suite(env)
        _check_determinism(env, other)
        _check_fresh_objects(env)
        _check_task_id(env, other)
        _check_options(env)
        _check_actions(env)
        _check_end(env)
        if hasattr(env, "snapshot") and hasattr(env, "restore"):
            _check_snapshots(env, other)
        _check_gymnasium(env, skip_render_check)


def episode_digest(env_or_id: gym.Env[Any, Any] | str, seed: int, actions: Sequence[str]) -> str:
    """Return the SHA-256 of everything an episode returns, to compare it across processes, machines and versions.

    Args:
        env_or_id: an environment, or the id of a registered one.
        seed: for `reset`.
        actions: played until they or the episode end.

    Raises:
        ContractViolation: the environment raised, or returned what is not JSON.
    """
    env = gym.make(env_or_id, disable_env_checker=True) if isinstance(env_or_id, str) else env_or_id
    try:
        records = _play(env.unwrapped, actions, seed=seed)
    finally:
        if env is not env_or_id:
            env.close()
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


# -- the checks, in the order in which they run ---------------------------------------------


def _check_spec(env: gym.Env[Any, Any]) -> None:
    spec = env.spec
    if spec is None:
        return
    wanted = "keyword arguments that are JSON values and an entry point that is a string"
    try:
        # Gymnasium compares specs with ==, JSON turns tuples into lists: compare what both serialise to.
        came_back = EnvSpec.from_json(spec.to_json()).to_json() == spec.to_json()
    except Exception as error:
        _fail(f"env.spec.to_json() raised {_named(error)}", wanted, "gymnasium.envs.registration.EnvSpec", error)
    if not came_back:
        _fail("env.spec is another one after a round trip through JSON", wanted, "gymnasium.envs.registration.EnvSpec")
    try:
        came_back = pickle.loads(pickle.dumps(spec)) == spec
    except Exception as error:
        _fail(f"pickling env.spec raised {_named(error)}", wanted, "gymnasium.envs.registration.EnvSpec", error)
    if not came_back:
        _fail(
            "env.spec is another one after a round trip through pickle", wanted, "gymnasium.envs.registration.EnvSpec"
        )


def _check_spaces(env: gym.Env[Any, Any]) -> None:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, gym.Space):
            _fail(f"env.{name} is {space!r}", "sdar_envs.Unicode()", _CONTRACT)
        for kind, text in _STRANGE_ACTIONS.items():
            if not space.contains(text):
                _fail(f"env.{name} ({space!r}) does not contain {kind}", "all strings: sdar_envs.Unicode()", _CONTRACT)


def _check_info(env: gym.Env[Any, Any]) -> None:
    """Check types, keys, the step count and the JSON form; `_play` checks each answer."""
    for seed in _SEEDS:
        records = _play(env, _random_actions(seed), seed=seed)
        first = {key: type(value) for key, value in records[0]["info"].items()}
        for record in records[1:]:
            info = record["info"]
            if info.keys() != first.keys():
                _fail(
                    f"info has the keys {sorted(first.keys() ^ info.keys())} either at reset or at step {info['step']}",
                    "the same keys always, so that a vector of environments can stack them (_extra_info returns them)",
                    _INFO,
                )
            for key, value in info.items():
                if type(value) is not first[key]:
                    _fail(
                        f"info[{key!r}] is {first[key].__name__} at reset and {type(value).__name__} "
                        f"at step {info['step']}",
                        "one type for each key",
                        _INFO,
                    )


def _check_suite(env: TextEnv[Any]) -> None:
    task = env.task
    if env.suite and task.suite != env.suite:
        _fail(
            f"{type(env).__name__}.suite is {env.suite!r} and the suite of task {task.id!r} is {task.suite!r}",
            "the same suite: it keys skills, prompt styles and presets. Its TaskSource sets Task.suite, by default the "
            "first part of the id",
            "sdar_envs.core.Task",
        )


def _check_determinism(env: gym.Env[Any, Any], other: gym.Env[Any, Any] | None) -> None:
    for seed in _SEEDS:
        actions = _record_actions(env, seed)
        records = _play(env, actions, seed=seed)
        following = _play(env, [])
        _same(records, _play(env, actions, seed=seed), f"two episodes of seed {seed} with the same actions")
        _same(following, _play(env, []), f"two episodes after the episode of seed {seed}")
        if other is not None:
            where = f"two instances, seed {seed}, the same actions"
            _same(records, _play(other, actions, seed=seed), where)


def _check_fresh_objects(env: gym.Env[Any, Any]) -> None:
    see = _CONTRACT
    wanted = "new lists and dictionaries from every call (_commands and _extra_info build them)"
    actions = _record_actions(env, 0)
    kept: list[tuple[str, Any]] = []
    records = _play(env, actions, seed=0, keep=kept)
    _play(env, actions, seed=0, keep=kept)
    seen: dict[int, str] = {}
    for name, info in kept:
        here = {id(part): path for path, part in _containers(info, "info")}
        for key, path in here.items():
            if key in seen:
                _fail(f"{path} of {name} is the same object as {seen[key]}", wanted, see)
        seen.update({key: f"{path} of {name}" for key, path in here.items()})
    spoilt = _play(env, actions, seed=0, spoil=True)
    _same(records, spoilt, "an episode and one whose infos the caller empties", wanted, see)
    _same(records, _play(env, actions, seed=0), "an episode before and after a caller emptied its infos", wanted, see)


def _check_task_id(env: gym.Env[Any, Any], other: gym.Env[Any, Any] | None) -> None:
    for seed in _SEEDS:
        actions = _record_actions(env, seed)
        records = _play(env, actions, seed=seed)
        task_id = records[0]["info"]["task_id"]
        options = {"task_id": task_id}
        wanted = "the same episode: task_id names all that it depends on (TaskSource.find returns the Task of the seed)"
        for instance in (env,) if other is None else (env, other):
            _reset(instance, seed=12345)
            where = f"the episode of seed {seed} and that of its task id {task_id!r}"
            _same(records, _play(instance, actions, options=options), where, wanted, _CONTRACT)
            _same(records, _play(instance, actions, seed=999, options=options), where, wanted, _CONTRACT)
        if options != {"task_id": task_id}:
            _fail(f"reset changed the caller's options to {options!r}", "options as they were", _CONTRACT)


def _check_options(env: gym.Env[Any, Any]) -> None:
    _, info = _reset(env, seed=0)
    for task_id in (f"{info['task_id']}-no-such-task", "", "🙂", "x" * 100_000):
        _check_raises(
            f"reset(options={{'task_id': {task_id!r:.60}}})",
            "a LookupError that says which ids there are (TaskSource.find raises sdar_envs.errors.UnknownName)",
            (LookupError,),
            env.reset,
            options={"task_id": task_id},
        )
    _check_raises(
        "reset(options={'no_such_option': 1})",
        "a LookupError, ValueError or TypeError that says which options there are",
        (LookupError, ValueError, TypeError),
        env.reset,
        options={"no_such_option": 1},
    )
    _play(env, [], seed=0)  # a refused reset must not leave the environment unusable


def _check_actions(env: gym.Env[Any, Any]) -> None:
    for kind, action in _STRANGE_ACTIONS.items():
        _reset(env, seed=0)
        _step(env, action, f"step({kind})")
    _, info = _reset(env, seed=0)
    for thing in _NON_STRINGS:
        _check_raises(f"step({thing!r})", "a TypeError: an action is a str", (TypeError,), env.step, thing)
    _, _, _, _, info = _step(env, _USELESS, "step() after refused actions")
    if info["step"] != 1:
        _fail(f"info['step'] is {info['step']} after refused actions and one step", "1: they do not count", _CONTRACT)


def _check_end(env: gym.Env[Any, Any]) -> None:
    limit = getattr(env, "max_steps", None)
    limit = limit if isinstance(limit, int) and not isinstance(limit, bool) else None
    if limit is not None and limit > _PATIENCE:
        return
    _reset(env, seed=0)
    for count in range(1, (limit or _PATIENCE) + 1):
        _, _, terminated, truncated, _ = _step(env, _USELESS, f"step({_USELESS!r}) number {count}")
        if truncated and limit is not None and count < limit:
            _fail(f"truncated is True at step {count}", f"max_steps, which is {limit}", _CONTRACT)
        if terminated or truncated:
            break
    else:
        _fail(
            f"the episode goes on after {limit or _PATIENCE} useless actions",
            "truncated=True at the step limit, by the environment itself: pass max_steps (TimeLimit is taken off here)",
            _CONTRACT,
        )
    _check_refuses_step(env, "after the episode's end")
    _play(env, [_USELESS], seed=0)


def _check_snapshots(env: Any, other: Any) -> None:
    actions = _record_actions(env, 1)
    half = len(actions) // 2
    records = _play(env, actions[:half], seed=1)
    saved = _call("snapshot()", env.snapshot)
    records += _continue(env, actions[half:])

    def back(instance: Any) -> list[_Record]:
        observation, info = _call("restore(snapshot)", instance.restore, saved)
        _check_answer(observation, info, "restore(snapshot)")
        # The moment of the snapshot, as the reset or step before it returned it.
        moment = {**records[half], "observation": observation, "info": _as_json(info, "restore(snapshot)")}
        return [moment, *_continue(instance, actions[half:], spoil=True)]

    wanted = "exactly what came after the snapshot the first time (_save and _load copy all that _act changes)"
    _same(records[half:], back(env), "an episode and its second half after restore(snapshot)", wanted)
    _play(env, actions, seed=2)
    _same(records[half:], back(env), "an episode and its second half after a second restore(snapshot)", wanted)
    if other is not None:
        _same(records[half:], back(other), "an episode and its second half restored in another instance", wanted)
    _reset(env, seed=1)
    for _ in range(_PATIENCE):
        _, _, terminated, truncated, _ = _step(env, _USELESS)
        if terminated or truncated:
            saved = _call("snapshot() of a finished episode", env.snapshot)
            _reset(env, seed=1)
            _call("restore(snapshot of a finished episode)", env.restore, saved)
            _check_refuses_step(env, "after restore() of a finished episode")
            break


def _check_gymnasium(env: gym.Env[Any, Any], skip_render_check: bool) -> None:
    # Without a spec Gymnasium can only warn that it cannot make the other render modes.
    skip = skip_render_check or env.spec is None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            gymnasium_check_env(env, skip_render_check=skip)
            if skip and not skip_render_check and env.render_mode is not None:
                env_render_passive_checker(env)
        except Exception as error:
            _fail(f"gymnasium.utils.env_checker.check_env raised {_named(error)}", "no error", _GYMNASIUM, error)
    for warning in caught:
        text = str(warning.message)
        if "WARN: " not in text:
            # Another library's warning (a deprecation, say) is not about the contract: pass it on.
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            continue
        text = text.split("WARN: ", 1)[1].removesuffix("\x1b[0m")
        _fail(f"gymnasium.utils.env_checker.check_env warned: {text}", "no warning", _GYMNASIUM)


# -- playing --------------------------------------------------------------------------------


def _make(spec: EnvSpec | None) -> gym.Env[Any, Any]:
    assert spec is not None
    return gym.make(EnvSpec.from_json(spec.to_json()), disable_env_checker=True).unwrapped


def _random_actions(seed: int) -> Callable[[dict[str, Any]], str]:
    """Return a policy: mostly an admissible command, sometimes nonsense."""
    choices = random.Random(seed)

    def act(info: dict[str, Any]) -> str:
        commands = info["admissible_commands"]
        return str(choices.choice(commands)) if commands and choices.random() < 0.8 else _USELESS

    return act


def _record_actions(env: gym.Env[Any, Any], seed: int) -> list[str]:
    actions: list[str] = []
    _play(env, _random_actions(seed), seed=seed, actions_out=actions)
    return actions


def _play(
    env: gym.Env[Any, Any],
    actions: _Actions,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    actions_out: list[str] | None = None,
    keep: list[tuple[str, Any]] | None = None,
    spoil: bool = False,
) -> list[_Record]:
    """Play one episode and return its records; `keep` gets the infos themselves, `spoil` empties them."""
    observation, info = _reset(env, seed=seed, options=options)
    records: list[_Record] = [{"observation": observation, "info": _as_json(info, "reset()")}]
    if keep is not None:
        keep.append(("reset()", info))
    if spoil:
        _empty(info)
    return records + _continue(env, actions, info=records[0]["info"], actions_out=actions_out, keep=keep, spoil=spoil)


def _continue(
    env: gym.Env[Any, Any],
    actions: _Actions,
    *,
    info: dict[str, Any] | None = None,
    actions_out: list[str] | None = None,
    keep: list[tuple[str, Any]] | None = None,
    spoil: bool = False,
) -> list[_Record]:
    records: list[_Record] = []
    expected = None if info is None else info["step"] + 1
    for action in _choices(actions, records, info):
        if actions_out is not None:
            actions_out.append(action)
        where = f"step({action!r:.60})"
        observation, reward, terminated, truncated, returned = _step(env, action, where)
        if expected is not None and returned["step"] != expected:
            _fail(
                f"info['step'] is {returned['step']} after {expected} steps", "the number of steps since reset", _INFO
            )
        records.append(
            {
                "observation": observation,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "info": _as_json(returned, where),
            }
        )
        expected = returned["step"] + 1
        if keep is not None:
            keep.append((f"{where} number {returned['step']}", returned))
        if spoil:
            _empty(returned)
        if terminated or truncated:
            break
    return records


def _choices(actions: _Actions, records: list[_Record], info: dict[str, Any] | None) -> Iterator[str]:
    if not callable(actions):
        yield from actions
        return
    for _ in range(_ACTIONS):
        latest = records[-1]["info"] if records else info
        assert latest is not None
        yield actions(latest)


def _reset(
    env: gym.Env[Any, Any], *, seed: int | None = None, options: dict[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    arguments = [f"seed={seed}"] * (seed is not None) + [f"options={options!r:.80}"] * (options is not None)
    name = f"reset({', '.join(arguments)})"
    result = _call(name, env.reset, seed=seed, options=options)
    if not isinstance(result, tuple) or len(result) != 2:
        _fail(f"{name} returned {result!r:.80}", "(observation, info)", _GYMNASIUM)
    observation, info = result
    _check_answer(observation, info, name)
    if info["step"] != 0:
        _fail(f"info['step'] is {info['step']} at {name}", "0", _INFO)
    return observation, info


def _step(
    env: gym.Env[Any, Any], action: str, name: str | None = None
) -> tuple[str, float, bool, bool, dict[str, Any]]:
    name = f"step({action!r:.60})" if name is None else name
    wanted = "an observation: text that cannot be used is answered in words (_act returns is_action_valid=False)"
    result = _call(name, env.step, action, wanted=wanted)
    if not isinstance(result, tuple) or len(result) != 5:
        _fail(f"{name} returned {result!r:.80}", "(observation, reward, terminated, truncated, info)", _GYMNASIUM)
    observation, reward, terminated, truncated, info = result
    if type(reward) is not float or not math.isfinite(reward):
        _fail(f"the reward of {name} is {reward!r} ({type(reward).__name__})", "a finite float", _CONTRACT)
    for flag, value in (("terminated", terminated), ("truncated", truncated)):
        if type(value) is not bool:
            _fail(f"{flag} of {name} is {value!r} ({type(value).__name__})", "a bool", _CONTRACT)
    if terminated and truncated:
        _fail(
            f"terminated and truncated are both True at {name}",
            "one of them: truncated says that the limit cut off an episode whose end was not reached",
            _CONTRACT,
        )
    _check_answer(observation, info, name)
    return observation, reward, terminated, truncated, info


def _check_answer(observation: Any, info: Any, name: str) -> None:
    if type(observation) is not str:
        _fail(f"the observation of {name} is {observation!r:.80} ({type(observation).__name__})", "a str", _CONTRACT)
    if type(info) is not dict:
        _fail(f"the info of {name} is {info!r:.80} ({type(info).__name__})", "a dict", _INFO)
    for key, kind in INFO_TYPES.items():
        if key not in info:
            _fail(
                f"the info of {name} has no {key!r}",
                f"{key!r} ({kind.__name__}) at reset and every step. A TextEnv takes it from {_SOURCES[key]}; a plain "
                "Gymnasium environment has it in sdar_envs.from_gym(env)",
                _INFO,
            )
        if type(info[key]) is not kind:
            came = f"{info[key]!r:.80} ({type(info[key]).__name__})"
            _fail(
                f"info[{key!r}] of {name} is {came}",
                f"exactly {kind.__name__}. A TextEnv takes it from {_SOURCES[key]}",
                _INFO,
            )
    for command in info["admissible_commands"]:
        if type(command) is not str:
            came = f"{command!r:.80} ({type(command).__name__})"
            _fail(f"info['admissible_commands'] of {name} holds {came}", "strings", _INFO)
    if info["won"] is not info["is_success"]:
        _fail(
            f"info of {name} has won={info['won']} and is_success={info['is_success']}",
            "the same value: they are two names of one thing",
            _INFO,
        )
    _as_json(info, name)


# -- comparing ------------------------------------------------------------------------------


def _as_json(info: dict[str, Any], name: str) -> dict[str, Any]:
    wanted = "JSON values: dict with str keys, list, str, int, finite float, bool, None"
    try:
        text = json.dumps(info, allow_nan=False)
    except (TypeError, ValueError) as error:
        _fail(f"the info of {name} is not JSON: {error}", wanted, _INFO, error)
    read: dict[str, Any] = json.loads(text)  # noqa: TID251  # written above
    if difference := _difference(info, read, "info"):
        _fail(f"the info of {name} changes on its way through JSON: {difference}", wanted, _INFO)
    return read


def _difference(one: Any, two: Any, path: str) -> str:
    """Return where two JSON values first differ, or an empty string."""
    if type(one) is not type(two):
        return f"{path} is {one!r:.80} ({type(one).__name__}) and {two!r:.80} ({type(two).__name__})"
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return f"{path} has {sorted(map(repr, one.keys() ^ two.keys()))} only once"
        return next((text for key in one if (text := _difference(one[key], two[key], f"{path}[{key!r}]"))), "")
    if isinstance(one, list):
        if len(one) != len(two):
            return f"{path} has {len(one)} and {len(two)} elements"
        pairs = enumerate(zip(one, two, strict=True))
        return next((text for i, (a, b) in pairs if (text := _difference(a, b, f"{path}[{i}]"))), "")
    return "" if one == two else f"{path} is {one!r:.80} and {two!r:.80}"


def _same(
    one: list[_Record],
    two: list[_Record],
    what: str,
    wanted: str = "the same answers to the last character (draw only from self.np_random or from the task's data)",
    see: str = _CONTRACT,
) -> None:
    for index, (a, b) in enumerate(zip(one, two, strict=False)):
        for key in a:
            if difference := _difference(a[key], b[key], key):
                _fail(f"{what} differ at answer {index}: {difference}", wanted, see)
    if len(one) != len(two):
        _fail(f"{what} differ: they have {len(one)} and {len(two)} answers", wanted, see)


def _containers(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _containers(item, f"{path}[{key!r}]")
    elif isinstance(value, list):
        yield path, value
        for index, item in enumerate(value):
            yield from _containers(item, f"{path}[{index}]")


def _empty(info: dict[str, Any]) -> None:
    for _, container in list(_containers(info, "")):
        container.clear()


# -- failing --------------------------------------------------------------------------------


def _call(name: str, function: Callable[..., Any], *args: Any, wanted: str = "no error", **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        _fail(f"{name} raised {_named(error)}", wanted, _CONTRACT, error)


def _check_raises(
    name: str,
    wanted: str,
    errors: tuple[type[Exception], ...],
    function: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> None:
    try:
        function(*args, **kwargs)
    except errors:
        return
    except Exception as error:
        _fail(f"{name} raised {_named(error)}", wanted, _CONTRACT, error)
    _fail(f"{name} raised nothing", wanted, _CONTRACT)


def _check_refuses_step(env: gym.Env[Any, Any], when: str) -> None:
    # An AttributeError from a field that reset() would have set is an accident, not a refusal.
    _check_raises(
        f"step() {when}",
        "a RuntimeError (sdar_envs.errors.EpisodeOver) or gymnasium.error.ResetNeeded that says to call reset()",
        (RuntimeError, gym.error.Error),
        env.step,
        _USELESS,
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def _fail(came: str, wanted: str, see: str, cause: Exception | None = None) -> NoReturn:
    raise ContractViolation(f"{came}; wanted {wanted}. See {see}.") from cause
