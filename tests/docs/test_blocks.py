"""The code blocks of README and documentation run, page by page, and print what the pages say."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from helpers.endpoints import act, serving

from page_makers import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def is_run(path: Path) -> bool:
    """Whether a page has blocks that are run here; those of plugs and "Save this as" have tests of their own."""
    if path.parent.name == "plugs" or "ave this as `" in path.read_text():
        return False
    return any(
        block.language in ("python", "bash")
        and not block.title
        and not block.reason
        and not blocks.snippet_of(block, ROOT)
        for block in blocks.blocks_of(path.read_text())
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in PAGES if is_run(path)], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_the_blocks_of_a_page_run(path: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with serving(lambda body: act("search[red shoes]")) as server:
        play(path.read_text(), tmp_path, {"http://127.0.0.1:8000/v1": server.url})


def play(markdown: str, folder: Path, replaced: dict[str, str]) -> None:
    """Run the blocks of a page in a folder, and compare what they print with the text blocks behind them."""
    space: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks.blocks_of(markdown):
        snippet = blocks.snippet_of(block, ROOT)
        text = block.text if snippet is None else snippet.read_text()
        if block.title:
            place = folder / block.title
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        elif block.language == "text":
            if printed is not None:
                assert_printed(block.text, printed, block.line)
        elif block.reason or snippet is not None:
            printed = None
        elif block.language == "python":
            printed = run_python(text, space)
        elif block.language == "bash":
            for old, new in replaced.items():
                text = text.replace(old, new)
            printed = "".join(run_command(command, folder) for command in blocks.commands_of(text))


def run_python(text: str, space: dict[str, object]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(text, "<page>", "exec"), space)
    return shown.getvalue()


def run_command(command: str, folder: Path) -> str:
    words = shlex.split(command)
    if words[0] == "sdar":
        words = [sys.executable, "-m", "sdar_benchmarks.cli", *words[1:]]
    elif words[0] == "python":
        words[0] = sys.executable
    else:
        assert words[0] in ("mkdir",), command
    environment = {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def assert_printed(wanted: str, printed: str, line: int) -> None:
    """The wanted lines are printed in their order, perhaps with others between them; `...` stands for anything."""
    lines = iter(printed.splitlines())
    for pattern in wanted.splitlines():
        escaped = re.sub(r"([\[\]*?])", r"[\1]", pattern.strip()).replace("...", "*")
        found = any(fnmatchcase(shown.strip(), escaped) for shown in lines)
        assert found, f"line {line} of the page: {pattern!r} is not in\n{printed}"


def test_a_text_block_that_is_not_printed_is_found(tmp_path) -> None:
    page = "```python\nprint('one\\ntwo')\n```\n\n```text\n{}\n```\n"
    play(page.format("one\ntwo"), tmp_path, {})
    play(page.format("t...o"), tmp_path, {})
    for wrong in ("two\none", "one\nthree", "[one]", "on"):
        with pytest.raises(AssertionError, match="line 5 of the page"):
            play(page.format(wrong), tmp_path, {})
