"""Group-relative advantages (GRPO, Dr. GRPO).

Statistics are computed in float64, never over duplicated rows. There is no critic and no discount: every turn of an
episode has the episode's return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sdar_agents.scoring.metrics import Metric
from sdar_agents.scoring.shapes import check_shapes
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "AdvantageStats",
    "compared_rows",
    "given_advantages",
    "group_advantages",
    "group_metrics",
    "members_of",
]

AdvantageStats = Literal["turn", "episode"]
"""What a group's mean and standard deviation are taken over: its turns (the reference), or its episodes (the paper)."""


def group_advantages(
    scores: Tensor,
    group_index: Tensor,
    episode_index: Tensor,
    *,
    stats: AdvantageStats = "turn",
    divide_by_std: bool = True,
    zero_range: float = 1e-6,
    epsilon: float = 1e-6,
) -> Tensor:
    """Group-relative advantages.

    `A_i = (score_i - mean) / (std + epsilon)`, with the mean and the unbiased standard deviation of the group. With
    "turn" every row counts, so long episodes weigh more and the advantages of a group's rows sum to 0; with "episode"
    each episode counts once, by the mean of its rows' scores (pass returns then: the penalty of one row would be
    divided by the standard deviation of episodes, which can be far smaller). A group of one has mean 0 and standard
    deviation 1.

    A group whose scores differ by less than `zero_range` gets exactly 0, as does a group of one: equal scores that
    differ by rounding, divided by a standard deviation of rounding, would be noise of any size. `zero_range=0` turns
    that off, as in the reference.

    Args:
        scores: `(B,)`, `Row.score` or `Row.episode_return`.
        group_index: `(B,)`.
        episode_index: `(B,)`.
        stats: see above.
        divide_by_std: otherwise only the mean is subtracted (Dr. GRPO).
        zero_range: see above.
        epsilon: keeps the division finite.

    Returns:
        `(B,)` float32, no gradient.

    Raises:
        InvalidOption: shapes do not match, or there are no such statistics.

    Source: GRPO (arXiv 2402.03300); verl/trainer/ppo/core_algos.py, `compute_grpo_outcome_advantage`, which with
        `compute_mean_std_cross_steps=False` counts an episode by the score of its first row.
    """
    check_shapes("B", scores=scores, group_index=group_index, episode_index=episode_index)
    if stats not in get_args(AdvantageStats):
        raise InvalidOption(
            f"no statistics {stats!r}; wanted turn or episode.{did_you_mean(stats, ('turn', 'episode'))}"
        )
    scores = scores.detach().double()
    advantages = torch.zeros_like(scores)
    for members in members_of(group_index):
        own = scores[members]
        values = own
        if stats == "episode":
            values = torch.stack([own[rows].mean() for rows in members_of(episode_index[members])])
        if zero_range > 0 and float(values.max() - values.min()) < zero_range:
            continue
        mean, std = (values.mean(), values.std()) if len(values) > 1 else (values.new_zeros(()), values.new_ones(()))
        advantages[members] = (own - mean) / (std + epsilon) if divide_by_std else own - mean
    return advantages.float()


def compared_rows(rows: Sequence[Row]) -> Tensor:
    """Return the indices `(b,)` of the rows whose advantage is relative to their group."""
    chosen = [i for i, row in enumerate(rows) if row.is_trained and row.given_advantage is None]
    return torch.tensor(chosen, dtype=torch.long)


def given_advantages(rows: Sequence[Row]) -> Tensor:
    """Return the given advantages `(B,)` of the rows that are trained, and 0 for the others."""
    values = [(row.given_advantage or 0.0) if row.is_trained else 0.0 for row in rows]
    return torch.tensor(values, dtype=torch.float32)


def group_metrics(
    returns: Tensor, scores: Tensor, group_index: Tensor, *, zero_range: float = 1e-6
) -> dict[str, Metric]:
    """Metrics of the groups without a learning signal: shares of groups whose returns are all equal.

    Args:
        returns: `(B,)`, `Row.episode_return`.
        scores: `(B,)`, `Row.score`.
        group_index: `(B,)`.
        zero_range: smaller differences count as equal.

    Returns:
        `group/zero_task_std`: the share of groups whose episodes all have the same return; `group/penalty_only`: the
        share of groups where, moreover, penalties of malformed completions are the only difference;
        `group/return_std`: the standard deviation of the returns within a group, over its turns, as a mean over groups.

    Raises:
        InvalidOption: shapes do not match.
    """
    check_shapes("B", returns=returns, scores=scores, group_index=group_index)
    equal, penalty_only, groups, spread = 0, 0, 0, 0.0
    for members in members_of(group_index):
        groups += 1
        task, score = returns[members], scores[members]
        spread += float(task.double().std(unbiased=False))
        if float(task.max() - task.min()) < max(zero_range, 1e-6):
            equal += 1
            penalty_only += float(score.max() - score.min()) >= max(zero_range, 1e-6)
    count = torch.tensor(float(groups), dtype=torch.float64)
    return {
        "group/penalty_only": Metric(torch.tensor(float(penalty_only), dtype=torch.float64), count),
        "group/return_std": Metric(torch.tensor(spread, dtype=torch.float64), count),
        "group/zero_task_std": Metric(torch.tensor(float(equal), dtype=torch.float64), count),
    }


def members_of(index: Tensor) -> list[Tensor]:
    """Return the row numbers of each value of an index."""
    if not len(index):
        return []
    order = index.argsort(stable=True)
    ordered = index[order]
    sizes = (ordered[1:] != ordered[:-1]).nonzero()[:, 0].add(1)
    return list(torch.tensor_split(order, sizes.cpu()))
