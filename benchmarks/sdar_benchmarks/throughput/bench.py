"""Throughput and memory of environments, skill library, generation and trainer: `sdar bench`.

Times are CPU seconds of one process. Every environment of `ENV_IDS` is measured in the same way (`environment`); parts
of `SPECIFIC` add what only one suite has, such as the original engine in the same run, and what is no environment. The
figures can be written as a record, and compared with an earlier one.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sdar_benchmarks.records.provenance import now, platform_facts, revision, versions
from sdar_benchmarks.throughput import environment
from sdar_benchmarks.throughput.figures import Figure, Figures
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, MissingExtra, SdarError
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json
from sdar_envs.importing import import_extra
from sdar_envs.printing import console as terminal
from sdar_envs.registry import ENV_IDS
from sdar_envs.storage import write_atomic

__all__ = ["PARTS", "SPECIFIC", "bench", "bench_record", "read_baseline"]

_FORMAT = 1

Measure = Callable[[Figures, Callable[[str], None]], None]

SPECIFIC: Mapping[str, tuple[str, ...]] = {
    "sdar/ALFWorld-v0": ("alfworld",),
    "sdar/WebShop-v0": ("webshop",),
    "sdar/SearchQA-v0": ("search_qa", "http"),
    "skills": ("skills",),
    "generation": ("generation",),
    "trainer": ("trainer", "trl_update"),
}
"""Modules of this package whose `measure` adds the figures of an environment, or of a part that is none."""

PARTS: tuple[str, ...] = tuple(dict.fromkeys([*ENV_IDS, *SPECIFIC]))
"""Names of all parts: the environments, the skill library, generation, the trainer."""

# Module and extra that a part needs beyond the base dependencies.
_NEEDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "http": (("requests", "client"), ("starlette", "server"), ("uvicorn", "server")),
    "generation": (("torch", "train"), ("transformers", "train")),
    "trainer": (("torch", "train"), ("transformers", "train")),
    "trl_update": (("trl", "peer"), ("datasets", "peer")),
}


def bench(
    env_ids: Sequence[str],
    console: Console,
    *,
    output: Path | None = None,
    baseline: Path | None = None,
    command: str = "",
) -> None:
    """Measure parts, print a table for each, and write a record if asked to.

    What needs an extra that is not installed is left out, with a line on standard error that names the extra.

    Args:
        env_ids: names in `PARTS`.
        console: where the tables are printed.
        output: file of the record; an existing one is replaced.
        baseline: file of a record to compare with.
        command: the command line, for the record.

    Raises:
        UnknownName: there is no such environment.
        MissingExtra: nothing that was asked for can be measured without an extra.
        MissingData: there is no such baseline.
        CorruptData: the baseline is no such record.
        OSError: the record cannot be written.
    """
    before = {} if baseline is None else read_baseline(baseline)
    stderr = terminal(stderr=True)
    measured: list[Figure] = []
    missing: MissingExtra | None = None
    for env_id in env_ids:
        with stderr.status("measuring") as status:

            def progress(what: str, env_id: str = env_id, say: Callable[[str], None] = status.update) -> None:
                say(f"measuring {env_id}: {what}")

            figures = environment.measure(env_id, progress) if env_id in ENV_IDS else Figures(env_id)
            for name in SPECIFIC.get(env_id, ()):
                try:
                    measure = _load(name)
                except MissingExtra as error:
                    missing = missing or error
                    stderr.print(f"left out: {error}", soft_wrap=True)
                    continue
                measure(figures, progress)
        if figures:
            measured += figures
            console.print(_table(env_id, figures, before if baseline is not None else None))
        if env_id == "sdar/ALFWorld-v0" and not any(figure.unit == "x" for figure in figures):
            stderr.print(_no_textworld(sys.version_info[:2]), soft_wrap=True)
    if missing is not None and not measured:
        raise missing
    if output is not None:
        write_atomic(output, json.dumps(bench_record(measured, command), indent=1) + "\n")


def _no_textworld(python: tuple[int, ...]) -> str:
    """Return why there are no ratios to TextWorld, and what helps."""
    if python >= (3, 13):
        why = f"TextWorld does not run on Python {python[0]}.{python[1]}, so there are no ratios: "
        return why + "pip install 'sdar-envs[peer]' with Python 3.11 or 3.12."
    return "TextWorld is not installed here, so there are no ratios: pip install 'sdar-envs[peer]'."


def _load(name: str) -> Measure:
    """Return the `measure` of a module of this package.

    Raises:
        MissingExtra: it needs a package that is not installed.
    """
    for module, extra in _NEEDS.get(name, ()):
        import_extra(module, extra=extra, purpose=f"measuring {name}")
    # Imported here: a part may need torch, and `sdar bench` of the others must not.
    measure: Measure = importlib.import_module(f"sdar_benchmarks.throughput.{name}").measure
    return measure


def read_baseline(path: Path) -> dict[tuple[str, str, str], float]:
    """Read a record of `sdar bench --output`.

    Returns:
        The value of each figure by environment, name and unit.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no record of this format.
    """
    try:
        record = parse_json(read_foreign(path))
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']!r}, wanted {_FORMAT}")
        return {(f["env"], f["what"], f["unit"]): float(f["value"]) for f in record["figures"]}
    except FileNotFoundError as error:
        raise MissingData(f"there is no {path}; wanted a record that `sdar bench --output` wrote.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptData(
            f"{path} is no record of `sdar bench` ({type(error).__name__}: {error}): make it again by --output."
        ) from error


def bench_record(figures: Sequence[Figure], command: str) -> dict[str, Any]:
    """Return the record of figures that a command has measured."""
    return {
        "format": _FORMAT,
        "command": command,
        "date": now()[:10],
        "revision": revision(),
        "hardware": platform_facts(),
        "versions": versions(),
        "figures": [asdict(figure) for figure in figures],
    }


def write_record(module: str, arguments: Sequence[str], measure: Callable[[], Sequence[Figure]]) -> int:
    """Measure, print the figures and write their record: the main function of a benchmark with a module of its own.

    Args:
        module: name of the module, without its package.
        arguments: of the command line: the file.
        measure: returns the figures.

    Returns:
        The exit status.
    """
    try:
        if len(arguments) != 1:
            raise InvalidOption(f"{len(arguments)} arguments came; wanted one: the file to write.")
        figures = measure()
        for figure in figures:
            print(f"{figure.env:<32} {figure.what:<60} {figure.value:>12,.4g} {figure.unit}")
        command = f"python -m sdar_benchmarks.throughput.{module} {arguments[0]}"
        write_atomic(Path(arguments[0]), json.dumps(bench_record(figures, command), indent=1) + "\n")
    except SdarError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


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
    """Return the ratio of a figure to the old one, inverted for times and memory: above 1 is better."""
    new, old = (figure.value, old) if figure.is_rate else (old, figure.value)
    return f"{new / old:.2f}" if old > 0 and new > 0 else "-"


def _number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f}"
