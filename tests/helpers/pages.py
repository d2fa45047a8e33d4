"""Code blocks of documentation pages, run as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parents[2] / "docs" / "plugs"


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the code blocks of a page in a language, in order."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def replaced(code: str, values: Mapping[str, str]) -> str:
    """Return code with other values, each of which must occur: a model that is here, sizes for a test."""
    for old, new in values.items():
        assert old in code, f"the page does not say {old!r}"
        code = code.replace(old, new)
    return code


def run_block(code: str, values: Mapping[str, str] | None = None, **names: Any) -> dict[str, Any]:
    """Run a code block and return its names."""
    scope: dict[str, Any] = {"__name__": "page", **names}
    exec(compile(replaced(code, values or {}), "<page>", "exec"), scope)
    return scope
