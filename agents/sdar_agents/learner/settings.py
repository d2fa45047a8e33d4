"""Learner settings: optimiser, learning-rate schedule, mini-batches, teacher, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sdar_agents.engines.smollm2 import SMOLLM2
from sdar_agents.learner.controls import TeacherControl
from sdar_agents.settings.checks import check_settings, path_setting, setting
from sdar_envs.errors import InvalidOption

__all__ = ["IdleRows", "LearnerSettings", "OldLogprobs", "Schedule", "Shard", "TeacherKind", "TeacherScores"]

TeacherKind = Literal["old", "live", "ema", "frozen", "lagged", "external"]
"""The teacher's weights: those at the start of the step, which are the rollout's unless it is stale (`max_staleness`);
the current ones; their moving average (EMA); those before the first step; a copy that is renewed every few steps;
another model's."""

TeacherScores = Literal["learner", "engine"]
"""Who computes the teacher's log-probabilities: a pass of the learner, or servers of the inference engine."""

Shard = Literal["auto", "none"]
"""What the processes of a run divide: weights, gradients and optimizer states; or the rows alone."""

OldLogprobs = Literal["trainer", "sampler"]
"""Who computes the log-probabilities of the rollout's policy: a pass of the trainer, or the engine as it sampled."""

IdleRows = Literal["score", "skip"]
"""What becomes of rows in which the loss has no gradient, such as those of advantage 0 without a KL penalty: they are
scored for the metrics, or left out."""

Schedule = Literal["constant", "linear", "cosine"]
"""Learning-rate schedule after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Learner settings: AdamW, learning-rate schedule, mini-batches, teacher weights, memory.

    Attributes:
        lr: learning rate of AdamW.
        schedule: constant, or decay towards 0 after the last step.
        warmup_steps: steps of linear learning-rate warm-up.
        beta1: of AdamW.
        beta2: of AdamW.
        weight_decay: of AdamW, on all weights.
        clip_norm: gradient clipping: the largest norm; null for none.
        epochs: passes over a step's rows.
        mini_batches: optimiser steps in an epoch; fewer if a step has fewer episodes.
        shard: `auto` divides weights, gradients and optimizer states among the processes of a run (FSDP2); with `none`
            each has all of them, for models that are small beside a GPU. In one process there is no difference.
        max_tokens: tokens in a micro-batch of one process, padding included. Gradients accumulate over micro-batches,
            so it decides memory, not the result.
        old: see `OldLogprobs`. `sampler` saves a pass over all rows where a step has several optimiser steps. It is for
            engines whose log-probs are exact: `transformers` in float32, without autocast while it generates. With
            `autocast`, importance ratios have bfloat16's error (a few percent for a tiny model).
        idle_rows: see `IdleRows`. The weights are the same; with `skip`, metrics over tokens are of the other rows.
        mask_truncated: do not train on responses that reached the token limit.
        teacher: see `TeacherKind`.
        ema_decay: of the teacher's weights, once per step; for `ema`.
        teacher_every: the copy is renewed after each so many steps; for `lagged`.
        teacher_model: for `external`: a folder or hub name of a model with the student's tokenizer, or `module:Class`
            of an engine that scores given tokens (`sdar_agents.learner.Scorer`).
        teacher_options: keyword arguments of that class.
        teacher_scores: see `TeacherScores`. `learner` is exact; `engine` spares the learner a pass over all rows, and
            brings the engine's rounding into the gaps. It is for engines that score given tokens (`vllm`), for methods
            that compare log-probs of sampled tokens, and for temperature 1. The servers that generate have the weights
            of the teacher `old`; for `frozen`, those of `reference_engine` are asked.
        reference_engine: vLLM servers with the weights before the first step, which score for the reference, and for
            the teacher `frozen` if `teacher_scores` is `engine`: keyword arguments of
            `sdar_agents.engines.servers.vllm_scorer.VllmScorer`, such as `{servers: [http://10.0.0.3:8000]}`; empty
            for a copy of the weights in the learner.
        teacher_control: a negative control; see `sdar_agents.learner.controls`.
        autocast: compute in bfloat16, with the weights as they are.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        packing: rows end to end instead of padded. On a CPU, what rows of a micro-batch have in common at their
            beginning is computed once then.
        gradient_parts_every: measure the gradients of the loss's terms every so many steps, on the first mini-batch; 0
            for never. It costs two more backward passes and two copies of the gradient.
        stop_after_skips: stop the run after so many optimiser steps in a row that were skipped as not finite.
    """

    lr: float = setting(1e-6, low=0)
    schedule: Schedule = "constant"
    warmup_steps: int = setting(0, low=0)
    beta1: float = setting(0.9, low=0, high=1)
    beta2: float = setting(0.999, low=0, high=1)
    weight_decay: float = setting(0.01, low=0)
    clip_norm: float | None = setting(1.0, above=0)
    epochs: int = setting(1, low=1)
    mini_batches: int = setting(1, low=1)
    shard: Shard = "auto"
    max_tokens: int = setting(16_384, low=1)
    old: OldLogprobs = "trainer"
    idle_rows: IdleRows = "score"
    mask_truncated: bool = False
    teacher: TeacherKind = "old"
    ema_decay: float = setting(0.95, low=0, high=1)
    teacher_every: int = setting(10, low=1)
    teacher_model: str | None = path_setting(None, names=(SMOLLM2,))
    teacher_options: Mapping[str, Any] = field(default_factory=dict)
    teacher_scores: TeacherScores = "learner"
    reference_engine: Mapping[str, Any] = field(default_factory=dict)
    teacher_control: TeacherControl = "none"
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
        if (self.teacher == "external") != (self.teacher_model is not None):
            raise InvalidOption(
                f"teacher is {self.teacher} and teacher_model {self.teacher_model!r}: an external teacher needs a "
                "model or module:Class there, and the others have none."
            )
        if self.teacher_scores == "engine" and self.teacher not in ("old", "frozen"):
            raise InvalidOption(
                f"teacher_scores is engine and teacher is {self.teacher}, whose weights no server has: wanted the "
                "teacher old or frozen, or teacher_scores learner."
            )
        if self.teacher_scores == "engine" and self.teacher == "frozen" and not self.reference_engine:
            raise InvalidOption(
                "teacher_scores is engine and teacher is frozen, and the servers that generate get new weights after "
                "each step: name servers that keep the first ones in reference_engine, or wanted teacher_scores "
                "learner."
            )
        if self.teacher_scores == "engine" and self.teacher_control == "teacher-is-student":
            raise InvalidOption(
                "teacher_control is teacher-is-student, whose gaps are 0, and teacher_scores is engine, which rounds "
                "otherwise: wanted teacher_scores learner."
            )
        if self.teacher_control == "teacher-is-student" and self.teacher not in ("old", "live"):
            raise InvalidOption(
                f"teacher_control is teacher-is-student and teacher is {self.teacher}, which has other weights than "
                "the student: wanted old or live."
            )
        if self.teacher_control in ("permuted-weights", "no-sign") and self.teacher == "live":
            raise InvalidOption(
                f"teacher_control is {self.teacher_control}, which acts on the gaps of a whole step, and teacher is "
                "live, which scores a mini-batch at a time: wanted another, such as old."
            )

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: from 1.
            steps: of the whole run.
        """
        factor = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        share = min(1.0, max(0, step - self.warmup_steps - 1) / max(1, steps - self.warmup_steps))
        if self.schedule == "linear":
            factor *= 1.0 - share
        elif self.schedule == "cosine":
            factor *= (1.0 + math.cos(math.pi * share)) / 2
        return self.lr * factor
