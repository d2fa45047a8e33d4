"""Log-probabilities of given tokens, entropies and divergences, without the `(B, T, V)` logits.

The backbone runs once; the head runs on the positions that predict trained response tokens, a piece at a time, forward
and again backward. Whatever the model's dtype, log-softmax and everything after it is float32 (float64 for a float64
model). All values are in nats.

It refuses models whose logits are not the plain product of states and head (soft caps, scales), dropout while
gradients are computed, and prompts without tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sdar_agents.scoring.batch import Batch, Sequences, pack_by_length
from sdar_agents.scoring.packing import is_packing_enabled, packed
from sdar_agents.scoring.shared_prefix import can_share_prefix, shared_prefix
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "CHUNK_ELEMENTS",
    "Divergence",
    "Scores",
    "TeacherView",
    "disable_dropout",
    "head_scores",
    "plain_head",
    "response_states",
    "score",
    "score_families",
    "score_rows",
    "view_teacher",
]

Divergence = Literal["rkl_full", "fkl_full", "jsd_full", "rkl_topk"]
"""Of student p and teacher q: KL(p||q), KL(q||p), Jensen-Shannon, KL(p||q) over p's top k tokens and one rest."""

CHUNK_ELEMENTS = 1 << 25
"""Logits that exist at a time: 128 MiB in float32. A pass over the head holds about three such buffers."""


class Scores(NamedTuple):
    """What a model thinks of given tokens; each `(B, L)` or `(N,)` in nats, what was not asked for None."""

    logprobs: Tensor
    entropies: Tensor | None = None
    divergences: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TeacherView:
    """The teacher's distributions at the positions that the student is scored at, as states and head; no gradient.

    Attributes:
        states: `(N, H)`.
        weight: `(V, H)`.
        bias: `(V,)` or None.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None


def score(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
    divergence: Divergence | None = None,
    teacher: TeacherView | None = None,
    top_k: int = 64,
    packing: bool = False,
    chunk_elements: int = CHUNK_ELEMENTS,
    head_dtype: torch.dtype | None = None,
) -> Scores:
    """Score the response tokens under a causal language model.

    Column j of the result is `log softmax(z / temperature)[y_j]`, with z the logits at the token before response
    token j. Where the mask is False, values are 0 and no gradient flows. With gradients enabled the result is
    differentiable; without, the model is in evaluation mode for the time of the call.

    Args:
        model: a Hugging Face causal language model, or peft around one.
        sequences: `(B, T)`.
        mask: `(B, L)` bool, the tokens to score.
        temperature: that the tokens were sampled at.
        entropies: compute those of the full distributions too.
        divergence: compute this one between the model and the teacher too.
        teacher: see `view_teacher`; for the same rows and the same mask.
        top_k: for `rkl_topk`.
        packing: run the rows end to end instead of padded; wants `enable_packing(model)`.
        chunk_elements: how many logits may exist at a time.
        head_dtype: of the product of states and head; None is the model's (or autocast's).

    Returns:
        `Scores` of `(B, L)` float32.

    Raises:
        InvalidOption: see above, and the module.
    """
    with _scoring_mode(model):
        states = response_states(model, sequences, mask, packing=packing)
        weight, bias = plain_head(model)
        rows, columns = mask.nonzero(as_tuple=True)
        targets = sequences.input_ids[rows, sequences.prompt_lengths[rows] + columns]
        flat = head_scores(
            states,
            weight,
            bias,
            targets,
            temperature=temperature,
            entropies=entropies,
            divergence=divergence,
            teacher=teacher,
            top_k=top_k,
            chunk_elements=chunk_elements,
            head_dtype=head_dtype,
        )
    spread = [None if part is None else part.new_zeros(mask.shape).masked_scatter(mask, part) for part in flat]
    return Scores(*spread)  # type: ignore[arg-type]


@torch.no_grad()
def score_rows(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    entropies: bool = False,
    packing: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score many rows without gradients, in pieces of at most so many padded tokens (see `score`).

    Args:
        model: as for `score`; the pieces are moved to its device.
        sequences: `(B, T)`.
        mask: `(B, L)` bool.
        max_tokens: of a piece. A longer row is a piece of its own.
        temperature: as for `score`.
        entropies: as for `score`.
        packing: as for `score`.
        progress: called with the number of rows done after each piece.

    Returns:
        `Scores` of `(B, L)` float32 on the device of the mask.
    """
    device = next(model.parameters()).device
    results = [torch.zeros(mask.shape, device=mask.device) for _ in range(1 + entropies)]
    for group in pack_by_length(sequences.lengths.tolist(), max_tokens):
        index = torch.tensor(group, device=mask.device)
        piece = sequences.select(index)
        width = int(piece.response_lengths.max())
        scores = score(
            model,
            piece.to(device),
            mask[index, :width].to(device),
            temperature=temperature,
            entropies=entropies,
            packing=packing,
        )
        for result, part in zip(results, scores, strict=False):
            assert part is not None
            result[index, :width] = part.to(result)
        if progress is not None:
            progress(len(group))
    return Scores(*results)


