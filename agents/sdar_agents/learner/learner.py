"""The learner: one optimisation step per rollout, from training rows to updated weights and metrics.

    learner = Learner(model, make_algorithm("sdar", suite="alfworld"), LearnerSettings(lr=3e-5), pad_id=0)
    metrics = learner.learn(rows, step=1).metrics

Once per step, the policy of the rollout, the reference policy and the teacher score all tokens. Then whole episodes are
split into mini-batches of one optimiser step each, and a mini-batch into micro-batches that fit the memory. Gradient
accumulation over micro-batches is exact, because the loss weights are the mini-batch's. Each metric is a mean over all
tokens of the step.

It knows no environment and writes no files. Optimiser steps whose loss or gradient is not finite are skipped and
counted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdar_agents.algorithms import Algorithm, LossOutput
from sdar_agents.learner.controls import control_batch, control_rows
from sdar_agents.learner.measures import StepRecord, equal_prompts, gap_details, on_cpu
from sdar_agents.learner.passes import make_passes
from sdar_agents.learner.phases import Phases
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.sharding import is_sharded, load_optimizer
from sdar_agents.learner.teachers import ExternalTeacher
from sdar_agents.learner.token_marks import TokenSignals
from sdar_agents.learner.weights import Weights
from sdar_agents.parallel import World
from sdar_agents.scoring.batch import Batch, Sequences, make_batch
from sdar_agents.scoring.gradient_checkpointing import enable_gradient_checkpointing
from sdar_agents.scoring.head import Scores, TeacherView
from sdar_agents.scoring.metrics import Metric, masked_metric, merge_metrics, reduce_metrics, summarise
from sdar_agents.scoring.model_parts import disable_dropout
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import enable_packing
from sdar_agents.scoring.precision import warn_if_emulated
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption
from sdar_envs.rng import derive_seed

__all__ = ["LearnResult", "Learner"]


class LearnResult(NamedTuple):
    """Metrics and signals of one step of the learner.

    Attributes:
        metrics: by path.
        gaps: by `Row.episode_id`, the mean of teacher minus student log-probability in nats per token, of episodes
            with a teacher, where it is finite.
        signals: gap and gate of every token, for `token_marks`; None unless asked for.
    """

    metrics: dict[str, float]
    gaps: dict[str, float]
    signals: TokenSignals | None = None


class Learner:
    """Trainer of one model: optimiser, reference policy, teacher, mini-batches, gradient accumulation.

    Args:
        model: a Hugging Face causal language model, or peft around one. Parameters that require a gradient are
            trained. Its present weights are the reference policy's.
        algorithm: the training method.
        settings: see `LearnerSettings`.
        pad_id: token id of the padding.
        temperature: that the rows were sampled at.
        seed: of the order of the episodes.
        steps: of the whole run, for schedules of the learning rate.
        teacher: who scores in the teacher's place: the external one, from `open_teacher`, or the servers that
            `teacher_scores` asks for; None for this learner.
        reference: who scores in the reference's place (`reference_engine`); None for this learner.
        world: the ranks of the run, which have the same model and get the same rows; None for one process. All methods
            are collective then.

    Raises:
        InvalidOption: nothing is trained, or the model or the method does not support the settings.
    """

    def __init__(
        self,
        model: nn.Module,
        algorithm: Algorithm,
        settings: LearnerSettings,
        *,
        pad_id: int,
        temperature: float = 1.0,
        seed: int = 0,
        steps: int = 1,
        teacher: ExternalTeacher | None = None,
        reference: ExternalTeacher | None = None,
        world: World | None = None,
    ) -> None:
        self.model = model
        self.algorithm = algorithm
        self.settings = settings
        self.skipped_in_a_row = 0
        self._pad_id = pad_id
        self._seed = seed
        self._steps = steps
        self._scoring = ScoringOptions(temperature=temperature, packing=settings.packing)
        self._loss_scoring = algorithm.scoring_options(self._scoring)
        self._teacher = teacher
        self._reference = reference
        self._check_teacher()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InvalidOption("no parameter of the model requires a gradient: there is nothing to train.")
        disable_dropout(model)
        if settings.autocast:
            warn_if_emulated(next(model.parameters()).device, "learner.autocast")
        if settings.packing:
            enable_packing(model)
        if settings.gradient_checkpointing:
            enable_gradient_checkpointing(model)
        self._passes = make_passes(model, settings, world or World())
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.device = self._parameters[0].device
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        is_frozen = algorithm.needs_teacher and settings.teacher == "frozen" and teacher is None
        has_reference = algorithm.needs_reference and reference is None
        self.initial = Weights(model) if has_reference or is_frozen else None
        is_copied = algorithm.needs_teacher and settings.teacher in ("ema", "lagged")
        self.average = Weights(model) if is_copied else None
        # The full distribution of a teacher with the rollout's weights must outlive the first optimiser step.
        is_kept = settings.teacher == "old" and self._loss_scoring.divergence is not None
        self._rollout = Weights(model) if algorithm.needs_teacher and is_kept else None

    def _check_teacher(self) -> None:
        """Check that method and teacher go together."""
        algorithm, settings = self.algorithm, self.settings
        name = type(algorithm).__name__
        if not algorithm.needs_teacher:
            if settings.teacher_control != "none":
                raise InvalidOption(f"teacher_control is {settings.teacher_control}, and {name} has no teacher.")
            return
        if algorithm.shapes_advantages and settings.teacher == "live":
            raise InvalidOption(
                f"{name} shapes the advantages of a whole step before its updates, and teacher is live, whose weights "
                "change with each: wanted old, ema, frozen, lagged or external."
            )
        if settings.teacher_control in ("permuted-weights", "no-sign") and self._loss_scoring.divergence is not None:
            raise InvalidOption(
                f"teacher_control is {settings.teacher_control}, which acts on log-probs of tokens, and {name} "
                "compares whole distributions: wanted teacher-is-student, or a divergence of sampled tokens."
            )
        is_elsewhere = settings.teacher == "external" or settings.teacher_scores == "engine"
        if is_elsewhere != (self._teacher is not None):
            raise InvalidOption(
                f"teacher is {settings.teacher} and teacher_scores {settings.teacher_scores}: pass what "
                "open_teacher(...) returns to Learner(teacher=...) for an external one, a ScorerTeacher for "
                "teacher_scores engine, and None for the others."
            )
        if settings.teacher_scores == "engine" and self._loss_scoring.divergence is not None:
            raise InvalidOption(
                f"teacher_scores is engine, which gives log-probs of tokens, and {name} compares whole distributions: "
                "set teacher_scores to learner, or take a divergence of sampled tokens."
            )

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
        """Update the model from the rows of one step.

        Args:
            rows: of complete groups.
            step: of the run, from 1.
            phases: where times are added: `old`, `reference`, `teacher`, `update`.
            progress: called with the name of each phase when it begins.
            keep_signals: keep gap and gate of every token in the result.
        """
        phases = phases or Phases(self.device)
        progress = progress or (lambda _: None)
        rows = control_rows(self.algorithm.prepare_rows(rows), self.settings.teacher_control)
        batch = make_batch(rows, pad_id=self._pad_id, mask_truncated=self.settings.mask_truncated)
        # Views that the method does not read are not scored.
        batch = batch.replace(more_teachers=batch.more_teachers[: self.algorithm.teacher_views - 1])
        episode_ids = list(dict.fromkeys(row.episode_id for row in rows))
        record = StepRecord(torch.zeros(2, len(episode_ids), dtype=torch.float64))
        if keep_signals:
            record.signals = TokenSignals.empty(*batch.mask.shape)
        count = min(self.settings.mini_batches, len(episode_ids))
        batch = self._score_step(batch, count, record, phases, progress)
        if self.algorithm.needs_teacher and self.settings.teacher != "live":
            control_seed = derive_seed(self._seed, f"teacher control {step}")
            batch = control_batch(batch, self.settings.teacher_control, control_seed)
        batch = self._advantages(rows, batch, step, record)
        if self.settings.epochs * count == 1 and self.settings.old == "trainer":
            batch = batch.replace(old_logprobs=None)  # see _score_micro
        progress("update")
        updates = self._update_epochs(batch, count, step, record, phases)
        if self.average is not None and self.settings.teacher == "ema":
            self.average.follow(self.model, self.settings.ema_decay)
        elif self.average is not None and step % self.settings.teacher_every == 0:
            self.average.follow(self.model, 0.0)
        # Of the size of the weights, and of no use while the next episodes are played.
        self.optimizer.zero_grad(set_to_none=True)
        self._passes.end_record(record)
        metrics = summarise(reduce_metrics(merge_metrics(record.metrics))) | record.gradients | updates
        if record.sampler_difference is not None:
            metrics["sampler/difference_max"] = record.sampler_difference
        return LearnResult(metrics, record.episode_gaps(episode_ids), record.signals)

    def score_ids(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first, at temperature 1, under the present weights."""
        batch = make_batch([Row(tuple(ids[:1]), tuple(ids[1:]))], pad_id=self._pad_id)
        scores = self._score_rows(batch.student, batch.mask, replace(self._scoring, temperature=1.0))
        logprobs: list[float] = scores.logprobs[0].tolist()
        return logprobs

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides the model: optimiser, moving average, counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned; the model's weights are loaded separately."""
        if is_sharded(self.model):
            load_optimizer(self.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.skipped_in_a_row = state["skipped_in_a_row"]

    # -- scores, once per step --------------------------------------------------------------

    def _advantages(self, rows: Sequence[Row], batch: Batch, step: int, record: StepRecord) -> Batch:
        """Return the batch with the advantages of all rows."""
        advantages, group_metrics = self.algorithm.advantages(rows, batch)
        record.metrics.append(group_metrics)
        if self.algorithm.shapes_advantages:
            shaped = self.algorithm.shape_advantages(advantages, rows, batch, step)
            record.metrics.append(dict(shaped.metrics))
            advantages = shaped.values
        trained = batch.policy_mask if advantages.dim() == 2 else batch.policy_mask.any(dim=1)
        record.metrics.append({"policy/advantage_size": masked_metric(advantages.abs(), trained)})
        return batch.replace(advantages=advantages)

    def _score_step(
        self, batch: Batch, count: int, record: StepRecord, phases: Phases, progress: Callable[[str], None]
    ) -> Batch:
        """Return the batch with the log-probs of the policy of the rollout, the reference and the teacher."""
        algorithm = self.algorithm
        if self._rollout is not None:
            self._rollout.follow(self.model, 0.0)
        # With a single update, the policy of the rollout is the policy that is updated: see _score_micro.
        is_single = self.settings.epochs * count == 1
        needs_old = algorithm.shapes_advantages or self.settings.teacher_control in ("permuted-weights", "no-sign")
        if self.settings.old == "sampler":
            batch = self._sampled_logprobs(batch, phases)
        elif needs_old or not is_single:
            progress("old")
            # Where the loss needs entropies, and with a single update, the update computes them.
            options = replace(self._scoring, entropies=not (self._loss_scoring.entropies or is_single))
            with phases("old"):
                old = self._score_rows(batch.student, batch.mask, options)
            batch = batch.replace(old_logprobs=old.logprobs)
            if old.entropies is not None:
                record.metrics.append({"policy/entropy": masked_metric(old.entropies, batch.policy_mask)})
        if algorithm.needs_reference:
            progress("reference")
            with phases("reference"):
                batch = batch.replace(ref_logprobs=self._reference_logprobs(batch))
        if self._has_teacher(batch):
            record.metrics.append({"distill/rows_without_gap": equal_prompts(batch)})
        if algorithm.needs_teacher and self.settings.teacher != "live":
            progress("teacher")
            batch = self._score_teacher(batch, phases)
        return batch

    def _sampled_logprobs(self, batch: Batch, phases: Phases) -> Batch:
        """Return the batch with the sampling engine's log-probs as those of the policy of the rollout.

        Rows that are distilled alone were not sampled, and are scored.

        Raises:
            InvalidOption: the engine returns none.
        """
        if batch.sampler_logprobs is None:
            raise InvalidOption(
                "old is sampler, and the rows have no log-probs of the engine: wanted an engine that returns them, or "
                "old: trainer."
            )
        old = batch.sampler_logprobs
        if batch.is_trained is not None:
            others = batch.mask & ~batch.is_trained[:, None]
            with phases("old"):
                scored = self._score_rows(batch.student, others, self._scoring).logprobs
            old = torch.where(others, scored, old)
        return batch.replace(old_logprobs=old)

    def _score_rows(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Scores:
        with self._autocast():
            return self._passes.score_rows(sequences, mask, options)

    def _score_teacher(self, batch: Batch, phases: Phases) -> Batch:
        with phases("teacher"):
            if batch.teacher is None or not self._has_teacher(batch):
                # No row has a teacher: the tensors are there, and the teacher's mask hides them.
                batch = replace(batch, teacher=batch.student, teacher_logprobs=torch.zeros(batch.mask.shape))
            else:
                batch = batch.replace(teacher_logprobs=self._teacher_logprobs(batch.teacher, batch.teacher_mask))
            views = tuple(
                replace(view, logprobs=self._teacher_logprobs(view.sequences, batch.mask & view.is_there[:, None]))
                for view in batch.more_teachers
            )
        return batch.replace(more_teachers=views)

    def _reference_logprobs(self, batch: Batch) -> Tensor:
        if self._reference is not None:
            limit = self.settings.max_tokens
            return self._reference.logprobs(batch.student, batch.mask, self._scoring, max_tokens=limit)
        with self._weights(self.initial):
            return self._score_rows(batch.student, batch.mask, self._scoring).logprobs

    def _teacher_logprobs(self, sequences: Sequences, mask: Tensor) -> Tensor:
        if self._teacher is not None:
            with self._autocast():
                return self._teacher.logprobs(sequences, mask, self._scoring, max_tokens=self.settings.max_tokens)
        with self._weights(self._teacher_weights()), self._autocast():
            return self._passes.score_shared_prefixes(sequences, mask, self._scoring)

    def _has_teacher(self, batch: Batch) -> bool:
        return self.algorithm.needs_teacher and bool(batch.has_teacher.any())

    def _weights(self, weights: Weights | None) -> AbstractContextManager[None]:
        """Context in which the model has these weights; None for its own."""
        return nullcontext() if weights is None else weights.in_place_of(self.model)

    def _teacher_weights(self) -> Weights | None:
        kept = {"old": self._rollout, "ema": self.average, "lagged": self.average, "frozen": self.initial}
        return kept.get(self.settings.teacher)

    def _autocast(self) -> torch.autocast:
        # Without autocast's cache: weights are exchanged within a block, and the cache would return the old ones.
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.settings.autocast, cache_enabled=False
        )

    # -- updates ----------------------------------------------------------------------------

    def _update_epochs(
        self, batch: Batch, count: int, step: int, record: StepRecord, phases: Phases
    ) -> dict[str, float]:
        """Take the optimiser steps of all epochs; return metrics of the optimiser."""
        settings = self.settings
        rng = random.Random(f"mini-batches {self._seed} {step}")
        lr = settings.learning_rate(step, self._steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norms, skipped = [], 0
        for epoch in range(settings.epochs):
            for number, mini in enumerate(batch.minibatches(count, rng)):
                if not mini.mask.any():
                    continue
                if self.algorithm.needs_teacher and settings.teacher == "live":
                    mini = self._score_teacher(mini, phases)  # noqa: PLW2901
                every = settings.gradient_parts_every
                measures = every > 0 and step % every == 0 and epoch == number == 0
                with phases("update"):
                    first = number if epoch == 0 else None
                    norm, is_finite = self._update(mini, step, record, number=first, measures=measures)
                norms.append(norm)
                skipped += not is_finite
                self.skipped_in_a_row = 0 if is_finite else self.skipped_in_a_row + 1
        metrics = {
            "optimizer/lr": lr,
            "optimizer/updates": float(len(norms) - skipped),
            "optimizer/skipped": float(skipped),
        }
        finite_norms = [norm for norm in norms if math.isfinite(norm)]
        if finite_norms:
            metrics["optimizer/gradient_norm"] = sum(finite_norms) / len(finite_norms)
        return metrics

    def _update(
        self, mini: Batch, step: int, record: StepRecord, *, number: int | None, measures: bool
    ) -> tuple[float, bool]:
        """Accumulate gradients over micro-batches and take one optimiser step.

        Args:
            mini: the mini-batch.
            step: of the run.
            record: gets the metrics.
            number: of the mini-batch in the first epoch, which sees each token once; None in others.
            measures: measure the gradients of the loss's terms.

        Returns:
            The gradient norm before clipping, and whether the step was taken.
        """
        algorithm = self.algorithm
        mini = mini.weighed(algorithm.aggregation, response_limit=algorithm.response_limit, is_whole=True)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.train()  # gradient checkpointing needs it; there is no dropout
        parts: dict[str, list[Tensor]] = {}
        whole = mini
        mini, idle = self._without_idle_rows(mini, step)
        metrics = [] if idle is None else self._idle_metrics(idle, step, record, number)
        if self._passes.world.is_first:
            counts = (float(0 if idle is None else len(idle)), float(whole.mask.any(dim=1).sum()))
            metrics.append({"optimizer/idle_rows": Metric(*torch.tensor(counts, dtype=torch.float64))})
        total = 0.0
        for piece in self._passes.micro_batches(mini):
            if piece is None:
                self._idle_pass(whole, parts, measures=measures)
                continue
            micro, scores = self._score_micro(piece.to(self.device))
            output = algorithm.loss(micro, scores, step=step, log_vocabulary=self._log_vocabulary())
            if measures:
                self._passes.add_gradients(parts, output.parts, self._parameters)
            output.loss.backward()  # type: ignore[no-untyped-call]
            total += float(output.loss.detach())
            metrics.append(self._noted(micro, scores, output, record, number))
        self.model.eval()
        if idle is not None and not len(mini):
            # Zero, not none: the optimiser's averages move on, and weights decay.
            for parameter in self._parameters:
                parameter.grad = torch.zeros_like(parameter)
        self._passes.end_gradients(self._parameters)
        (total,) = self._passes.world.sum(total)
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        norm = self._passes.clip(self._parameters, limit)
        if measures:
            record.gradients = self._passes.compare_gradients(parts, self._parameters)
        if not (math.isfinite(total) and math.isfinite(norm)):
            return norm, False
        self.optimizer.step()
        # Not of skipped steps: one NaN would make the mean of all the others NaN.
        record.metrics += [{name: on_cpu(metric) for name, metric in part.items()} for part in metrics]
        return norm, True

    def _without_idle_rows(self, mini: Batch, step: int) -> tuple[Batch, Batch | None]:
        """Split a mini-batch into the rows in which the loss has a gradient, and the others; None if there are none."""
        if self._loss_scoring.divergence is not None:
            return mini, None
        has_gradient = self.algorithm.rows_with_gradient(mini, step)
        is_idle = mini.mask.any(dim=1) & ~has_gradient
        if not is_idle.any():
            return mini, None
        return mini.select(has_gradient.nonzero()[:, 0]), mini.select(is_idle.nonzero()[:, 0])

    def _noted(
        self, micro: Batch, scores: Scores, output: LossOutput, record: StepRecord, number: int | None
    ) -> dict[str, Metric]:
        """Return the metrics of rows, and note in the record what is noted once per token."""
        has_teacher = self._has_teacher(micro)
        if number is not None:
            rollout = micro.old_logprobs
            if self.settings.old == "sampler":
                # The engine's own: what it is compared with are the scores before the first optimiser step.
                rollout = scores.logprobs.detach() if number == 0 else None
            record.note_tokens(micro, scores, output, rollout, has_teacher=has_teacher)
        return output.metrics | (gap_details(micro, scores) if has_teacher else {})

    def _idle_metrics(self, idle: Batch, step: int, record: StepRecord, number: int | None) -> list[dict[str, Metric]]:
        """Return the metrics of rows in which the loss has no gradient; those of losses are always whole."""
        metrics: list[dict[str, Metric]] = []
        if self.settings.idle_rows == "score":
            options = self._loss_scoring
            if self._computes_entropies(idle):
                options = replace(options, entropies=True)
            scores = self._score_rows(idle.student, idle.mask, options)
            if idle.old_logprobs is None:
                idle = idle.replace(old_logprobs=scores.logprobs)
            # Scores are gathered on all ranks, and metrics added up over them.
            if self._passes.world.is_first:
                output = self.algorithm.loss(idle, scores, step=step, log_vocabulary=self._log_vocabulary())
                metrics.append(self._noted(idle, scores, output, record, number))
        elif self._passes.world.is_first:
            assert idle.totals is not None
            share = idle.policy_mask.sum().double() / max(idle.totals.tokens, 1.0)
            metrics.append({name: Metric(torch.zeros_like(share), share) for name in ("loss/policy", "loss/total")})
        return metrics

    def _computes_entropies(self, batch: Batch) -> bool:
        """Return whether the update computes the entropies that no pass before it has computed."""
        return batch.old_logprobs is None or self.settings.old == "sampler"

    def _idle_pass(self, mini: Batch, parts: dict[str, list[Tensor]], *, measures: bool) -> None:
        """Run the passes of a micro-batch without a loss: another rank has one more, and all must take part."""
        _, scores = self._score_micro(self._passes.idle(mini).to(self.device))
        nothing = scores.logprobs.sum() * 0.0
        if measures:
            self._passes.add_gradients(parts, {"idle": nothing}, self._parameters)
        nothing.backward()  # type: ignore[no-untyped-call]

    def _score_micro(self, micro: Batch) -> tuple[Batch, Scores]:
        """Return the scores with gradient, and the batch with old log-probs: with a single update, the scores' own."""
        view = self._view(micro)
        options = self._loss_scoring
        if self._computes_entropies(micro):
            options = replace(options, entropies=True)
        with self._autocast():
            scores = self._passes.score(micro, options, teacher=view)
        if micro.old_logprobs is None:
            micro = micro.replace(old_logprobs=scores.logprobs.detach())
        return micro, scores

    def _view(self, micro: Batch) -> TeacherView | None:
        if self._loss_scoring.divergence is None:
            return None
        if self._teacher is not None:
            with self._autocast():
                return self._teacher.view(micro)
        with self._autocast(), self._weights(self._teacher_weights()):
            return self._passes.view_teacher(micro)

    def _log_vocabulary(self) -> float:
        return math.log(self.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
