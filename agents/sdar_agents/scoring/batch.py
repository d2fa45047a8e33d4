"""Training batches: rows as padded tensors, and loss weights that make gradient accumulation exact.

A sequence is a prompt and its response end to end, padded on the right. Under causal attention no token sees what is to
its right, so the padding needs no attention mask and position ids are 0, 1, 2, ... in every row. Tensors of response
tokens have the shape `(B, L)`: column j is response token j, for student and teacher alike, however long their prompts
are.

A loss is `sum(weights * per_token_loss)`. The weights hold the whole normalisation, over the mini-batch and all ranks,
and are split with the batch: the gradients of the micro-batches sum to the gradient of the mini-batch.

Rows are never duplicated, and sequences never truncated.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from sdar_agents.scoring.prefix_tree import pack_by_prefix
from sdar_agents.scoring.shapes import check_shapes
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "Aggregation",
    "Batch",
    "Sequences",
    "TeacherPrompts",
    "Totals",
    "make_batch",
    "pack_by_length",
    "pack_rows",
    "token_weights",
]

Aggregation = Literal[
    "token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm", "episode-mean-token-mean"
]
"""Loss aggregation: how a loss per token becomes one number. See `token_weights`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Token sequences: prompts with their responses, padded on the right.

    Attributes:
        input_ids: `(B, T)`, prompt then response, padded on the right.
        prompt_lengths: `(B,)`, at least 1.
        response_lengths: `(B,)`, 0 or more.
    """

    input_ids: Tensor
    prompt_lengths: Tensor
    response_lengths: Tensor

    @property
    def lengths(self) -> Tensor:
        """`(B,)`, prompt and response together."""
        return self.prompt_lengths + self.response_lengths

    def select(self, index: Tensor) -> Sequences:
        """Return the rows `(b,)`, cut to the longest of them."""
        prompts, responses = self.prompt_lengths[index], self.response_lengths[index]
        width = int((prompts + responses).max()) if len(index) else 0
        return Sequences(self.input_ids[index, :width], prompts, responses)

    def to(self, device: torch.device | str) -> Sequences:
        """Return the sequences on a device."""
        return Sequences(*(getattr(self, field.name).to(device) for field in dataclasses.fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class TeacherPrompts:
    """A further view of a teacher that reads several: other prompts with the same responses.

    Attributes:
        sequences: a row without such a prompt has the student's there.
        is_there: `(B,)` bool, the rows that have one.
        logprobs: `(B, L)`, of the responses; None until they are scored.
    """

    sequences: Sequences
    is_there: Tensor
    logprobs: Tensor | None = None

    def scored(self) -> Tensor:
        """Return the log-probs `(B, L)`.

        Raises:
            InvalidOption: there are none yet.
        """
        if self.logprobs is None:
            raise InvalidOption(
                "the method needs the log-probs of the teacher's further views, which are not scored: call "
                "batch.replace(more_teachers=...)."
            )
        return self.logprobs

    def select(self, index: Tensor) -> TeacherPrompts:
        """Return the rows `(b,)`, cut to the longest response."""
        sequences = self.sequences.select(index)
        width = int(sequences.response_lengths.max()) if len(index) else 0
        logprobs = None if self.logprobs is None else self.logprobs[index, :width]
        return TeacherPrompts(sequences, self.is_there[index], logprobs)

    def to(self, device: torch.device | str) -> TeacherPrompts:
        """Return the view on a device."""
        logprobs = None if self.logprobs is None else self.logprobs.to(device)
        return TeacherPrompts(self.sequences.to(device), self.is_there.to(device), logprobs)


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of trained tokens, rows and episodes of a mini-batch, over all ranks.

    Rows and episodes without a trained token do not count.
    """

    tokens: float
    rows: float
    episodes: float

    @classmethod
    def of(cls, batch: Batch, mask: Tensor | None = None) -> Totals:
        """Count this rank's mini-batch.

        Args:
            batch: of this rank.
            mask: `(B, L)` bool, the tokens that count; None for those of the policy gradient.
        """
        mask = batch.policy_mask if mask is None else mask
        trained = mask.any(dim=1)
        episodes = batch.episode_index[trained].bincount().count_nonzero()
        return cls(float(mask.sum()), float(trained.sum()), float(episodes))

    def reduced(self) -> Totals:
        """Return the sum over the ranks of `torch.distributed`; itself without a process group. Collective."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        counts = torch.tensor(dataclasses.astuple(self), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(counts)
        return Totals(*counts.tolist())

    def count(self, mode: Aggregation) -> float:
        """Return what a loss is divided by: tokens, rows or episodes."""
        if mode == "token-mean":
            return self.tokens
        return self.episodes if mode == "episode-mean-token-mean" else self.rows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch of training rows as tensors; optional parts are None until `replace` fills them in.

    Attributes:
        student: the prompts that the responses were sampled from, with the responses.
        mask: `(B, L)` bool, True for response tokens that are trained.
        group_index: `(B,)`, equal where `Row.group_id` is.
        episode_index: `(B,)`, equal where `Row.episode_id` is.
        turn_index: `(B,)`.
        row_index: `(B,)`, the position in the step's rows.
        has_teacher: `(B,)` bool.
        teacher: teacher prompts with the same responses; a row without a teacher has the student's there. None if no
            row has a teacher.
        sampler_logprobs: `(B, L)`, log-probabilities as the sampling engine computed them; None if it returns none.
        old_logprobs: `(B, L)`, student prompt, weights of the rollout.
        ref_logprobs: `(B, L)`, student prompt, frozen reference.
        teacher_logprobs: `(B, L)`, teacher prompt.
        advantages: `(B,)`, or `(B, L)` of a method that shapes them token by token.
        weights: `(B, L)`, see `token_weights`; 0 where `policy_mask` is False.
        totals: of the mini-batch on all ranks.
        more_teachers: the teacher's second and further views.
        is_trained: `(B,)` bool, `Row.is_trained`; None if all rows are.
        answer_start: `(B,)`, `Row.answer_start`, -1 where it is not known; None if it is of no row.
        teacher_weights: `(B, L)`, factors of the distillation: `Row.teacher_weight` times `Row.token_weights`; None if
            all are 1.
        distill_weights: `(B, L)`, as `weights`, of the distillation: 0 where `teacher_mask` is False. Rows that are
            distilled alone count here.
        token_turns: `(B, L)`, the turn of each trained response token, `Row.token_turns`; None if each row is one turn.
        teacher_scale: factor that turns a mean by `distill_weights` into one over what has a teacher.
    """

    student: Sequences
    mask: Tensor
    group_index: Tensor
    episode_index: Tensor
    turn_index: Tensor
    row_index: Tensor
    has_teacher: Tensor
    teacher: Sequences | None = None
    sampler_logprobs: Tensor | None = None
    old_logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None
    teacher_logprobs: Tensor | None = None
    advantages: Tensor | None = None
    weights: Tensor | None = None
    totals: Totals | None = None
    more_teachers: tuple[TeacherPrompts, ...] = ()
    is_trained: Tensor | None = None
    answer_start: Tensor | None = None
    teacher_weights: Tensor | None = None
    distill_weights: Tensor | None = None
    teacher_scale: float = 1.0
    token_turns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def teacher_mask(self) -> Tensor:
        """`(B, L)` bool: the trained tokens of rows that have a teacher."""
        return self.mask & self.has_teacher[:, None]

    @property
    def policy_mask(self) -> Tensor:
        """`(B, L)` bool: the tokens of the policy gradient, the KL penalty and the entropy bonus."""
        return self.mask if self.is_trained is None else self.mask & self.is_trained[:, None]

    @property
    def answer_mask(self) -> Tensor | None:
        """`(B, L)` bool: the trained tokens behind the thought, of rows where that is known; None if it is of none."""
        if self.answer_start is None:
            return None
        columns = torch.arange(self.mask.shape[1], device=self.mask.device)
        start = self.answer_start[:, None]
        return self.mask & (columns >= start) & (start >= 0)

    def token_places(self) -> tuple[Tensor, Tensor]:
        """Return the turn of each response token, and its place in that turn's completion, `(B, L)` each."""
        columns = torch.arange(self.mask.shape[1], device=self.mask.device).expand_as(self.mask)
        if self.token_turns is None:
            return self.turn_index[:, None].expand_as(self.mask), columns
        turns = self.token_turns
        is_first = torch.ones_like(self.mask)
        is_first[:, 1:] = turns[:, 1:] != turns[:, :-1]
        return turns, columns - torch.where(is_first, columns, 0).cummax(dim=1).values

    def part(self, name: str) -> Tensor:
        """Return an optional part that a loss needs.

        Raises:
            InvalidOption: the batch does not have it.
        """
        part: Tensor | None = getattr(self, name)
        if part is None:
            how = "weighed(...)" if name in ("weights", "distill_weights") else f"replace({name}=...)"
            raise InvalidOption(f"the loss needs {name} in the batch, which has none: call batch.{how}.")
        return part

    def replace(self, **parts: Any) -> Self:
        """Return the batch with some parts filled in.

        Raises:
            InvalidOption: a part does not fit the batch.
        """
        if parts.get("teacher_logprobs") is not None and not self.has_teacher.any():
            raise InvalidOption("teacher_logprobs came, but no row has a teacher: make rows with teacher_prompt_ids.")
        rows, columns = self.mask.shape
        for name, part in parts.items():
            if isinstance(part, Tensor):
                is_shaped = name == "advantages" and part.dim() == 2
                wanted = (rows, columns) if name in _PER_TOKEN or is_shaped else (rows,)
                if part.shape != wanted:
                    raise InvalidOption(
                        f"{name} must align with the batch: got {tuple(part.shape)}, expected {wanted}."
                    )
        return dataclasses.replace(self, **parts)

    def weighed(self, mode: Aggregation, *, response_limit: int | None = None, is_whole: bool = False) -> Self:
        """Return this mini-batch with the weights of its loss.

        Call it once per mini-batch, before `split`. Whole episodes must be on one rank and in one mini-batch
        if the mode is `episode-mean-token-mean`.

        Args:
            mode: see `token_weights`.
            response_limit: see `token_weights`.
            is_whole: these are the rows of all ranks; else their numbers are added up, which is collective.
        """
        masks = self.policy_mask, self.mask, self.teacher_mask
        counted = [Totals.of(self, mask) for mask in masks]
        totals, of_all, of_teacher = counted if is_whole else [part.reduced() for part in counted]
        weights, distill_weights = (
            token_weights(mask, mode, of, episode_index=self.episode_index, response_limit=response_limit)
            for mask, of in zip(masks, (totals, of_all), strict=False)
        )
        distill_weights *= self.teacher_mask
        if self.teacher_weights is not None:
            distill_weights *= self.teacher_weights
        scale = of_all.count(mode) / max(of_teacher.count(mode), 1.0)
        return self.replace(weights=weights, totals=totals, distill_weights=distill_weights, teacher_scale=scale)

    def select(self, index: Tensor | Sequence[int]) -> Self:
        """Return the rows, in that order, cut to the longest response. Weights and totals stay those of the whole."""
        index = torch.as_tensor(index, dtype=torch.long, device=self.mask.device)
        student = self.student.select(index)
        width = int(student.response_lengths.max()) if len(index) else 0
        parts: dict[str, Any] = {"student": student, "teacher": self.teacher and self.teacher.select(index)}
        parts["more_teachers"] = tuple(view.select(index) for view in self.more_teachers)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                parts[field.name] = value[index, :width] if value.dim() == 2 else value[index]
        return dataclasses.replace(self, **parts)

    def minibatches(self, count: int, rng: random.Random) -> list[Self]:
        """Split the batch into mini-batches of whole episodes, in random order. Each row is in exactly one.

        Raises:
            InvalidOption: there are fewer episodes than that.
        """
        rows: dict[int, list[int]] = {}
        for row, episode in enumerate(self.episode_index.tolist()):
            rows.setdefault(episode, []).append(row)
        if not 1 <= count <= len(rows):
            raise InvalidOption(f"{count} mini-batches of {len(rows)} episodes; wanted 1 to {len(rows)}.")
        episodes = list(rows.values())
        rng.shuffle(episodes)
        return [self.select([row for episode in episodes[i::count] for row in episode]) for i in range(count)]

    def split(self, max_tokens: int, *, by_prefix: bool = False) -> list[Self]:
        """Split the batch into micro-batches for gradient accumulation (`pack_rows`). Each row is in exactly one."""
        return [self.select(index) for index in pack_rows(self.student, max_tokens, by_prefix=by_prefix)]

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        parts: dict[str, Any] = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), (Tensor, Sequences))
        }
        parts["more_teachers"] = tuple(view.to(device) for view in self.more_teachers)
        return dataclasses.replace(self, **parts)


