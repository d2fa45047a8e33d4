"""Tables of the plugs in `README.md` and `docs/plugs/index.md`, made from the comments in the pages of the plugs.

PYTHONPATH=docs python -m page_makers.pages.plugs     # after a page of a plug was added or its comment changed
"""

from __future__ import annotations

import re
from pathlib import Path

from page_makers.markdown import cell, table

__all__ = ["BEGIN", "END", "PLACES", "plugs_table", "with_table"]

BEGIN, END = "<!-- plugs:begin -->", "<!-- plugs:end -->"

_ROOT = Path(__file__).parents[3]
_PAGES = _ROOT / "docs" / "plugs"

PLACES = {_ROOT / "README.md": "docs/plugs/", _PAGES / "index.md": ""}
"""The files with a table, and the path from there to the pages."""


def plugs_table(prefix: str) -> str:
    """Return the table: a row for each page, with its title and what its comment `<!-- plug: ... -->` says.

    Args:
        prefix: path to the pages.
    """
    pages = sorted(path for path in _PAGES.glob("*.md") if path.name != "index.md")
    rows = []
    for path in pages:
        text = path.read_text(encoding="utf-8")
        title = re.search(r"^# (.*)$", text, re.MULTILINE)
        facts = re.search(r"^<!-- plug: ([^|]*) \| ([^|]*) \| ([^|]*) -->$", text, re.MULTILINE)
        assert title is not None, path
        assert facts is not None, f"{path} wants <!-- plug: import | lines of the user's code | tested with -->"
        rows.append((f"[{title[1]}]({prefix}{path.name})", *map(cell, facts.groups())))
    return table(("framework", "import", "lines of yours", "tested with"), rows) if rows else "There are none yet."


def with_table(path: Path) -> str:
    """Return the text of a file with its table made anew."""
    before, found, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    assert found, path
    return f"{before}{BEGIN}\n{plugs_table(PLACES[path])}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the tables."""
    for path in PLACES:
        path.write_text(with_table(path), encoding="utf-8")


if __name__ == "__main__":
    main()