@torch.no_grad()
def score_families(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    packing: bool = False,
    least_prefix: int = 64,
) -> Tensor:
    """Score rows without gradients, reading once what prompts have in common at their beginning.

    The teacher's prompts of a task share the skills, which are most of them. Equal to `score_rows` but
    for rounding; where a model cannot share (`sdar_agents.scoring.shared_prefix`), it is `score_rows`.

    Args:
        model: as for `score`; the pieces are moved to its device.
        sequences: `(B, T)`.
        mask: `(B, L)` bool. Rows without a token to score are not read.
        max_tokens: of a piece, without the common part.
        temperature: as for `score`.
        packing: as for `score`, for rows that share nothing.
        least_prefix: a shorter beginning is read again for each row.

    Returns:
        `(B, L)` log-probs, float32 on the device of the mask.
    """
    result = torch.zeros(mask.shape, device=mask.device)
    asked = mask.any(dim=1)
    alone = asked.clone()
    if can_share_prefix(_causal_lm(model)):
        for index, length in _families(sequences, asked.nonzero()[:, 0], least_prefix)[1]:
            alone[index] = False
            rows, width = sequences.select(index), int(sequences.response_lengths[index].max())
            result[index, :width] = _score_family(
                model, rows, mask[index, :width], length, max_tokens=max_tokens, temperature=temperature
            ).to(result)
    rest = alone.nonzero()[:, 0]
    if len(rest):
        piece = sequences.select(rest)
        width = int(piece.response_lengths.max())
        scores = score_rows(
            model, piece, mask[rest, :width], max_tokens=max_tokens, temperature=temperature, packing=packing
        )
        result[rest, :width] = scores.logprobs
    return result


def _families(
    sequences: Sequences, index: Tensor, least: int, depth: int = 100
) -> tuple[int, list[tuple[Tensor, int]]]:
    """Deal rows out to families whose prompts begin alike, so that the fewest tokens are read twice.

    Args:
        sequences: all rows.
        index: those that are dealt out.
        least: tokens that a family must have in common.
        depth: how often families may be divided.

    Returns:
        How many tokens that saves, and the families: rows, and how many tokens they have in common. Rows that are in
        none are left out. The last token of a prompt is never common: it predicts the first of the response.
    """
    if len(index) < 2:
        return 0, []
    limit = int(sequences.prompt_lengths[index].min()) - 1
    ids = sequences.input_ids[index, :limit]
    differs = (ids != ids[:1]).any(dim=0).nonzero()
    length = int(differs[0, 0]) if len(differs) else limit
    together = (length * (len(index) - 1), [(index, length)]) if length >= least else (0, [])
    if length == limit or not depth:
        return together
    following = sequences.input_ids[index, length]
    tokens = sorted(set(following.tolist()))
    parts = [_families(sequences, index[following == token], least, depth - 1) for token in tokens]
    apart = sum(saved for saved, _ in parts), [family for _, families in parts for family in families]
    return apart if apart[0] > together[0] else together


