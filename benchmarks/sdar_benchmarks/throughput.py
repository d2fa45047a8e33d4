"""How fast and how large the environments and the skill library are.

    python -m sdar_benchmarks.throughput [--env sdar/WebShop-v0] [--output figures.json]

Times are CPU seconds of one process. What is compared with what, the parts say: `throughput_alfworld`,
`throughput_webshop`, `throughput_skills`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sdar_benchmarks import throughput_alfworld, throughput_skills, throughput_webshop
from sdar_benchmarks.figures import Figure
from sdar_envs.storage import write_atomic

__all__ = ["MEASURES", "main"]

MEASURES: Mapping[str, Callable[[Callable[[str], None]], list[Figure]]] = {
    "sdar/ALFWorld-v0": throughput_alfworld.measure,
    "sdar/WebShop-v0": throughput_webshop.measure,
    "skills": throughput_skills.measure,
}
"""By environment, and the skill library: measures everything and says what it is doing."""


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table for each part, and write the figures as JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m sdar_benchmarks.throughput", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--env", choices=MEASURES, help="measure this only")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    figures: list[Figure] = []
    for env_id in MEASURES if arguments.env is None else [arguments.env]:
        with console.status("measuring") as status:
            measured = MEASURES[env_id](lambda what: status.update(f"measuring: {what}"))
        figures += measured
        table = Table(title=f"{env_id}, Python {platform.python_version()}, one core")
        table.add_column("what")
        table.add_column("value", justify="right")
        table.add_column("unit")
        for figure in measured:
            table.add_row(figure.what, f"{figure.value:,.{_digits(figure.value)}f}", figure.unit)
        Console().print(table)
        if env_id == "sdar/ALFWorld-v0" and not any(figure.what.startswith("ratio") for figure in measured):
            hint = "TextWorld is not installed here, so there are no ratios: pip install 'sdar-envs[peer]'."
            console.print(hint, markup=False)
    if arguments.output is not None:
        record = {
            "version": importlib.metadata.version("sdar-envs"),
            "python": platform.python_version(),
            "figures": [asdict(figure) for figure in figures],
        }
        write_atomic(arguments.output, json.dumps(record, indent=2) + "\n")
    return 0


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 1 else 3


if __name__ == "__main__":
    sys.exit(main())
