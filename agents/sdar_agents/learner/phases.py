"""Per-phase timer; synchronises CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["Phases"]


class Phases:
    """Per-phase timer; synchronises CUDA at the end of each phase.

        phases = Phases(device)
        with phases("update"):
            ...
        phases.seconds["update"]

    Args:
        device: where the work is done.
        clock: wall-clock seconds, or those of `time.process_time`.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        started = self._clock()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - started