def _score_family(
    model: nn.Module, sequences: Sequences, mask: Tensor, length: int, *, max_tokens: int, temperature: float
) -> Tensor:
    """Return the scores `(b, l)` of rows that have their first `length` tokens in common."""
    backbone = _backbone(model)
    weight, bias = plain_head(model)
    result = torch.zeros(mask.shape)
    with _scoring_mode(model), shared_prefix(_causal_lm(model)) as kept:
        backbone(input_ids=sequences.input_ids[:1, :length], use_cache=False, **kept.write())
        for rows in pack_by_length((sequences.lengths - length).tolist(), max_tokens):
            piece = sequences.select(torch.tensor(rows))
            own = mask[rows, : int(piece.response_lengths.max())]
            suffix = piece.input_ids[:, length:]
            positions = torch.arange(length, piece.input_ids.shape[1]).expand_as(suffix)
            output = backbone(input_ids=suffix, position_ids=positions, use_cache=False, **kept.read())
            i, j = own.nonzero(as_tuple=True)
            at = piece.prompt_lengths[i] + j
            states = output.last_hidden_state[i, at - 1 - length]
            scores = head_scores(states, weight, bias, piece.input_ids[i, at], temperature=temperature).logprobs
            result[rows, : own.shape[1]] = torch.zeros(own.shape).masked_scatter(own, scores.float())
    return result


@torch.no_grad()
def view_teacher(model: nn.Module, batch: Batch, *, packing: bool = False) -> TeacherView:
    """Return the teacher's states for the full-vocabulary divergences of a micro-batch.

    The head is the model's own, not a copy: it must not be trained between this and the backward pass. To keep the
    weights of the rollout over several optimiser steps, give a copy of the model.

    Args:
        model: the teacher.
        batch: with `teacher` sequences.
        packing: as for `score`.

    Raises:
        InvalidOption: the batch has no teacher prompts.
    """
    if batch.teacher is None:
        raise InvalidOption("the batch has no teacher prompts; wanted rows with teacher_prompt_ids.")
    with _scoring_mode(model):
        states = response_states(model, batch.teacher, batch.mask, packing=packing)
    weight, bias = plain_head(model)
    return TeacherView(states, weight.detach(), None if bias is None else bias.detach())


def response_states(model: nn.Module, sequences: Sequences, mask: Tensor, *, packing: bool = False) -> Tensor:
    """Return the last hidden states `(N, H)` that predict the N masked response tokens, in the mask's row-major order.

    Args:
        model: as for `score`, which says what is done about dropout.
        sequences: `(B, T)`.
        mask: `(B, L)` bool.
        packing: as for `score`.

    Raises:
        InvalidOption: the mask has tokens that the sequences do not, a prompt is empty, or packing is not enabled.
    """
    prompts, responses = sequences.prompt_lengths, sequences.response_lengths
    if len(prompts) and int(prompts.min()) < 1:
        raise InvalidOption("a prompt is empty; the first response token needs a token before it.")
    if (mask.sum(dim=1) > responses).any() or mask.shape[0] != len(responses):
        raise InvalidOption(f"the mask {tuple(mask.shape)} does not belong to these {len(responses)} sequences.")
    rows, columns = mask.nonzero(as_tuple=True)
    backbone = _backbone(model)
    if not packing:
        # No attention mask: under causal attention the padding on the right is invisible to every token.
        states = backbone(input_ids=sequences.input_ids, use_cache=False).last_hidden_state
        picked: Tensor = states[rows, prompts[rows] - 1 + columns]
        return picked
    if not is_packing_enabled(_causal_lm(model)):
        raise InvalidOption("packing is not enabled for this model: call enable_packing(model) first.")
    lengths = sequences.lengths
    present = torch.arange(sequences.input_ids.shape[1], device=lengths.device) < lengths[:, None]
    input_ids = sequences.input_ids[present]
    with packed(lengths.tolist()) as arguments:
        arguments["position_ids"] = arguments["position_ids"].to(input_ids.device)
        states = backbone(input_ids=input_ids[None], use_cache=False, **arguments).last_hidden_state[0]
    starts = lengths.cumsum(0) - lengths
    flat: Tensor = states[starts[rows] + prompts[rows] - 1 + columns]
    return flat


