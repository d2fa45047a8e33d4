"""Splits of a training run: which tasks are trained on, which are evaluated (see `sdar_envs.registry.open_split`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdar_agents.rollout.settings import RolloutSettings
from sdar_envs.core import TaskSource
from sdar_envs.errors import InvalidOption
from sdar_envs.registry import env_arguments, open_split

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
    given = kwargs.get("split")
    if split is not None and given is not None and split != given:
        raise InvalidOption(f"{names[0]} is {split!r} and {names[1]} is {given!r}: leave out one of them.")
    wanted = split if given is None else given
    env, chosen = open_split(rollout.env_id, kwargs, wanted, usual=usual, setting=names[0])
    env.close()
    env_kwargs = {name: value for name, value in kwargs.items() if name != "split"}
    if "split" in env_arguments(rollout.env_id):
        env_kwargs["split"] = chosen
    return replace(rollout, env_kwargs=env_kwargs), env.source, chosen
