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

__all__ = ["READINGS", "main", "page", "readings"]

READINGS = Path(__file__).parents[2] / "studies" / "search_qa_readings.jsonl"
"""The readings: corpus, split, question, answer, verdict, and a note where it is not `right`."""

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks" / "search-qa-readings.md"
"""The page."""

_HEAD = """\
# Search-QA: questions read against their passages

Made by `make search-figures` from `benchmarks/studies/search_qa_readings.jsonl`; do not edit it by hand.

Each question was read with the passages of its hops, by one reader for each split, from 2026-11-30 on. *Right*: the
passages state each hop and the answer, and no other answer. *Weak*: a sentence does not quite say what the question
asks. *Ambiguous*: the world knows another answer than this corpus. *Doubtful*: the source may be wrong. *Clumsy*: bad
English. What was found was corrected where it could be; *still there* counts the questions that the data still have
with the same answer.

"""


def readings() -> list[dict[str, Any]]:
    """Return the readings in their order."""
    return [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    by_place: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_place[row["corpus"], row["split"]].append(row)
    verdicts = ("right", "weak", "ambiguous", "doubtful", "clumsy")
    splits = []
    others = []
    for (corpus, split), of in by_place.items():
        played = tasks("sdar/SearchQA-v0", split=split, corpus=corpus)
        here = {task.instruction: task.data["answers"][0] for task in played}
        kept = [row for row in of if here.get(row["question"]) == row["answer"]]
        counts = Counter(row["verdict"] for row in of)
        # What was wrong with a passage alone left with its sentence.
        wrong = [row for row in kept if row["verdict"] in ("ambiguous", "doubtful")]
        cells = [str(counts[verdict]) for verdict in verdicts]
        splits.append((f"{corpus}/{split}", str(len(of)), *cells, str(len(kept)), str(len(wrong))))
        others += [(f"{corpus}/{split}", row["question"], row["verdict"], row["note"]) for row in of if "note" in row]
    table = TextTable(("split", "read", *verdicts, "still there", "of these not right"), tuple(splits)).markdown()
    found = "".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |\n" for line in others)
    head = "| split | question | verdict | note |\n| --- | --- | --- | --- |\n"
    return f"{_HEAD}{table}\n\n## What was found\n\n{head}{found}"


def main() -> None:
    """Write the page."""
    write_bytes(PAGE, page(readings()).encode())
    print(PAGE)


if __name__ == "__main__":
    main()