def head_scores(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
    divergence: Divergence | None = None,
    teacher: TeacherView | None = None,
    top_k: int = 64,
    chunk_elements: int = CHUNK_ELEMENTS,
    head_dtype: torch.dtype | None = None,
) -> Scores:
    """Score tokens from hidden states and head, piece by piece, with a backward pass that computes the logits again.

    Args:
        states: `(N, H)`.
        weight: `(V, H)`.
        bias: `(V,)` or None.
        targets: `(N,)` token ids.
        temperature: divides the logits, the teacher's too.
        entropies: `-sum_v p_v log p_v` too.
        divergence: this one too.
        teacher: of N positions; wanted by a divergence.
        top_k: for `rkl_topk`: p's k likeliest tokens one by one and all others as one.
        chunk_elements: how many logits may exist at a time.
        head_dtype: of the matrix product; None is autocast's, else that of the states.

    Returns:
        `Scores` of `(N,)`, float32 or float64.

    Raises:
        InvalidOption: an argument is out of range, or the divergence has no teacher.
    """
    if not temperature > 0:
        raise InvalidOption(f"temperature is {temperature}; wanted a number above 0, the one that tokens are drawn at.")
    if divergence is not None:
        if divergence not in get_args(Divergence):
            raise InvalidOption(
                f"no divergence {divergence!r}; wanted one of {', '.join(get_args(Divergence))}."
                f"{did_you_mean(divergence, get_args(Divergence))}"
            )
        if teacher is None or len(teacher.states) != len(states):
            got = None if teacher is None else len(teacher.states)
            raise InvalidOption(f"{divergence} wants a teacher with {len(states)} positions; got {got}.")
        if top_k < 1:
            raise InvalidOption(f"top_k is {top_k}; wanted a number from 1.")
    device = states.device.type
    if head_dtype is None:
        head_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    job = _Job(targets, temperature, entropies, divergence, teacher, top_k, chunk_elements, head_dtype)
    outputs = _HeadScores.apply(states, weight, bias, job)  # type: ignore[no-untyped-call]
    return Scores(
        outputs[0],
        outputs[1] if entropies else None,
        outputs[2] if divergence is not None else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """The arguments of `head_scores` that get no gradient."""

    targets: Tensor
    temperature: float
    entropies: bool
    divergence: Divergence | None
    teacher: TeacherView | None
    top_k: int
    chunk_elements: int
    head_dtype: torch.dtype

    def pieces(self, count: int, other: int) -> Iterator[slice]:
        """Cut `count` rows so that a piece of `other` columns has at most `chunk_elements` elements."""
        size = max(1, self.chunk_elements // max(other, 1))
        return (slice(start, min(start + size, count)) for start in range(0, count, size))

    def logits(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `(n, v)` logits over the temperature, in float32 or float64; a new tensor."""
        bias = None if bias is None else bias.to(self.head_dtype)
        logits = F.linear(states.to(self.head_dtype), weight.to(self.head_dtype), bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.temperature == 1.0 else logits.div_(self.temperature)


class _HeadScores(torch.autograd.Function):
    """`(3, N)`: log-probs, entropies, divergences (0 where not asked for).

    The forward pass goes over tokens, with all logits of a token at a time. With p the probabilities, the gradients of
    one token with respect to its logits z are

        d log p_y / dz_v = [v = y] - p_v
        d H / dz_v       = -p_v (log p_v + H)
        d D / dz_v       : see `_slope`

    which need of the other logits only sums that the forward pass kept. So the backward pass goes over the vocabulary,
    with all tokens at a time: each row of the head gets its whole gradient from one product, summed in full precision.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> Tensor:
        count = len(states)
        out = states.new_zeros(3, count, dtype=torch.promote_types(states.dtype, torch.float32))
        # Log-sum-exps of student and teacher, then what `_divergence` keeps.
        sums = out.new_zeros(4, count)
        top = torch.zeros(count, 0, dtype=torch.long, device=states.device)
        if job.divergence == "rkl_topk":
            top = top.new_zeros(count, min(job.top_k, len(weight)))
        with torch.autocast(states.device.type, enabled=False):
            head = weight.to(job.head_dtype)
            teacher_head = None if job.teacher is None else job.teacher.weight.to(job.head_dtype)
            for piece in job.pieces(count, len(weight)):
                logp = job.logits(states[piece], head, bias)
                sums[0, piece] = logp.logsumexp(dim=-1)
                logp.sub_(sums[0, piece, None])
                out[0, piece] = logp.gather(1, job.targets[piece, None])[:, 0]
                if job.entropies:
                    out[1, piece] = -(logp.exp() * logp).sum(dim=-1)
                if job.divergence is not None and job.teacher is not None and teacher_head is not None:
                    logq = job.logits(job.teacher.states[piece], teacher_head, job.teacher.bias)
                    sums[1, piece] = logq.logsumexp(dim=-1)
                    logq.sub_(sums[1, piece, None])
                    if job.divergence == "rkl_topk":
                        top[piece] = logp.topk(top.shape[1], dim=-1).indices
                    out[2, piece], sums[2, piece], sums[3, piece] = _divergence(job.divergence, logp, logq, top[piece])
        ctx.save_for_backward(states, weight, bias, out[1], sums, top)
        ctx.job = job
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        states, weight, bias, entropy, sums, top = ctx.saved_tensors
        job: _Job = ctx.job
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        full = torch.promote_types(states.dtype, torch.float32)
        d_states = torch.zeros_like(states, dtype=full) if wants_states else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        d_bias = torch.zeros_like(bias) if wants_bias else None
        of_logprob, of_entropy, of_divergence = grad[:, :, None]
        rows = torch.arange(len(states), device=states.device)
        with torch.autocast(states.device.type, enabled=False):
            cast_states = states.to(job.head_dtype)
            for piece in job.pieces(len(weight) if len(states) else 0, len(states)):
                head = weight[piece].to(job.head_dtype)
                logp = job.logits(cast_states, head, None if bias is None else bias[piece]).sub_(sums[0, :, None])
                d_logits = logp.exp()
                extra = None
                if job.divergence is not None and job.teacher is not None:
                    teacher_bias = None if job.teacher.bias is None else job.teacher.bias[piece]
                    logq = job.logits(job.teacher.states, job.teacher.weight[piece], teacher_bias).sub_(
                        sums[1, :, None]
                    )
                    extra = _slope(job.divergence, d_logits, logp, logq, sums=sums[2:, :, None], top=top - piece.start)
                    extra.mul_(of_divergence)
                if job.entropies:
                    d_logits.mul_(logp.add_(entropy[:, None]).mul_(-of_entropy).sub_(of_logprob))
                else:
                    d_logits.mul_(-of_logprob)
                here = (job.targets >= piece.start) & (job.targets < piece.stop)
                d_logits[rows[here], job.targets[here] - piece.start] += of_logprob[here, 0]
                if extra is not None:
                    d_logits.add_(extra)
                if job.temperature != 1.0:
                    d_logits.div_(job.temperature)
                if d_bias is not None:
                    d_bias[piece] = d_logits.sum(dim=0)
                d_logits = d_logits.to(job.head_dtype)
                if d_states is not None:
                    d_states.add_(d_logits @ head)
                if d_weight is not None:
                    d_weight[piece] = d_logits.t() @ cast_states
        return None if d_states is None else d_states.to(states.dtype), d_weight, d_bias, None


def _divergence(kind: Divergence, logp: Tensor, logq: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a divergence `(n,)` of the log-probabilities `(n, V)`, and two sums `(n,)` that `_slope` needs.

    rkl_full   D = sum_v p_v (log p_v - log q_v)
    fkl_full   D = sum_v q_v (log q_v - log p_v)
    jsd_full   D = KL(p||M)/2 + KL(q||M)/2, M = (p + q)/2
    rkl_topk   D = sum_c P_c (log P_c - log Q_c)

    where the cells c are p's likeliest tokens, `top` `(n, k)`, and one cell for all others. rkl_topk is at most
    rkl_full, and equal to it if k is V.
    """
    p = logp.exp()
    zero = torch.zeros_like(p[:, 0])
    if kind == "fkl_full":
        return (logq.exp() * (logq - logp)).sum(dim=-1), zero, zero
    if kind == "jsd_full":
        mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
        of_p = (p * (logp - mixture)).sum(dim=-1)
        of_q = (logq.exp() * (logq - mixture)).sum(dim=-1)
        return (of_p + of_q) / 2, of_p, zero
    if kind == "rkl_full":
        value = (p * (logp - logq)).sum(dim=-1)
        return value, value, zero
    rest_p, rest_q = (part.scatter(1, top, -torch.inf).logsumexp(dim=-1) for part in (logp, logq))
    # Without a rest both are -inf and the cell is empty: it must not give -inf - -inf.
    rest = torch.where(rest_p.isinf(), 0.0, rest_p - rest_q)
    value = (p.gather(1, top) * (logp - logq).gather(1, top)).sum(dim=-1) + rest_p.exp() * rest
    return value, value, rest


def _slope(kind: Divergence, p: Tensor, logp: Tensor, logq: Tensor, *, sums: Tensor, top: Tensor) -> Tensor:
    """Return the gradient `(n, v)` of a divergence with respect to some of the student's logits.

    rkl_full   p_v (log p_v - log q_v - D)
    fkl_full   p_v - q_v
    jsd_full   p_v (log p_v - log M_v - KL(p||M)) / 2
    rkl_topk   p_v (log P_c - log Q_c - D), with c the cell of v

    Args:
        kind: which.
        p: `(n, v)`.
        logp: its logarithm.
        logq: `(n, v)`, the teacher's.
        sums: `(2, n, 1)`, what `_divergence` returned besides the value.
        top: `(n, k)` columns of the likeliest tokens; those outside 0 to v - 1 are not among these logits.
    """
    if kind == "fkl_full":
        return p - logq.exp()
    pivot, rest = sums[0], sums[1]
    if kind == "jsd_full":
        mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
        return p * (logp - mixture - pivot) / 2
    ratio = logp - logq
    if kind == "rkl_topk":
        inside = (top >= 0) & (top < p.shape[1])
        in_top = torch.zeros_like(p, dtype=torch.bool)
        rows = torch.arange(len(p), device=p.device)[:, None].expand_as(top)
        in_top[rows[inside], top[inside]] = True
        ratio = torch.where(in_top, ratio, rest)
    return p * (ratio - pivot)


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout of a model to 0: with it the ratio of new to old policy is not 1 where no step was taken.

    The model may stay in training mode, which gradient checkpointing needs.
    """
    for module in model.modules():
        for name in _dropouts(module):
            setattr(module, name, 0.0)


def _dropouts(module: nn.Module) -> list[str]:
    """Return the names of a module's numbers that are dropout probabilities above 0."""
    names = [name for name in vars(module) if name.endswith("dropout")]
    if isinstance(module, nn.modules.dropout._DropoutNd):
        names.append("p")
    return [name for name in names if isinstance(value := getattr(module, name), (int, float)) and value > 0]


@contextmanager
def _scoring_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; with them, the mode as it is, if that has no dropout."""
    if torch.is_grad_enabled():
        if any(module.training and _dropouts(module) for module in model.modules()):
            raise InvalidOption("the model is in training mode and has dropout: call disable_dropout(model) first.")
        yield
        return
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _causal_lm(model: nn.Module) -> nn.Module:
    """Return the causal language model, out of peft's wrapper if it is in one."""
    inner: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return inner


def _backbone(model: nn.Module) -> nn.Module:
    causal_lm = _causal_lm(model)
    backbone = getattr(causal_lm, "base_model", causal_lm)
    if backbone is causal_lm or not isinstance(backbone, nn.Module):
        raise InvalidOption(f"{type(model).__name__} is no Hugging Face causal language model: load one of those.")
    return backbone


def plain_head(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the weight `(V, H)` and the bias `(V,)` or None that make a model's logits of its states.

    Raises:
        InvalidOption: the logits are something else.
    """
    causal_lm = _causal_lm(model)
    config = causal_lm.config
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise InvalidOption(
                f"{type(causal_lm).__name__} changes its logits ({name} is {getattr(config, name)}), which is not "
                "implemented: use a model with a plain head, such as Qwen2, Qwen3 or Llama."
            )
    head = causal_lm.get_output_embeddings()  # type: ignore[operator]
    if type(head) is not nn.Linear:
        raise InvalidOption(
            f"the head of {type(causal_lm).__name__} is {type(head).__name__}; wanted a plain Linear. With LoRA, leave "
            "lm_head out of the target modules."
        )
    return head.weight, head.bias
