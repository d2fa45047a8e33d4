"""Diagnostics of a step's updates: gap by turn and position, gradient norms by loss term, token signals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdar_agents.algorithms import LossOutput
from sdar_agents.algorithms.gap import gap
from sdar_agents.learner.token_marks import TokenSignals
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric, masked_metric

__all__ = ["StepRecord", "add_gradients", "compare_gradients", "equal_prompts", "gap_details", "on_cpu"]

_BUCKETS = tuple((low, high) for low, high in ((0, 1), *((1 << i, 2 << i) for i in range(12))))


@dataclass(slots=True)
class StepRecord:
    """Diagnostics collected over a step's updates.

    Attributes:
        gap_sums: `(2, episodes)`, sum of the gaps and number of tokens.
        metrics: of each micro-batch.
        sampler_difference: largest difference between trainer and sampling engine; None without sampler log-probs.
        signals: of the first epoch; None if they are not kept.
        gradients: of the terms of the loss, measured on the first mini-batch.
    """

    gap_sums: Tensor
    metrics: list[dict[str, Metric]] = field(default_factory=list)
    sampler_difference: float | None = None
    signals: TokenSignals | None = None
    gradients: dict[str, float] = field(default_factory=dict)

    def note_tokens(
        self, micro: Batch, scores: Scores, output: LossOutput, rollout: Tensor | None, *, has_teacher: bool
    ) -> None:
        """Record gaps by episode, token signals and the sampler's difference; once per token, in the first epoch.

        Args:
            micro: the micro-batch.
            scores: of the current policy.
            output: of the loss.
            rollout: `(B, L)`, log-probs of the rollout's weights as the trainer computes them; None if it has not.
            has_teacher: whether a row has a teacher.
        """
        if micro.sampler_logprobs is not None and rollout is not None:
            differences = (rollout - micro.sampler_logprobs)[micro.policy_mask].abs()
            if len(differences):
                self.sampler_difference = max(self.sampler_difference or 0.0, float(differences.max()))
        if has_teacher:
            mask = micro.teacher_mask
            current = torch.where(mask, gap(micro, scores).detach(), 0.0)
            index = micro.episode_index.cpu()
            self.gap_sums[0].index_add_(0, index, current.sum(dim=1).double().cpu())
            self.gap_sums[1].index_add_(0, index, mask.sum(dim=1).double().cpu())
        if self.signals is not None:
            rows, columns = micro.teacher_mask.nonzero(as_tuple=True)
            places = micro.row_index[rows].cpu(), columns.cpu()
            for kept, values in ((self.signals.gaps, output.gap), (self.signals.gates, output.gate)):
                if values is not None:
                    kept[places] = values[rows, columns].float().cpu()

    def episode_gaps(self, episode_ids: Sequence[str]) -> dict[str, float]:
        """Return the mean gap of each episode with a teacher, in nats per token, where it is finite.

        Args:
            episode_ids: in the order of `Batch.episode_index`.
        """
        totals, tokens = self.gap_sums.tolist()
        return {
            name: totals[i] / tokens[i] for i, name in enumerate(episode_ids) if tokens[i] and math.isfinite(totals[i])
        }


def gap_details(micro: Batch, scores: Scores) -> dict[str, Metric]:
    """Metrics of the gap by turn of the episode and by position in the response, in buckets of powers of two.

    And by part of the response, thought or answer, of rows where that is known.
    """
    mask = micro.teacher_mask
    current = torch.where(mask, gap(micro, scores).detach(), 0.0)
    turns, positions = micro.token_places()
    details = {}
    for kind, places in (("turn", turns), ("position", positions)):
        for low, high in _BUCKETS:
            here = mask & (places >= low) & (places < high)
            if here.any():
                details[f"gap_by_{kind}/{low:03d}"] = masked_metric(current, here, spread=True)
                details[f"gap_positive_by_{kind}/{low:03d}"] = masked_metric(current > 0, here)
    answer, starts = micro.answer_mask, micro.answer_start
    if answer is not None and starts is not None:
        thought = mask & ~answer & (starts >= 0)[:, None]
        for part, here in (("thought", thought), ("answer", mask & answer)):
            if here.any():
                details[f"gap_by_part/{part}"] = masked_metric(current, here, spread=True)
                details[f"gap_positive_by_part/{part}"] = masked_metric(current > 0, here)
    return details


def equal_prompts(batch: Batch) -> Metric:
    """Share of rows whose teacher and student prompts are identical; their gap is rounding alone."""
    student, teacher = batch.student, batch.teacher
    assert teacher is not None
    width = min(student.input_ids.shape[1], teacher.input_ids.shape[1])
    is_equal = (student.input_ids[:, :width] == teacher.input_ids[:, :width]).all(dim=1)
    is_equal &= student.prompt_lengths == teacher.prompt_lengths
    return masked_metric(is_equal.float(), batch.teacher_mask.any(dim=1))


def on_cpu(metric: Metric) -> Metric:
    """Return the metric on the CPU."""
    return Metric(*(None if part is None else part.cpu() for part in metric))  # type: ignore[arg-type]


def add_gradients(sums: dict[str, list[Tensor]], terms: dict[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of the loss's policy and distillation terms of a micro-batch to their sums.

    Args:
        sums: by term, one tensor per parameter; changed.
        terms: `LossOutput.parts`.
        parameters: what is trained.
    """
    for name in ("policy", "distill"):
        if name in terms and terms[name].requires_grad:
            grads = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            if name not in sums:
                sums[name] = [torch.zeros_like(parameter) for parameter in parameters]
            for so_far, grad in zip(sums[name], grads, strict=True):
                if grad is not None:
                    so_far.add_(grad)


def compare_gradients(parts: dict[str, list[Tensor]], *, total: Callable[[float], float] = float) -> dict[str, float]:
    """Return the norms of the terms' gradients, the ratio of distillation to policy, and their cosine.

    Args:
        parts: by term, one tensor per parameter.
        total: from a scalar product of these tensors to that of the whole gradients.
    """
    norms = {name: math.sqrt(total(_product(grads, grads))) for name, grads in parts.items()}
    numbers = {f"gradient/{name}": norm for name, norm in norms.items()}
    if norms.get("policy") and "distill" in norms:
        numbers["gradient/ratio"] = norms["distill"] / norms["policy"]
        if norms["distill"]:
            numbers["gradient/cosine"] = (
                total(_product(parts["policy"], parts["distill"])) / norms["policy"] / norms["distill"]
            )
    return numbers


def _product(left: list[Tensor], right: list[Tensor]) -> float:
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
