"""Pages of measured results: speed and large corpora, from their records, studies and the leaderboard, from theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from page_makers.markdown import cell, table
from sdar_benchmarks.throughput.search_qa import large_table

__all__ = [
    "LARGE_RECORDS", "ROOT", "SPEED_RECORDS", "large_corpora_page", "leaderboard_page", "repository_address",
    "speed_page", "study_pages",
]  # fmt: skip

ROOT = Path(__file__).parents[3]

SPEED_RECORDS = ("throughput.json", "throughput_trainer.json", "throughput_step.json", "throughput_engines.json")
"""Records in `benchmarks/studies` that the page of speed shows."""

LARGE_RECORDS = ("search_qa_large_21m.json", "search_qa_large_4m.json")
"""Records in `benchmarks/studies` of search engines over large corpora."""

_REPOSITORY = "https://github.com/sdar-envs/sdar-envs/blob/main/"
_LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


def repository_address(path: str) -> str:
    """Return the address of a file of the repository."""
    return _REPOSITORY + path


def speed_page() -> str:
    """Return the page of speed: every figure of the records."""
    parts = [
        "# Speed and memory\n",
        "Made from the records that `sdar bench --output FILE` and `sdar_benchmarks.throughput.engines` write; times "
        "are CPU seconds of one process, with the servers that it has started. To measure your machine and compare: "
        "`sdar bench --baseline benchmarks/studies/throughput.json`.\n",
    ]
    for name in SPEED_RECORDS:
        record = json.loads((ROOT / "benchmarks" / "studies" / name).read_text(encoding="utf-8"))
        parts += [_made(name, record), _tables(record["figures"])]
    return "\n".join(parts)


def _made(name: str, record: Mapping[str, Any]) -> str:
    hardware, versions = record["hardware"], record["versions"]
    return (
        f"`{record['command']}` at `{record['revision'][:12]}`, {record['date']}, on {hardware['cpu']} with "
        f"{hardware['cores']} cores, Python {versions['python']} "
        f"([record]({repository_address(f'benchmarks/studies/{name}')})).\n"
    )


def _tables(figures: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for part in dict.fromkeys(figure["env"] for figure in figures):
        rows = [
            (cell(figure["what"]), f"{_number(figure['value'])} {cell(figure['unit'])}")
            for figure in figures
            if figure["env"] == part
        ]
        parts += [f"## {part}\n", table(("what", "value"), rows), ""]
    return "\n".join(parts)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def large_corpora_page() -> str:
    """Return the page of search engines over large corpora."""
    addresses = [f"[{name}]({repository_address(f'benchmarks/studies/{name}')})" for name in LARGE_RECORDS]
    parts = [
        "# Search over a large corpus\n",
        "Made from records of `python -m sdar_benchmarks.throughput.search_qa --output FILE` "
        f"({', '.join(addresses)}): synthetic corpora whose words follow Zipf's law. What the numbers mean, and on "
        "what machine they were measured, is on [large corpora](../how-to/large-corpora.md#what-was-measured).\n",
    ]
    for name in LARGE_RECORDS:
        record = json.loads((ROOT / "benchmarks" / "studies" / name).read_text(encoding="utf-8"))
        title, (head, *rows) = large_table(record)
        parts += [f"## {title}\n", table(head, rows), ""]
    return "\n".join(parts)


def study_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the content of the report of each study, as a page and as the HTML with its curves."""
    for report in sorted((ROOT / "benchmarks" / "studies").glob("*/report.md")):
        folder = report.parent
        title, _, text = report.read_text(encoding="utf-8").partition("\n")
        page = f"benchmarks/study-{folder.name}"
        records = repository_address(f"benchmarks/studies/{folder.name}")
        made = (
            f"Made by [`sdar study`](study.md) from its [records]({records}). "
            f"[The same with curves]({Path(page).name}-report.html)."
        )
        yield f"{page}.md", f"{title}\n\n{made}\n{text}"
        yield f"{page}-report.html", (folder / "report.html").read_text(encoding="utf-8")


def leaderboard_page() -> str:
    """Return the leaderboard, whose links to files of the repository lead there."""
    text = (ROOT / "LEADERBOARD.md").read_text(encoding="utf-8")
    return _LINK.sub(lambda link: f"]({repository_address(link[1])})", text)
