"""Supervised warm start: fine-tune a model on files of demonstrations, in a run folder (`sdar sft`).

    model = warm_start("tiny-1m", [Path("demos.jsonl")], Path("runs/sft"))

The folder gets `config.json`, `sft.jsonl` with the metrics, `checkpoints/` while it runs, `model/` when it is done.
With `lora_rank` it also gets `adapter/`, in the format of peft, and `model/` has the adapters merged into its weights.
A model is a folder, a name on the Hugging Face hub, `smollm2` (`sdar_agents.engines.smollm2`), or one of `TINY_MODELS`,
which is initialised at random together with a tokenizer that is trained on the demonstrations.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from sdar_agents.engines.smollm2 import SMOLLM2
from sdar_agents.engines.transformers import choose_device, load_model
from sdar_agents.sft.examples import Examples, check_row, encode_rows
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.sft.sft import TrainingPlan, fine_tune
from sdar_agents.sft.tiny import TINY_MODELS, TINY_SFT, make_model, save_model, train_tokenizer
from sdar_agents.training.config import LoraSettings
from sdar_agents.training.saving.adapters import add_adapters, load_weights
from sdar_agents.training.saving.checkpoints import Checkpoint, Checkpoints
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, did_you_mean
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json
from sdar_envs.files.lines import append_row, drop_torn_line, parse_row
from sdar_envs.files.locks import writing_folder
from sdar_envs.files.replacing import delete_folder, new_folder, sweep
from sdar_envs.storage import absolute_path, check_run, write_atomic

__all__ = ["default_settings", "warm_start"]

_CONFIG = "config.json"

_NAMES = (*TINY_MODELS, SMOLLM2)
"""Models that are no folder, whatever is in the working directory."""

_TOKENIZER_ROWS = 3000
"""Number of rows that a tokenizer is trained on."""


def default_settings(model: str) -> SFTSettings:
    """Return the default settings for a model."""
    return TINY_SFT if model in TINY_MODELS else SFTSettings()


def warm_start(
    model: str,
    demonstrations: Sequence[Path],
    folder: Path,
    settings: SFTSettings | None = None,
    *,
    device: str | None = None,
    validation: Sequence[Path] = (),
    resume: bool = False,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
    begin: Callable[[TrainingPlan], object] = lambda _: None,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Path:
    """Fine-tune a model on demonstrations.

    Args:
        model: a folder, a name on the hub, `smollm2`, or one of `TINY_MODELS`.
        demonstrations: files of rows (`sdar demos`).
        folder: of the run; new, or one to resume.
        settings: None for `default_settings`.
        device: such as `cuda`; None for CUDA if there is a GPU, else the CPU.
        validation: files of held-out rows, which are measured and not trained on; of other tasks, or they say little.
        resume: continue after the latest checkpoint of the folder, or from the beginning if there is none.
        log: also gets what is written to `sft.jsonl`, see `fine_tune`.
        begin: called before the first step.
        progress: called with the step and the tokens so far.

    Returns:
        The folder of the model.

    Raises:
        InvalidOption: the folder is taken, is another run's, or is written by another process; or a model or row cannot
            be used.
        MissingData: a file of demonstrations does not exist.
        CorruptData: a line of it is not JSON, or the model that was written does not load as it was.
        RunStopped: the gradient is not finite or a checkpoint cannot be written; resume after the cause is gone.
    """
    settings = settings or default_settings(model)
    done = folder / "model"
    for path in (*demonstrations, *validation):
        if not path.is_file():
            raise MissingData(f"there are no demonstrations {str(path)!r}: write some with sdar demos.")
    config = {
        "model": absolute_path(model, _NAMES),
        "demonstrations": absolute_path([str(path) for path in demonstrations]),
        "validation": absolute_path([str(path) for path in validation]),
        **asdict(settings),
    }
    if resume:
        _check_folder(folder, config, resume=True)  # also before the lock, for which a missing folder is made
    with writing_folder(folder) as is_locked:
        _check_folder(folder, config, resume=resume)
        checkpoints = Checkpoints(folder / "checkpoints", keep=1)
        if is_locked:
            sweep(folder)
            checkpoints.sweep()
        if done.is_dir():
            shutil.rmtree(checkpoints.folder, ignore_errors=True)
            return done
        found = checkpoints.all()
        checkpoint = found[-1] if found else None
        trained, tokenizer = _load(model, demonstrations, settings, checkpoint, device)
        examples = _encode(demonstrations, trained, tokenizer, settings)
        held_out = _encode(validation, trained, tokenizer, settings) if validation else None
        # Only now, so that a run that could not begin leaves its folder free.
        write_atomic(folder / _CONFIG, json.dumps(config, indent=1) + "\n")

        def save(to: Path) -> None:
            if settings.lora_rank is None:
                save_model(trained, tokenizer, to)
            else:
                # With its default, peft asks the hub for the model's vocabulary.
                trained.save_pretrained(to, save_embedding_layers=False)

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
                validation=held_out,
                checkpoints=checkpoints,
                save_model=save,
                resume_from=checkpoint,
                log=write,
                begin=begin,
                progress=progress,
            )
        if settings.lora_rank is not None:
            adapter = folder / "adapter"
            if adapter.exists():
                delete_folder(adapter)  # of a run that was killed before the model was written
            with new_folder(adapter) as temporary:
                save(temporary)
            trained = trained.merge_and_unload()
        with new_folder(done) as temporary:
            save_model(trained, tokenizer, temporary)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return done


def _check_folder(folder: Path, config: Mapping[str, Any], *, resume: bool) -> None:
    path = folder / _CONFIG
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(not item.name.startswith(".") for item in folder.iterdir())):
            raise InvalidOption(f"{folder} exists and is no run: choose another folder.")
        if resume:
            check_run(folder, _CONFIG)
        return
    if not resume:
        raise InvalidOption(f"{folder} already holds a run: choose another folder, or resume it.")
    try:
        found = parse_json(read_foreign(path))
    except ValueError as error:
        raise CorruptData(f"{path} is not JSON ({error}): choose another folder.") from error
    # A setting that did not exist when the run began has its default.
    found = {**asdict(SFTSettings()), "validation": [], **found} if isinstance(found, dict) else {}
    # A run may have been begun when paths were still written down as they were given.
    found |= {name: absolute_path(found.get(name), _NAMES) for name in ("model", "demonstrations", "validation")}
    changed = [name for name in config if found.get(name) != config[name]]
    if changed:
        raise InvalidOption(
            f"{folder} is a run with other settings: {', '.join(changed)} changed. Resume with the same settings, or "
            "choose another folder."
        )


def _load(
    model: str, demonstrations: Sequence[Path], settings: SFTSettings, checkpoint: Checkpoint | None, device: str | None
) -> tuple[Any, Any]:
    if settings.lora_rank is not None:
        loaded, tokenizer = _load_start(model, demonstrations, settings, device)
        adapted: Any = _adapted(loaded, absolute_path(model, _NAMES), settings)
        if checkpoint is not None:
            load_weights(adapted, checkpoint.model)
        return adapted, tokenizer
    if checkpoint is not None:
        return load_model(str(checkpoint.model), device=device)
    return _load_start(model, demonstrations, settings, device)


def _adapted(model: Any, name: str, settings: SFTSettings) -> Any:
    assert settings.lora_rank is not None
    lora = LoraSettings(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        targets=settings.lora_targets,
        blocks=settings.lora_blocks,
    )
    adapted: Any = add_adapters(model, lora, seed=settings.seed, where="lora_")
    # As it was given: `smollm2`, not the folder in the cache of this machine.
    adapted.peft_config["default"].base_model_name_or_path = name
    return adapted


def _load_start(
    model: str, demonstrations: Sequence[Path], settings: SFTSettings, device: str | None
) -> tuple[Any, Any]:
    """Return the model to begin with and its tokenizer, all weights trained."""
    if model in TINY_MODELS:
        texts = (
            text
            for row in islice(_rows(demonstrations), _TOKENIZER_ROWS)
            for text in (*(message["content"] for message in row["messages"]), row["completion"])
        )
        tokenizer = train_tokenizer(texts)
        device = choose_device(device)
        try:
            return make_model(TINY_MODELS[model], tokenizer, seed=settings.seed).to(device), tokenizer
        except (AssertionError, RuntimeError) as error:  # the first from a torch without CUDA
            raise InvalidOption(f"the model {model!r} cannot be made on {device} ({error}).") from error
    try:
        return load_model(model, device=device, dtype="float32")
    except InvalidOption as error:
        raise InvalidOption(f"{error}{did_you_mean(model, _NAMES)}") from error


def _encode(paths: Sequence[Path], trained: Any, tokenizer: Any, settings: SFTSettings) -> Examples:
    limit = getattr(trained.config.get_text_config(), "max_position_embeddings", None)
    return encode_rows(_rows(paths), tokenizer, max_length=limit, template_options=settings.template_options)


def _rows(demonstrations: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in demonstrations:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number},"
                row = parse_row(line, where)
                check_row(row, where)
                yield row


def _cut_log(path: Path, step: int) -> None:
    """Remove the lines after the checkpoint: those steps are taken again."""
    drop_torn_line(path)
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line.decode() for line in lines if parse_row(line, str(path))["step"] <= step]
        write_atomic(path, kept)