_PER_TOKEN = frozenset(
    {
        "distill_weights",
        "mask",
        "old_logprobs",
        "ref_logprobs",
        "sampler_logprobs",
        "teacher_logprobs",
        "teacher_weights",
        "token_turns",
        "weights",
    }
)


def make_batch(rows: Sequence[Row], *, pad_id: int, mask_truncated: bool = False) -> Batch:
    """Collate rows into a batch, on the CPU, in their order.

    The mask is True for every token of the response that was sampled, the end token included, and for nothing else.

    Args:
        rows: at least one.
        pad_id: of the padding; any token id, as no score depends on it.
        mask_truncated: leave responses that reached the token limit out of the mask.

    Raises:
        InvalidOption: there are no rows, only some have sampler log-probs, or a row of several turns has truncated ones
            that are to be left out.
    """
    if not rows:
        raise InvalidOption("there are no rows; wanted at least one turn to train on.")
    student = _sequences([(row.prompt_ids, row.response_ids) for row in rows], pad_id)
    columns = torch.arange(int(student.response_lengths.max()))
    mask = columns < student.response_lengths[:, None]
    token_turns = _token_turns(rows, mask)
    if token_turns is not None:
        mask &= token_turns >= 0
    if mask_truncated:
        if any(row.is_truncated and row.token_turns is not None for row in rows):
            raise InvalidOption("mask_truncated leaves out single turns, and a row holds several: set it to false.")
        mask &= ~torch.tensor([row.is_truncated for row in rows])[:, None]
    has_teacher, teacher = _teacher([row.teacher_prompt_ids for row in rows], rows, pad_id)
    views = range(max(len(row.more_teacher_prompts) for row in rows))
    more = [
        _teacher([(*row.more_teacher_prompts, *(None,) * len(views))[i] for row in rows], rows, pad_id) for i in views
    ]
    is_trained = torch.tensor([row.is_trained for row in rows])
    starts = torch.tensor([-1 if row.answer_start is None else row.answer_start for row in rows])
    return Batch(
        student=student,
        mask=mask,
        group_index=_numbered(row.group_id for row in rows),
        episode_index=_numbered(row.episode_id for row in rows),
        turn_index=torch.tensor([row.turn_index for row in rows]),
        row_index=torch.arange(len(rows)),
        has_teacher=has_teacher,
        teacher=teacher,
        sampler_logprobs=_sampler_logprobs(rows, mask),
        more_teachers=tuple(
            TeacherPrompts(student if sequences is None else sequences, is_there) for is_there, sequences in more
        ),
        is_trained=None if is_trained.all() else is_trained,
        answer_start=starts if (starts >= 0).any() else None,
        teacher_weights=_teacher_weights(rows, mask),
        token_turns=token_turns,
    )


