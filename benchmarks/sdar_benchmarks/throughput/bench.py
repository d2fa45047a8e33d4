"""How fast and how large the environments, the skill library, generation and the trainer are: `sdar bench`.

Times are CPU seconds of one process. Every environment of `ENV_IDS` is measured in the same way (`environment`);
what only one suite has, the original engine in the same run for example, the suite's own part adds (`SPECIFIC`); the
skill library, generation and the trainer have such a part alone.
A record of the numbers can be kept, and a later run set against it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sdar_benchmarks.records.provenance import now, platform_facts, revision, versions
from sdar_benchmarks.throughput import alfworld, environment, generation, search_qa, skills, trainer, webshop
from sdar_benchmarks.throughput.figures import Figure, Figures
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.registry import ENV_IDS
from sdar_envs.storage import write_atomic

__all__ = ["PARTS", "SPECIFIC", "bench", "read_baseline"]

_FORMAT = 1

SPECIFIC: Mapping[str, Callable[[Figures, Callable[[str], None]], None]] = {
    "sdar/ALFWorld-v0": alfworld.measure,
    "sdar/WebShop-v0": webshop.measure,
    "sdar/SearchQA-v0": search_qa.measure,
    "skills": skills.measure,
    "generation": generation.measure,
    "trainer": trainer.measure,
}
"""By environment, and for the parts beside them: adds what only it has, and says what it is doing."""

PARTS: tuple[str, ...] = tuple(dict.fromkeys([*ENV_IDS, *SPECIFIC]))
"""All that can be measured: the environments, the skill library, generation, the trainer."""


def bench(
    env_ids: Sequence[str],
    console: Console,
    *,
    output: Path | None = None,
    baseline: Path | None = None,
    command: str = "",
) -> None:
    """Measure parts, print a table for each, and write a record if asked to.

    Args:
        env_ids: of `PARTS`.
        console: where the tables go.
        output: write the record there; a file that is there is replaced.
        baseline: a record to compare with.
        command: what was typed, for the record.

    Raises:
        UnknownName: there is no such environment.
        MissingData: there is no such baseline.
        CorruptData: the baseline is no such record.
        OSError: the record cannot be written.
    """
    before = {} if baseline is None else read_baseline(baseline)
    stderr = Console(stderr=True)
    measured: list[Figure] = []
    for env_id in env_ids:
        with stderr.status("measuring") as status:

            def progress(what: str, env_id: str = env_id, say: Callable[[str], None] = status.update) -> None:
                say(f"measuring {env_id}: {what}")

            figures = environment.measure(env_id, progress) if env_id in ENV_IDS else Figures(env_id)
            if env_id in SPECIFIC:
                SPECIFIC[env_id](figures, progress)
        measured += figures
        console.print(_table(env_id, figures, before if baseline is not None else None))
        if env_id == "sdar/ALFWorld-v0" and not any(figure.unit == "x" for figure in figures):
            hint = "TextWorld is not installed here, so there are no ratios: pip install 'sdar-envs[peer]'."
            stderr.print(hint, markup=False, soft_wrap=True)
        if env_id == "generation" and not generation.is_measurable():
            hint = "torch is not installed here, so generation is not measured: pip install 'sdar-envs[train]'."
            stderr.print(hint, markup=False, soft_wrap=True)
    if output is not None:
        write_atomic(output, json.dumps(_record(measured, command), indent=1) + "\n")


def read_baseline(path: Path) -> dict[tuple[str, str, str], float]:
    """Read a record.

    Returns:
        The numbers by environment, what was measured, and unit.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no record of this format.
    """
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']!r}, wanted {_FORMAT}")
        return {(f["env"], f["what"], f["unit"]): float(f["value"]) for f in record["figures"]}
    except FileNotFoundError as error:
        raise MissingData(f"there is no {path}; wanted a record that `sdar bench --output` wrote.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptData(
            f"{path} is no record of `sdar bench` ({type(error).__name__}: {error}): make it again by --output."
        ) from error


def _record(figures: Sequence[Figure], command: str) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "command": command,
        "date": now()[:10],
        "revision": revision(),
        "hardware": platform_facts(),
        "versions": versions(),
        "figures": [asdict(figure) for figure in figures],
    }


def _table(env_id: str, figures: Sequence[Figure], before: Mapping[tuple[str, str, str], float] | None) -> Table:
    table = Table(title=f"{env_id}, Python {versions()['python']}, one core")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("unit")
    if before is not None:
        table.add_column("baseline", justify="right")
        table.add_column("better by", justify="right")
    for figure in figures:
        row = [figure.what, _number(figure.value), figure.unit]
        if before is not None:
            old = before.get((figure.env, figure.what, figure.unit))
            row += ["-", "-"] if old is None else [_number(old), _better(figure, old)]
        table.add_row(*row)
    return table


def _better(figure: Figure, old: float) -> str:
    """Return how many times as good a number is as the old one: above 1 is better, for times and memory too."""
    new, old = (figure.value, old) if figure.is_rate else (old, figure.value)
    return f"{new / old:.2f}" if old > 0 and new > 0 else "-"


def _number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f}"
