"""Environments of one's own in training: registered ones, plain Gymnasium ones, their suites, splits and skills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from helpers.skill_toys import make_skill
from helpers.tiny_chat import save_tiny_chat
from helpers.toy import CountingEnv, Numbers
from helpers.training_runs import run_config

from sdar_agents.settings.reader import read_yaml
from sdar_agents.training.config import TrainConfig, make_config
from sdar_agents.training.trainer import Trainer
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills import save_skill


class OneSplit(Numbers):
    """Numbers with one split, which is not called train."""

    splits = {"valid": 30}  # noqa: RUF012


class SimpleEnv(CountingEnv):
    """Takes no split at all."""

    def __init__(self, *, max_steps: int = 2, render_mode: str | None = None) -> None:
        super().__init__(max_steps=max_steps, render_mode=render_mode)
        self.source = OneSplit()


COUNTING, SIMPLE, LOOKALIKE = "toy/Trained-v0", "toy/Simple-v0", "toy/NoWebShopAtAll-v0"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register(COUNTING, "helpers.toy:CountingEnv")
    gymnasium.register(SIMPLE, SimpleEnv)
    gymnasium.register(LOOKALIKE, "helpers.toy:CountingEnv")
    yield
    for name in (COUNTING, SIMPLE, LOOKALIKE):
        del gymnasium.registry[name]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def own_config(model: Path, env_id: str, **settings: Any) -> TrainConfig:
    rollout = {"env_id": env_id, "env_kwargs": {"max_steps": 2}}
    return run_config(model, **{"method": "grpo", "suite": "alfworld", "steps": 2, **settings, "rollout": rollout})


@pytest.mark.parametrize(
    ("env_id", "evaluation_split"), [(COUNTING, "valid"), (SIMPLE, None)], ids=["with splits", "without a split"]
)
def test_an_environment_without_skills_trains_and_is_evaluated_without_the_diagnostic(
    env_id: str, evaluation_split: str | None, model: Path, tmp_path: Path
) -> None:
    evaluation = {"every": 1, "tasks": 2, "split": evaluation_split}
    trainer = Trainer(own_config(model, env_id, evaluation=evaluation), tmp_path)
    assert trainer.skills.prompts is None
    assert [task.env for task in trainer.evaluation.panel] == ["toy/Counting-v0"] * 2
    last = trainer.run()
    assert last["optimizer/updates"] == 2
    assert "eval/greedy/success" in last
    assert not any(name.startswith("eval/with_skills") for name in last)


def test_a_method_that_shows_skills_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"none for the suite 'toy'.*skills\.library.*--method grpo"):
        Trainer(own_config(model, COUNTING, method="sdar"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_skills_of_ones_own_let_an_own_environment_train_with_a_teacher(model: Path, tmp_path: Path) -> None:
    for name in ("up", "down"):
        save_skill(make_skill(f"count-{name}", f"count_{name}", f"Go {name}, one at a time."), tmp_path / "skills")
    skills = {"library": [str(tmp_path / "skills")], "builtin": False, "k": 1}
    last = Trainer(own_config(model, COUNTING, method="sdar", skills=skills), tmp_path / "run").run()
    assert last["distill/has_teacher"] == 1.0


def test_an_unknown_suite_must_name_its_preset_and_is_never_guessed(model: Path) -> None:
    for env_id in (COUNTING, LOOKALIKE):
        with pytest.raises(InvalidOption, match=r"name the suite .* one of alfworld, search_qa, webshop"):
            own_config(model, env_id, suite=None)
    assert own_config(model, LOOKALIKE, suite="search_qa").make_algorithm().kl_coef == 0.001
    with pytest.raises(UnknownName, match="Did you mean 'webshop'"):
        own_config(model, LOOKALIKE, suite="webshp")


def test_a_suite_is_not_asked_for_where_its_coefficients_are_set(model: Path) -> None:
    coefficients = {"kl_coef": 0.0, "invalid_penalty": 0.5}
    config = own_config(model, COUNTING, suite=None, algorithm=coefficients)
    assert config.make_algorithm().invalid_penalty == 0.5
    # So a run's own configuration, which has every setting of the method, can be read back.
    resolved = own_config(model, COUNTING).resolved()
    plain = {**read_yaml(resolved.to_yaml(), "here"), "suite": None}
    assert make_config(plain).make_algorithm() == resolved.make_algorithm()


def test_a_split_that_is_not_clear_is_asked_for(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no split 'test'; set evaluation\.split to one of train, valid"):
        Trainer(own_config(model, COUNTING, evaluation={"every": 1, "tasks": 1}), tmp_path / "run")
    with pytest.raises(UnknownName, match=r"split is 'trian'; the environment has train, valid"):
        Trainer(own_config(model, COUNTING, split="trian"), tmp_path / "run")
