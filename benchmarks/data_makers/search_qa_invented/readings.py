"""Page about the questions that were read against their passages, one by one.

    python -m data_makers.search_qa_invented.readings

Writes `docs/benchmarks/search-qa-readings.md` from `benchmarks/studies/search_qa_readings.jsonl`. A reading is of a
question as it stood on the day; what was found was corrected where it could be, so some questions are in the data no
more.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts.table import write_bytes
from sdar_benchmarks.analysis.tables import TextTable
from sdar_envs.registry import tasks

__all__ = ["READINGS", "VERDICTS", "main", "page", "readings", "still_there"]

READINGS = Path(__file__).parents[2] / "studies" / "search_qa_readings.jsonl"
"""The readings: corpus, split, question, answer, and the verdict against the passages. Where there is something to say:
`note`, on the passages; `mended`, if the sentence was changed since; `world`, what is known of real films against the
answer."""

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks" / "search-qa-readings.md"
"""The page."""

VERDICTS = ("right", "weak", "ambiguous", "wrong", "clumsy")
"""What a question can be against its passages."""

_HEAD = """\
# Search-QA: questions read against their passages

Made by `make search-figures` from `benchmarks/studies/search_qa_readings.jsonl`; do not edit it by hand.

Each question was read with the passages of its hops, from 2026-11-30 on, by one reader for each split, those of the
films by two. *Right*: the passages state each hop and the answer, and no passage states another answer. *Weak*: a
sentence does not quite say what the question asks. *Ambiguous*: the passages state another answer, too. *Wrong*: they
do not state the answer. *Clumsy*: bad English. *Still there* counts the questions that the data still have with the
same answer; *of these not right* leaves out those whose sentence was corrected since.

A question about real films can be right against the passages and yet have another answer in the world, because the
source (Wikidata) does not list every film, writer and company. *The world knows another answer* counts the questions
still there to which the reader knew one, or knew that the source is mistaken. The reader went by memory: some are
missing, and a few may be mistaken. The other corpora are invented, so the world knows nothing about them.

"""


def readings() -> list[dict[str, Any]]:
    """Return the readings in their order."""
    return [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]


def still_there(rows: Sequence[Mapping[str, Any]], corpus: str, split: str) -> list[Mapping[str, Any]]:
    """Return the readings of a split whose question the data still have, with the same answer."""
    played = tasks("sdar/SearchQA-v0", split=split, corpus=corpus)
    here = {task.instruction: task.data["answers"][0] for task in played}
    return [
        row
        for row in rows
        if (row["corpus"], row["split"]) == (corpus, split) and here.get(row["question"]) == row["answer"]
    ]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    by_place: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_place[row["corpus"], row["split"]].append(row)
    splits = []
    shares = []
    for (corpus, split), of in by_place.items():
        kept = still_there(of, corpus, split)
        counts = Counter(row["verdict"] for row in of)
        wrong = [row for row in kept if row["verdict"] != "right" and not row.get("mended")]
        known = [row for row in kept if "world" in row]
        place = f"{corpus}/{split}"
        cells = [str(counts[verdict]) for verdict in VERDICTS]
        is_real = corpus == "films"
        splits.append(
            (place, str(len(of)), *cells, str(len(kept)), str(len(wrong)), str(len(known)) if is_real else "–")
        )
        if is_real:
            shares.append(
                f"Of the {len(kept)} questions of `{place}` that are still there, {len(kept) - len(wrong)} are right "
                f"against the passages, and the world knows another answer to {len(known)} "
                f"({100 * len(known) / len(kept):.0f} %).\n"
            )
    columns = ("split", "read", *VERDICTS, "still there", "of these not right", "the world knows another answer")
    table = TextTable(columns, tuple(splits)).markdown()
    found = _lines(
        ("split", "question", "verdict", "note"),
        [
            (f"{row['corpus']}/{row['split']}", row["question"], row["verdict"], row["note"])
            for row in rows
            if "note" in row
        ],
    )
    known_lines = _lines(
        ("split", "question", "answer", "what the world knows"),
        [
            (f"{row['corpus']}/{row['split']}", row["question"], row["answer"], row["world"])
            for row in rows
            if "world" in row
        ],
    )
    return (
        f"{_HEAD}{table}\n\n{''.join(shares)}\n## What was found\n\n{found}\n"
        f"## What the world knows\n\nA few of these questions left the data since.\n\n{known_lines}"
    )


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |\n" for line in lines)


def main() -> None:
    """Write the page."""
    write_bytes(PAGE, page(readings()).encode())
    print(PAGE)


if __name__ == "__main__":
    main()
