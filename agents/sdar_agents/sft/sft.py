"""Supervised fine-tuning on demonstrations.

    examples = encode_rows(read_rows(path), tokenizer)
    fine_tune(model, examples, SFTSettings(lr=3e-3), pad_id=tokenizer.pad_token_id)

The loss of a token is its negative log-probability; tokens of the completion, its end token included, have weight 1,
those of the prompt `prompt_weight`. A step's loss is the weighted mean over all its tokens, however it is cut into
micro-batches. The order of the rows depends on the seed and the step alone, so a killed run resumes bit for bit.

It stops at a gradient that is not finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sdar_agents.scoring.gradient_checkpointing import disable_gradient_checkpointing, enable_gradient_checkpointing
from sdar_agents.scoring.head import head_scores
from sdar_agents.scoring.logprobs import response_states
from sdar_agents.scoring.model_parts import disable_dropout, plain_head
from sdar_agents.scoring.options import CHUNK_ELEMENTS
from sdar_agents.scoring.precision import warn_if_emulated
from sdar_agents.sft.examples import Examples, MicroBatch, micro_batches, plan_batches
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.training.saving.checkpoints import Checkpoint, Checkpoints
from sdar_envs.errors import InvalidOption, RunStopped

__all__ = ["TrainingPlan", "fine_tune"]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Size of a fine-tuning: rows, their tokens, and optimiser steps over all epochs."""

    rows: int
    tokens: int
    steps: int


def fine_tune(
    model: nn.Module,
    examples: Examples,
    settings: SFTSettings,
    *,
    pad_id: int,
    validation: Examples | None = None,
    checkpoints: Checkpoints | None = None,
    save_model: Callable[[Path], object] | None = None,
    resume_from: Checkpoint | None = None,
    log: Callable[[Mapping[str, float]], None] = lambda _: None,
    begin: Callable[[TrainingPlan], object] = lambda _: None,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> None:
    """Train a model on examples, in place.

    Args:
        model: a Hugging Face causal language model, or peft around one. When resuming, that of the checkpoint.
        examples: from `encode_rows`.
        settings: see `SFTSettings`.
        pad_id: fills up short rows.
        validation: held-out rows, which are measured and not trained on.
        checkpoints: where to save; None for not at all.
        save_model: writes the model to a folder; needed by `checkpoints`.
        resume_from: continues after this checkpoint, which was made with the same examples and settings.
        log: gets `step`, `steps`, `loss` and `accuracy` of the completions' tokens, `lr`, `grad_norm`, `tokens` so far,
            `tokens_per_second`, every `settings.log_every` steps and at the end; `validation_loss` and
            `validation_accuracy` as `settings.validate_every` says.
        begin: called before the first step.
        progress: called with the step and the tokens so far before the first step and after each.

    Raises:
        RunStopped: the gradient is not finite, or a checkpoint cannot be written.
        InvalidOption: the checkpoint is another run's, or the examples have tokens that the model does not know.
    """
    for part in (examples, *([] if validation is None else [validation])):
        _check_vocabulary(model, part)
    if settings.autocast:
        warn_if_emulated(next(model.parameters()).device, "autocast")
    run = _Run(model, examples, settings, pad_id, validation)
    first = 0 if resume_from is None else run.resume(resume_from)
    disable_dropout(model)
    model.train()
    run.start_clock()
    begin(TrainingPlan(len(examples.lengths), int(examples.lengths.sum()), run.steps))
    progress(first, run.tokens)
    with _gradient_checkpointing(model) if settings.gradient_checkpointing else nullcontext():
        for step in range(first + 1, run.steps + 1):
            line = run.take_step(step)
            if line is not None:
                log(line)
            progress(step, run.tokens)
            is_saved = step < run.steps and _is_due(step, settings.save_every)
            if is_saved and checkpoints is not None and save_model is not None:
                run.save(step, checkpoints, save_model)
    model.eval()


class _Run:
    """Batches, optimiser and counters of a fine-tuning."""

    def __init__(
        self, model: nn.Module, examples: Examples, settings: SFTSettings, pad_id: int, validation: Examples | None
    ) -> None:
        self.model = model
        self.examples = examples
        self.settings = settings
        self.pad_id = pad_id
        self.validation = validation
        self.batches = plan_batches(examples.lengths.tolist(), settings)
        self.steps = len(self.batches)
        self.optimizer = _optimizer(model, settings)
        self.digest = examples.digest()
        self.tokens = 0

    def start_clock(self) -> None:
        """Measure tokens per second from here on."""
        self.started, self.tokens_before = time.perf_counter(), self.tokens

    def take_step(self, step: int) -> dict[str, float] | None:
        """Take an optimiser step, from 1; return the line of the log, if one is due."""
        settings, rows = self.settings, self.batches[step - 1]
        is_last = step == self.steps
        is_validated = self.validation is not None and (is_last or _is_due(step, settings.validate_every))
        has_line = is_last or is_validated or _is_due(step, settings.log_every)
        lr = settings.lr * _schedule(step, self.steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        pieces = list(micro_batches(self.examples, rows, settings, self.pad_id))
        norm, (loss, accuracy) = _step(self.model, self.optimizer, pieces, settings, measured=has_line)
        if not math.isfinite(norm):
            raise RunStopped(f"the gradient of step {step} is {norm}, and the step was not taken: lower lr.")
        self.tokens += int(self.examples.lengths[rows].sum())
        if not has_line:
            return None
        line = {
            "step": step,
            "steps": self.steps,
            "loss": loss,
            "accuracy": accuracy,
            "lr": lr,
            "grad_norm": norm,
            "tokens": self.tokens,
            "tokens_per_second": (self.tokens - self.tokens_before) / (time.perf_counter() - self.started),
        }
        if self.validation is not None and is_validated:
            paused = time.perf_counter()
            line["validation_loss"], line["validation_accuracy"] = _validate(
                self.model, self.validation, settings, self.pad_id
            )
            self.started += time.perf_counter() - paused
        return line

    def save(self, step: int, checkpoints: Checkpoints, save_model: Callable[[Path], object]) -> None:
        """Write a checkpoint."""
        state = {"steps": self.steps, "tokens": self.tokens, "examples": self.digest}
        checkpoints.save(step, save_model, {"optimizer": self.optimizer.state_dict()}, state)

    def resume(self, checkpoint: Checkpoint) -> int:
        """Load the optimiser and the counters of a checkpoint; return its step."""
        state = checkpoint.read_state()
        if state.get("steps") != self.steps or state.get("examples") != self.digest:
            raise InvalidOption(
                f"{checkpoint.path} is of a run of {state.get('steps')} steps on other rows or in another order, and "
                f"this one has {self.steps}: resume with the same demonstrations and settings."
            )
        self.optimizer.load_state_dict(checkpoint.read_tensors()["optimizer"])
        self.tokens = state["tokens"]
        return checkpoint.step


def _check_vocabulary(model: nn.Module, examples: Examples) -> None:
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if examples.token_ids.max() >= known:
        raise InvalidOption(
            f"the tokenizer gave the token {examples.token_ids.max()}, and the model knows {known}: they do not belong "
            "together, or model.resize_token_embeddings(len(tokenizer)) is missing."
        )


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[MicroBatch],
    settings: SFTSettings,
    *,
    measured: bool,
) -> tuple[float, tuple[float, float]]:
    """Take a step, unless the gradient is not finite; return the gradient's norm, and loss and accuracy."""
    optimizer.zero_grad()
    measures = torch.zeros(3, dtype=torch.float64)
    total = sum(float(piece.weights.sum()) for piece in pieces)
    for piece in pieces:
        loss, seen = _loss(model, piece, settings, measured=measured)
        (loss / total).backward()  # type: ignore[no-untyped-call]
        measures += seen
    limit = math.inf if settings.clip_norm is None else settings.clip_norm
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), limit))
    if math.isfinite(norm):
        optimizer.step()
    return norm, _means(measures)


