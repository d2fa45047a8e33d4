"""Pages of the notebooks in `examples`: cells and their outputs as Markdown.

PYTHONPATH=docs python -m page_makers.pages.notebooks     # runs the notebooks and writes what they print into them
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from page_makers.pages.results import ROOT, repository_address

__all__ = ["code_cells", "notebook_pages", "notebooks", "run_cells"]


def notebooks() -> list[Path]:
    """Return the notebooks of the examples."""
    return sorted((ROOT / "examples").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    """Return the source of each code cell of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cells(path: Path) -> Iterator[str]:
    """Run the code cells of a notebook one after another, and yield what each prints."""
    space: dict[str, Any] = {"__name__": "__main__"}
    for source in code_cells(path):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(source, str(path), "exec"), space)
        yield shown.getvalue()


def main() -> None:
    """Write what the cells print into the notebooks."""
    for path in notebooks():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for count, (cell, text) in enumerate(zip(cells, run_cells(path), strict=True), start=1):
            lines = text.splitlines(keepends=True)
            cell["execution_count"] = count
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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


if __name__ == "__main__":
    main()
