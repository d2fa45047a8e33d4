"""HTML of reports and of the viewer: text that cannot become markup, tables, whole pages.

What these pages show was written by models, shops and games, and is not trusted. A `str` is text and is escaped
where it is used; only `Html` is markup. Control characters and those that change the direction of a line are shown by
their number, so that a page says what is in the file and nothing can hide in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

__all__ = ["Html", "attribute", "details", "element", "inline", "page", "short", "stylesheet", "table"]

# Controls but tab and newline, soft hyphen, zero-width space, direction marks, byte order mark, tags and halves of
# surrogate pairs. The joiners U+200C and U+200D stay: scripts and emoji need them.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


class Html(str):
    """Markup: put into a page as it is. Any other string is text."""

    __slots__ = ()


def attribute(text: str) -> str:
    """Return text for a quoted attribute or a title."""
    return escape(_ODD.sub(lambda odd: _number(odd[0]), text))


def inline(content: str) -> Html:
    """Return markup as it is, and text so that it shows every character."""
    if isinstance(content, Html):
        return content
    return Html(_ODD.sub(lambda odd: f'<span class="odd">{_number(odd[0])}</span>', escape(content)))


def short(text: str, most: int = 120) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most].rstrip()}…"


def element(name: str, /, *content: str, **attributes: str | None) -> Html:
    """Return an element.

    Args:
        name: such as `p`.
        *content: texts or markup.
        **attributes: texts; None leaves one out. A trailing `_` is dropped and `_` becomes `-`: `class_`, `aria_label`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    # A browser drops the first line break of a `pre`, so it gets one to drop.
    start = "\n" if name == "pre" else ""
    return Html(f"<{name}{given}>{start}{''.join(map(inline, content))}</{name}>")


def details(summary: str, *content: str, class_: str | None = None) -> Html:
    """Return something that is folded until it is asked for."""
    return element("details", element("summary", summary), *content, class_=class_)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str | None = None,
    words: int = 1,
    class_: str | None = None,
    last_is_total: bool = False,
) -> Html:
    """Return a table whose first cell in a row names the row.

    Args:
        head: the names of the columns.
        rows: texts or markup, as many as columns.
        caption: what the table says.
        words: so many columns from the left hold words; the others hold numbers, which are aligned to the right.
        class_: of the table.
        last_is_total: the last row sums up the others.
    """

    def kind(column: int) -> str | None:
        return None if column < words else "n"

    body = [
        element(
            "tr",
            *(
                element("th", cell, scope="row", class_=kind(0)) if i == 0 else element("td", cell, class_=kind(i))
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    if last_is_total and body:
        body[-1] = Html(body[-1].replace("<tr>", '<tr class="total">', 1))
    content = (
        *([element("caption", caption)] if caption else []),
        element(
            "thead", element("tr", *(element("th", name, scope="col", class_=kind(i)) for i, name in enumerate(head)))
        ),
        element("tbody", *body),
    )
    # A table that is too wide for a telephone scrolls, not the page; by the keyboard too.
    return element(
        "div",
        element("table", *content, class_=class_),
        class_="wide",
        tabindex="0",
        role="region",
        aria_label=caption or "table",
    )


def stylesheet() -> str:
    """Return the style of all pages."""
    return resources.files("sdar_benchmarks.reports").joinpath("pages.css").read_text(encoding="utf-8")


def page(title: str, *body: str, head: str = "") -> str:
    """Return a whole page.

    Args:
        title: of the page.
        *body: its content.
        head: markup of the head; empty for a file that needs nothing but itself and may load nothing.
    """
    if not head:
        style = stylesheet()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        head = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n<style>{style}</style>'
    lines = (
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{attribute(title)}</title>",
        head,
        "</head>",
        "<body>",
        *map(inline, body),
        "</body>",
        "</html>",
    )
    return "\n".join(lines) + "\n"


def _number(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
