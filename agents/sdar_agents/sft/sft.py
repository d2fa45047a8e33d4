"""Supervised fine-tuning: a model learns to answer as demonstrations do.

    examples = encode_rows(read_rows(path), tokenizer)
    fine_tune(model, examples, SFTSettings(lr=3e-3), pad_id=tokenizer.pad_token_id)

A row is `messages` and `completion`. The loss of a token is its negative log-probability; tokens of the completion, its
end token included, weigh 1, those of the prompt `prompt_weight`, and a step's loss is the weighted mean over all its
tokens, however it is cut into micro-batches. The order of the rows follows from the seed and the step alone, so that a
run that was killed goes on as if nothing had happened.

It refuses rows without a completion or longer than the model's context, and stops at a gradient that is not finite.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from sdar_agents.engines.policy import render_chat
from sdar_agents.scoring.batch import Sequences, pack_by_length
from sdar_agents.scoring.gradient_checkpointing import disable_gradient_checkpointing, enable_gradient_checkpointing
from sdar_agents.scoring.head import head_scores
from sdar_agents.scoring.logprobs import response_states
from sdar_agents.scoring.model_parts import disable_dropout, plain_head
from sdar_agents.scoring.options import CHUNK_ELEMENTS
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.training.checkpoints import Checkpoint, Checkpoints
from sdar_envs.errors import InvalidOption, RunStopped

__all__ = ["Examples", "SFTSettings", "check_row", "encode_rows", "fine_tune", "plan_batches"]

ItemT = TypeVar("ItemT")

_WINDOW = 64
"""Rows are sorted by length within so many batches: little padding, and still an order by chance."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """How demonstrations are learnt.

    Attributes:
        lr: of AdamW, after the warm-up.
        warmup: share of the steps in which lr rises.
        final_lr: what is left of lr at the end of the cosine, as a share.
        beta2: of AdamW.
        weight_decay: of AdamW, on matrices only.
        clip_norm: longer gradients are shortened to this; null for never.
        epochs: how often the rows are gone through.
        batch_tokens: padded tokens in an optimiser step.
        max_tokens: padded tokens in a micro-batch; decides memory, not the result.
        prompt_weight: of the prompt's tokens in the loss; those of the completion weigh 1.
        autocast: compute in bfloat16, with the weights as they are.
        gradient_checkpointing: compute activations twice instead of keeping them.
        template_options: for the chat template, such as `{"enable_thinking": false}`; those of the training to come.
        seed: of the order of the rows.
        log_every: steps between two lines of the log.
        save_every: steps between two checkpoints; 0 for none.
        validate_every: steps between two measures on validation rows; 0 for only after the last step.
    """

    lr: float = setting(1e-5, low=0)
    warmup: float = setting(0.03, low=0, high=1)
    final_lr: float = setting(0.05, low=0, high=1)
    beta2: float = setting(0.98, low=0, high=0.99999)
    weight_decay: float = setting(0.01, low=0)
    clip_norm: float | None = setting(1.0, low=0)
    epochs: int = setting(1, low=1)
    batch_tokens: int = setting(16_384, low=1)
    max_tokens: int = setting(16_384, low=1)
    prompt_weight: float = setting(0.0, low=0)
    autocast: bool = False
    gradient_checkpointing: bool = False
    template_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seed: int = setting(0, low=0)
    log_every: int = setting(20, low=1)
    save_every: int = setting(0, low=0)
    validate_every: int = setting(0, low=0)

    def __post_init__(self) -> None:
        check_settings(self)


class Examples(NamedTuple):
    """Rows as token ids, end to end.

    Attributes:
        token_ids: `(N,)` int32.
        starts: `(R + 1,)`, where each row begins, and N.
        prompt_lengths: `(R,)`.
    """

    token_ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`(R,)`, prompt and completion together."""
        return np.diff(self.starts)

    def digest(self) -> str:
        """Return a hash of all of it."""
        return hashlib.sha256(b"".join(part.tobytes() for part in self)).hexdigest()


def check_row(row: Mapping[str, Any], where: str) -> None:
    """Refuse a row that is no demonstration.

    Args:
        row: what came.
        where: its name in the message, such as `row 3`.

    Raises:
        InvalidOption: it is none.
    """
    messages, completion = row.get("messages"), row.get("completion")
    if not messages or not completion:
        raise InvalidOption(f"{where} has no messages or no completion; wanted both.")
    is_chat = isinstance(messages, list) and all(
        isinstance(message, Mapping) and all(isinstance(message.get(name), str) for name in ("role", "content"))
        for message in messages
    )
    if not is_chat:
        raise InvalidOption(
            f'{where} has the messages {messages!r:.80}; wanted a list of {{"role": ..., "content": ...}}, both text.'
        )
    if not isinstance(completion, str):
        raise InvalidOption(f"{where} has the completion {completion!r:.80}; wanted text.")


