"""Figures of the embedded Search-QA corpora: what scripted players reach on every split.

    python -m data_makers.search_qa_invented.figures [--play]

`--play` plays all of them and keeps the result in `benchmarks/studies/search_qa_figures.json`; without it, only
`docs/benchmarks/search-qa-figures.md` is written again from that record. Run it from a checkout, or by `make
search-figures`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts.table import write_bytes
from sdar_agents import make_agent
from sdar_benchmarks.analysis.tables import TextTable
from sdar_envs.core import Task
from sdar_envs.registry import make_text_env
from sdar_envs.storage import with_progress

__all__ = ["main", "play", "table"]

RECORD = Path(__file__).parents[2] / "studies" / "search_qa_figures.json"
"""What each player reached, by panel, player and kind of question."""

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks" / "search-qa-figures.md"
"""The tables."""

PANELS: Mapping[str, Mapping[str, Any]] = {
    "invented/test": {"split": "test"},
    "invented/test_paths": {"split": "test_paths"},
    "invented/test_hops": {"split": "test_hops"},
    "invented/test_worlds": {"split": "test_worlds"},
    "invented-easy/test": {"split": "test", "level": "easy"},
    "invented-hard/test": {"split": "test", "level": "hard"},
    "films/test": {"split": "test", "corpus": "films"},
    "films_twin/test": {"split": "test", "corpus": "films_twin"},
    "facts/test": {"split": "test", "corpus": "facts"},
}
"""Panels with the arguments of their environment."""

_PLAYERS = (
    "oracle", "name-only", "one-search", "question-as-query", "random-option", "relation-constant", "constant",
)  # fmt: skip
_WITHOUT_NAMES = frozenset({"facts/test"})
_CHAINS = ("chain of 2", "chain of 3", "chain of 4", "described chain")
_HEAD = """\
# Search-QA: figures of the embedded corpora

Made by `make search-figures` from `benchmarks/studies/search_qa_figures.json`; do not edit it by hand.

Shares of questions in per cent, each played once with the turns of its corpus and the three best passages of a
search. *answer@3*: a golden answer stands in the passages that a search for the question itself shows. *one search*:
the best of five queries that can be made from a question alone shows all evidence. *name-only*: searches for the
names along the way, in order, without another word, and answers if all evidence was shown. *oracle*: the same with
words about the fact. *question as query*, *option* (a random name out of the question), *relation* and *constant*
(the most common training answer, by the last relation, or of all) are what guessing reaches; the films have no
training split, so there they are fitted on the questions that are played. Beyond one hop means questions that need
two passages or more.

"""


def play(progress: bool = True) -> dict[str, Any]:
    """Play all panels with all players and return the record."""
    figures: dict[str, Any] = {}
    for panel, arguments in PANELS.items():
        env = make_text_env("sdar/SearchQA-v0", **arguments)
        tasks = [env.source.task(env.split, number) for number in range(env.source.splits[env.split] or 0)]
        groups: dict[str, dict[str, list[dict[str, float]]]] = {}
        for player in _PLAYERS:
            if player == "name-only" and panel in _WITHOUT_NAMES:
                continue
            agent = make_agent(player)
            groups[player] = defaultdict(list)
            title = f"{player} on {panel}"
            for number, task in enumerate(
                with_progress(tasks, title, total=len(tasks), show_from=0 if progress else sys.maxsize)
            ):
                observation, info = env.reset(options={"task_id": task.id})
                agent.reset(env, observation, info, number)
                while True:
                    observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
                    if terminated or truncated:
                        break
                shown = {name: info["metrics"][name] for name in ("evidence", "answer_shown")}
                groups[player][_kind(task)].append({"won": float(info["won"]), **shown})
        counts = {kind: len(rows) for kind, rows in groups["oracle"].items()}
        hops: dict[str, float] = defaultdict(float)
        for task in tasks:
            hops[_kind(task)] += len(task.data["supporting"]) / counts[_kind(task)]
        figures[panel] = {
            "questions": counts,
            "hops": {kind: round(mean, 3) for kind, mean in hops.items()},
            "players": {player: {kind: _means(rows) for kind, rows in of.items()} for player, of in groups.items()},
        }
    return figures


def _kind(task: Task) -> str:
    return str(task.data["kind"])


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(sum(row[name] for row in rows) / len(rows), 5) for name in rows[0]}


def _share(panel: Mapping[str, Any], player: str, metric: str, kinds: list[str]) -> str:
    """Return a share over some kinds of questions, in per cent; a dash where there is none."""
    of, counts = panel["players"].get(player), panel["questions"]
    total = sum(counts[kind] for kind in kinds)
    if of is None or not total:
        return "–"
    return f"{100 * sum(of[kind][metric] * counts[kind] for kind in kinds) / total:.1f}"


def table(figures: Mapping[str, Any]) -> str:
    """Return the page."""
    columns = (
        "panel",
        "questions",
        "hops",
        "answer@3, chains",
        "one search, beyond one hop",
        "question as query",
        "the same, beyond one hop",
        "option",
        "relation",
        "constant",
        "name-only",
        "name-only, chains",
        "oracle",
    )
    rows = []
    for name, panel in figures.items():
        kinds = list(panel["questions"])
        several = [kind for kind in kinds if panel["hops"][kind] > 1]
        chains = [kind for kind in kinds if kind in _CHAINS]
        named = [kind for kind in chains if kind != "described chain"]
        total = sum(panel["questions"].values())
        mean = sum(panel["hops"][kind] * panel["questions"][kind] for kind in kinds) / total
        rows.append(
            (
                name,
                f"{total:,}",
                f"{mean:.2f}",
                _share(panel, "question-as-query", "answer_shown", chains),
                _share(panel, "one-search", "evidence", several),
                _share(panel, "question-as-query", "won", kinds),
                _share(panel, "question-as-query", "won", several),
                _share(panel, "random-option", "won", kinds),
                _share(panel, "relation-constant", "won", kinds),
                _share(panel, "constant", "won", kinds),
                _share(panel, "name-only", "won", kinds),
                _share(panel, "name-only", "won", named),
                _share(panel, "oracle", "won", kinds),
            )
        )
    parts = [_HEAD, f"{TextTable(columns, tuple(rows)).markdown()}\n"]
    for name in ("invented/test", "invented/test_worlds"):
        panel = figures[name]
        by_kind = TextTable(
            ("kind", "questions", "hops", "answer@3", "one search", "name-only", "oracle"),
            tuple(
                (
                    kind,
                    str(panel["questions"][kind]),
                    f"{panel['hops'][kind]:.2f}",
                    _share(panel, "question-as-query", "answer_shown", [kind]),
                    _share(panel, "one-search", "evidence", [kind]),
                    _share(panel, "name-only", "won", [kind]),
                    _share(panel, "oracle", "won", [kind]),
                )
                for kind in sorted(panel["questions"])
            ),
        )
        parts.append(f"\n## {name} by kind\n\n{by_kind.markdown()}\n")
    return "".join(parts)


def main() -> None:
    """Play if asked to, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_invented.figures", description=__doc__)
    parser.add_argument("--play", action="store_true", help="play all panels again")
    if parser.parse_args().play:
        write_bytes(RECORD, (json.dumps(play(), indent=1) + "\n").encode())
    write_bytes(PAGE, table(json.loads(RECORD.read_text(encoding="utf-8"))).encode())
    print(PAGE)


if __name__ == "__main__":
    main()
