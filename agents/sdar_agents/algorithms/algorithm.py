"""The algorithm protocol: what the learner and the rollout need of a training method.

Inherit from `sdar_agents.algorithms.GRPO` to have all of it, and override what differs: `advantages`,
`token_advantages`, `distillation` or `loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from sdar_agents.scoring.batch import Aggregation, Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row

__all__ = ["Algorithm", "LossOutput"]


class LossOutput(NamedTuple):
    """The loss of a micro-batch, to be summed over micro-batches and ranks, and its metrics, to be merged over them.

    Attributes:
        loss: scalar with gradient.
        parts: its terms, with coefficient and gradient, by name: `policy`, `kl`, `entropy`, `distill`. They sum to the
            loss; the learner compares their gradients.
        metrics: by path, such as `loss/policy`. Those in `loss/` are means over mini-batches, the others over tokens.
        gap: `(B, L)`, teacher minus student log-probability as the method takes it, no gradient; None without a
            teacher.
        gate: `(B, L)`, the factor of each token's distillation loss, no gradient; None without a gate.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    metrics: dict[str, Metric]
    gap: Tensor | None = None
    gate: Tensor | None = None


class Algorithm(Protocol):
    """A training method: a frozen dataclass whose fields are its settings.

    Attributes:
        needs_teacher: whether `Batch.teacher_logprobs` must be there.
        student_sees_skills: whether the rollout's prompts show skills.
    """

    needs_teacher: ClassVar[bool]
    student_sees_skills: ClassVar[bool]

    @property
    def needs_reference(self) -> bool:
        """Whether `Batch.ref_logprobs` must be there."""

    @property
    def aggregation(self) -> Aggregation:
        """How losses per token become one number."""

    @property
    def response_limit(self) -> int | None:
        """The longest response that is sampled, in tokens; for `seq-mean-token-sum-norm`."""

    @property
    def invalid_penalty(self) -> float:
        """What a malformed completion costs its turn."""

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with what `loss` needs of the scores switched on."""

    def advantages(self, rows: Sequence[Row], batch: Batch) -> tuple[Tensor, dict[str, Metric]]:
        """Return the advantages `(B,)` of all rows of a step, and metrics of their groups."""

    def loss(self, batch: Batch, scores: Scores, *, step: int = 1, log_vocabulary: float | None = None) -> LossOutput:
        """Return the loss of a micro-batch."""