def encode_rows(
    rows: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    *,
    max_length: int | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> Examples:
    """Return demonstrations as token ids: the rendered messages, the completion, the end token.

    Args:
        rows: with `messages` and `completion`.
        tokenizer: with a chat template and an end token.
        max_length: refuse longer rows; None for any length.
        template_options: for the chat template.

    Raises:
        InvalidOption: there are no rows, one is too long, is no demonstration or does not suit the template, or the
            tokenizer lacks something.
    """
    from jinja2 import TemplateError  # noqa: PLC0415

    if tokenizer.chat_template is None or tokenizer.eos_token is None:
        raise InvalidOption("the tokenizer has no chat template or no end token: use one that was made for chat.")
    ids: list[NDArray[np.int32]] = []
    prompt_lengths: list[int] = []
    # In parts, because a tokenizer's answer takes a hundred times the memory of the ids in it.
    for part in _parts(rows, 1024):
        prompts: list[str] = []
        completions: list[str] = []
        for row in part:
            where = f"row {len(ids) + len(prompts) + 1}"
            check_row(row, where)
            try:
                prompts.append(render_chat(tokenizer, row["messages"], template_options or {}))
            except TemplateError as error:
                raise InvalidOption(f"{where} does not suit the tokenizer's chat template ({error}).") from error
            completions.append(row["completion"] + tokenizer.eos_token)
        for prompt, completion in zip(
            *(tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, completions)), strict=True
        ):
            if max_length is not None and len(prompt) + len(completion) > max_length:
                raise InvalidOption(
                    f"row {len(ids) + 1} has {len(prompt) + len(completion)} tokens and the model reads {max_length}: "
                    "make demonstrations with a shorter history."
                )
            ids.append(np.array(prompt + completion, dtype=np.int32))
            prompt_lengths.append(len(prompt))
    if not ids:
        raise InvalidOption("there are no demonstrations; wanted at least one row.")
    starts = np.cumsum([0, *map(len, ids)])
    return Examples(np.concatenate(ids), starts, np.array(prompt_lengths))


def plan_batches(lengths: Sequence[int], settings: SFTSettings) -> list[list[int]]:
    """Return the rows of each optimiser step of a run: each row once in an epoch, beside others of like length."""
    batches: list[list[int]] = []
    longest = max(lengths)
    window = _WINDOW * max(1, settings.batch_tokens // longest)
    for epoch in range(settings.epochs):
        rng = random.Random(f"{settings.seed}/{epoch}")
        order = list(range(len(lengths)))
        rng.shuffle(order)
        found: list[list[int]] = []
        for rows in _parts(order, window):
            packs = pack_by_length([lengths[row] for row in rows], settings.batch_tokens)
            found += [[rows[i] for i in pack] for pack in packs]
        rng.shuffle(found)
        batches += found
    return batches


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
) -> None:
    """Train a model on examples, in place.

    Args:
        model: a Hugging Face causal language model, or peft around one. When resuming, that of the checkpoint.
        examples: from `encode_rows`.
        settings: see there.
        pad_id: fills up short rows.
        validation: rows that are not learnt, only measured.
        checkpoints: where to save; None for not at all.
        save_model: writes the model to a folder; wanted by `checkpoints`.
        resume_from: goes on after this checkpoint, which was made with the same examples and settings.
        log: gets `step`, `steps`, `loss` and `accuracy` of the completions' tokens, `lr`, `grad_norm`, `tokens` so far,
            `tokens_per_second`, every `settings.log_every` steps and at the end; `validation_loss` and
            `validation_accuracy` as `settings.validate_every` says.

    Raises:
        RunStopped: the gradient is not finite, or a checkpoint cannot be written.
        InvalidOption: the checkpoint is another run's, or the examples have tokens that the model does not know.
    """
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    for part in (examples, *([] if validation is None else [validation])):
        if part.token_ids.max() >= known:
            raise InvalidOption(
                f"the tokenizer gave the token {part.token_ids.max()}, and the model knows {known}: they do not belong "
                "together, or model.resize_token_embeddings(len(tokenizer)) is missing."
            )
    batches = plan_batches(examples.lengths.tolist(), settings)
    digest = examples.digest()
    optimizer = _optimizer(model, settings)
    first = 0
    tokens = 0
    if resume_from is not None:
        state = resume_from.read_state()
        if state.get("steps") != len(batches) or state.get("examples") != digest:
            raise InvalidOption(
                f"{resume_from.path} is of a run of {state.get('steps')} steps on other rows or in another order, and "
                f"this one has {len(batches)}: resume with the same demonstrations and settings."
            )
        optimizer.load_state_dict(resume_from.read_tensors()["optimizer"])
        first, tokens = resume_from.step, state["tokens"]
    disable_dropout(model)
    model.train()
    started, tokens_before = time.perf_counter(), tokens
    with _activations_computed_twice(model) if settings.gradient_checkpointing else nullcontext():
        for step, rows in enumerate(batches[first:], first + 1):
            is_last = step == len(batches)
            is_validated = validation is not None and (is_last or _is_due(step, settings.validate_every))
            has_line = is_last or is_validated or _is_due(step, settings.log_every)
            lr = settings.lr * _schedule(step, len(batches), settings)
            for group in optimizer.param_groups:
                group["lr"] = lr
            pieces = list(_pieces(examples, rows, settings, pad_id))
            norm, (loss, accuracy) = _step(model, optimizer, pieces, settings, measured=has_line)
            if not math.isfinite(norm):
                raise RunStopped(f"the gradient of step {step} is {norm}, and the step was not taken: lower lr.")
            tokens += int(examples.lengths[rows].sum())
            if has_line:
                line = {
                    "step": step,
                    "steps": len(batches),
                    "loss": loss,
                    "accuracy": accuracy,
                    "lr": lr,
                    "grad_norm": norm,
                    "tokens": tokens,
                    "tokens_per_second": (tokens - tokens_before) / (time.perf_counter() - started),
                }
                if validation is not None and is_validated:
                    paused = time.perf_counter()
                    line["validation_loss"], line["validation_accuracy"] = _validate(
                        model, validation, settings, pad_id
                    )
                    started += time.perf_counter() - paused
                log(line)
            is_saved = not is_last and _is_due(step, settings.save_every)
            if is_saved and checkpoints is not None and save_model is not None:
                checkpoints.save(
                    step,
                    save_model,
                    {"optimizer": optimizer.state_dict()},
                    {"steps": len(batches), "tokens": tokens, "examples": digest},
                )
    model.eval()


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[_Piece],
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
    for piece in _pieces(examples, range(len(examples.lengths)), settings, pad_id):
        measures += _loss(model, piece, settings, measured=True)[1]
    return _means(measures)


