"""Every example is short, is listed in the README of its folder, and is named by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".py", ".yaml", ".jinja2", ".ipynb"})
TESTS = "".join(
    path.read_text()
    for path in [*Path(__file__).parent.glob("test_*.py"), Path(__file__).parents[1] / "docs" / "test_notebooks.py"]
    if path.name != Path(__file__).name
)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "grpo_loop.py" and not name.endswith(".ipynb")])
def test_an_example_has_at_most_60_lines(name: str) -> None:
    assert len((FOLDER / name).read_text().splitlines()) <= 60


def test_the_readme_lists_every_example() -> None:
    assert sorted(set(re.findall(r"\]\(([\w.]+)\)", (FOLDER / "README.md").read_text()))) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_a_test(name: str) -> None:
    assert re.search(rf"\b{name.partition('.')[0]}\b", TESTS)
