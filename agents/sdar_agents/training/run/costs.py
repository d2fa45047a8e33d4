"""Costs of a training run: tokens by who read or wrote them, environment steps, seconds, per step and so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sdar_agents.contexts.base import Cost
from sdar_agents.types import Row
from sdar_envs.errors import CorruptData

__all__ = ["COSTS", "Costs", "step_costs", "teacher_tokens"]

COSTS = ("student_tokens", "prompt_tokens", "teacher_tokens", "analyst_tokens", "tokens", "environment_steps")
"""What is counted: tokens that the student generated; that it read for this; that teachers scored, prompts included;
that a context's model read and generated; all of these; commands that environments carried out. Evaluations are not
counted."""


class Costs:
    """Running totals of a run's costs, which a checkpoint keeps.

    Metrics of a step: `cost/<name>` for each of `COSTS`, and `cost_total/<name>` for the run up to it; `time/total`, in
    seconds.
    """

    def __init__(self) -> None:
        self.totals = dict.fromkeys(COSTS, 0)
        self.seconds = 0.0

    def add(self, costs: Mapping[str, int], seconds: float) -> dict[str, float]:
        """Add a step's costs and return its metrics.

        Args:
            costs: see `step_costs`.
            seconds: that the step took.
        """
        self.seconds += seconds
        for name in COSTS:
            self.totals[name] += costs[name]
        metrics = {f"cost/{name}": float(costs[name]) for name in COSTS}
        metrics |= {f"cost_total/{name}": float(total) for name, total in self.totals.items()}
        return metrics | {"time/total": self.seconds}

    def state_dict(self) -> dict[str, float]:
        """Return the totals, for a checkpoint."""
        return {**self.totals, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the totals of a checkpoint.

        Raises:
            CorruptData: one is missing.
        """
        try:
            self.totals = {name: int(state[name]) for name in COSTS}
            self.seconds = float(state["seconds"])
        except KeyError as error:
            raise CorruptData(
                f"the checkpoint has no costs of {error}: it is of an older version. Start a new run."
            ) from error


def step_costs(rollout: Mapping[str, float], teacher: int, context: Cost) -> dict[str, int]:
    """Return the costs of a step by the names of `COSTS`.

    Args:
        rollout: metrics of the step's rollout.
        teacher: see `teacher_tokens`.
        context: what making contexts cost.
    """
    generated, read = int(rollout["rollout/response_tokens"]), int(rollout["rollout/prompt_tokens"])
    analyst = context.prompt_tokens + context.completion_tokens
    return {
        "student_tokens": generated,
        "prompt_tokens": read,
        "teacher_tokens": teacher,
        "analyst_tokens": analyst,
        "tokens": generated + read + teacher + analyst,
        "environment_steps": int(rollout["rollout/turns"]) + context.environment_steps,
    }


def teacher_tokens(rows: Iterable[Row], *, passes: int = 1) -> int:
    """Return how many tokens teachers score in a step: prompts and responses of all views.

    Args:
        rows: of the step. A prefix that several rows share counts in each.
        passes: how often each row is scored: once, or in each epoch by a teacher with live weights.
    """
    return passes * sum(
        len(prompt) + len(row.response_ids) for row in rows if row.response_ids for prompt in _teacher_prompts(row)
    )


def _teacher_prompts(row: Row) -> Sequence[tuple[int, ...]]:
    if row.teacher_prompt_ids is None:
        return ()
    return [prompt for prompt in (row.teacher_prompt_ids, *row.more_teacher_prompts) if prompt is not None]