def _teacher(
    prompts: Sequence[tuple[int, ...] | None], rows: Sequence[Row], pad_id: int
) -> tuple[Tensor, Sequences | None]:
    """Return which rows have a teacher's prompt, and the sequences; None if no row has one."""
    is_there = torch.tensor([prompt is not None for prompt in prompts])
    if not is_there.any():
        return is_there, None
    pairs = [(prompt or row.prompt_ids, row.response_ids) for prompt, row in zip(prompts, rows, strict=True)]
    return is_there, _sequences(pairs, pad_id)


def _token_turns(rows: Sequence[Row], mask: Tensor) -> Tensor | None:
    """Return the turn of each response token `(B, L)`, -1 where none was sampled; None if each row is one turn."""
    if all(row.token_turns is None for row in rows):
        return None
    turns = torch.full(mask.shape, -1)
    for i, row in enumerate(rows):
        count = len(row.response_ids)
        turns[i, :count] = row.turn_index if row.token_turns is None else torch.tensor(row.token_turns)
    return turns


def _sampler_logprobs(rows: Sequence[Row], mask: Tensor) -> Tensor | None:
    """Return the sampler's log-probs `(B, L)`; 0 in rows that are distilled alone, which may have none."""
    trained = [row for row in rows if row.is_trained]
    silent = sum(row.sampler_logprobs is None for row in trained)
    if 0 < silent < len(trained):
        raise InvalidOption(
            f"{silent} of {len(trained)} rows have no sampler log-probs; wanted all or none: they come from one engine."
        )
    if silent or not trained:
        return None
    sampler = torch.zeros(mask.shape)
    for i, row in enumerate(rows):
        if row.is_trained:
            sampler[i, : len(row.response_ids)] = torch.tensor(row.sampler_logprobs)
    return sampler


