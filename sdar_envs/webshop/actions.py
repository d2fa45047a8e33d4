"""WebShop action syntax: `search[keywords]` and `click[name]`."""

from __future__ import annotations

from sdar_envs.webshop.reward import Quirks

__all__ = ["SEARCH_TEMPLATE", "parse_action"]

SEARCH_TEMPLATE = "search[<your query>]"
"""Placeholder for all searches in a list of admissible commands. Sent as it is, it searches for the words inside."""


def parse_action(action: str, quirks: Quirks = "original") -> tuple[str, str] | None:
    """Parse an action such as `search[red shoes]`.

    Args:
        action: any text. Only its first line counts, and what follows the last `]` of it is ignored.
        quirks: `original` splits at the last `[` that has something and a `]` after it, as the original does; `fixed`
            splits at the first, so that values with brackets in them can be clicked.

    Returns:
        The name and the argument; None if the action does not have this form.
    """
    line = action.split("\n", 1)[0]
    end = line.rfind("]")
    start = line.find("[") if quirks == "fixed" else line.rfind("[", 1, max(end - 1, 0))
    if start < 1 or end < start + 2:
        return None
    return line[:start], line[start + 1 : end]