@torch.no_grad()
def _validate(model: nn.Module, examples: Examples, settings: SFTSettings, pad_id: int) -> tuple[float, float]:
    """Return loss and accuracy of the completions' tokens."""
    measures = torch.zeros(3, dtype=torch.float64)
    for piece in micro_batches(examples, range(len(examples.lengths)), settings, pad_id):
        measures += _loss(model, piece, settings, measured=True)[1]
    return _means(measures)


def _means(measures: Tensor) -> tuple[float, float]:
    """Return loss and accuracy from the sums `(3,)` of `_loss`; NaN if nothing was measured."""
    count, losses, hits = measures.tolist()
    return (losses / count, hits / count) if count else (math.nan, math.nan)


@contextmanager
def _gradient_checkpointing(model: Any) -> Iterator[None]:
    enable_gradient_checkpointing(model)
    try:
        yield
    finally:
        disable_gradient_checkpointing(model)


def _optimizer(model: nn.Module, settings: SFTSettings) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise InvalidOption("no weight of the model is to be trained; wanted some with requires_grad.")
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2))


def _schedule(step: int, steps: int, settings: SFTSettings) -> float:
    """Return the factor on lr: linear warm-up, then cosine decay to `final_lr`."""
    warmup = max(1, round(settings.warmup * steps))
    if step <= warmup:
        return step / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * along)) / 2


def _loss(model: nn.Module, piece: MicroBatch, settings: SFTSettings, *, measured: bool) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the losses, and of the completions `(3,)`: tokens, sum of losses, correct tokens."""
    piece = piece.to(next(model.parameters()).device)
    mask = piece.weights > 0
    seen = torch.zeros(3, dtype=torch.float64)
    with torch.autocast(mask.device.type, torch.bfloat16) if settings.autocast else nullcontext():
        states = response_states(model, piece.sequences, mask)
        weight, bias = plain_head(model)
        targets = piece.sequences.input_ids[:, 1:][mask]
        losses = -head_scores(states, weight, bias, targets).logprobs
        if measured:
            answers = piece.answers[mask]
            with torch.no_grad():
                # In pieces: the logits of all tokens over a large vocabulary would be gigabytes.
                size = max(1, CHUNK_ELEMENTS // len(weight))
                parts = zip(torch.split(states[answers], size), torch.split(targets[answers], size), strict=True)
                hits = sum(int((F.linear(part, weight, bias).argmax(dim=-1) == ids).sum()) for part, ids in parts)
                loss = losses[answers].double().sum().item()
                seen = torch.tensor([int(answers.sum()), loss, hits], dtype=torch.float64)
    return (piece.weights[mask] * losses).sum(), seen
