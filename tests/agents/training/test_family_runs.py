"""The methods around SDAR in training runs, each with the context that it is published with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.algorithms import ALGORITHMS
from sdar_agents.learner.weights import fingerprint
from sdar_agents.training.trainer import Trainer
from sdar_envs.errors import InvalidOption

SCRIPTED = {"engine": "helpers.scripted_engine:HalfOracle"}
# One of two attempts at a task solves it.
SOLVED = {"split": "valid_seen", "tasks_per_step": 1, "steps": 1, "log": {"trajectories_every": 0}}
ROOMS = {"rollout": {"env_kwargs": {"rooms": "small", "max_steps": 12}, "max_new_tokens": 64}} | SOLVED

PUBLISHED: dict[str, dict[str, Any]] = {
    "gigpo": {},
    "serl": {"context": {"name": "sibling"}, "learner": {"teacher": "lagged"}},
    "stepopsd": {"context": {"name": "sibling"}, "learner": {"teacher": "lagged"}},
    "ocsd": {"context": {"name": "future_blanked"}},
    "agentopsd": {},
    "grsd": {"context": {"name": "reflection"}},
    "opid": {"context": {"name": "analyst", "options": {"routing": "both"}}},
    "adrs": {"algorithm": {"first_step": 1}},
    "sdpo": {"context": {"name": "sibling"}, "learner": {"teacher": "ema"}},
    "ucob": {"context": {"name": "pairs"}, "skills": {"mixed": True, "control_members": 1, "k": 1}},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_method_trains_with_its_context(method: str, model: Path, tmp_path: Path) -> None:
    settings = {**ROOMS, "model": {"path": str(model), **SCRIPTED}, **PUBLISHED[method]}
    trainer = Trainer(run_config(model, method=method, **settings), tmp_path)
    before = fingerprint(trainer.model)
    trainer.run()
    [row] = metrics(tmp_path)
    assert fingerprint(trainer.model) != before
    assert row["optimizer/skipped"] == 0
    assert row["rollout/success"] == 0.5
    if method == "gigpo":
        assert row["group/states_shared"] > 0
        return
    assert row["distill/has_teacher"] > 0
    assert ("gap_by_part/answer" in row) == (method != "ucob")
    assert 0 <= row["distill/conflict"] <= 1
    if method == "sdpo":
        assert row["distill/jsd_topk"] > 0
    elif method == "ucob":
        assert row["distill/fkl_renormalised"] > 0
        assert row["loss/distill"] > 0
    elif method in ("adrs", "opid"):
        assert row["distill/added_advantage"] > 0
    else:
        assert row["distill/weight_std"] > 0


def test_an_external_teacher_is_named_in_the_configuration(model: Path, tmp_path: Path) -> None:
    other = save_tiny_chat(tmp_path / "other", seed=5)
    settings = {**ROOMS, "model": {"path": str(model), **SCRIPTED}}
    gaps = []
    for learner in ({}, {"teacher": "external", "teacher_model": str(other)}):
        folder = tmp_path / learner.get("teacher", "old")
        trainer = Trainer(run_config(model, method="sdar", learner=learner, **settings), folder)
        assert trainer.config.learner.teacher_model == (str(other) if learner else None)
        trainer.run()
        gaps.append(metrics(folder)[0]["distill/gap_std"])
    # Another random model knows nothing of what this one says.
    assert gaps[1] > 1.2 * gaps[0]
    missing = {"teacher": "external", "teacher_model": str(tmp_path / "missing")}
    with pytest.raises(InvalidOption, match=r"learner.teacher_model: .*missing"):
        Trainer(run_config(model, method="sdar", learner=missing, **settings), tmp_path / "new")


# One prompt of the teacher is enough to train on; OCSD and OPID keep to those that have it.
ON_THE_LIBRARY: dict[str, dict[str, Any]] = {
    "adrs": {"first_step": 2},
    "grsd": {"mixed_groups": False},
    "sdpo": {"success_mask": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["alfworld", "webshop", "search_qa"])
@pytest.mark.parametrize("method", PUBLISHED)
def test_a_method_trains_on_every_suite(method: str, suite: str, model: Path, tmp_path: Path) -> None:
    context = {"name": "future_blanked"} if method in ("ocsd", "opid") else {}
    if method == "ucob":
        context = {"name": "pairs"}
    skills = {"mixed": True, "control_members": 1, "k": 1} if method == "ucob" else {"k": 1}
    config = run_config(
        model, suite, method=method, algorithm=ON_THE_LIBRARY.get(method, {}), context=context, skills=skills
    )
    trainer = Trainer(config, tmp_path)
    before = fingerprint(trainer.model)
    trainer.run()
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert fingerprint(trainer.model) != before
    assert all(row["optimizer/skipped"] == 0 for row in rows)
    if ALGORITHMS[method].needs_teacher and method != "ucob":
        assert all(row["distill/has_teacher"] == 1.0 for row in rows)
