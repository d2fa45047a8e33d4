"""Generator of `corpus.jsonl.gz` and `questions.jsonl.gz` in `sdar_envs/search_qa/data`.

    python -m data_makers.search_qa_facts.generate [--measure]

Run it from a checkout, after `make setup` or with `PYTHONPATH=benchmarks`. The same table of facts gives the same rows
on every machine and version of Python; nothing but the table is read. `--measure` also searches for every question, as
the slow tests do. Rows that break a rule of `checks` are refused.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts.checks import HIGHEST_SHORTCUT, LOWEST_ORACLE, check_rows, measure
from data_makers.search_qa_facts.contested import is_withdrawn
from data_makers.search_qa_facts.passages import FactGraph, passage_rows
from data_makers.search_qa_facts.questions import question_rows
from data_makers.search_qa_facts.table import lines, read_facts, rows_as_gzip, write_bytes
from sdar_envs.errors import ContractViolation
from sdar_envs.search_qa.embedded import DATA, FINGERPRINT, QUESTIONS_FINGERPRINT, SPLITS

__all__ = ["generate", "main"]


def generate() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the corpus, the questions, and the id and split of each question that was withdrawn.

    Raises:
        CorruptData: the table is damaged, or what comes of it breaks a rule.
    """
    graph = FactGraph(read_facts())
    passages = list(passage_rows(graph))
    made = question_rows(graph)
    check_rows(passages, made)
    questions = [row for row in made if not is_withdrawn(row)]
    withdrawn = [{"id": row["id"], "split": row["split"]} for row in made if is_withdrawn(row)]
    return passages, questions, withdrawn


def main() -> None:
    """Write the files and print what is in them."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_facts.generate", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="search for every question")
    arguments = parser.parse_args()
    passages, questions, withdrawn = generate()
    if arguments.measure:
        _measure(passages, questions)
    for name, rows, pinned in (("corpus", passages, FINGERPRINT), ("questions", questions, QUESTIONS_FINGERPRINT)):
        content = rows_as_gzip(rows)
        write_bytes(Path(str(DATA)) / f"{name}.jsonl.gz", content)
        digest = hashlib.sha256(lines(rows).encode()).hexdigest()
        print(f"{name}: {len(rows)} rows, {len(content)} bytes, {digest}", "as pinned" if digest == pinned else "(new)")
    write_bytes(Path(str(DATA)) / "withdrawn.jsonl.gz", rows_as_gzip(withdrawn))
    print(f"withdrawn: {len(withdrawn)} questions of the first release")
    counts = Counter((row["metadata"]["type"], row["split"]) for row in questions)
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind:28}" + "".join(f"{split}: {counts[kind, split]:<8}" for split in SPLITS))


def _measure(passages: list[dict[str, Any]], questions: list[dict[str, Any]]) -> None:
    measured = measure(passages, questions)
    hopping = sorted(name for name in measured.asked if name.startswith("hops/"))
    for name in hopping:
        print(f"{name:48}{measured.asked[name]:6}{measured.shortcut([name]):8.1%}")
    print(f"{'all multi-hop questions':48}{'':6}{measured.shortcut(hopping):8.1%}")
    print(f"oracle: {measured.oracle:.2%}; not solved: {measured.failures}")
    if measured.oracle < LOWEST_ORACLE or measured.shortcut(hopping) > HIGHEST_SHORTCUT:
        raise ContractViolation(
            "the questions can be answered without searching, or the oracle fails: see the figures above."
        )


if __name__ == "__main__":
    main()
