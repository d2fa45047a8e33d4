"""Progress without a terminal: lines with numbers, and none for short work."""

from __future__ import annotations

import re
import time

import pytest

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.cli.progress import progress_bar
from sdar_envs import storage


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        task = progress.add_task("work", total=None, success="")
        for done in range(1, 4):
            progress.update(task, completed=done, total=3, success="won 50.0%")
    assert capsys.readouterr().err == ""


def test_lines_say_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar() as progress:
        # Ten were done before, as in a run that is resumed.
        task = progress.add_task("oracle", total=None, success="")
        progress._tasks_lines[task]._start = (time.monotonic() - 4, 10)
        progress.update(task, completed=12, total=20, success="won 50.0% (15.0-85.0)")
        progress.update(task, completed=20, total=20, success="won 60.0% (38.7-78.1)")
    first, *_, last = [line for line in capsys.readouterr().err.splitlines() if "won" in line]
    assert re.fullmatch(r"oracle: 12 of 20, won 50.0% \(15.0-85.0\), (29|30)\.\d a minute, 0:00:16 left", first)
    assert re.fullmatch(r"oracle: 20 of 20, won 60.0% \(38.7-78.1\), 2\.\d a second", last)


def test_lines_go_on_while_one_item_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_SECONDS_BETWEEN_LINES", 0.5)
    said = ""
    with progress_bar() as progress:
        task = progress.add_task("slow", total=None, success="")
        progress.update(task, completed=0, total=2, success="")
        deadline = time.monotonic() + 20
        while "slow: 0 of 2\n" not in said and time.monotonic() < deadline:
            time.sleep(0.05)
            said += capsys.readouterr().err
    assert "slow: 0 of 2\n" in said
    # Nothing is printed after the end.
    capsys.readouterr()
    time.sleep(1.1)
    assert capsys.readouterr().err == ""


def test_eval_prints_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_SECONDS_BETWEEN_LINES", 0.0)
    assert main(["eval", "sdar/ALFWorld-v0", "--limit", "3"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.match(r"explorer: 3 of 3, won 100\.0% \(43\.\d-100\.0\), \d+\.\d a (second|minute)$", lines[-1])
