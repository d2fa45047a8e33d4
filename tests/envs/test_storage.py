"""Progress of long work where standard error is no terminal."""

from __future__ import annotations

import pytest

from sdar_envs import storage
from sdar_envs.storage import ProgressLines, with_progress


def test_lines_begin_at_once_and_count(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    items = iter(with_progress(range(3), "Reading", total=None, show_from=0, is_long=True))
    assert capsys.readouterr().err == ""
    assert next(items) == 0
    assert capsys.readouterr().err == "Reading: 0\n"
    monkeypatch.setattr(storage, "_SECONDS_BETWEEN_LINES", 0.0)
    assert list(items) == [1, 2]
    assert capsys.readouterr().err == "Reading: 1\nReading: 2\nReading: 3\n"


def test_few_items_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(range(3), "Reading", total=3, show_from=4)) == [0, 1, 2]
    assert list(with_progress(range(3), "Reading", total=None, show_from=0)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_end_is_said_if_anything_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(range(3000), "Reading", total=3000, show_from=1)) == list(range(3000))
    assert capsys.readouterr().err == ""  # work of less than ten seconds that is not said to be long
    assert list(with_progress(range(3000), "Reading", total=3000, show_from=1, is_long=True)) == list(range(3000))
    assert capsys.readouterr().err == "Reading: 0 of 3,000\nReading: 3,000 of 3,000\n"
    lines = ProgressLines("long")
    for done in (0, 2, 2, 2):  # the numbers beside the end may still change
        lines.update(done, 2)
    assert capsys.readouterr().err == "long: 0 of 2\nlong: 2 of 2\n"
    short = ProgressLines("short", at_once=False)
    short.update(5, 5)
    assert capsys.readouterr().err == ""
