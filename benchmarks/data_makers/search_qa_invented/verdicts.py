"""Maker of `invented_verdicts.json.gz`, the verdicts of the filters about the drafts of the named levels.

    python -m data_makers.search_qa_invented.verdicts [--write]

Run it from a checkout, with `PYTHONPATH=benchmarks`. It makes every level by searching, prints the yield of each kind
of question and the digests, and with `--write` stores the verdicts, and the yields and digests as a record in
`benchmarks/studies/search_qa_worlds.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts.table import as_gzip, write_bytes
from sdar_envs.search_qa.invented.dataset import LEVELS, VERDICTS, InventedData
from sdar_envs.search_qa.invented.making import make_data

__all__ = ["main", "record"]

RECORD = Path(__file__).parents[2] / "studies" / "search_qa_worlds.json"
"""Yields and digests of the named levels."""


def record(data: InventedData) -> dict[str, Any]:
    """Return what is kept of a level: sizes, yields and digests."""
    return {
        "passages": len(data.passages),
        "other_passages": len(data.other_passages),
        "questions": {split: len(rows) for split, rows in data.rows.items()},
        "yields": {kind: dict(of) for kind, of in data.yields.items()},
        "sha256": {
            "passages": data.fingerprint,
            "other_passages": data.other_fingerprint,
            "questions": data.questions_fingerprint,
        },
    }


def main() -> None:
    """Make the levels, print the yields, and write the files if asked to."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_invented.verdicts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the verdicts and the record")
    arguments = parser.parse_args()
    verdicts: dict[str, dict[str, str]] = {}
    records = {}
    for level, settings in LEVELS.items():
        told: dict[str, list[str]] = {}
        started = time.process_time()
        data = make_data(settings, record=told)
        verdicts[settings.key()] = {world: " ".join(of) for world, of in told.items()}
        records[level] = record(data)
        print(f"{level}: {time.process_time() - started:.1f} CPU s, {len(data.passages)} passages")
        print("  " + ", ".join(f"{split} {len(rows)}" for split, rows in data.rows.items()))
        for kind, yields in data.yields.items():
            total = sum(yields.values())
            print(
                f"  {kind}: {yields.get('kept', 0)} of {total} drafts stay, {yields.get('one search', 0)} are "
                f"solved by one search, {yields.get('not found', 0)} are not found"
            )
    if arguments.write:
        content = as_gzip(json.dumps(verdicts, indent=0).encode("ascii"))
        write_bytes(Path(str(VERDICTS)), content)
        write_bytes(RECORD, (json.dumps(records, indent=1) + "\n").encode())
        print(f"{len(content)} bytes of verdicts")


if __name__ == "__main__":
    main()
