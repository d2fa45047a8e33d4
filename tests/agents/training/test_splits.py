"""Splits of a run reach the environments that play them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.toy import CountingEnv, Numbers
from helpers.training_runs import run_config

from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.training.splits import evaluated_split, trained_split
from sdar_agents.training.trainer import Trainer
from sdar_envs import Unicode
from sdar_envs.errors import InvalidOption, UnknownName


class Stairs(gymnasium.Env[str, str]):
    """A plain Gymnasium environment, whose seeds `from_gym` chooses by its split."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = Unicode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return f"{seed} stairs.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "Up.", 1.0, True, False, {}


class OneSplit(Numbers):
    def __init__(self, split: str) -> None:
        self.splits: Mapping[str, int | None] = {split: 30}


class SplitEnv(CountingEnv):
    """An environment whose argument `split` decides what tasks there are."""

    evaluation_split = "held_out"

    def __init__(self, *, split: str = "held_out", max_steps: int = 2, render_mode: str | None = None) -> None:
        if split not in ("train", "held_out", "spare"):
            raise UnknownName(f"no split {split!r}")
        super().__init__(max_steps=max_steps, render_mode=render_mode)
        self.source = OneSplit(split)
        self.split = split


PLAIN, OWN = "toy/Stairs-v0", "toy/Split-v0"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register(PLAIN, Stairs)
    gymnasium.register(OWN, SplitEnv)
    yield
    for name in (PLAIN, OWN):
        del gymnasium.registry[name]


@pytest.mark.parametrize(("env_id", "trained", "evaluated"), [(PLAIN, "train", "default"), (OWN, "train", "held_out")])
def test_by_default_what_is_trained_on_is_not_what_is_evaluated(env_id: str, trained: str, evaluated: str) -> None:
    settings = RolloutSettings(env_id)
    rollout, source, split = trained_split(settings, None)
    assert (split, rollout.env_kwargs["split"], list(source.splits)) == (trained, trained, [trained])
    rollout, source, split = evaluated_split(settings, {}, None)
    assert (split, rollout.env_kwargs["split"], list(source.splits)) == (evaluated, evaluated, [evaluated])


@pytest.mark.parametrize("env_id", [PLAIN, OWN])
def test_a_split_is_that_of_the_setting_or_of_the_arguments(env_id: str) -> None:
    settings = RolloutSettings(env_id, {"split": "spare"})
    for split in (None, "spare"):
        assert trained_split(settings, split)[2] == "spare"
    # What is trained on is never what is evaluated by default.
    assert evaluated_split(settings, {}, None)[2] != "spare"
    assert evaluated_split(settings, {"split": "spare"}, None)[2] == "spare"
    with pytest.raises(InvalidOption, match=r"split is 'train' and rollout\.env_kwargs\.split is 'spare'"):
        trained_split(settings, "train")
    with pytest.raises(InvalidOption, match=r"evaluation\.split is 'train' and evaluation\.env_kwargs\.split"):
        evaluated_split(settings, {"split": "spare"}, "train")


def test_a_split_that_is_not_there_is_named_with_its_setting() -> None:
    with pytest.raises(UnknownName, match=r"evaluation\.split is 'tset'; the environment has"):
        evaluated_split(RolloutSettings("sdar/ALFWorld-v0"), {}, "tset")


@pytest.mark.parametrize("env_id", [PLAIN, OWN])
def test_a_run_plays_its_split_in_its_environments(env_id: str, tmp_path: Path) -> None:
    model = save_tiny_chat(tmp_path / "model")
    config = run_config(
        model,
        method="grpo",
        suite="alfworld",
        steps=1,
        evaluation={"every": 1, "at_start": False, "tasks": 1},
        rollout={"env_id": env_id, "env_kwargs": {"max_steps": 1}},
    )
    trainer = Trainer(config, tmp_path / "run")
    evaluated = [task.id for task in trainer.evaluation.panel]
    trained = [task.id for task in trainer.stream.tasks(1)]
    trainer.run()
    assert [name.split("/")[1] for name in (*trained, *evaluated)] == [
        "train", "default" if env_id == PLAIN else "held_out"
    ]  # fmt: skip
    assert not trainer.problems or all("evaluation plays" not in problem for problem in trainer.problems)


def test_a_split_with_two_names_is_played_and_recorded_by_its_own() -> None:
    rollout, _, split = evaluated_split(RolloutSettings("sdar/ALFWorld-v0"), {}, "eval_in_distribution")
    assert (split, rollout.env_kwargs["split"]) == ("valid_seen", "valid_seen")
