"""The study on next to nothing: every stage is done, none twice."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from sdar_agents.training.config import load_config
from sdar_agents.training.trainer import CONFIG
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.metrics import read_metrics
from sdar_benchmarks.studies import tiny_study
from sdar_benchmarks.studies.tiny_study import StudySettings, study, study_table
from sdar_envs.errors import InvalidOption, RunStopped

OVERRIDES = (
    *("--steps", "2", "--tasks_per_step", "1", "--group_size", "2", "--evaluation.tasks", "2"),
    *("--rollout.env_kwargs.max_steps", "2", "--rollout.max_new_tokens", "8", "--log.tracker", "none"),
)
SMALL = StudySettings(model="tiny-test", episodes=20, readings=20, overrides=OVERRIDES, jobs=1)


@pytest.mark.slow
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
    configs = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/sft/config.json"))]
    assert [config["seed"] for config in configs] == [0, 1]
    facts = json.loads((folder / "seed-1" / "sdar" / "run.json").read_text())
    assert facts["versions"]["torch"] == version("torch")
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


def test_what_is_demonstrated(tmp_path: Path) -> None:
    settings = StudySettings(episodes=20, readings=30, seed=5)
    rollout = load_config(settings.config, ["--model.path", "x"]).rollout
    shown = tiny_study._demonstrations(tiny_study._Part(tmp_path, 7, settings), rollout)
    episodes, readings = shown["episodes"], shown["readings"]
    assert (episodes.first, episodes.episodes, readings.first, readings.episodes) == (350, 20, 370, 30)
    assert (episodes.with_skills, episodes.noise, episodes.turns) == (0.5, 0.25, None)
    assert (readings.with_skills, readings.noise, readings.turns) == (1.0, 0.0, 1)
    for each in (episodes, readings):
        assert each.seed == 7
        assert each.guesses
        assert each.retriever == "home"
        assert (each.terse, each.history_length) == (rollout.terse, rollout.history_length)
        assert each.env_kwargs["rooms"] == "small"
        assert each.env_kwargs["max_steps"] == 30


def curves(start: float, end: float) -> dict[str, list[tuple[float, float]]]:
    return {
        "eval/greedy/success": [(0.0, start), (1.0, 0.9), (2.0, end)],
        "eval/greedy/episodes": [(0.0, 64.0)],
        "rollout/success": [(1.0, 0.5)],
    }


def test_the_result_compares_the_ends_seed_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {
        "seed-0/grpo": (0.2, 0.25),
        "seed-0/sdar": (0.2, 0.5),
        "seed-1/grpo": (0.3, 0.5),
        "seed-1/sdar": (0.3, 0.25),
    }
    monkeypatch.setattr(tiny_study, "read_metrics", lambda run: curves(*ends[str(run.relative_to(tmp_path))]))
    parts = [tiny_study._Part(tmp_path / f"seed-{seed}", seed, StudySettings(seeds=2)) for seed in range(2)]
    result = tiny_study._result(parts)
    assert result["panel"] == 64
    assert result["evaluations"] == {
        "greedy": {
            "start": [0.2, 0.3],
            "end": {"grpo": [0.25, 0.5], "sdar": [0.5, 0.25]},
            "differences": {"sdar": {"by_seed": [0.25, -0.25], "mean": 0.0, "p": 1.0}},
        }
    }
    assert result["start_is_in_band"] is True
    # Two seeds, four choices of signs, two of them as extreme as can be.
    assert result["note"] == "With 2 seeds p is 0.5 or more, whatever the differences."
    ends["seed-1/grpo"] = (0.7, 0.7)
    assert tiny_study._result(parts)["start_is_in_band"] is False


class Process:
    """A process that has ended as soon as it was begun."""

    alive: ClassVar[list[Process]] = []
    most: ClassVar[int] = 0
    runs: ClassVar[list[tuple[str, int | None]]] = []

    def __init__(self, target: Any, args: Any) -> None:
        part, method, threads = args
        self.runs.append((f"{part.folder.name}/{method}", threads))
        self.exitcode = 1 if method == "sdar" else 0

    def start(self) -> None:
        self.alive.append(self)
        Process.most = max(self.most, len(self.alive))

    def is_alive(self) -> bool:
        if self in self.alive:
            self.alive.remove(self)
        return False


def test_runs_are_trained_some_at_a_time_and_failures_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_study, "_SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr("multiprocessing.get_context", lambda _: SimpleNamespace(Process=Process))
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    parts = [tiny_study._Part(tmp_path / f"seed-{seed}", seed, StudySettings(seeds=3)) for seed in range(3)]
    (tmp_path / "seed-1" / "grpo" / "checkpoints" / "step-000004").mkdir(parents=True)  # is done already
    with pytest.raises(RunStopped, match=r"training failed in \S*seed-0/sdar, \S*seed-1/sdar, \S*seed-2/sdar;"):
        tiny_study._train_all(parts, 4, lambda *_: None)
    assert Process.runs == [
        (f"seed-{seed}/{method}", 4)
        for seed, method in ((0, "grpo"), (0, "sdar"), (1, "sdar"), (2, "grpo"), (2, "sdar"))
    ]
    assert Process.most == 2


def test_a_run_that_was_begun_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []

    class Trainer:
        def __init__(self, config: Any, run: Path, *, resume: bool, facts: Any) -> None:
            assert (config.method, config.seed) == ("sdar", 4)
            begun.append(resume)
            run.mkdir(parents=True, exist_ok=True)
            (run / CONFIG).touch()

        def run(self) -> None:
            if len(begun) > 2:
                raise RunStopped("the disk\nis full")

    monkeypatch.setattr(tiny_study, "Trainer", Trainer)
    part = tiny_study._Part(tmp_path, 4, StudySettings())
    for _ in range(2):
        tiny_study._train(part, "sdar", None)
    assert begun == [False, True]
    with pytest.raises(RunStopped):
        tiny_study._train(part, "sdar", None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    # In a process of its own, one line says what happened.
    with pytest.raises(SystemExit, match="sdar: the disk is full"):
        tiny_study._train(part, "sdar", 2)


@pytest.mark.slow
def test_the_command_trains_in_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "quickstart",
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
    assert main(["quickstart", "--out", str(tmp_path), "--lerner.lr", "1"]) == 2
    assert "Did you mean 'learner'" in capsys.readouterr().err
    assert main(["quickstart", "--out", str(tmp_path), "--evaluation.tasks", "0"]) == 2
    assert "a study compares evaluations" in capsys.readouterr().err
    for arguments, message in (
        (("--model", "tiny-2m"), "no tiny model 'tiny-2m'"),
        (("--methods", "grpo,sdarr"), "Did you mean 'sdar'?"),
        (("--method", "sdar"), "--method is given twice"),
        (("--model.path", "mine"), "--model.path is given twice"),
        (("--rollout.env_kwargs.romms", "small"), "no argument 'romms'"),
        (("--rollout.env_id", "sdar/WebShop-v0"), "no argument 'rooms'"),
    ):
        # Few, so that what is not refused fails soon.
        few = ("--model", "tiny-test", "--episodes", "2", "--readings", "2", "--jobs", "1", *OVERRIDES)
        assert main(["quickstart", "--out", str(tmp_path), *few, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").touch()
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "is no study" in capsys.readouterr().err
