"""Table of facts: the row type, and reading and writing rows as gzipped JSON lines.

A subject is `<kind>/<key>`, for example `country/PE`; its name is the fact `name`. Files are JSON lines in gzip, with
nothing in them that depends on the day or the machine.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData
from sdar_envs.search_qa.embedded import read_rows
from sdar_envs.search_qa.scoring import fold

__all__ = [
    "FACTS",
    "REFERENCES",
    "Fact",
    "as_gzip",
    "contains",
    "fact_rows",
    "fold",
    "lines",
    "read_facts",
    "rows_as_gzip",
    "write_bytes",
]

FACTS = Path(__file__).with_name("facts.jsonl.gz")
"""The table of facts."""

REFERENCES = frozenset(
    {"city", "country", "export_partner", "found_in", "import_partner", "independent_from", "only_neighbour", "state"}
)
"""Relations whose value is a subject, not text."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact about one subject.

    Attributes:
        subject: `<kind>/<key>`.
        relation: for example `capital`.
        value: text, a number in digits, or for `REFERENCES` another subject.
        aliases: other right ways to write the value.
        source: the packages that say so; joined with `+` where two were compared and agree.
    """

    subject: str
    relation: str
    value: str
    aliases: tuple[str, ...]
    source: str

    @property
    def kind(self) -> str:
        """The part of the subject before the slash."""
        return self.subject.partition("/")[0]


def contains(text: str, answer: str) -> bool:
    """Return whether a normalised text contains a normalised answer as whole words."""
    return f" {answer} " in f" {text} "


def rows_as_gzip(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines in gzip; see `as_gzip`."""
    return as_gzip(lines(rows).encode())


def as_gzip(content: bytes) -> bytes:
    """Return content in gzip, without time and name: equal content gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def read_facts() -> list[Fact]:
    """Return the table that `extract` wrote.

    Raises:
        CorruptData: the table is not what this package ships.
    """
    try:
        return [Fact(**{**row, "aliases": tuple(row["aliases"])}) for row in read_rows(FACTS)[1]]
    except (TypeError, KeyError) as error:
        raise CorruptData(f"{FACTS} has a row of another shape ({error}).") from error


def fact_rows(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    """Yield facts as rows."""
    for fact in facts:
        yield {**asdict(fact), "aliases": list(fact.aliases)}


def write_bytes(path: Path, content: bytes) -> None:
    """Write a data file of the repository atomically."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
