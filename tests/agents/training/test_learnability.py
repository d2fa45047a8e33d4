"""Configurations that cannot learn: refused where nothing can be learnt, said where a part is switched off."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.training.checks.learnability import lost_updates, signal_problems
from sdar_agents.training.trainer import Trainer
from sdar_envs.errors import InvalidOption


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def problems(**settings: Any) -> list[str]:
    config = run_config(Path("any"), **settings).resolved()
    return signal_problems(config, config.make_algorithm())


@pytest.mark.parametrize("method", ["grpo", "sdar", "opsd", "rlsd", "skill_grpo", "skill_sd", "grpo_opsd"])
def test_a_usual_configuration_has_no_problem(method: str) -> None:
    assert problems(method=method) == []


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"method": "grpo", "group_size": 1}, r"group_size is 1.*all are 0.*wanted 2 or more"),
        ({"method": "skill_grpo", "group_size": 1}, r"group_size is 1"),
        ({"method": "rlsd", "group_size": 1}, r"group_size is 1"),  # it reweights advantages, and adds no term
        ({"method": "opsd", "skills": {"k": 0}}, r"pg_coef is 0.*skills\.k is 0"),
        ({"method": "opsd", "skills": {"retriever": "none"}}, r"skills\.retriever is none"),
        ({"method": "opsd", "algorithm": {"distill_coef": 0.0}}, r"pg_coef is 0.*distill_coef is 0"),
        ({"method": "sdar", "group_size": 1, "skills": {"k": 0}}, r"group_size is 1.*skills\.k is 0"),
        ({"method": "grpo", "algorithm": {"pg_coef": 0.0}}, r"pg_coef is 0"),
        ({"method": "grpo", "rollout": {"env_kwargs": {"reward_scale": 0.0}}}, r"reward_scale is 0"),
    ],
)
def test_what_can_learn_nothing_is_refused(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InvalidOption, match=rf"this run can learn nothing: .*{wanted}"):
        problems(**settings)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"method": "sdar", "group_size": 1}, "group_size is 1"),
        ({"method": "sdar", "skills": {"k": 0}}, "the teacher reads what the student reads"),
        ({"method": "rlsd", "skills": {"k": 0}}, "the teacher reads what the student reads"),
        ({"method": "sdar", "algorithm": {"distill_coef": 0.0}}, "distill_coef is 0"),
        (
            {"method": "agentopsd", "algorithm": {"shaping_coef": 0.0}},
            "shaping_coef is 0, so the teacher is asked",
        ),
        (
            {"method": "ucob", "algorithm": {"distill_coef": 0.0}},
            "teaches nothing (--method gigpo does",
        ),
        (
            {
                "method": "opid",
                "context": {"name": "future_blanked"},
                "algorithm": {"episode_coef": 0.0, "step_coef": 0.0},
            },
            "episode_coef and step_coef are 0",
        ),
        ({"method": "adrs", "algorithm": {"eta": 0.0}}, "eta is 0"),
        ({"method": "adrs"}, "begins at step 21 of a run of 3"),
        ({"method": "sdar", "algorithm": {"distill_first_step": 4}}, "begins at step 4 of a run of 3"),
        ({"method": "rlsd", "algorithm": {"shaping_coef": 0.0}}, "shaping_coef is 0"),
        ({"method": "skill_grpo", "skills": {"k": 0}}, "the prompts show no skills"),
        ({"method": "grpo", "learner": {"lr": 0.0}}, "learner.lr is 0"),
        ({"method": "grpo", "learner": {"warmup_steps": 10}}, "learner.warmup_steps is 10 in a run of 3 steps"),
    ],
)
def test_what_is_switched_off_is_said(settings: dict[str, Any], wanted: str) -> None:
    [problem] = problems(**settings)
    assert wanted in problem


def test_what_learns_in_spite_of_it_is_let_be() -> None:
    # The teacher is another model, whatever it reads.
    assert problems(method="opsd", skills={"k": 0}, learner={"teacher": "frozen"}) == []
    # Without the rule for equal groups, a group of one has its own return as its advantage.
    assert (
        problems(
            method="grpo",
            group_size=1,
            algorithm={"zero_range": 0.0, "advantage_stats": "episode", "penalty_after": True},
        )
        == []
    )


def test_updates_that_bfloat16_rounds_away_are_counted() -> None:
    weights = torch.tensor([0.01, 0.02, 1.0, 2.0], dtype=torch.bfloat16)
    # Numbers around 0.01 lie 2**-14 = 6e-5 apart, around 0.02 twice as far, around 1 2**-7: half of it is lost.
    assert lost_updates([weights], 1e-6) == 1.0
    assert lost_updates([weights], 5e-5) == 0.75
    assert lost_updates([weights], 1e-1) == 0.0
    assert lost_updates([weights.float()], 1e-6) == 0.0


def test_problems_are_logged_once_and_kept_with_the_run(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config(model, method="sdar", group_size=1)
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(config, tmp_path / "run")
    trainer.close()
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["problems"]
    assert kept == trainer.problems
    assert [record.args[0] for record in caplog.records if record.name.startswith("sdar_agents")] == kept
    group, length = kept
    assert "group_size is 1" in group
    assert "rollout.max_new_tokens is 4, and the shortest answer" in length


def test_bfloat16_weights_that_no_update_moves_are_refused(model: Path, tmp_path: Path) -> None:
    config = run_config(model, method="grpo", model={"dtype": "bfloat16"}, learner={"lr": 1e-6})
    with pytest.raises(InvalidOption, match="leaves 100% of the weights as they are"):
        Trainer(config, tmp_path / "run")
    moved = run_config(model, method="grpo", model={"dtype": "bfloat16"}, learner={"lr": 1e-2})
    Trainer(moved, tmp_path / "moved").close()


def test_a_run_with_room_for_its_answers_has_no_problem(model: Path, tmp_path: Path) -> None:
    config = run_config(model, method="grpo", rollout={"max_new_tokens": 64})
    trainer = Trainer(config, tmp_path / "run")
    trainer.close()
    assert trainer.problems == []


def test_an_evaluation_on_what_is_trained_on_is_said(model: Path, tmp_path: Path) -> None:
    config = run_config(
        model, method="grpo", rollout={"max_new_tokens": 64}, evaluation={"every": 1, "tasks": 1, "split": "train"}
    )
    trainer = Trainer(config, tmp_path / "run")
    trainer.close()
    assert [problem[:32] for problem in trainer.problems] == ["evaluation plays the split 'trai"]


def test_a_template_without_a_system_role_is_one_line_before_the_first_step(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    template = folder / "chat_template.jinja"
    rule = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template.write_text(rule + template.read_text())
    wanted = r"strict cannot render .*roles system, user .*System role not supported.*placement user"
    for settings in ({"rollout": {"system": "Be good."}}, {"method": "sdar", "skills": {"placement": "system"}}):
        with pytest.raises(InvalidOption, match=wanted):
            Trainer(run_config(folder, **settings), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    Trainer(run_config(folder, method="sdar"), tmp_path / "run").close()


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        ("q_prj", r"has 'q_prj'.*it has .*q_proj.*Did you mean 'q_proj'"),
        ("q_proj, v_prj", r"has 'v_prj'"),  # peft takes no notice of one wrong name among right ones
        ("norm", r"has 'norm'"),
        ("", r"wanted all-linear, or some of .*q_proj"),
    ],
)
def test_a_wrong_lora_target_is_one_line_with_the_layers_there_are(
    targets: str, wanted: str, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    with pytest.raises((InvalidOption, LookupError), match=rf"model\.lora\.targets .*{wanted}") as caught:
        Trainer(run_config(model, method="grpo", model={"lora": {"targets": targets}}), tmp_path / "run")
    assert "\n" not in str(caught.value)
