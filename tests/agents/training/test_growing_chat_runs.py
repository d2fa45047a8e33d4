"""Training on growing chats, and what goes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.learner.weights import fingerprint
from sdar_agents.rollout.recording import read_trajectories
from sdar_agents.training.evaluation import Evaluation
from sdar_agents.training.run.log import Bar
from sdar_agents.training.trainer import Trainer
from sdar_envs.errors import CorruptData, InvalidOption

APPENDED: dict[str, Any] = {"history": "appended", "max_new_tokens": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    "method",
    [
        "sdar",
        pytest.param("grpo", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("rlsd", "skill_sd", "opsd", "skill_grpo", "grpo_opsd")
        ),
    ],
)
def test_a_run_of_growing_chats_learns_and_resumes(method: str, model: Path, tmp_path: Path) -> None:
    prints = []
    for name, steps in (("whole", 2), ("parts", 1)):
        config = run_config(
            model, method=method, rollout=APPENDED, steps=steps, log={"trajectories_every": 1}, checkpoints={"every": 1}
        )
        trainer = Trainer(config, tmp_path / name)
        before = fingerprint(trainer.model)
        trainer.run()
        if name == "parts":
            config = run_config(
                model, method=method, rollout=APPENDED, steps=2, log={"trajectories_every": 1}, checkpoints={"every": 1}
            )
            trainer = Trainer(config, tmp_path / name, resume=True)
            trainer.run()
        prints.append(fingerprint(trainer.model))
    assert prints[0] == prints[1] != before
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["sampler/difference_max"] < 1e-4 for row in rows)
    found = list(read_trajectories(tmp_path / "whole"))
    assert {trajectory.mode for trajectory in found} == {"appended"}
    if method != "sdar":
        return
    # Gaps stand beside the tokens of their turn.
    lines = [json.loads(line) for line in (tmp_path / "whole" / "trajectories.jsonl").read_text().splitlines()]
    turns = [turn for line in lines for turn in line["turns"]]
    assert all(len(turn["tokens"]) == len(turn["completion"]["token_ids"]) for turn in turns)
    assert all("gap" in token for turn in turns for token in turn["tokens"])
    assert "gap_by_turn/001" in rows[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "gigpo"}, "gigpo needs a row for each turn"),
        ({"method": "serl"}, "serl needs a row for each turn"),
        ({"context": {"name": "sibling"}}, "sibling is inserted into the prompts of turns"),
        ({"learner": {"mask_truncated": True}}, "mask_truncated leaves out turns"),
    ],
)
def test_what_is_of_single_turns_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"history is appended.*{message}"):
        run_config(Path("m"), rollout=APPENDED, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"engine": "my:Engine"}}, "the engine is my:Engine"),
        ({"model": {"dtype": "bfloat16"}}, "the rollout is in bfloat16"),
        ({"learner": {"old": "sampler", "autocast": True}}, "generation_autocast to false"),
    ],
)
def test_logprobs_that_are_not_exact_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"old is sampler.*{message}"):
        run_config(Path("m"), **{"learner": {"old": "sampler"}, **settings})


def test_rollout_and_update_are_cast_apart(model: Path, tmp_path: Path) -> None:
    config = run_config(
        model,
        method="grpo",
        learner={"old": "sampler", "autocast": True, "mini_batches": 2},
        model={"generation_autocast": False},
        steps=1,
    )
    assert not config.casts_generation
    trainer = Trainer(config, tmp_path)
    numbers = trainer.run()
    assert trainer.policy._autocast is None  # type: ignore[attr-defined]
    # The update is in bfloat16: its scores differ from the rollout's by that much, and no more.
    assert 1e-5 < numbers["sampler/difference_max"] < 0.2
    assert "time/old" not in numbers


def test_a_start_is_evaluated_once_for_all_runs_that_begin_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []
    run = Evaluation.run

    def listen(self: Evaluation, *args: Any) -> Any:
        played.append(self.split or "")
        return run(self, *args)

    monkeypatch.setattr(Evaluation, "run", listen)
    found = []
    starts = tmp_path / "starts"
    for number, (method, tasks) in enumerate((("grpo", 2), ("sdar", 2), ("grpo", 3))):
        evaluation = {"every": 9, "tasks": tasks, "starts": str(starts)}
        config = run_config(model, method=method, evaluation=evaluation, steps=1)
        trainer = Trainer(config, tmp_path / str(number))
        trainer._log(trainer._evaluate(Bar(1, done=0, shown=False)), 0)
        trainer.close()
        [line] = (tmp_path / str(number) / "metrics.jsonl").read_text().splitlines()
        rows = (tmp_path / str(number) / "evaluations.jsonl").read_text()
        found.append(({name: value for name, value in json.loads(line).items() if name != "time/evaluation"}, rows))
    # The second run took what the first had found; the third has another panel.
    assert len(played) == 2
    assert found[0] == found[1]
    assert found[2][1] != found[0][1]
    for kept in starts.iterdir():
        kept.write_text("{}")
    trainer = Trainer(config, tmp_path / "again")
    with pytest.raises(CorruptData, match="delete it"):
        trainer._evaluate(Bar(1, done=0, shown=False))
    trainer.close()
