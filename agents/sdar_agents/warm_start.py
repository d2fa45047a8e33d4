"""A warm start: demonstrations in, a model that answers like them out. What `sdar sft` does.

    model = warm_start("tiny-1m", [Path("demos.jsonl")], Path("runs/sft"))

The folder gets `config.json`, `sft.jsonl` with the measures, `checkpoints/` while it runs, `model/` when it is done.
A model is a folder or a name on the hub, or one of `TINY_MODELS`, which is made from nothing together with a tokenizer
of the demonstrations' words.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdar_agents.checkpoints import Checkpoint, Checkpoints
from sdar_agents.generation import load_model
from sdar_agents.sft import Examples, SFTSettings, encode_rows, fine_tune
from sdar_agents.tiny import TINY_MODELS, TINY_SFT, make_model, save_model, train_tokenizer
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.lines import append_row, drop_torn_line, parse_row
from sdar_envs.storage import write_atomic

__all__ = ["default_settings", "warm_start"]

_TOKENIZER_ROWS = 3000
"""Rows that a tokenizer is trained on."""


def default_settings(model: str) -> SFTSettings:
    """Return how such a model is trained if nothing else is said."""
    return TINY_SFT if model in TINY_MODELS else SFTSettings()


def warm_start(
    model: str,
    demonstrations: Sequence[Path],
    folder: Path,
    settings: SFTSettings | None = None,
    *,
    device: str | None = None,
    resume: bool = False,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Path:
    """Fine-tune a model on demonstrations.

    Args:
        model: see the module.
        demonstrations: files of rows (`sdar demos`).
        folder: of the run; new, or one to resume.
        settings: how; None for `default_settings`.
        device: such as `cuda`; None for CUDA if there is a GPU, else the CPU.
        resume: go on after the latest checkpoint of the folder, or anew if there is none.
        log: also gets what is written to `sft.jsonl`, see `fine_tune`.

    Returns:
        The folder of the model.

    Raises:
        InvalidOption: the folder is taken, is another run's, or a model or row cannot be used.
        MissingData: a file of demonstrations is not there.
        RunStopped: the loss is not finite or a checkpoint cannot be written; resume after the cause is gone.
    """
    settings = settings or default_settings(model)
    done = folder / "model"
    for path in demonstrations:
        if not path.is_file():
            raise MissingData(f"there are no demonstrations {str(path)!r}: write some with sdar demos.")
    config = {"model": model, "demonstrations": [str(path) for path in demonstrations], **asdict(settings)}
    _claim(folder, config, resume=resume)
    if done.is_dir():
        return done
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    found = checkpoints.all()
    checkpoint = found[-1] if found else None
    trained, tokenizer, examples = _load(model, demonstrations, settings, checkpoint, device)

    def save(to: Path) -> None:
        save_model(trained, tokenizer, to)

    _cut_log(folder / "sft.jsonl", checkpoint.step if checkpoint else 0)
    with open(folder / "sft.jsonl", "ab", buffering=0) as file:

        def write(measures: Mapping[str, float]) -> None:
            append_row(file, measures)
            log(measures)

        fine_tune(
            trained,
            examples,
            settings,
            pad_id=0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            checkpoints=checkpoints,
            save_model=save,
            resume_from=checkpoint,
            log=write,
        )
    temporary = folder / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    save(temporary)
    os.rename(temporary, done)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return done


def _claim(folder: Path, config: Mapping[str, Any], *, resume: bool) -> None:
    path = folder / "config.json"
    if path.exists():
        if not resume:
            raise InvalidOption(f"{folder} holds a run already: choose another folder, or resume it.")
        if json.loads(path.read_text(encoding="utf-8")) != config:
            raise InvalidOption(
                f"{path} says other settings than these: resume with the same, or choose another folder."
            )
        return
    write_atomic(path, json.dumps(config, indent=1) + "\n")


def _load(
    model: str, demonstrations: Sequence[Path], settings: SFTSettings, checkpoint: Checkpoint | None, device: str | None
) -> tuple[Any, Any, Examples]:
    if checkpoint is not None:
        trained, tokenizer = load_model(str(checkpoint.model), device=device)
    elif model in TINY_MODELS:
        first = (row for _, row in zip(range(_TOKENIZER_ROWS), _rows(demonstrations), strict=False))
        texts = (text for row in first for text in (*(m["content"] for m in row["messages"]), row["completion"]))
        tokenizer = train_tokenizer(texts)
        trained = make_model(TINY_MODELS[model], tokenizer, seed=settings.seed)
        if device is not None:
            trained = trained.to(device)
    else:
        trained, tokenizer = load_model(model, device=device, dtype="float32")
    limit = getattr(trained.config.get_text_config(), "max_position_embeddings", None)
    return trained, tokenizer, encode_rows(_rows(demonstrations), tokenizer, max_length=limit)


def _rows(demonstrations: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in demonstrations:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield parse_row(line, f"{path}, line {number},")


def _cut_log(path: Path, step: int) -> None:
    """Remove what was written after the checkpoint: those steps are taken again."""
    drop_torn_line(path)
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line.decode() for line in lines if parse_row(line, str(path))["step"] <= step]
        write_atomic(path, kept)
