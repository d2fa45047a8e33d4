"""Code blocks of Markdown pages: what a test runs, and what is not run and why.

A block is run unless a comment in the line before it says otherwise:

    <!-- not run: wants a GPU -->

A block with `title="my_agent.py"` is the content of that file. A block `text` after a block that is run holds lines of
its output, in their order, perhaps with others between them; `...` in a line stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of", "commands_of", "snippet_of"]

_FENCE = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^\n]*?) -->\n\s*)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
_SNIPPET = re.compile(r'^\s*--8<-- "([^"]+)"\s*$')


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block.

    Attributes:
        language: such as `python`; empty without one.
        text: of the block, without its indent.
        title: name of the file that it is the content of; empty for none.
        reason: why it is not run; empty if it is.
        line: of its fence, from 1.
    """

    language: str
    text: str
    title: str
    reason: str
    line: int


def blocks_of(markdown: str) -> Iterator[Block]:
    """Yield the code blocks of a page in their order."""
    for fence in _FENCE.finditer(markdown):
        indent = len(fence["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in fence["text"].splitlines(keepends=True))
        title = _TITLE.search(fence["options"])
        line = markdown.count("\n", 0, fence.start("indent")) + 1
        yield Block(fence["language"], text, title[1] if title else "", fence["reason"] or "", line)


def snippet_of(block: Block, root: Path) -> Path | None:
    """Return the file that a block includes as a whole; None if its text stands on the page."""
    found = _SNIPPET.match(block.text)
    return root / found[1] if found else None


def commands_of(text: str) -> list[str]:
    """Return the commands of a block `bash`, a line each, continued lines joined and comments left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
