"""`sdar skills stats`: the table, the JSON, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sdar_benchmarks.cli.main import main
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, Showing
from sdar_skills.library.skill import Arm

OPEN = Arm("alfworld/open-first", "1.0.0", "ab" * 32)
LOOK = Arm("alfworld/look", "1.2.0", "cd" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"

    def show(arm: Arm, reward: float, suite: str = "alfworld", kind: str = "pick", gap: float | None = 0.25) -> Showing:
        return Showing(arm, suite, kind, "t", "run-1", 7, "ucb", reward, 0.5, gap)

    with Ledger(path) as ledger:
        ledger.append([show(LOOK, 0.25), show(OPEN, 1.0), show(OPEN, 0.5), show(NO_SKILL, 0.0, gap=None)])
        ledger.append([show(OPEN, 1.0, kind="heat"), show(Arm("webshop/buy", "1.0.0", "e"), 0.5, "webshop", "beauty")])
    return path


def test_the_table(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["skills", "stats", str(path)]) == 0
    out = capsys.readouterr().out
    blocks = [block.splitlines() for block in out.split("\n\n")]
    assert [block[0] for block in blocks] == ["alfworld, heat", "alfworld, pick", "webshop, beauty"]
    assert " ".join(blocks[1][1].split()) == "skill version text shown reward advantage 95 % CI gap step"
    # Advantages 0.5 and 0: mean 0.25, error 0.25.
    assert [" ".join(line.split()) for line in blocks[1][2:]] == [
        "(no skill) - - 1 0.000 -0.500 - - 7",
        "open-first 1.0.0 abababab 2 0.750 +0.250 ± 0.490 +0.250 7",
        "look 1.2.0 cdcdcdcd 1 0.250 -0.250 - +0.250 7",
    ]
    assert max(map(len, out.splitlines())) <= 100


def test_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["skills", "stats", str(path), "--json", "--suite", "alfworld", "--task-type", "pick"]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["skill"] for row in rows] == ["none", "alfworld/open-first", "alfworld/look"]
    assert rows[1] == {
        "skill": "alfworld/open-first",
        "version": "1.0.0",
        "sha256": "ab" * 32,
        "suite": "alfworld",
        "task_type": "pick",
        "showings": 2,
        "mean_reward": 0.75,
        "mean_advantage": 0.25,
        "half_width": pytest.approx(1.96 * math.sqrt(0.125 / 2)),
        "mean_gap": 0.25,
        "last_step": 7,
    }


def test_one_suite(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "stats", str(path), "--suite", "webshop"]) == 0
    assert capsys.readouterr().out.startswith("webshop, beauty\n")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--suite", "alfwrld"], "no suite 'alfwrld'; it has alfworld, webshop. Did you mean 'alfworld'?"),
        (["--task-type", "pik"], "no task type 'pik'; it has beauty, heat, pick. Did you mean 'pick'?"),
        (["--suite", "webshop", "--task-type", "pick"], "no task type 'pick'; it has beauty."),
    ],
)
def test_unknown_names(path: Path, options: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "stats", str(path), *options]) == 2
    assert match in capsys.readouterr().err


def test_files_that_are_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.sqlite"
    assert main(["skills", "stats", str(missing)]) == 2
    assert "there is no ledger" in capsys.readouterr().err
    assert not missing.exists()
    text = tmp_path / "notes.txt"
    text.write_text("notes " * 100)
    assert main(["skills", "stats", str(text)]) == 2
    assert "cannot be read as a ledger" in capsys.readouterr().err


def test_an_empty_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(tmp_path / "ledger.sqlite").close()
    assert main(["skills", "stats", str(tmp_path / "ledger.sqlite")]) == 0
    assert capsys.readouterr().out == ""
