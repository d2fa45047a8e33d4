"""The pages of docs/how-to that say "Save this as": their Python runs, and their commands at a tiny size.

By default the first command of a page.
"""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat

from sdar_benchmarks.cli import main

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
SMALL = {
    "steps": "1",
    "tasks_per_step": "1",
    "group_size": "2",
    "rollout.max_new_tokens": "8",
    "rollout.env_kwargs.max_steps": "2",
    "context.analyst.max_new_tokens": "8",
    "evaluation.every": "0",
    "log.tracker": "none",
    "log.progress": "false",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    "page",
    [page for page in sorted(PAGES.glob("own-*.md")) if "ave this as" in page.read_text()],
    ids=lambda page: page.stem,
)
@pytest.mark.parametrize("most", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_what_a_page_says_runs(
    page: Path,
    most: int | None,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    [name] = set(re.findall(r"[Ss]ave this as `(\w+)\.py`", page.read_text()))
    monkeypatch.delitem(sys.modules, name, raising=False)
    module, *others = blocks(page, "python")
    Path(f"{name}.py").write_text(module)
    assert others
    for code in others:
        if most is not None and "check_algorithm" in code:
            continue  # it takes some seconds, and the tests of methods run it
        with redirect_stdout(StringIO()) as printed:
            exec(compile(code, str(page), "exec"), {"__name__": "page"})
        assert printed.getvalue()
    commands = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    assert commands
    for command in commands[:most]:
        program, verb, *arguments = shlex.split(command)
        assert (program, verb) == ("sdar", "train")
        small = [word for setting, value in SMALL.items() for word in (f"--{setting}", value)]
        assert main(["train", *arguments, "--model.path", str(model), *small]) == 0
        folder = Path(arguments[arguments.index("--out") + 1])
        assert (folder / "metrics.jsonl").read_text().count("\n") == 1
    monkeypatch.delitem(sys.modules, name, raising=False)
