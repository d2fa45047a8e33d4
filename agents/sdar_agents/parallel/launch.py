"""Starts the processes of a run on this machine by torch's elastic launcher (torchrun), and tells how they ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdar_envs.errors import InvalidOption, RunStopped

__all__ = ["launch"]

_ERROR_STATUS = 2


def launch(module: str, arguments: Sequence[str], *, processes: int) -> int:
    """Run `python -m module arguments` in so many processes, which join one process group.

    If one ends with an error or is killed, the others are stopped.

    Args:
        module: whose main program is run.
        arguments: of the program.
        processes: at least 1; each gets its share of the CPU cores as threads.

    Returns:
        The exit status: 0, or 2 after an error that a process has told.

    Raises:
        InvalidOption: this is such a process itself.
        RunStopped: a process was killed or failed otherwise.
    """
    from torch.distributed.elastic.multiprocessing.api import (  # noqa: PLC0415  (not needed elsewhere)
        DefaultLogsSpecs,
        SignalException,
    )
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    if "WORLD_SIZE" in os.environ:
        raise InvalidOption("processes are started here already, by torchrun: leave out --processes.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # It reports each failure at length, with a box around it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            max_restarts=0,
            monitor_interval=0.2,
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            rank, status = _cause({rank: failure.exitcode for rank, failure in error.failures.items()})
            if status == _ERROR_STATUS:
                return _ERROR_STATUS
            if status == 130:
                raise KeyboardInterrupt from None
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise RunStopped(
                f"process {rank} of {processes} {how}, and the others were stopped. The last complete checkpoint is "
                "untouched: sdar train --resume RUN goes on from there."
            ) from None
    return 0


def _cause(statuses: Mapping[int, int]) -> tuple[int, int]:
    """Return rank and exit status of the process that failed first: the others lose it, or are terminated."""

    def likelihood(rank: int) -> int:
        status = statuses[rank]
        if status < 0 and status != -signal.SIGTERM:
            return 0
        return 1 if status in (_ERROR_STATUS, 130) else 2

    rank = min(statuses, key=lambda each: (likelihood(each), each))
    return rank, statuses[rank]
