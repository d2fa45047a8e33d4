"""Making of an invented data set: a world, its passages, the drafts that stay, and their splits.

Apart from `sdar_envs.search_qa.invented.dataset`, which opens what was made: that is all that most starts need.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sdar_envs.search_qa.invented.dataset import RELEASE, SPLITS, InventedData, WorldSettings
from sdar_envs.search_qa.invented.drafts import Draft, Drafts
from sdar_envs.search_qa.invented.judging import Judge, Recorded, Searching, kept
from sdar_envs.search_qa.invented.passages import write_passages
from sdar_envs.search_qa.invented.world import make_world
from sdar_envs.search_qa.scoring import normalize
from sdar_envs.storage import with_progress

__all__ = ["make_data"]

# Of a thousand answers, how many are of dev and of test. Of a thousand pairs of steps, how many are held out.
_DEV, _TEST, _HELD_OUT = 110, 150, 150
_OTHER_WORLD = 500


def make_data(
    settings: WorldSettings,
    verdicts: Mapping[str, Sequence[str]] | None = None,
    *,
    record: dict[str, list[str]] | None = None,
) -> InventedData:
    """Make a data set.

    Args:
        settings: of the main world.
        verdicts: about the drafts of `main` and `other`, in the order in which they come; what is missing is searched
            for.
        record: gets the verdicts of both worlds.
    """
    yields: dict[str, Counter[str]] = {kind: Counter() for kind in settings.kinds()}
    main_name, other_name = f"invented/{RELEASE}/{settings.seed}", f"invented/{RELEASE}/{settings.seed}/other"
    wanted = settings.kinds()
    total = sum(wanted.values())
    others = {kind: count * _OTHER_WORLD // total for kind, count in wanted.items()}
    made = {}
    main_world = None
    for world_name, name, counts in (("main", main_name, wanted), ("other", other_name, others)):
        world = make_world(name, settings.entities, main_world)
        main_world = main_world or world
        text = write_passages(world, name, settings.at_object)
        recorded = (verdicts or {}).get(world_name)
        judge: Judge = Searching(text.passages) if recorded is None else Recorded(recorded)
        drafts = Drafts(world, text, name, settings.max_steps - 1)
        told: list[str] = []

        def note(draft: Draft, verdict: str, told: list[str] = told) -> None:
            told.append(verdict)
            yields[draft.kind][{"o": "one search", "n": "not found"}.get(verdict, "kept")] += 1

        found = (pair for kind, count in counts.items() for pair in kept(drafts.of_kind(kind), judge, count, note))
        questions = list(
            with_progress(
                found,
                "Searching for the questions of an invented world (once)",
                total=sum(counts.values()),
                show_from=1000 if recorded is None else 10**9,
            )
        )
        made[world_name] = (text.passages, [_row(draft, queries) for draft, queries in questions])
        if record is not None:
            record[world_name] = told
    rows = _split(made["main"][1], settings.hops)
    rows["test_worlds"] = [{**row, "split": "test_worlds"} for row in made["other"][1]]
    shown = {split: sorted(rows[split], key=_order) for split in SPLITS if rows[split]}
    return InventedData(made["main"][0], made["other"][0], shown, {kind: dict(of) for kind, of in yields.items()})


def _row(draft: Draft, queries: tuple[str, ...]) -> dict[str, Any]:
    return draft.row(f"invented-{hashlib.sha256(draft.text.encode()).hexdigest()[:12]}", "invented", "", queries)


def _order(row: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(row["id"].encode()).digest()


def _bucket(text: str) -> int:
    """Return a number from 0 to 999 that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") * 1000 >> 32


def _pairs(row: Mapping[str, Any]) -> list[str]:
    """Return the pairs of successive steps of a chain."""
    path = row["metadata"]["path"]
    is_chain = "chain" in row["metadata"]["kind"]
    return [f"{first} {second}" for first, second in pairwise(path)] if is_chain else []


def _split(rows: Sequence[dict[str, Any]], hops: int) -> dict[str, list[dict[str, Any]]]:
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for row in rows:
        if hops > 2 and row["metadata"]["kind"] == f"chain of {hops}":
            split = "test_hops"
        elif any(_bucket(pair) < _HELD_OUT for pair in _pairs(row)):
            split = "test_paths"
        else:
            place = _bucket(normalize(row["golden_answers"][0]))
            split = "dev" if place < _DEV else "test" if place < _DEV + _TEST else "train"
        splits[split].append({**row, "split": split})
    seen = {step for row in splits["train"] for step in row["metadata"]["path"]}
    splits["test_paths"] = [row for row in splits["test_paths"] if seen.issuperset(row["metadata"]["path"])]
    return splits
