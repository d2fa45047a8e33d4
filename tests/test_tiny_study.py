"""The study on next to nothing: every stage is done, none twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sdar_benchmarks import tiny_study
from sdar_benchmarks.cli import main
from sdar_benchmarks.metrics import read_metrics
from sdar_benchmarks.tiny_study import StudySettings, study, study_table
from sdar_envs.errors import InvalidOption

OVERRIDES = (
    *("--steps", "2", "--tasks_per_step", "1", "--group_size", "2", "--evaluation.tasks", "2"),
    *("--rollout.env_kwargs.max_steps", "2", "--rollout.max_new_tokens", "8", "--log.tracker", "none"),
)
SMALL = StudySettings(model="tiny-test", episodes=20, readings=20, overrides=OVERRIDES, jobs=1)


def test_a_study_from_nothing_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, tuple[int, int | None]] = {}
    folder = tmp_path / "tiny"
    result = study(folder, SMALL, lambda stage, done, of: said.update({stage: (done, of)}))
    assert said["demonstrations, episodes"] == said["demonstrations, readings"] == (20, 20)
    assert said["training"] == (4, 4)
    assert {name.partition(",")[0] for name in said} == {"demonstrations", "fine-tuning", "training"}
    assert json.loads((folder / "study.json").read_text()) == result
    assert list(result["evaluations"]) == ["greedy", "sampled", "with_skills"]
    assert result["panel"] == 2
    # Both begin with the same weights, so both play the panel alike before the first step.
    metrics = [read_metrics(folder / "seed-0" / method) for method in ("grpo", "sdar")]
    begun = [{name: points[0] for name, points in each.items() if name.startswith("eval/")} for each in metrics]
    assert begun[0] == begun[1]
    assert "distill/gap" in metrics[1]
    report = (folder / "report.html").read_text()
    assert "rollout/success" in report
    assert "eval/greedy/success" in report

    for stage in ("_demonstrate", "_train"):
        monkeypatch.setattr(tiny_study, stage, lambda *_: pytest.fail("done twice"))
    assert study(folder, SMALL) == result
    with pytest.raises(InvalidOption, match="seed changed"):
        study(folder, replace(SMALL, seed=1))
    monkeypatch.undo()

    two = study(folder, replace(SMALL, seeds=2))
    assert two["seeds"] == [0, 1]
    assert [two["evaluations"][way]["start"][0] for way in two["evaluations"]] == [
        result["evaluations"][way]["start"][0] for way in result["evaluations"]
    ]
    rows = [json.loads(path.read_text().splitlines()[0]) for path in sorted(folder.glob("seed-*/readings.jsonl"))]
    assert rows[0]["task_id"] != rows[1]["task_id"]
    assert "seed-1/sdar" in (folder / "report.html").read_text()


def test_the_table_says_what_was_found_seed_by_seed() -> None:
    rates = {
        "start": [0.25, 0.5],
        "end": {"grpo": [0.5, 0.5], "sdar": [0.75, 0.625]},
        "differences": {"sdar": {"by_seed": [0.25, 0.125], "mean": 0.1875, "p": 0.5}},
    }
    table = study_table({"panel": 8, "evaluations": {"with_skills": rates}})
    assert table.columns == ("evaluation", "start", "grpo", "sdar", "sdar - grpo")
    assert table.rows == (
        (
            "with skills",
            *("37.5% (25.0-50.0)", "50.0% (50.0-50.0)", "68.8% (62.5-75.0)"),
            "+18.8 (+25.0, +12.5; p = 0.50)",
        ),
    )
    one = {"start": [0.5], "end": {"grpo": [0.5]}, "differences": {}}
    # Wilson's interval of 4 in 8.
    assert study_table({"panel": 8, "evaluations": {"greedy": one}}).rows[0][1] == "50.0% (21.5-78.5)"


@pytest.mark.slow
def test_the_command_trains_in_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "study",
        "--out",
        str(tmp_path / "s"),
        "--model",
        "tiny-test",
        "--episodes",
        "20",
        "--readings",
        "20",
        *OVERRIDES,
    ]
    assert main(arguments) == 0
    assert "sdar - grpo" in capsys.readouterr().out


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidOption, match="methods is"):
        StudySettings(methods=("grpo", "grpo"))
    with pytest.raises(InvalidOption, match="episodes is 0"):
        StudySettings(episodes=0)
    assert main(["study", "--out", str(tmp_path), "--lerner.lr", "1"]) == 2
    assert "Did you mean 'learner'" in capsys.readouterr().err
    assert main(["study", "--out", str(tmp_path), "--evaluation.tasks", "0"]) == 2
    assert "a study compares evaluations" in capsys.readouterr().err
    for arguments, message in (
        (("--model", "tiny-2m"), "no tiny model 'tiny-2m'"),
        (("--methods", "grpo,sdarr"), "Did you mean 'sdar'?"),
        (("--method", "sdar"), "--method is given twice"),
        (("--model.path", "mine"), "--model.path is given twice"),
        (("--rollout.env_kwargs.romms", "small"), "no argument 'romms'"),
        (("--rollout.env_id", "sdar/WebShop-v0"), "no argument 'rooms'"),
    ):
        assert main(["study", "--out", str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").touch()
    assert main(["study", "--out", str(tmp_path)]) == 2
    assert "is no study" in capsys.readouterr().err
