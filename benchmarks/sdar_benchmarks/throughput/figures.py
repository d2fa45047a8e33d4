"""Figures of a benchmark, and timers: CPU seconds of this process, memory of a fresh one."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["ONE_ENVIRONMENT", "Figure", "Figures", "median_seconds", "peak_megabytes", "resident_megabytes", "seconds"]

ONE_ENVIRONMENT = "steps, one environment, info and resets included"
"""Name of the figure that the parts of suites compare with the original engines."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number of an environment."""

    env: str
    what: str
    value: float
    unit: str

    @property
    def is_rate(self) -> bool:
        """Whether more is better. All other figures are times or memory, of which less is better."""
        return self.unit == "x" or "/CPU s" in self.unit


class Figures(list[Figure]):
    """Figures of one environment or part, in the order of measurement."""

    def __init__(self, env_id: str) -> None:
        super().__init__()
        self._env_id = env_id

    def add(self, what: str, value: float, unit: str) -> float:
        """Append a figure and return its value."""
        self.append(Figure(self._env_id, what, value, unit))
        return value

    def value(self, what: str) -> float:
        """Return the value of a figure that was measured before."""
        return next(figure.value for figure in self if figure.what == what)


def seconds(action: Callable[[], Any], repeats: int) -> float:
    """Return the mean CPU seconds of an action."""
    started = time.process_time()
    for _ in range(repeats):
        action()
    return (time.process_time() - started) / repeats


def median_seconds(action: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU seconds of an action."""
    return median(seconds(action, 1) for _ in range(repeats))


def peak_megabytes() -> float:
    """Return the peak resident memory of this process in MB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / (1 << 20 if sys.platform == "darwin" else 1024)
    # Not ru_maxrss: a child of a large process inherits its value on Linux.
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def resident_megabytes(env_id: str, count: int) -> float:
    """Return the peak memory in MB of a fresh process whose environments all play different train tasks."""
    script = (
        "import sdar_envs\n"
        "from sdar_benchmarks.throughput.figures import peak_megabytes\n"
        f"envs = sdar_envs.make_vec({env_id!r}, {count})\n"
        "_, infos = envs.reset(seed=0)\n"
        "for _ in range(5): *_, infos = envs.step([c[0] if c else '' for c in infos['admissible_commands']])\n"
        "print(peak_megabytes())\n"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return float(output)
