"""Logging of a training run: `metrics.jsonl`, an experiment tracker, a progress bar.

`metrics.jsonl` has a row per step, `{"step": 3, "rollout/success": 0.25, ...}`, which `sdar report` draws. Trackers get
the same numbers under the same names. A tracker that is not installed is an error before the run begins.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdar_envs.errors import CorruptData, MissingExtra
from sdar_envs.files.lines import append_row, read_rows
from sdar_envs.printing import console
from sdar_envs.storage import write_atomic

__all__ = ["Bar", "Lines", "Tracker", "check_tracker", "open_tracker"]


class Lines:
    """JSON Lines file with a step in each row, truncated to a step when a run resumes.

    Args:
        path: the file; made if it is missing.
        after: keep the rows of steps up to this one, without an incomplete last line; -1 keeps none.

    Raises:
        CorruptData: a row has no step.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, *, after: int = -1) -> None:
        self.path = path
        if path.exists():
            try:
                rows = [row for row in read_rows(path) if row["step"] <= after]
            except (KeyError, TypeError) as error:
                raise CorruptData(f"{path} has a row without a step: remove it.") from error
            write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
            OSError: it cannot be written.
        """
        append_row(self._file, row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Tracker(Protocol):
    """Protocol of an experiment tracker, such as TensorBoard: logs the metrics of each step."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class _NoTracker:
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Discard the metrics."""

    def close(self) -> None:
        """Nothing to close."""


class _TensorBoard:
    def __init__(self, folder: Path, after: int) -> None:
        board = importlib.import_module("torch.utils.tensorboard")
        self._writer = board.SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class _Wandb:
    """wandb, or trackio, which has the same interface."""

    def __init__(self, module: Any, project: str, name: str, config: Mapping[str, Any]) -> None:
        self._module = module
        module.init(project=project, name=name, config=dict(config))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send the metrics of one step."""
        self._module.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the tracker's run."""
        self._module.finish()


def open_tracker(name: str, folder: Path, *, project: str, config: Mapping[str, Any], after: int = -1) -> Tracker:
    """Open a tracker.

    Args:
        name: `none`, `tensorboard`, `trackio` or `wandb`.
        folder: of the run.
        project: of wandb and trackio.
        config: of the run.
        after: the last step of the checkpoint that a run is resumed from; -1 for a new run.

    Raises:
        MissingExtra: the tracker is not installed.
    """
    check_tracker(name)
    if name == "none":
        return _NoTracker()
    if name == "tensorboard":
        return _TensorBoard(folder, after)
    return _Wandb(importlib.import_module(name), project, folder.name, config)


def check_tracker(name: str) -> None:
    """Check that a tracker is installed, without opening it.

    Raises:
        MissingExtra: it is not.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise MissingExtra(
            f"the tracker {name} is not installed: pip install {name}, or set log.tracker to none.", name=name
        )


class Bar:
    """Progress bar on standard error, only on a terminal. A context manager.

    Args:
        steps: of the run.
        done: how many were done before the run was resumed.
        shown: whether to show it.
    """

    _NUMBERS = (
        ("success", "rollout/success", "{:.1%}"),
        ("return", "rollout/return", "{:.2f}"),
        ("gap", "distill/gap", "{:+.3f}"),
        ("gate", "distill/gate", "{:.3f}"),
        ("grad", "gradient/ratio", "{:.2g}"),
        ("tok/s", "tokens/per_second", "{:,.0f}"),
    )

    def __init__(self, steps: int, *, done: int = 0, shown: bool = True) -> None:
        terminal = console(stderr=True)
        self._last: dict[str, float] = {}
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=terminal,
            disable=not (shown and terminal.is_terminal),
        )
        self._task = self._bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> Self:
        """Start the display."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display; the last state stays on the screen."""
        self._bar.stop()

    def say(self, phase: str) -> None:
        """Show the current phase."""
        self._bar.update(self._task, description=f"{self._numbers()} {phase}".strip())

    def step(self, metrics: Mapping[str, float]) -> None:
        """Advance by one step and show its metrics."""
        # Some metrics are not measured at every step: the last value stays.
        self._last |= metrics
        self._bar.update(self._task, advance=1, description=self._numbers())

    def _numbers(self) -> str:
        known = ((label, self._last.get(name, math.nan), form) for label, name, form in self._NUMBERS)
        return "  ".join(f"{label} {form.format(value)}" for label, value, form in known if math.isfinite(value))