def _teacher_weights(rows: Sequence[Row], mask: Tensor) -> Tensor | None:
    """Return the factors of the distillation `(B, L)`; None if all are 1."""
    if all(row.teacher_weight == 1.0 and row.token_weights is None for row in rows):
        return None
    weights = torch.zeros(mask.shape)
    for i, row in enumerate(rows):
        weights[i, : len(row.response_ids)] = row.teacher_weight
        if row.token_weights is not None:
            weights[i, : len(row.response_ids)] *= torch.tensor(row.token_weights)
    return weights


def token_weights(
    mask: Tensor,
    mode: Aggregation,
    totals: Totals,
    *,
    episode_index: Tensor | None = None,
    response_limit: int | None = None,
) -> Tensor:
    """Loss weights w such that `sum(w * per_token_loss)` is the aggregated loss.

    With m the mask, n the trained tokens of a row or episode, N, R, E the totals of tokens, rows and episodes:

    | mode | w |
    |---|---|
    | `token-mean` | m / N |
    | `seq-mean-token-sum` | m / R |
    | `seq-mean-token-mean` | m / (R n_row) |
    | `seq-mean-token-sum-norm` | m / (R response_limit) |
    | `episode-mean-token-mean` | m / (E n_episode) |

    Args:
        mask: `(B, L)` bool.
        mode: one of the above.
        totals: of the whole mini-batch on all ranks, of which these rows may be a part.
        episode_index: `(B,)`; needed by `episode-mean-token-mean`. All rows of an episode must be here.
        response_limit: the longest response that sampling allows; needed by `seq-mean-token-sum-norm`.

    Returns:
        `(B, L)` float32; all 0, never NaN, if nothing is trained.

    Raises:
        InvalidOption: shapes do not match, there is no such mode, or an argument that it needs is missing.

    Source: verl/trainer/ppo/core_algos.py, `agg_loss`, which divides by the totals of the micro-batch, and in the
        fourth mode by the padded width alone; the fifth is the paper's (section 2.2). Later releases of verl and TRL's
        `dr_grpo` divide the fourth by rows and a constant width, as here.
    """
    check_shapes("BL", mask=mask)
    if episode_index is not None and episode_index.shape != mask.shape[:1]:
        raise InvalidOption(
            f"episode_index must have the shape (B,) = {tuple(mask.shape[:1])}: got {tuple(episode_index.shape)}."
        )
    weights = mask.float()
    if mode == "token-mean":
        return weights / max(totals.tokens, 1.0)
    if mode in ("seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"):
        weights = weights / max(totals.rows, 1.0)
        if mode == "seq-mean-token-mean":
            return weights / mask.sum(dim=1, keepdim=True).clamp(min=1)
        if mode == "seq-mean-token-sum-norm":
            if response_limit is None or response_limit < 1:
                raise InvalidOption(f"{mode} needs response_limit, a number from 1; got {response_limit!r}.")
            return weights / response_limit
        return weights
    if mode == "episode-mean-token-mean":
        if episode_index is None:
            raise InvalidOption(f"{mode} needs episode_index; got None.")
        tokens = mask.sum(dim=1)
        per_episode = tokens.new_zeros(len(mask) and int(episode_index.max()) + 1).index_add(0, episode_index, tokens)
        return weights / max(totals.episodes, 1.0) / per_episode[episode_index].clamp(min=1)[:, None]
    raise InvalidOption(
        f"no aggregation {mode!r}; wanted one of {', '.join(get_args(Aggregation))}."
        f"{did_you_mean(mode, get_args(Aggregation))}"
    )


