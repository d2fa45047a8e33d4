"""Jinja2 environment of reports and viewer pages: autoescape, filters, and the values that templates show.

    render("refusal.html", title="404", reason="...")

What the pages show was written by models, shops and games, and is not trusted. Every expression of a template is text
unless it is a `markupsafe.Markup`, which only templates and charts make. Control characters and those that change the
direction of a line are written as their number in attributes and in content; the filter `shown` also highlights them.
So a page shows what is in the file, and nothing can hide in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup

from sdar_envs.http.templates import open_templates
from sdar_envs.printing import CONTROLS, numbered

__all__ = ["Cell", "Link", "Table", "Tag", "attribute", "inline", "render", "short", "stylesheet"]

# What a terminal does not get either, and what only a page can show: soft hyphen, zero-width space, byte order mark and
# tags. The joiners U+200C and U+200D stay: scripts and emoji need them.
_ODD = re.compile(f"[{CONTROLS}\xad\u180e\u200b\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")


class Link(NamedTuple):
    """A link in a table or a navigation bar."""

    text: str
    href: str
    rel: str | None = None


class Tag(NamedTuple):
    """A word in a rounded frame; `kind` is `good`, `bad` or `quiet`."""

    word: str
    kind: str


Cell = str | Markup | Link | Tag


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first cell in a row names the row.

    Attributes:
        head: names of the columns.
        rows: as many cells as there are columns, in each row.
        caption: what the table shows.
        words: number of columns, from the left, that hold words; the others hold numbers and are aligned to the right.
        class_: class of the element.
        last_is_total: whether the last row sums up the others.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str | None = None
    words: int = 1
    class_: str | None = None
    last_is_total: bool = False


def render(template: str, /, **values: Any) -> str:
    """Return a template of `reports/templates` with its values filled in; strings are escaped."""
    return _environment().get_template(template).render(values)


def attribute(text: str) -> str:
    """Return text escaped for quoted attributes and titles, odd characters as their number."""
    return escape(_ODD.sub(lambda odd: numbered(odd[0]), text))


def inline(content: str) -> Markup:
    """Return text escaped for the content of an element, odd characters highlighted; markup as it is."""
    if isinstance(content, Markup):
        return content
    return Markup(_ODD.sub(lambda odd: f'<span class="odd">{numbered(odd[0])}</span>', escape(content)))


def short(text: str, most: int = 120) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most].rstrip()}…"


@cache
def stylesheet() -> str:
    """Return the style sheet of all pages."""
    return resources.files("sdar_benchmarks.reports").joinpath("pages.css").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = open_templates("sdar_benchmarks.reports", finalize=_finalize)
    environment.filters["shown"] = inline
    environment.globals["stylesheet"] = lambda: Markup(stylesheet())
    environment.globals["content_policy"] = _content_policy
    return environment


def _finalize(value: Any) -> Markup:
    """Escape the value of an expression, for content and for attributes."""
    return value if isinstance(value, Markup) else Markup(attribute(str(value)))


def _content_policy() -> str:
    """Return the Content-Security-Policy of a self-contained page: its own style sheet and nothing else."""
    digest = base64.b64encode(hashlib.sha256(stylesheet().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
