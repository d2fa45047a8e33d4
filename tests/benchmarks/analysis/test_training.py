"""Comparison of training runs: refused where they were measured differently, paired, at equal tokens, with costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdar_benchmarks.analysis.training import compare_training, cost_table, read_training_run
from sdar_benchmarks.cli import main
from sdar_benchmarks.reports.report import write_comparison, write_report
from sdar_envs.errors import CorruptData, InvalidOption, MissingData

CONFIG: dict[str, Any] = {
    "model": {"path": "m", "dtype": "float32"},
    "rollout": {"env_id": "sdar/ALFWorld-v0", "env_kwargs": {"max_steps": 50}, "history_length": 2, "style": None},
    "method": "grpo",
    "seed": 0,
    "split": "train",
    "evaluation": {"split": "valid_seen", "tasks": 4, "seed": 0},
    "learner": {"lr": 1e-6},
}


def training_run(
    folder: Path, wins: dict[int, list[int]], *, tokens: int = 100, facts: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """A run that was evaluated at steps on tasks 0 to 3, of which it solved those listed; `tokens` for each step."""
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(CONFIG))
    for path, value in changes.items():
        *sections, name = path.split("__")
        section = config
        for part in sections:
            section = section[part]
        section[name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps(facts or {}))
    rows = [
        {"step": step, "way": "greedy", "task_id": f"t{task}", "task_type": "x", "success": task in won, "score": 0.5}
        for step, won in wins.items()
        for task in range(4)
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [
        {
            "step": step,
            "rollout/success": 0.5,
            "cost_total/tokens": float(step * tokens),
            "cost_total/teacher_tokens": 0.0,
            "time/total": 2.0 * step,
            **({"eval/greedy/success": len(wins[step]) / 4} if step in wins else {}),
        }
        for step in range(max(wins) + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    return folder


def test_the_last_evaluations_are_paired_and_then_those_at_equal_tokens(tmp_path: Path) -> None:
    a = training_run(tmp_path / "a", {0: [], 2: [0], 4: [0, 1, 2]}, tokens=50)
    b = training_run(tmp_path / "b", {0: [], 2: [0, 1], 4: [0, 1, 2, 3]}, tokens=100, method="sdar")
    found = compare_training(a, b)
    numbers = {(part.group, part.measure): (part.mean_a, part.mean_b, part.episodes) for part in found.differences}
    assert numbers == {
        ("greedy, step 4", "success"): (0.75, 1.0, 4),
        ("greedy, step 4", "score"): (0.5, 0.5, 4),
        # 200 tokens: the whole of the first run, half of the second.
        ("greedy, 200 tokens (steps 4, 2)", "success"): (0.75, 0.5, 4),
        ("greedy, 200 tokens (steps 4, 2)", "score"): (0.5, 0.5, 4),
    }
    assert (found.warnings, found.changed) == ((), ("method: grpo, sdar",))
    assert found.costs.columns == ("cost", "A", "B")
    assert ("tokens in all", "200", "400") in found.costs.rows
    assert ("tokens scored by teachers", "0", "0") in found.costs.rows
    assert ("tokens of the context's model", "–", "–") in found.costs.rows
    assert found.costs.rows[0] == ("steps", "4", "4")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollout__env_kwargs": {"max_steps": 30}}, r"rollout\.env_kwargs\.max_steps: 50, 30"),
        ({"rollout__history_length": 5}, r"rollout\.history_length: 2, 5"),
        ({"split": "home"}, "split: train, home"),
        ({"evaluation__split": "valid_unseen"}, r"evaluation\.split: valid_seen, valid_unseen"),
        ({"evaluation__tasks": 8}, r"evaluation\.tasks: 4, 8"),
        ({"rollout__style": "mine:STYLE"}, r"rollout\.style: null, mine:STYLE"),
        ({"model__path": "n"}, r"model\.path: m, n"),
        ({"facts": {"fingerprint": "y"}}, "model weights"),
    ],
)
def test_runs_that_were_measured_differently_are_refused_or_flagged(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    a = training_run(tmp_path / "a", {0: [0]}, facts={"fingerprint": "x"} if "facts" in changes else None)
    b = training_run(tmp_path / "b", {0: [1]}, **changes)
    with pytest.raises(InvalidOption, match=rf"they differ in .*{words}.*--allow-different"):
        compare_training(a, b)
    found = compare_training(a, b, allow_different=True)
    assert len(found.warnings) == 1
    assert found.changed == ()


def test_the_same_weights_in_another_folder_are_the_same_model(tmp_path: Path) -> None:
    a, b = (
        training_run(tmp_path / name, {0: [0]}, facts={"fingerprint": "x"}, model__path=name) for name in ("a", "b")
    )
    assert compare_training(a, b).changed == ("model.path: a, b",)


def test_panels_that_differ_are_refused_in_any_case(tmp_path: Path) -> None:
    a, b = training_run(tmp_path / "a", {0: [0]}), training_run(tmp_path / "b", {0: [0]})
    (b / "evaluations.jsonl").write_text((b / "evaluations.jsonl").read_text().replace('"t3"', '"t9"'))
    with pytest.raises(InvalidOption, match=r"the panels differ: of 4 and 4 tasks .* 3 are the same"):
        compare_training(a, b, allow_different=True)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    a, b = training_run(tmp_path / "a", {0: [0]}), training_run(tmp_path / "b", {0: [0]})
    (b / "metrics.jsonl").unlink()
    assert compare_training(a, b).warnings == (
        "costs were not counted in both runs: there is no comparison at equal tokens",
    )
    (b / "evaluations.jsonl").write_text("")
    with pytest.raises(MissingData, match="was not evaluated"):
        compare_training(a, b)
    (b / "evaluations.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(CorruptData, match="has a row that is no episode"):
        compare_training(a, b)
    with pytest.raises(MissingData, match=r"is no training run: it has no config\.yaml"):
        compare_training(a, tmp_path / "none")
    (b / "config.yaml").write_text("[1]")
    with pytest.raises(CorruptData, match="is no configuration"):
        read_training_run(b)


def test_the_verb_prints_differences_and_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = training_run(tmp_path / "a", {2: [0]}), training_run(tmp_path / "b", {2: [0, 1]}, method="sdar")
    assert main(["compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "method: grpo, sdar" in printed
    assert "greedy, step 2, success" in printed
    assert "tokens in all" in printed
    (b / "config.yaml").write_text((b / "config.yaml").read_text().replace("max_steps: 50", "max_steps: 30"))
    assert main(["compare", str(a), str(b)]) == 2
    assert "pass --allow-different" in capsys.readouterr().err
    assert main(["compare", str(a), str(b), "--allow-different"]) == 0
    assert "warning: the runs differ in rollout.env_kwargs.max_steps: 50, 30" in capsys.readouterr().err
    assert main(["compare", str(a), str(tmp_path)]) == 2
    assert "is a training run and the other is not" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path), "--allow-different"]) == 2


def test_reports_show_success_by_tokens_costs_and_what_does_not_compare(tmp_path: Path) -> None:
    a = training_run(tmp_path / "a", {0: [], 2: [0]}, tokens=1234)
    b = training_run(tmp_path / "b", {0: [], 2: [0, 1]}, rollout__history_length=5)
    text = write_report(a).read_text()
    assert "success by tokens" in text
    assert "tokens read, generated and scored in training" in text
    assert "tokens in all 2,468" in text
    write_comparison([a, b], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    assert "a and b do not compare, they differ in rollout.history_length: 2, 5." in text
    assert cost_table([("a", read_training_run(a))]).rows[-1] == ("seconds", "4")
