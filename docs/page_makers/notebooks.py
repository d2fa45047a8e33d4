"""Pages of the notebooks in `examples`: cells and their outputs as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from page_makers.results import ROOT, repository_address

__all__ = ["code_cells", "notebook_pages", "notebooks"]


def notebooks() -> list[Path]:
    """Return the notebooks of the examples."""
    return sorted((ROOT / "examples").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    """Return the source of each code cell of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def notebook_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of the page of each notebook."""
    for path in notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        parts = [text for cell in cells for text in _parts(cell)]
        address = repository_address(f"examples/{path.name}")
        parts.insert(1, f"This page is the notebook [`examples/{path.name}`]({address}).")
        yield f"notebooks/{path.stem}.md", "\n\n".join(parts) + "\n"


def _parts(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    shown = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    if shown:
        yield f"```text\n{shown.rstrip()}\n```"
