"""The notebooks run, and print what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from page_makers.pages import notebooks


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks.notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = list(notebooks.run_cells(path))
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    held = ["".join("".join(output["text"]) for output in cell["outputs"]) for cell in cells]
    if path.stem == "explore":
        assert printed == held  # numbers of training differ between processors
    assert [bool(text) for text in printed] == [bool(text) for text in held]


def test_there_are_two_with_outputs() -> None:
    assert [path.stem for path in notebooks.notebooks()] == ["explore", "train_tiny"]
    for path in notebooks.notebooks():
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert any(cell["outputs"] for cell in cells)
        assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