def pack_rows(sequences: Sequences, max_tokens: int, *, by_prefix: bool = False) -> list[list[int]]:
    """Pack rows into groups of at most `max_tokens` tokens; a longer row is a group of its own.

    Args:
        sequences: the rows.
        max_tokens: of a group.
        by_prefix: pack rows together that begin alike, and count what they share once, for packed sequences on a CPU;
            otherwise rows of similar length, padding counted.
    """
    if by_prefix:
        return pack_by_prefix(sequences.input_ids, sequences.lengths, max_tokens)
    return pack_by_length(sequences.lengths.tolist(), max_tokens)


def pack_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Pack rows into groups of similar length, shortest first, with `rows x longest row <= max_tokens` if possible."""
    if max_tokens < 1:
        raise InvalidOption(f"max_tokens is {max_tokens}; wanted a number from 1.")
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[i] <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _sequences(pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pad_id: int) -> Sequences:
    width = max(len(prompt) + len(response) for prompt, response in pairs)
    input_ids = torch.full((len(pairs), width), pad_id)
    for i, (prompt, response) in enumerate(pairs):
        input_ids[i, : len(prompt) + len(response)] = torch.tensor(prompt + response)
    prompts, responses = zip(*((len(prompt), len(response)) for prompt, response in pairs), strict=True)
    return Sequences(input_ids, torch.tensor(prompts), torch.tensor(responses))


def _numbered(ids: Iterable[Hashable]) -> Tensor:
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in ids])
