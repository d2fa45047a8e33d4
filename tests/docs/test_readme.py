"""The README: short, with what it shows made from the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from page_makers.pages import plugs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def words(markdown: str) -> int:
    """The number of words outside of code, tables, pictures and addresses."""
    text = re.sub(r"```.*?```|<!--.*?-->|<[^>]*>|\]\([^)]*\)", " ", markdown, flags=re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    return len(re.findall(r"[\w'-]+", text))


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert words(README) <= 700


def test_results_have_at_most_twelve_rows() -> None:
    table = README[README.index("leaderboard:begin") : README.index("leaderboard:end")]
    assert 2 < len(re.findall(r"^\| ", table, re.MULTILINE)) <= 14  # with head and rule


def test_pictures_are_there_in_light_and_dark_and_small() -> None:
    for name in re.findall(r"docs/assets/[\w-]+\.\w+", README):
        assert (ROOT / name).stat().st_size < 120_000, name
    assert {"docs/assets/report-dark.webp", "docs/assets/report-light.webp"} <= set(
        re.findall(r"docs/[\w./-]+", README)
    )


@pytest.mark.parametrize("path", plugs.PLACES, ids=lambda path: path.name)
def test_the_tables_of_plugs_are_those_of_their_pages(path: Path) -> None:
    assert path.read_text() == plugs.with_table(path), "run `PYTHONPATH=docs python -m page_makers.pages.plugs`"


def test_versions_are_one() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_that_of_the_paper() -> None:
    [paper] = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert paper["title"] in README
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in README
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in README
