"""Export of a checkpoint in Hugging Face format: what several processes have written becomes one folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from sdar_agents.engines.transformers import load_model, without_bars
from sdar_agents.training.run.folder import read_run_config
from sdar_agents.training.saving.adapters import add_adapters
from sdar_agents.training.saving.checkpoints import Checkpoint, Checkpoints
from sdar_agents.training.saving.shards import load_shards
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.files.locks import writing_path
from sdar_envs.files.replacing import new_folder, sweep

__all__ = ["export_checkpoint"]


def export_checkpoint(run: Path, *, step: int | None = None, out: Path | None = None) -> Path:
    """Write the model of a checkpoint as `from_pretrained` reads it, with its tokenizer; return the folder.

    Memory holds the whole model once, on the CPU.

    Args:
        run: folder of a training run.
        step: of the checkpoint; None for the last.
        out: new folder; None for `model/` in the checkpoint, where that of a run of one process is.

    Raises:
        MissingData: there is no such run or checkpoint.
        InvalidOption: the folder is there already.
        CorruptData: the checkpoint cannot be read.
    """
    config = read_run_config(run)
    checkpoint = _find(run, step)
    target = checkpoint.model if out is None else out
    if checkpoint.model.is_dir() and out is None:
        return target
    if target.exists():
        raise InvalidOption(f"{target} exists: choose a new folder.")
    with writing_path(target) as is_locked:
        if is_locked:
            sweep(target.parent, target.name)
        with new_folder(target) as temporary:
            if checkpoint.model.is_dir():
                shutil.copytree(checkpoint.model, temporary)
                return target
            model, tokenizer = load_model(config.model.path, device="cpu", dtype=config.model.dtype)
            if config.model.lora is not None:
                model = add_adapters(model, config.model.lora, seed=config.seed)
            load_shards(checkpoint, model)
            with without_bars():
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
    return target


def _find(run: Path, step: int | None) -> Checkpoint:
    found = Checkpoints(run / "checkpoints", keep=1).all()
    wanted = [checkpoint for checkpoint in found if step in (None, checkpoint.step)]
    if not wanted:
        there = ", ".join(str(checkpoint.step) for checkpoint in found) or "none"
        asked = "" if step is None else f" of step {step}"
        raise MissingData(f"{run} has no checkpoint{asked}; there are those of the steps: {there}.")
    return wanted[-1]
