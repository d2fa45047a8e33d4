"""The process group of a run as one object, which in a single process does nothing.

    world = join_world()  # of torchrun, or one process
    tasks = world.share(tasks)
    results = world.gather(result)

Objects travel by pickle through torch.distributed, between processes of the same program. Every method but `share` is
collective: all ranks call it, in the same order.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from sdar_envs.errors import InvalidOption, SdarError

__all__ = ["World", "is_lost", "is_told", "join_world"]

ValueT = TypeVar("ValueT")

_TOLD = "the first rank raised it"


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of a run: how many processes there are, and which of them this is.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        group: torch's process group; None for its default.
    """

    rank: int = 0
    size: int = 1
    group: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def current(cls) -> World:
        """Return that of torch's process group; one process without a group."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return cls()
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    def apart(self) -> World:
        """Return the same ranks with a group of their own, for a thread that talks while others do. Collective."""
        return self if self.size == 1 else replace(self, group=torch.distributed.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[ValueT]) -> list[ValueT]:
        """Return every size-th item, from the rank's own: a partition over the ranks, in order."""
        return list(items[self.rank :: self.size])

    def gather(self, value: ValueT) -> list[ValueT]:
        """Return the values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, make: Callable[[], ValueT]) -> ValueT:
        """Return what a function returns on rank 0, where alone it is called. What it raises, all ranks raise."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                box[0] = make()
            except Exception as error:
                failure = error
                kind = type(error) if isinstance(error, SdarError) else RuntimeError
                box[1] = kind, str(error)
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        if failure is not None:
            raise failure
        if box[1] is not None:
            kind, message = box[1]
            told: Exception = kind(message)
            told.add_note(_TOLD)
            raise told
        value: ValueT = box[0]
        return value

    def sum(self, *numbers: float) -> list[float]:
        """Return the sums over the ranks, in float64."""
        if self.size == 1:
            return list(numbers)
        return self._reduce(numbers, torch.distributed.ReduceOp.SUM)

    def largest(self, number: float) -> float:
        """Return the largest number of all ranks."""
        return number if self.size == 1 else self._reduce((number,), torch.distributed.ReduceOp.MAX)[0]

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the ranks, in place; return it."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor, group=self.group)
        return tensor

    def raise_together(self, error: SdarError | None) -> None:
        """Raise on all ranks what one of them has.

        Args:
            error: of this rank; None for none.
        """
        found = [each for each in self.gather(None if error is None else (type(error), str(error))) if each is not None]
        if error is not None:
            raise error
        if found:
            kind, message = found[0]
            raise kind(message)

    def check_equal(self, digest: str, what: str) -> None:
        """Check that all ranks have the same.

        Raises:
            InvalidOption: they do not.
        """
        found = self.gather(digest)
        if len(set(found)) > 1:
            odd = next(rank for rank, each in enumerate(found) if each != found[0])
            raise InvalidOption(
                f"{what} differs between ranks 0 and {odd}: something in it is drawn or timed by each process for "
                "itself, such as a reward function or an environment of your own. Make it a function of its arguments."
            )

    def _reduce(self, numbers: Sequence[float], how: Any) -> list[float]:
        tensor = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, how, group=self.group)
        return tensor.tolist()


def is_told(error: BaseException) -> bool:
    """Return whether rank 0 has raised the same error, and says it."""
    return _TOLD in getattr(error, "__notes__", ())


def is_lost(error: RuntimeError) -> bool:
    """Return whether an error of torch.distributed means that another process of the group has ended."""
    words = (
        "connection closed",
        "connection reset",
        "connection refused",
        "broken pipe",
        "timed out",
        "remote process",
    )
    is_distributed = isinstance(error, getattr(torch.distributed, "DistError", ()))
    return is_distributed or any(word in str(error).lower() for word in words)


def join_world(device: str | None = None) -> World:
    """Join the process group that torchrun announces in the environment; one process without it.

    CPU tensors go through gloo; those of a GPU through NCCL, one GPU per process.

    Args:
        device: that the model will be on; None for CUDA if there is a GPU, else the CPU.

    Raises:
        InvalidOption: this machine has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not torch.distributed.is_initialized():
        kind = (device or ("cuda" if torch.cuda.is_available() else "cpu")).partition(":")[0]
        backend = "gloo"
        if kind == "cuda":
            local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
            if local >= count:
                raise InvalidOption(
                    f"there is a process number {local + 1} on this machine, and {count} GPUs: start at most one "
                    "process per GPU, or set model.device to cpu."
                )
            torch.cuda.set_device(local)
            backend = "cpu:gloo,cuda:nccl"
        torch.distributed.init_process_group(backend)
        atexit.register(_leave)
    return World.current()


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
