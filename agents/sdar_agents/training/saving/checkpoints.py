"""Checkpoints of a training run, written atomically.

A checkpoint is a folder `checkpoints/step-000012`: the model in Hugging Face format, with its tokenizer, in `model/`;
optimiser, random states, teacher weights in `trainer.pt`; step, counters and positions in `state.json`. It is written
under a hidden name, synced to the disk, and renamed, so that a folder with a checkpoint's name is complete, also if the
process is killed. The last few and the best are kept. Several processes write the tensors in parts:
`sdar_agents.training.saving.shards`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdar_envs.errors import CorruptData, RunStopped
from sdar_envs.files.json_text import parse_json
from sdar_envs.files.replacing import delete_folder, new_folder, sweep

__all__ = ["Checkpoint", "Checkpoints", "flush", "state_text"]

_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Complete checkpoint.

    Attributes:
        path: its folder.
        step: after which it was written.
    """

    path: Path
    step: int

    @property
    def model(self) -> Path:
        """Folder of the model, for `from_pretrained`; of a sharded checkpoint, `sdar export` makes it."""
        return self.path / "model"

    @property
    def is_sharded(self) -> bool:
        """Whether several processes wrote it (`sdar_agents.training.saving.shards`)."""
        return (self.path / "shards").is_dir()

    def read_state(self) -> dict[str, Any]:
        """Return the contents of `state.json`.

        Raises:
            CorruptData: it cannot be read.
        """
        try:
            state: dict[str, Any] = parse_json((self.path / "state.json").read_bytes())
        except (OSError, ValueError) as error:
            raise CorruptData(
                f"{self.path} cannot be read ({error}): delete it to continue from the one before."
            ) from error
        return state

    def read_tensors(self) -> dict[str, Any]:
        """Return the contents of `trainer.pt`, on the CPU.

        Raises:
            CorruptData: it cannot be read.
        """
        try:
            tensors: dict[str, Any] = torch.load(self.path / "trainer.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what the damage happens to run into
            raise CorruptData(
                f"{self.path} cannot be read ({error}): delete it to continue from the one before."
            ) from error
        return tensors


class Checkpoints:
    """Checkpoints of a run: list, save, prune. Whoever saves holds the run's lock (`sdar_envs.files.locks`).

    Args:
        folder: of all checkpoints; made when the first is written.
        keep: how many of the latest are kept.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    def all(self) -> list[Checkpoint]:
        """Return the complete checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir())
        return sorted(
            (Checkpoint(path, int(match[1])) for path, match in found if match and path.is_dir()),
            key=lambda checkpoint: checkpoint.step,
        )

    def sweep(self) -> None:
        """Delete what killed processes left: checkpoints in the making and in deletion."""
        sweep(self.folder)

    def best(self) -> Checkpoint | None:
        """Return the checkpoint with the best evaluation, the first of equals; None if there was no evaluation."""
        values = {checkpoint: checkpoint.read_state().get("value") for checkpoint in self.all()}
        known = {checkpoint: float(value) for checkpoint, value in values.items() if value is not None}
        return max(known, key=lambda checkpoint: known[checkpoint], default=None)

    def save(
        self,
        step: int,
        save_model: Callable[[Path], object],
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        *,
        value: float | None = None,
    ) -> Checkpoint:
        """Write a checkpoint, then delete those that are not to be kept. An existing one of this step is left as it is.

        Args:
            step: after which.
            save_model: writes the model to the folder that it is given.
            tensors: for `trainer.pt`.
            state: for `state.json`, which gets the step and the value too.
            value: of the evaluation at this step, more is better; None if there was none.

        Raises:
            RunStopped: it cannot be written; the checkpoints before it are untouched.
        """
        path = self.folder / f"step-{step:06d}"
        if not path.is_dir():
            self._write(path, save_model, tensors, {**state, "step": step, "value": value})
        self.prune()
        return Checkpoint(path, step)

    def _write(
        self, path: Path, save_model: Callable[[Path], object], tensors: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with new_folder(path) as temporary:
                (temporary / "model").mkdir(parents=True)
                save_model(temporary / "model")
                torch.save(dict(tensors), temporary / "trainer.pt")
                (temporary / "state.json").write_text(state_text(state), encoding="utf-8")
                for file in (*temporary.rglob("*"), temporary):
                    _flush(file)
            _flush(self.folder)
        except Exception as error:  # safetensors and torch have exceptions of their own for a full disk
            before = self.all()
            kept = f"the one of step {before[-1].step} is untouched" if before else "there is none before it"
            raise RunStopped(
                f"the checkpoint {path} cannot be written ({' '.join(str(error).split())}); {kept}. "
                "Free some space and resume."
            ) from error

    def prune(self) -> None:
        """Delete the checkpoints that are not to be kept, which a process that is killed after saving leaves."""
        found = self.all()
        best = self.best()
        for checkpoint in found[: -self._keep]:
            if best is None or checkpoint.step != best.step:
                delete_folder(checkpoint.path)


def state_text(state: Mapping[str, Any]) -> str:
    """Return the contents of `state.json`."""
    return json.dumps(state, indent=1) + "\n"


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
