"""Formulas of the documentation: LaTeX in blocks and inline code named `math`, made into MathML.

No script and no font is loaded for them: every current browser shows MathML.
"""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert

__all__ = ["block", "inline"]


def block(source: str, language: str, class_name: str, options: Any, md: Any, **_: Any) -> str:
    """Return the MathML of a fenced block (a custom fence of pymdownx.superfences)."""
    lines = [line for line in source.splitlines() if line.strip()]
    return "".join(f'<div class="formula">{convert(line, display="block")}</div>' for line in lines)


def inline(source: str, language: str, class_name: str, md: Any) -> str:
    """Return the MathML of inline code (a custom form of pymdownx.inlinehilite)."""
    result: str = convert(source)
    return result
