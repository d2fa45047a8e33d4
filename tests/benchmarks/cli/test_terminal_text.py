"""Control characters of others never reach a terminal, and their brackets are no markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.run_folders import config, episode, write_run

from sdar_benchmarks.cli.main import main
from sdar_skills.evidence.ledger import Ledger, Showing
from sdar_skills.library.skill import Arm

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "\x1b[31mred\x1b]8;;http://example.org\x1b\\link\x9b2J\x07\u202egnp.exe [bold]b[/bold]"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library" / "alfworld" / "odd-skill"
    folder.mkdir(parents=True)
    front = ["name: odd-skill", f"description: {json.dumps(f'Use mugs {HOSTILE}')}", "metadata:"]
    ours = {"suite": "alfworld", "task-type": "general", "version": "1.0.0", "status": "active", "origin": HOSTILE}
    front += [f"  {name}: {json.dumps(value)}" for name, value in {**ours, "created-by": "someone"}.items()]
    (folder / "SKILL.md").write_text("\n".join(["---", *front, "---", "", f"Mugs {HOSTILE}", ""]), encoding="utf-8")
    return tmp_path / "library"


def printed(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    status = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    assert not STEERING.search(out + err)
    return f"{status} {out}{err}"


def test_skills(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--library", library, "--no-builtin")
    assert "odd-skill" in printed(capsys, "skills", "list", *options)
    shown = printed(capsys, "skills", "show", "alfworld/odd-skill", *options)
    found = printed(capsys, "skills", "search", "mugs", *options)
    for text in (shown, " ".join(found.split())):
        assert text.startswith("0 ")
        assert "\\u001b[31mred" in text
        assert "[bold]b[/bold]" in text


def test_compare_and_its_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [episode(0, env_id=HOSTILE), episode(1, task_id=HOSTILE), episode(2)]
    panel = {**config()["panels"][0], "env_kwargs": {HOSTILE: 1}}
    first = write_run(tmp_path / "first", rows, settings=config(panels=[panel]))
    second = write_run(tmp_path / "second", [rows[0], rows[2]])
    text = printed(capsys, "compare", first, second)
    assert text.startswith("0 ")
    assert "\\u001b[31mred" in text
    assert "[bold]b[/bold]" in text


def test_errors_quote_without_steering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [], settings=config(agent={"name": [HOSTILE], "settings": {}}))
    assert printed(capsys, "compare", run, run).startswith("2 error: ")
    (run / "config.json").write_text(json.dumps({**config(), "format": HOSTILE}))
    assert printed(capsys, "report", run).startswith("2 error: ")
    assert printed(capsys, "info", HOSTILE).startswith("2 error: ")


def test_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.append([Showing(Arm(HOSTILE, HOSTILE, "ab"), HOSTILE, HOSTILE, "t", "r", 1, "ucb", 1.0, 0.5)])
    text = printed(capsys, "skills", "stats", tmp_path / "ledger")
    assert "\\u001b[31mred" in " ".join(text.split())
    rows = json.loads(printed(capsys, "skills", "stats", tmp_path / "ledger", "--json").removeprefix("0 "))
    assert rows[0]["skill"] == HOSTILE
