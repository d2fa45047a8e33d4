"""The learner: rows of a step in, better weights and metrics out.

    learner = Learner(model, make_algorithm("sdar"), LearnerSettings(lr=3e-5), pad_id=0)
    metrics = learner.learn(rows, step=1).metrics

Once per step the rollout's policy, the reference and the teacher score all tokens. Then whole episodes are dealt out to
mini-batches, an optimiser step each, and a mini-batch is cut into micro-batches that fit the memory, which does not
change its gradient: the normalisation is the mini-batch's. Each metric is a mean over all tokens of the step.

It knows no environment and writes nothing. A step of the optimiser whose loss or gradient is not finite is left out and
counted.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sdar_agents.algorithms import GRPO, LossOutput
from sdar_agents.learner.token_marks import TokenSignals
from sdar_agents.learner.weights import Weights
from sdar_agents.scoring.batch import Batch, Sequences, make_batch
from sdar_agents.scoring.gradient_checkpointing import checkpoint_activations
from sdar_agents.scoring.logprobs import (
    Scores,
    TeacherView,
    disable_dropout,
    score,
    score_families,
    score_rows,
    view_teacher,
)
from sdar_agents.scoring.metrics import Metric, masked_metric, merge_metrics, reduce_metrics, summarise
from sdar_agents.scoring.packing import enable_packing
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

__all__ = ["LearnResult", "Learner", "LearnerSettings", "Phases", "TeacherKind"]

TeacherKind = Literal["old", "live", "ema", "frozen"]
"""Whose weights the teacher has: the rollout's, the current ones, their moving average, those before the first step."""

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """How a step's rows are learnt from.

    Attributes:
        lr: of AdamW.
        schedule: how lr falls: not at all, or towards 0 after the last step.
        warmup_steps: lr rises over so many steps.
        beta1: of AdamW.
        beta2: of AdamW.
        weight_decay: of AdamW, on all weights.
        clip_norm: longer gradients are shortened to this; null for never.
        epochs: how often a step's rows are gone through.
        mini_batches: optimiser steps in an epoch; fewer if a step has fewer episodes.
        max_tokens: padded tokens in a micro-batch; decides memory, not the result.
        mask_truncated: do not learn from responses that ran into the token limit.
        teacher: see `TeacherKind`.
        ema_decay: of the teacher's weights, once per step; for `ema`.
        autocast: compute in bfloat16, with the weights as they are.
        gradient_checkpointing: compute activations twice instead of keeping them.
        packing: rows end to end instead of padded.
        gradient_parts_every: measure the gradients of the loss's terms each so many steps, on the first mini-batch; 0
            for never. It costs two backward passes more and two copies of the gradient.
        stop_after_skips: stop the run after so many optimiser steps in a row that had to be left out.
    """

    lr: float = setting(1e-6, low=0)
    schedule: Schedule = "constant"
    warmup_steps: int = setting(0, low=0)
    beta1: float = setting(0.9, low=0, high=1)
    beta2: float = setting(0.999, low=0, high=1)
    weight_decay: float = setting(0.01, low=0)
    clip_norm: float | None = setting(1.0, low=0)
    epochs: int = setting(1, low=1)
    mini_batches: int = setting(1, low=1)
    max_tokens: int = setting(16_384, low=1)
    mask_truncated: bool = False
    teacher: TeacherKind = "old"
    ema_decay: float = setting(0.95, low=0, high=1)
    autocast: bool = False
    gradient_checkpointing: bool = False
    packing: bool = False
    gradient_parts_every: int = setting(5, low=0)
    stop_after_skips: int = setting(3, low=1)

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("beta1", "beta2"):
            if getattr(self, name) == 1:
                raise InvalidOption(f"{name} is 1: the averages would never move; wanted a number below 1.")
        if self.clip_norm == 0:
            raise InvalidOption("clip_norm is 0, which would shorten every gradient to nothing; null clips none.")


