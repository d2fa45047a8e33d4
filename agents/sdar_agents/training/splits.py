"""Splits of a training run: which tasks are trained on, which are evaluated, and the environments that play them.

A split reaches an environment in two ways. Most have all their splits in one source, and are reset to a task by its id.
In others the argument `split` decides what tasks there are, such as the seeds of a plain Gymnasium environment
(`sdar_envs.from_gym`). So every environment that has the argument is made with the split that it plays.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.rollout.task_stream import choose_split
from sdar_envs.core import TaskSource
from sdar_envs.errors import InvalidOption, SdarError, UnknownName
from sdar_envs.registry import env_arguments, make_text_env

__all__ = ["evaluated_split", "trained_split"]


def trained_split(rollout: RolloutSettings, split: str | None) -> tuple[RolloutSettings, TaskSource, str]:
    """Return what training plays.

    Args:
        rollout: of the run.
        split: `TrainConfig.split`; None for the argument `split` of `rollout.env_kwargs`, else `train`, else the only
            split that the environment has.

    Returns:
        The settings of the rollout with the split among the arguments of the environment, where it has that argument;
        the source of tasks; the split.

    Raises:
        UnknownName: there is no such split, or it is not clear which is meant.
        InvalidOption: the two settings contradict each other.
    """
    return _chosen(rollout, rollout.env_kwargs, split, usual="train", names=("split", "rollout.env_kwargs.split"))


def evaluated_split(
    rollout: RolloutSettings, env_kwargs: Mapping[str, Any], split: str | None
) -> tuple[RolloutSettings, TaskSource, str]:
    """Return what is evaluated, as `trained_split` does; never the split of the rollout by default.

    Args:
        rollout: of the run.
        env_kwargs: `EvaluationSettings.env_kwargs`, on top of those of the rollout.
        split: `EvaluationSettings.split`; None for the argument `split` of `env_kwargs`, else the environment's
            `evaluation_split`, else the only split that it has.

    Raises:
        UnknownName: there is no such split, or it is not clear which is meant.
        InvalidOption: the two settings contradict each other.
    """
    trained = {name: value for name, value in rollout.env_kwargs.items() if name != "split"}
    kwargs = {**trained, **env_kwargs}
    return _chosen(rollout, kwargs, split, usual=None, names=("evaluation.split", "evaluation.env_kwargs.split"))


def _chosen(
    rollout: RolloutSettings,
    kwargs: Mapping[str, Any],
    split: str | None,
    *,
    usual: str | None,
    names: tuple[str, str],
) -> tuple[RolloutSettings, TaskSource, str]:
    """Return settings, source and split.

    Args:
        rollout: of the run.
        kwargs: of the environment.
        split: the setting.
        usual: what None stands for; None for the environment's `evaluation_split`.
        names: of the setting, and of the argument of the environment.
    """
    env_id, given = rollout.env_id, kwargs.get("split")
    if split is not None and given is not None and split != given:
        raise InvalidOption(f"{names[0]} is {split!r} and {names[1]} is {given!r}: leave out one of them.")
    rest = {key: value for key, value in kwargs.items() if key != "split"}
    wanted = split if given is None else given
    takes_split = "split" in env_arguments(env_id)
    try:
        env = make_text_env(env_id, **rest, **({"split": wanted} if takes_split and wanted is not None else {}))
    except UnknownName:
        if wanted is None:
            raise
        # Perhaps another name is unknown; if it is the split, this names the setting and the splits there are.
        choose_split(make_text_env(env_id, **rest).source, wanted, "", names[0])
        raise
    if takes_split and wanted is not None:
        wanted = env.split  # an environment may know a split by several names
    usual = usual or env.evaluation_split
    if takes_split and wanted is None and usual not in env.source.splits:
        # It may have the one split that it is made with: then others are only seen by asking.
        with suppress(SdarError, ValueError, LookupError):
            other = make_text_env(env_id, **rest, split=usual)
            env.close()
            env = other
    chosen = choose_split(env.source, wanted, usual, names[0])
    env.close()
    return replace(rollout, env_kwargs={**rest, "split": chosen} if takes_split else rest), env.source, chosen
