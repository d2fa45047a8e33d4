"""Supervised fine-tuning: a model learns to answer as demonstrations do.

    examples = encode_rows(read_rows(path), tokenizer)
    fine_tune(model, examples, SFTSettings(lr=3e-3), pad_id=tokenizer.pad_token_id)

A row is `messages` and `completion`. The loss of a token is its negative log-probability; tokens of the completion, its
end token included, weigh 1, those of the prompt `prompt_weight`, and a step's loss is the weighted mean over all its
tokens, however it is cut into micro-batches. The order of the rows follows from the seed and the step alone, so that a
run that was killed goes on as if nothing had happened.

It refuses rows without a completion or longer than the model's context, and stops at a loss that is not finite.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdar_agents.algorithms.settings import check_settings, setting
from sdar_agents.batch import Sequences, pack_by_length
from sdar_agents.checkpoints import Checkpoint, Checkpoints
from sdar_agents.logprobs import disable_dropout, head_scores, response_states
from sdar_envs.errors import InvalidOption, RunStopped

__all__ = ["Examples", "SFTSettings", "encode_rows", "fine_tune", "plan_batches"]

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
        seed: of the order of the rows.
        log_every: steps between two lines of the log.
        save_every: steps between two checkpoints; 0 for none.
    """

    lr: float = setting(1e-5, low=0)
    warmup: float = setting(0.03, low=0, high=1)
    final_lr: float = setting(0.05, low=0, high=1)
    beta2: float = setting(0.98, low=0, high=1)
    weight_decay: float = setting(0.01, low=0)
    clip_norm: float | None = setting(1.0, low=0)
    epochs: int = setting(1, low=1)
    batch_tokens: int = setting(16_384, low=1)
    max_tokens: int = setting(16_384, low=1)
    prompt_weight: float = setting(0.0, low=0)
    autocast: bool = False
    seed: int = setting(0, low=0)
    log_every: int = setting(20, low=1)
    save_every: int = setting(0, low=0)

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
        InvalidOption: there are no rows, one is too long or lacks something, or the tokenizer does.
    """
    if tokenizer.chat_template is None or tokenizer.eos_token is None:
        raise InvalidOption("the tokenizer has no chat template or no end token: use one that was made for chat.")
    ids: list[NDArray[np.int32]] = []
    prompt_lengths: list[int] = []
    # In parts, because a tokenizer's answer takes a hundred times the memory of the ids in it.
    for part in _parts(rows, 1024):
        prompts: list[str] = []
        completions: list[str] = []
        for row in part:
            if not row.get("messages") or not row.get("completion"):
                raise InvalidOption(f"row {len(ids) + len(prompts) + 1} has no messages or no completion; wanted both.")
            prompts.append(
                tokenizer.apply_chat_template(
                    row["messages"], tokenize=False, add_generation_prompt=True, **(template_options or {})
                )
            )
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
        checkpoints: where to save; None for not at all.
        save_model: writes the model to a folder; wanted by `checkpoints`.
        resume_from: goes on after this checkpoint, which was made with the same examples and settings.
        log: gets `step`, `steps`, `loss` and `accuracy` of the completions' tokens, `lr`, `grad_norm`, `tokens` so far,
            `tokens_per_second`, every `settings.log_every` steps.

    Raises:
        RunStopped: the loss is not finite, or a checkpoint cannot be written.
        InvalidOption: the checkpoint is another run's.
    """
    device = next(model.parameters()).device
    batches = plan_batches(examples.lengths.tolist(), settings)
    optimizer = _optimizer(model, settings)
    first = 0
    tokens = 0
    if resume_from is not None:
        state = resume_from.read_state()
        if state.get("steps") != len(batches):
            raise InvalidOption(
                f"{resume_from.path} is of a run of {state.get('steps')} steps and this one has {len(batches)}: resume "
                "with the same demonstrations and settings."
            )
        optimizer.load_state_dict(resume_from.read_tensors()["optimizer"])
        first, tokens = resume_from.step, state["tokens"]
    disable_dropout(model)
    model.train()
    started, tokens_before = time.perf_counter(), tokens
    for step, rows in enumerate(batches[first:], first + 1):
        lr = settings.lr * _schedule(step, len(batches), settings)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        has_line = step % settings.log_every == 0 or step == len(batches)
        measures = torch.zeros(3, dtype=torch.float64)
        pieces = [_piece(examples, rows, settings, pad_id) for rows in _micro_batches(examples, rows, settings)]
        total = sum(float(piece.weights.sum()) for piece in pieces)
        for piece in pieces:
            loss, seen = _loss(model, piece.to(device), settings, measured=has_line)
            (loss / total).backward()  # type: ignore[no-untyped-call]
            measures += seen
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf))
        if not math.isfinite(norm):
            raise RunStopped(f"the gradient of step {step} is {norm}: lower lr; the weights before it are kept.")
        optimizer.step()
        tokens += int(examples.lengths[rows].sum())
        if has_line:
            count, loss_sum, hits = measures.tolist()
            log(
                {
                    "step": step,
                    "steps": len(batches),
                    "loss": loss_sum / count,
                    "accuracy": hits / count,
                    "lr": lr,
                    "grad_norm": norm,
                    "tokens": tokens,
                    "tokens_per_second": (tokens - tokens_before) / (time.perf_counter() - started),
                }
            )
        is_due = settings.save_every and step % settings.save_every == 0 and step < len(batches)
        if checkpoints is not None and save_model is not None and is_due:
            checkpoints.save(
                step,
                save_model,
                {"optimizer": optimizer.state_dict()},
                {"steps": len(batches), "tokens": tokens},
            )
    model.eval()


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


def _micro_batches(examples: Examples, rows: Sequence[int], settings: SFTSettings) -> list[list[int]]:
    packs = pack_by_length(examples.lengths[rows].tolist(), settings.max_tokens)
    return [[rows[i] for i in pack] for pack in packs]


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
    mask = piece.weights > 0
    seen = torch.zeros(3, dtype=torch.float64)
    with torch.autocast(mask.device.type, torch.bfloat16) if settings.autocast else nullcontext():
        states = response_states(model, piece.sequences, mask)
        head = model.get_output_embeddings()  # type: ignore[operator]
        targets = piece.sequences.input_ids[:, 1:][mask]
        losses = -head_scores(states, head.weight, head.bias, targets).logprobs
        if measured:
            answers = piece.answers[mask]
            with torch.no_grad():
                hits = (head(states[answers]).argmax(dim=-1) == targets[answers]).sum()
                seen = torch.stack([answers.sum().double(), losses[answers].double().sum(), hits.double()]).cpu()
    return (piece.weights[mask] * losses).sum(), seen