class Phases:
    """Seconds by phase. On an accelerator a phase ends when its work has.

    Args:
        device: where the work is done.
        clock: wall-clock seconds, or those of `time.process_time`.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        started = self._clock()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - started


class LearnResult(NamedTuple):
    """What a step of the learner says about itself.

    Attributes:
        metrics: by path.
        gaps: by `Row.episode_id`, the mean of teacher minus student log-probability in nats per token, of episodes
            with a teacher, where it is finite.
        signals: gap and gate of every token, for `token_marks`; None unless asked for.
    """

    metrics: dict[str, float]
    gaps: dict[str, float]
    signals: TokenSignals | None = None


@dataclass(slots=True)
class _Seen:
    """What the updates of a step leave behind.

    Attributes:
        metrics: of each micro-batch.
        gaps: `(2, episodes)`, sum of the gaps and number of tokens.
        sampler_gap: largest difference between trainer and sampling engine; None if the engine says nothing.
        signals: of the first epoch; None if they are not kept.
        gradients: of the terms of the loss, measured on the first mini-batch.
    """

    metrics: list[dict[str, Metric]]
    gaps: Tensor
    sampler_gap: float | None = None
    signals: TokenSignals | None = None
    gradients: dict[str, float] = field(default_factory=dict)


class Learner:
    """One model, its optimiser, its reference and its teacher.

    Args:
        model: a Hugging Face causal language model, or peft around one. What is trained is what requires a gradient.
            Its weights now are the reference's.
        algorithm: whose loss.
        settings: see there.
        pad_id: fills up short rows.
        temperature: that the rows are sampled at.
        seed: of the order of the episodes.
        steps: of the whole run, for schedules of the learning rate.

    Raises:
        InvalidOption: nothing is trained, or the model cannot do what the settings want.
    """

    def __init__(
        self,
        model: nn.Module,
        algorithm: GRPO,
        settings: LearnerSettings,
        *,
        pad_id: int,
        temperature: float = 1.0,
        seed: int = 0,
        steps: int = 1,
    ) -> None:
        self.model = model
        self.algorithm = algorithm
        self.settings = settings
        self.skipped_in_a_row = 0
        self._pad_id = pad_id
        self._temperature = temperature
        self._seed = seed
        self._steps = steps
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self._parameters:
            raise InvalidOption("no parameter of the model requires a gradient: there is nothing to train.")
        self.device = self._parameters[0].device
        disable_dropout(model)
        if settings.packing:
            enable_packing(model)
        if settings.gradient_checkpointing:
            checkpoint_activations(model)
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        is_frozen = algorithm.needs_teacher and settings.teacher == "frozen"
        self.initial = Weights(model) if algorithm.needs_reference or is_frozen else None
        self.average = Weights(model) if algorithm.needs_teacher and settings.teacher == "ema" else None
        # A teacher of the rollout whose whole distribution is wanted must outlive the first optimiser step.
        is_kept = settings.teacher == "old" and algorithm.full_divergence is not None
        self._rollout = Weights(model) if algorithm.needs_teacher and is_kept else None

    # -- one step ---------------------------------------------------------------------------

    def learn(
        self,
        rows: Sequence[Row],
        step: int,
        *,
        phases: Phases | None = None,
        progress: Callable[[str], None] | None = None,
        keep_signals: bool = False,
    ) -> LearnResult:
        """Learn from the rows of one step.

        Args:
            rows: of complete groups.
            step: of the run, from 1.
            phases: where times are added: `old`, `reference`, `teacher`, `update`.
            progress: told the phase when one begins.
            keep_signals: keep gap and gate of every token in the result.
        """
        phases = phases or Phases(self.device)
        say = progress or (lambda _: None)
        batch = make_batch(rows, pad_id=self._pad_id, mask_truncated=self.settings.mask_truncated)
        episodes = len(set(batch.episode_index.tolist()))
        count = min(self.settings.mini_batches, episodes)
        if self._rollout is not None:
            self._rollout.follow(self.model, 0.0)
        seen = _Seen([], torch.zeros(2, episodes, dtype=torch.float64))
        if keep_signals:
            seen.signals = TokenSignals.empty(*batch.mask.shape)
        # With a single update the policy of the rollout is the policy that is updated, and scores itself.
        if self.settings.epochs * count > 1:
            say("old")
            with phases("old"):
                old = self._score_rows(batch.student, batch.mask, entropies=not self.algorithm.needs_entropies)
            batch = batch.replace(old_logprobs=old.logprobs)
            if old.entropies is not None:
                seen.metrics.append({"policy/entropy": masked_metric(old.entropies, batch.mask)})
        if self.algorithm.needs_reference:
            say("reference")
            with phases("reference"), self._weights(self.initial):
                batch = batch.replace(ref_logprobs=self._score_rows(batch.student, batch.mask).logprobs)
        if self._has_teacher(batch):
            seen.metrics.append({"distill/rows_without_gap": _equal_prompts(batch)})
        if self.algorithm.needs_teacher and self.settings.teacher != "live":
            say("teacher")
            batch = self._ask_teacher(batch, phases)
        advantages, group_metrics = self.algorithm.advantages(rows, batch)
        batch = batch.replace(advantages=advantages)
        seen.metrics.append(group_metrics)
        seen.metrics.append({"policy/advantage_size": masked_metric(advantages.abs(), batch.mask.any(dim=1))})
        say("update")
        rng = random.Random(f"mini-batches {self._seed} {step}")
        self._set_lr(step)
        norms, skipped = [], 0
        for epoch in range(self.settings.epochs):
            for number, dealt in enumerate(batch.minibatches(count, rng)):
                if not dealt.mask.any():
                    continue
                is_live = self.algorithm.needs_teacher and self.settings.teacher == "live"
                mini = self._ask_teacher(dealt, phases) if is_live else dealt
                every = self.settings.gradient_parts_every
                measures = every > 0 and step % every == 0 and epoch == number == 0
                with phases("update"):
                    norm, is_finite = self._update(mini, step, seen, is_first=epoch == 0, measures=measures)
                norms.append(norm)
                skipped += not is_finite
                self.skipped_in_a_row = 0 if is_finite else self.skipped_in_a_row + 1
        if self.average is not None:
            self.average.follow(self.model, self.settings.ema_decay)
        finite_norms = [norm for norm in norms if math.isfinite(norm)]
        numbers = summarise(reduce_metrics(merge_metrics(seen.metrics))) | seen.gradients
        if seen.sampler_gap is not None:
            numbers["sampler/difference_max"] = seen.sampler_gap
        numbers |= {
            "optimizer/lr": self._lr(step),
            "optimizer/updates": float(len(norms) - skipped),
            "optimizer/skipped": float(skipped),
        }
        if finite_norms:
            numbers["optimizer/gradient_norm"] = sum(finite_norms) / len(finite_norms)
        ids = list(dict.fromkeys(row.episode_id for row in rows))
        totals, tokens = seen.gaps.tolist()
        gaps = {name: totals[i] / tokens[i] for i, name in enumerate(ids) if tokens[i] and math.isfinite(totals[i])}
        return LearnResult(numbers, gaps, seen.signals)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides the model: optimiser, moving average, counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; the model is loaded by whoever saved it."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.skipped_in_a_row = state["skipped_in_a_row"]

    # -- its parts --------------------------------------------------------------------------

    def _has_teacher(self, batch: Batch) -> bool:
        return self.algorithm.needs_teacher and bool(batch.has_teacher.any())

    def _weights(self, weights: Weights | None) -> AbstractContextManager[None]:
        """Let the model have these weights; None for its own."""
        return nullcontext() if weights is None else weights.in_place_of(self.model)

    def _teacher_weights(self) -> Weights | None:
        kept = {"old": self._rollout, "live": None, "ema": self.average, "frozen": self.initial}
        return kept[self.settings.teacher]

    def _ask_teacher(self, batch: Batch, phases: Phases) -> Batch:
        if batch.teacher is None or not self._has_teacher(batch):
            # Nobody to ask: the numbers are there, and the mask of the teacher hides them.
            return replace(batch, teacher=batch.student, teacher_logprobs=torch.zeros(batch.mask.shape))
        with phases("teacher"), self._weights(self._teacher_weights()), self._autocast():
            logprobs = score_families(
                self.model,
                batch.teacher,
                batch.teacher_mask,
                max_tokens=self.settings.max_tokens,
                temperature=self._temperature,
                packing=self.settings.packing,
            )
        return batch.replace(teacher_logprobs=logprobs)

    def _score_rows(self, sequences: Sequences, mask: Tensor, *, entropies: bool = False) -> Scores:
        with self._autocast():
            return score_rows(
                self.model,
                sequences,
                mask,
                max_tokens=self.settings.max_tokens,
                temperature=self._temperature,
                entropies=entropies,
                packing=self.settings.packing,
            )

    def _autocast(self) -> torch.autocast:
        # Without its cache: weights are exchanged within a block, and the cache would answer with the old ones.
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.settings.autocast, cache_enabled=False
        )

    def _update(self, mini: Batch, step: int, seen: _Seen, *, is_first: bool, measures: bool) -> tuple[float, bool]:
        """Take one optimiser step; return the length of the gradient and whether the step was taken.

        Args:
            mini: the mini-batch.
            step: of the run.
            seen: gets the metrics.
            is_first: in the first epoch, where each token is met once.
            measures: measure the gradients of the loss's terms.
        """
        algorithm = self.algorithm
        mini = mini.weighed(algorithm.aggregation, response_limit=algorithm.response_limit)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.train()  # gradient checkpointing wants it; there is no dropout
        parts: dict[str, list[Tensor]] = {}
        own: list[dict[str, Metric]] = []
        total = 0.0
        for piece in mini.split(self.settings.max_tokens):
            if not piece.mask.any():
                continue
            micro, scores = self._score_micro(piece.to(self.device))
            output = algorithm.loss(micro, scores, step=step, log_vocabulary=self._log_vocabulary())
            if measures:
                self._add_gradients(parts, output.parts)
            output.loss.backward()  # type: ignore[no-untyped-call]
            if is_first and seen.signals is not None:
                _keep_signals(seen.signals, micro, output)
            total += float(output.loss.detach())
            own.append(output.metrics | self._details(micro, scores.logprobs.detach(), seen, is_first=is_first))
        self.model.eval()
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self._parameters, limit))
        if measures:
            seen.gradients = _compare_gradients(parts)
        if not (math.isfinite(total) and math.isfinite(norm)):
            return norm, False
        self.optimizer.step()
        # Not of steps that were left out: one NaN would be all that is seen of the others.
        seen.metrics += [{name: _on_cpu(metric) for name, metric in part.items()} for part in own]
        return norm, True

    def _score_micro(self, micro: Batch) -> tuple[Batch, Scores]:
        """Return the scores with gradient, and the batch with the policy of the rollout if that is the current one."""
        algorithm = self.algorithm
        view = self._view(micro)
        is_own_rollout = micro.old_logprobs is None
        with self._autocast():
            scores = score(
                self.model,
                micro.student,
                micro.mask,
                temperature=self._temperature,
                entropies=algorithm.needs_entropies or is_own_rollout,
                divergence=None if view is None else algorithm.full_divergence,
                teacher=view,
                top_k=getattr(algorithm, "top_k", 64),
                packing=self.settings.packing,
            )
        if is_own_rollout:
            micro = micro.replace(old_logprobs=scores.logprobs.detach())
        return micro, scores

    def _view(self, micro: Batch) -> TeacherView | None:
        if self.algorithm.full_divergence is None:
            return None
        with self._autocast(), self._weights(self._teacher_weights()):
            return view_teacher(self.model, micro, packing=self.settings.packing)

    def _log_vocabulary(self) -> float:
        return math.log(self.model.config.vocab_size)  # type: ignore[union-attr, arg-type]

    def _details(self, micro: Batch, logprobs: Tensor, seen: _Seen, *, is_first: bool) -> dict[str, Metric]:
        """Return where in an episode and a response the gap lies, and add it up for each episode."""
        if is_first and micro.sampler_logprobs is not None:
            assert micro.old_logprobs is not None
            difference = float((micro.old_logprobs - micro.sampler_logprobs)[micro.mask].abs().max())
            seen.sampler_gap = max(seen.sampler_gap or 0.0, difference)
        if not self._has_teacher(micro):
            return {}
        mask = micro.teacher_mask
        assert micro.teacher_logprobs is not None
        gap = torch.where(mask, micro.teacher_logprobs - logprobs, 0.0)
        if is_first:
            index = micro.episode_index.cpu()
            seen.gaps[0].index_add_(0, index, gap.sum(dim=1).double().cpu())
            seen.gaps[1].index_add_(0, index, mask.sum(dim=1).double().cpu())
        positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        turns = micro.turn_index[:, None].expand_as(mask)
        details = {}
        for kind, places in (("turn", turns), ("position", positions)):
            for low, high in _BUCKETS:
                here = mask & (places >= low) & (places < high)
                if here.any():
                    details[f"gap_by_{kind}/{low:03d}"] = masked_metric(gap, here, spread=True)
                    details[f"gap_positive_by_{kind}/{low:03d}"] = masked_metric(gap > 0, here)
        return details

    def _add_gradients(self, sums: dict[str, list[Tensor]], terms: dict[str, Tensor]) -> None:
        for name in ("policy", "distill"):
            if name in terms and terms[name].requires_grad:
                grads = torch.autograd.grad(terms[name], self._parameters, retain_graph=True, allow_unused=True)
                if name not in sums:
                    sums[name] = [torch.zeros_like(parameter) for parameter in self._parameters]
                for so_far, grad in zip(sums[name], grads, strict=True):
                    if grad is not None:
                        so_far.add_(grad)

    def _lr(self, step: int) -> float:
        settings = self.settings
        factor = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
        share = min(1.0, max(0, step - settings.warmup_steps - 1) / max(1, self._steps - settings.warmup_steps))
        if settings.schedule == "linear":
            factor *= 1.0 - share
        elif settings.schedule == "cosine":
            factor *= (1.0 + math.cos(math.pi * share)) / 2
        return settings.lr * factor

    def _set_lr(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(step)


_BUCKETS = tuple((low, high) for low, high in ((0, 1), *((1 << i, 2 << i) for i in range(12))))


def _equal_prompts(batch: Batch) -> Metric:
    """Return the share of rows whose teacher reads what the student reads: their gap is rounding."""
    student, teacher = batch.student, batch.teacher
    assert teacher is not None
    width = min(student.input_ids.shape[1], teacher.input_ids.shape[1])
    is_equal = (student.input_ids[:, :width] == teacher.input_ids[:, :width]).all(dim=1)
    is_equal &= student.prompt_lengths == teacher.prompt_lengths
    return masked_metric(is_equal.float(), batch.teacher_mask.any(dim=1))


def _keep_signals(signals: TokenSignals, micro: Batch, output: LossOutput) -> None:
    """Write gap and gate of a micro-batch's tokens into those of the step."""
    rows, columns = micro.teacher_mask.nonzero(as_tuple=True)
    places = micro.row_index[rows].cpu(), columns.cpu()
    for kept, values in ((signals.gaps, output.gap), (signals.gates, output.gate)):
        if values is not None:
            kept[places] = values[rows, columns].float().cpu()


def _on_cpu(metric: Metric) -> Metric:
    return Metric(*(None if part is None else part.cpu() for part in metric))  # type: ignore[arg-type]


def _compare_gradients(parts: dict[str, list[Tensor]]) -> dict[str, float]:
    """Return the lengths of the terms' gradients, the ratio of the auxiliary's to the policy's, and their cosine."""
    norms = {name: math.sqrt(_product(grads, grads)) for name, grads in parts.items()}
    numbers = {f"gradient/{name}": norm for name, norm in norms.items()}
    if norms.get("policy") and "distill" in norms:
        numbers["gradient/ratio"] = norms["distill"] / norms["policy"]
        if norms["distill"]:
            numbers["gradient/cosine"] = (
                _product(parts["policy"], parts["distill"]) / norms["policy"] / norms["distill"]
            )
    return numbers


def _product(left: list[Tensor], right: list[Tensor]) -> float:
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
