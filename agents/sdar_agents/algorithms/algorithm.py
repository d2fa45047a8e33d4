"""The algorithm protocol: what the learner and the rollout need of a training method.

Inherit from `sdar_agents.algorithms.GRPO` to have all of it, and override what differs: `advantages`,
`shape_advantages`, `token_advantages`, `distillation`, `coefficients` or `loss`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from sdar_agents.scoring.batch import Aggregation, Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row

__all__ = ["Algorithm", "LossOutput", "TokenAdvantages"]

_NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


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


class TokenAdvantages(NamedTuple):
    """Advantages, of a micro-batch or of a step.

    Attributes:
        values: `(B,)`, or `(B, L)` of a method that reweights them token by token.
        gap: `(B, L)`, see `LossOutput`; None without a teacher.
        metrics: by path.
    """

    values: Tensor
    gap: Tensor | None = None
    metrics: Mapping[str, Metric] = _NO_METRICS


class Algorithm(Protocol):
    """A training method: a frozen dataclass whose fields are its settings.

    Attributes:
        needs_teacher: whether `Batch.teacher_logprobs` must be there.
        student_sees_skills: whether the rollout's prompts show skills.
        shapes_advantages: whether `shape_advantages` is called, for which the policy of the rollout and the teacher
            score all tokens first.
        teacher_views: how many prompts of the teacher a turn has; 1 or more.
    """

    needs_teacher: ClassVar[bool]
    student_sees_skills: ClassVar[bool]
    shapes_advantages: ClassVar[bool]
    teacher_views: ClassVar[int]

    @property
    def needs_turns(self) -> bool:
        """Whether it takes each row for one turn of an episode; then no row may hold several (`Row.token_turns`)."""

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

    def prepare_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of a step as the method uses them, as many and in the same order."""

    def advantages(self, rows: Sequence[Row], batch: Batch) -> tuple[Tensor, dict[str, Metric]]:
        """Return the advantages `(B,)` of all rows of a step, and metrics of their groups."""

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages of all rows of a step, `(B,)` or `(B, L)`, and metrics."""

    def rows_with_gradient(self, batch: Batch, step: int) -> Tensor:
        """Return the rows `(B,)` bool of a mini-batch in which the loss has a gradient."""

    def loss(self, batch: Batch, scores: Scores, *, step: int = 1, log_vocabulary: float | None = None) -> LossOutput:
        """Return the loss of a micro-batch."""