def _means(measures: Tensor) -> tuple[float, float]:
    """Return loss and accuracy from the sums `(3,)` of `_loss`; NaN if nothing was measured."""
    count, losses, hits = measures.tolist()
    return (losses / count, hits / count) if count else (math.nan, math.nan)


@contextmanager
def _activations_computed_twice(model: Any) -> Iterator[None]:
    enable_gradient_checkpointing(model)
    try:
        yield
    finally:
        disable_gradient_checkpointing(model)


def _parts(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Yield lists of `size` items, the last maybe shorter: `itertools.batched`, which Python 3.11 lacks."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


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
    """Return the factor on lr: up in a line, down in half a cosine to `final_lr`."""
    warmup = max(1, round(settings.warmup * steps))
    if step <= warmup:
        return step / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * along)) / 2


class _Piece(NamedTuple):
    """A micro-batch: sequences whose "response" is all but the first token.

    Attributes:
        sequences: `(B, T)`.
        weights: `(B, T - 1)`, of the losses.
        answers: `(B, T - 1)` bool, the tokens of the completions.
    """

    sequences: Sequences
    weights: Tensor
    answers: Tensor

    def to(self, device: torch.device) -> _Piece:
        return _Piece(self.sequences.to(device), self.weights.to(device), self.answers.to(device))


def _pieces(examples: Examples, rows: Sequence[int], settings: SFTSettings, pad_id: int) -> Iterator[_Piece]:
    """Yield rows as micro-batches."""
    for pack in pack_by_length(examples.lengths[rows].tolist(), settings.max_tokens):
        yield _piece(examples, [rows[i] for i in pack], settings, pad_id)


def _piece(examples: Examples, rows: Sequence[int], settings: SFTSettings, pad_id: int) -> _Piece:
    lengths = torch.from_numpy(examples.lengths[rows])
    prompts = torch.from_numpy(examples.prompt_lengths[rows])
    input_ids = torch.full((len(rows), int(lengths.max())), pad_id)
    for i, row in enumerate(rows):
        ids = examples.token_ids[examples.starts[row] : examples.starts[row + 1]]
        input_ids[i, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
    # Column j is about token j + 1.
    targets = torch.arange(1, input_ids.shape[1])
    answers = (targets >= prompts[:, None]) & (targets < lengths[:, None])
    weights = answers.float() + (targets < prompts[:, None]) * settings.prompt_weight
    return _Piece(Sequences(input_ids, torch.ones_like(lengths), lengths - 1), weights, answers)


def _loss(model: nn.Module, piece: _Piece, settings: SFTSettings, *, measured: bool) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of a micro-batch's losses, and of its completions: tokens, sum of losses, hits."""
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
