"""Log-probabilities of given tokens, entropies and divergences, without the `(B, T, V)` logits.

The backbone runs once; the head runs on the positions that predict trained response tokens, a chunk at a time, forward
and again backward. Whatever the model's dtype, log-softmax and everything after it is float32 (float64 for a float64
model). All values are in nats.

It refuses models whose logits are not the plain product of states and head (soft caps, scales), dropout while
gradients are computed, and prompts without tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sdar_agents.batch import Batch, Sequences, pack_by_length
from sdar_agents.packing import is_packing_enabled, packed
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "CHUNK_ELEMENTS",
    "Divergence",
    "Scores",
    "TeacherView",
    "disable_dropout",
    "head_scores",
    "response_states",
    "score",
    "score_rows",
    "view_teacher",
]

Divergence = Literal["rkl_full", "fkl_full", "jsd_full", "rkl_topk"]
"""Of student p and teacher q: KL(p||q), KL(q||p), Jensen-Shannon, KL(p||q) over p's top k tokens and one rest."""

CHUNK_ELEMENTS = 1 << 25
"""Logits that exist at a time: 128 MiB in float32. The head's backward pass holds about three such buffers."""


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
        weight, bias = _head(model)
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
    weight, bias = _head(model)
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
    """Score tokens from hidden states and head, chunk by chunk, with a backward pass that computes the logits again.

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

    def chunks(self, count: int, vocabulary: int) -> Iterator[slice]:
        size = max(1, self.chunk_elements // vocabulary)
        return (slice(start, min(start + size, count)) for start in range(0, count, size))

    def logprobs(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `(n, V)` log-probabilities of a chunk of states; `weight` and `bias` have the head's dtype."""
        logits = F.linear(states.to(self.head_dtype), weight, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.temperature != 1.0:
            logits.div_(self.temperature)
        return logits.sub_(logits.logsumexp(dim=-1, keepdim=True))


class _HeadScores(torch.autograd.Function):
    """`(3, N)`: log-probs, entropies, divergences (0 where not asked for).

    With p the probabilities, the gradients of one position with respect to its logits z are

        d log p_y / dz_v = [v = y] - p_v
        d H / dz_v       = -p_v (log p_v + H)
        d D / dz_v       : see `_divergence`
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> Tensor:
        out = states.new_zeros(3, len(states), dtype=torch.promote_types(states.dtype, torch.float32))
        with torch.autocast(states.device.type, enabled=False):
            head = _cast(weight, bias, job)
            teacher_head = None if job.teacher is None else _cast(job.teacher.weight, job.teacher.bias, job)
            for chunk in job.chunks(len(states), len(weight)):
                logp = job.logprobs(states[chunk], *head)
                out[0, chunk] = logp.gather(1, job.targets[chunk, None])[:, 0]
                if job.entropies:
                    out[1, chunk] = _entropy(logp)
                if job.divergence is not None and job.teacher is not None and teacher_head is not None:
                    logq = job.logprobs(job.teacher.states[chunk], *teacher_head)
                    out[2, chunk], _ = _divergence(job.divergence, logp, logq, job.top_k, with_gradient=False)
        ctx.save_for_backward(states, weight, bias)
        ctx.job = job
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        states, weight, bias = ctx.saved_tensors
        job: _Job = ctx.job
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_states = torch.zeros_like(states) if wants_states else None
        # Sums over chunks are kept in full precision: a bfloat16 sum would depend on the size of the chunks.
        full = torch.promote_types(weight.dtype, torch.float32)
        d_weight = torch.zeros_like(weight, dtype=full) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=full) if wants_bias else None
        with torch.autocast(states.device.type, enabled=False):
            head = _cast(weight, bias, job)
            teacher_head = None if job.teacher is None else _cast(job.teacher.weight, job.teacher.bias, job)
            for chunk in job.chunks(len(states), len(weight)):
                logp = job.logprobs(states[chunk], *head)
                of_logprob, of_entropy, of_divergence = (part[:, None] for part in grad[:, chunk])
                d_logits = logp.exp()
                if job.divergence is not None and job.teacher is not None and teacher_head is not None:
                    logq = job.logprobs(job.teacher.states[chunk], *teacher_head)
                    _, gradient = _divergence(job.divergence, logp, logq, job.top_k, with_gradient=True)
                    extra = gradient.mul_(of_divergence)
                else:
                    extra = None
                if job.entropies:
                    entropy = _entropy(logp)[:, None]
                    d_logits.mul_(logp.add_(entropy).mul_(-of_entropy).sub_(of_logprob))
                else:
                    d_logits.mul_(-of_logprob)
                d_logits.scatter_add_(1, job.targets[chunk, None], of_logprob)
                if extra is not None:
                    d_logits.add_(extra)
                if job.temperature != 1.0:
                    d_logits.div_(job.temperature)
                if d_bias is not None:
                    d_bias.add_(d_logits.sum(dim=0))
                d_logits = d_logits.to(job.head_dtype)
                if d_states is not None:
                    d_states[chunk] = (d_logits @ head[0]).to(d_states.dtype)
                if d_weight is not None:
                    product = states[chunk].to(job.head_dtype)
                    if d_weight.dtype == d_logits.dtype:
                        d_weight.addmm_(d_logits.t(), product)
                    else:
                        d_weight.add_(d_logits.t() @ product)
        return (
            d_states,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
        )


def _cast(weight: Tensor, bias: Tensor | None, job: _Job) -> tuple[Tensor, Tensor | None]:
    return weight.to(job.head_dtype), None if bias is None else bias.to(job.head_dtype)


def _entropy(logp: Tensor) -> Tensor:
    return -(logp.exp() * logp).sum(dim=-1)


def _divergence(
    kind: Divergence, logp: Tensor, logq: Tensor, top_k: int, *, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return a divergence `(n,)` and its gradient `(n, V)` with respect to the student's logits (empty if unwanted).

    rkl_full   D = sum_v p_v (log p_v - log q_v)              dD/dz_v = p_v (log p_v - log q_v - D)
    fkl_full   D = sum_v q_v (log q_v - log p_v)              dD/dz_v = p_v - q_v
    jsd_full   D = KL(p||M)/2 + KL(q||M)/2, M = (p + q)/2     dD/dz_v = p_v (log p_v - log M_v - KL(p||M)) / 2
    rkl_topk   D = sum_c P_c (log P_c - log Q_c)              dD/dz_v = p_v (log P_c(v) - log Q_c(v) - D)

    where the cells c are p's k likeliest tokens and one cell for all others. It is at most rkl_full, and equal to it
    if k is V.
    """
    p = logp.exp()
    empty = logp.new_empty(0)
    if kind == "fkl_full":
        q = logq.exp()
        return (q * (logq - logp)).sum(dim=-1), p - q if with_gradient else empty
    if kind == "jsd_full":
        log_mixture = torch.logaddexp(logp, logq) - torch.log(logp.new_tensor(2.0))
        ratio = logp - log_mixture
        of_p = (p * ratio).sum(dim=-1)
        of_q = (logq.exp() * (logq - log_mixture)).sum(dim=-1)
        return (of_p + of_q) / 2, p * (ratio - of_p[:, None]) / 2 if with_gradient else empty
    if kind == "rkl_full":
        ratio = logp - logq
        value = (p * ratio).sum(dim=-1)
    else:
        top = logp.topk(min(top_k, logp.shape[-1]), dim=-1).indices
        in_top = torch.zeros_like(logp, dtype=torch.bool).scatter_(1, top, True)
        rest_p = logp.masked_fill(in_top, -torch.inf).logsumexp(dim=-1, keepdim=True)
        rest_q = logq.masked_fill(in_top, -torch.inf).logsumexp(dim=-1, keepdim=True)
        # Without a rest both are -inf and the cell is empty: it must not give -inf - -inf.
        rest = torch.where(rest_p.isinf(), 0.0, rest_p - rest_q)
        ratio = torch.where(in_top, logp - logq, rest)
        value = (p * ratio).sum(dim=-1)
    return value, p * (ratio - value[:, None]) if with_gradient else empty


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


def _head(model: nn.Module) -> tuple[Tensor, Tensor | None]:
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
