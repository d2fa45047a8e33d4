"""Sharded checkpoints (torch.distributed.checkpoint): each rank writes its part of weights and optimizer.

A checkpoint `checkpoints/step-000012` of a sharded run has a folder `shards/` with weights, optimizer states and moving
average, in place of `model/` and most of `trainer.pt`. The parts are copied to the CPU and written by a thread while
training goes on. All of them are written under a hidden name, which rank 0 renames after the last is on the disk, so a
kill of any rank at any moment leaves the checkpoint before. Any number of processes can read them.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdar_agents.learner.learner import Learner
from sdar_agents.parallel import World
from sdar_agents.training.saving.checkpoints import Checkpoint, Checkpoints, flush, state_text
from sdar_envs.errors import CorruptData, RunStopped
from sdar_envs.files.replacing import hidden_name

__all__ = ["ShardedSaver", "load_shards"]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A checkpoint that is being written."""

    path: Path
    temporary: Path
    step: int
    future: Any


class ShardedSaver:
    """Writes checkpoints of a sharded run in the background, one at a time. All methods are collective.

    Args:
        checkpoints: of the run; rank 0 prunes them.
        world: the ranks.
    """

    def __init__(self, checkpoints: Checkpoints, world: World) -> None:
        self._checkpoints = checkpoints
        self._world = world
        self._pending: _Pending | None = None
        # Of its own, because the thread that writes talks to the other ranks while training does too.
        self._group = torch.distributed.new_group(backend="gloo")

    def save(
        self,
        step: int,
        model: nn.Module,
        learner: Learner,
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        *,
        value: float | None = None,
    ) -> None:
        """Begin to write a checkpoint; the one before is finished first. An existing one of this step stays.

        Args:
            step: after which.
            model: sharded.
            learner: its optimizer and moving average.
            tensors: for `trainer.pt`, the same on all ranks.
            state: for `state.json`, which gets the step and the value too.
            value: of the evaluation at this step.

        Raises:
            RunStopped: it cannot be written.
        """
        self.finish()
        path = self._checkpoints.folder / f"step-{step:06d}"
        temporary = self._world.from_first(
            lambda: self._begin(path, tensors, {**state, "step": step, "value": value, "shards": self._world.size})
        )
        if temporary is None:
            return
        from torch.distributed.checkpoint.state_dict_saver import async_save  # noqa: PLC0415  (not for one process)

        parts = _parts(model, learner)
        future = async_save(parts, checkpoint_id=temporary / "shards", process_group=self._group)
        self._pending = _Pending(path, temporary, step, future)

    def poll(self) -> None:
        """Finish the pending checkpoint if all ranks have written their parts."""
        if self._pending is not None and not self._world.largest(float(not self._pending.future.done())):
            self.finish()

    def finish(self) -> None:
        """Wait for the pending checkpoint, and give it its name.

        Raises:
            RunStopped: it cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        problem = ""
        try:
            pending.future.result()
        except Exception as error:  # of torch and of the file system, from any rank
            problem = " ".join(str(error).split()) or type(error).__name__
        problems = [each for each in self._world.gather(problem) if each]
        if problems:
            if self._world.is_first:
                shutil.rmtree(pending.temporary, ignore_errors=True)
            before = self._checkpoints.all()
            kept = f"the one of step {before[-1].step} is untouched" if before else "there is none before it"
            raise RunStopped(
                f"the checkpoint {pending.path} cannot be written ({problems[0]:.300}); {kept}. Free some space and "
                "resume."
            )
        self._world.from_first(lambda: self._name(pending))

    def _begin(self, path: Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> Path | None:
        if path.is_dir():
            self._checkpoints.prune()
            return None
        temporary = hidden_name(path)
        try:
            temporary.mkdir(parents=True)
            torch.save(dict(tensors), temporary / "trainer.pt")
            (temporary / "state.json").write_text(state_text(state), encoding="utf-8")
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RunStopped(
                f"the checkpoint {path} cannot be written ({error}). Free some space and resume."
            ) from error
        return temporary

    def _name(self, pending: _Pending) -> None:
        for file in (*pending.temporary.rglob("*"), pending.temporary):
            flush(file)
        os.rename(pending.temporary, pending.path)
        flush(pending.path.parent)
        self._checkpoints.prune()


def load_shards(checkpoint: Checkpoint, model: nn.Module, learner: Learner | None = None) -> None:
    """Load a sharded checkpoint into a model of any number of processes, in place. Collective.

    Args:
        checkpoint: with `shards/`.
        model: of the same kind, sharded or whole.
        learner: gets the optimizer states and the moving average; None for the weights alone.

    Raises:
        CorruptData: it cannot be read.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_loader import load  # noqa: PLC0415

    folder = checkpoint.path / "shards"
    try:
        reader = FileSystemReader(folder)
        known = reader.read_metadata().state_dict_metadata
        parts: dict[str, Any] = {"weights": _weights(model)}
        if learner is not None:
            _begin_optimizer(learner, model, known)
            parts = _parts(model, learner)
        missing = [name for name in _flat(parts) if name not in known]
        if missing:
            raise CorruptData(f"{checkpoint.path} has no {missing[0]}: it is of another model.")
        is_single = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        with warnings.catch_warnings():
            # That there is one process, which is as it should be.
            warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)
            load(parts, storage_reader=reader, no_dist=is_single)
    except CorruptData:
        raise
    except Exception as error:  # torch raises what the damage happens to run into
        raise CorruptData(
            f"{checkpoint.path} cannot be read ({' '.join(str(error).split()):.300}): delete it to continue from the "
            "one before."
        ) from error


def _parts(model: nn.Module, learner: Learner) -> dict[str, Any]:
    """Return the tensors of a checkpoint, nested by name; they share memory with the model's."""
    parts: dict[str, Any] = {"weights": _weights(model), "optimizer": {}}
    for name, parameter in model.named_parameters():
        if parameter in learner.optimizer.state:
            parts["optimizer"][name] = dict(learner.optimizer.state[parameter])
    if learner.average is not None:
        parts["average"] = learner.average.state_dict()
    return parts


def _weights(model: nn.Module) -> dict[str, Any]:
    """Return the weights that are trained, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def _begin_optimizer(learner: Learner, model: nn.Module, known: Mapping[str, Any]) -> None:
    """Make the optimizer states that a checkpoint has, to be loaded into."""
    for name, parameter in model.named_parameters():
        if f"optimizer.{name}.exp_avg" in known:
            learner.optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def _flat(parts: Mapping[str, Any], path: str = "") -> list[str]:
    names: list[str] = []
    for name, part in parts.items():
        names += _flat(part, f"{path}{name}.") if isinstance(part, Mapping) else [f"{path}{name}"]
    return names
