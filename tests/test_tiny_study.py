"""The study on next to nothing: every stage is done, none twice."""

from __future__ import annotations

import json
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
    assert [row[0] for row in study_table(result).rows] == [
        f"{method}, {way}" for method in ("grpo", "sdar") for way in ("greedy", "sampled", "with skills")
    ]
    # Both begin with the same weights, so both play the panel alike before the first step.
    starts = [{way: ends["start"] for way, ends in ways.items()} for ways in result["methods"].values()]
    assert starts[0] == starts[1]
    assert "distill/gap" in read_metrics(folder / "sdar")
    report = (folder / "report.html").read_text()
    assert "rollout/success" in report
    assert "eval/greedy/success" in report

    for stage in ("_demonstrate", "_train"):
        monkeypatch.setattr(tiny_study, stage, lambda *_: pytest.fail("done twice"))
    again = study(folder, SMALL)
    assert {**again, "seconds": None} == {**result, "seconds": None}
    with pytest.raises(InvalidOption, match="seed changed"):
        study(folder, StudySettings(model="tiny-test", episodes=20, readings=20, overrides=OVERRIDES, seed=1))


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
    assert "sdar, greedy" in capsys.readouterr().out


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidOption, match="methods is"):
        StudySettings(methods=("grpo", "grpo"))
    with pytest.raises(InvalidOption, match="episodes is 0"):
        StudySettings(episodes=0)
    assert main(["study", "--out", str(tmp_path), "--lerner.lr", "1"]) == 2
    assert "Did you mean 'learner'" in capsys.readouterr().err
    (tmp_path / "mine.txt").touch()
    assert main(["study", "--out", str(tmp_path)]) == 2
    assert "is no study" in capsys.readouterr().err
