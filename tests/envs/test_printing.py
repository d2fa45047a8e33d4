"""Text of others on a terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table

from sdar_envs.printing import console, printable, say

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "\x1b[31mred\x1b]8;;http://example.org\x1b\\link\x9b2J\x07\r\u202egnp.exe\u2066\ud800[bold]b[/bold] :smile:"


@settings(deadline=None)
@given(st.text())
def test_nothing_that_steers_is_left_and_all_else_stays(text: str) -> None:
    shown = printable(text)
    assert not STEERING.search(shown)
    assert re.sub(r"\\u[0-9a-f]{4}", "", shown) == re.sub(r"\\u[0-9a-f]{4}", "", STEERING.sub("", text))
    shown.encode()


def test_characters_are_shown_as_their_numbers() -> None:
    assert printable("a\x1b[2J\tb\n\u202ec\ud800") == "a\\u001b[2J\tb\n\\u202ec\\ud800"
    assert printable("naïve 日本 \U0001f642") == "naïve 日本 \U0001f642"


def test_json_stays_json() -> None:
    content = {"a": HOSTILE}
    assert json.loads(printable(json.dumps(content, ensure_ascii=False))) == content


def test_say(capsys: pytest.CaptureFixture[str]) -> None:
    say("a:", HOSTILE, 3)
    say(HOSTILE, error=True)
    out, err = capsys.readouterr()
    assert out.startswith("a: \\u001b[31mred")
    assert out.endswith(" 3\n")
    assert not STEERING.search(out + err)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_console_shows_text_of_others_as_it_is(is_terminal: bool) -> None:
    stream = io.StringIO()
    terminal = console(file=stream, force_terminal=is_terminal, color_system=None, width=200)
    table = Table("name", HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE, "x")
    terminal.print(table)
    terminal.print(HOSTILE)
    with Progress(TextColumn("{task.description}", markup=False), console=terminal) as progress:
        progress.add_task(HOSTILE)
    # What is left are the controls of rich itself, for its cursor and styles.
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", stream.getvalue()) if is_terminal else stream.getvalue()
    assert not STEERING.search(shown)
    assert "[bold]b[/bold] :smile:" in shown
    assert "\x1b[31m" not in stream.getvalue()
    assert "\x1b]8" not in stream.getvalue()


def test_columns_keep_their_place() -> None:
    stream = io.StringIO()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for name in ("plain", "\x1b[31mred"):
        table.add_row(name, "1")
    console(file=stream, width=60).print(table)
    first, second = stream.getvalue().splitlines()
    assert first.index("1") == second.rindex("1")
