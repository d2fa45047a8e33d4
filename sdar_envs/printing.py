r"""Output on a terminal: text of others without control characters, and the console of tables and progress bars.

What skills, tasks, games, models and servers say can hold sequences that move the cursor, change colours, rename the
window, turn the direction of a line or hide a link. `say` and the consoles of `console` write such characters as their
number, as in `\u001b`; those are also valid escapes where the output is JSON.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CONTROLS", "console", "numbered", "printable", "say"]

CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Class of a regular expression: controls but tab and newline, those of the direction of a line, line separators, and
halves of surrogate pairs, which no stream can encode."""

_CONTROL = re.compile(f"[{CONTROLS}]")


def printable(text: str) -> str:
    """Return text whose control characters are written as their numbers; tabs and newlines stay."""
    return _CONTROL.sub(lambda found: numbered(found[0]), text)


def numbered(character: str) -> str:
    r"""Return a character as its number, such as `\u001b`."""
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(*parts: object, error: bool = False, end: str = "\n") -> None:
    """Print on standard output, or on standard error, what `printable` leaves of it.

    Args:
        *parts: put between blanks.
        error: print on standard error.
        end: printed after them.
    """
    stream = sys.stderr if error else sys.stdout
    print(printable(" ".join(map(str, parts))), end=end, file=stream, flush=True)


def console(*, stderr: bool = False, **settings: Any) -> Console:
    """Return a console for standard output or standard error.

    Strings are shown as they are, but for control characters: no markup, no emoji codes, no highlighting.

    Args:
        stderr: of standard error.
        **settings: further arguments of `rich.console.Console`.
    """
    made: Console = _console_class()(stderr=stderr, markup=False, emoji=False, highlight=False, **settings)
    return made


@cache
def _console_class() -> type[Console]:
    # Importing a terminal library takes longer than a short command.
    from rich.console import Console  # noqa: PLC0415
    from rich.segment import Segment  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class PrintableConsole(Console):
        """Console that writes control characters in strings and cells of tables as their numbers."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            # What was not made of a string here, such as the columns of a progress bar.
            for segment in super().render(renderable, options):
                is_plain = segment.control is not None or not _CONTROL.search(segment.text)
                yield segment if is_plain else Segment(printable(segment.text), segment.style)

    return PrintableConsole
