"""Advantages: what a turn is worth beside the others of its group, and RLSD's advantages per token.

Statistics are computed in float64 and never over duplicated rows. It refuses critics and discounts: a turn is worth
what its episode is.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sdar_agents.scoring.metrics import Metric
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = ["AdvantageStats", "group_advantages", "group_metrics", "rlsd_advantages", "rlsd_coefficient"]

AdvantageStats = Literal["turn", "episode"]
"""Over what a group's mean and deviation are taken: all its turns (the reference), or its episodes (the paper)."""

_MAX_EXPONENT = 20.0


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
    """Return group-relative advantages.

    `A_i = (score_i - mean) / (std + epsilon)`, with the mean and the unbiased standard deviation of the group. With
    "turn" every row counts, so long episodes weigh more and the advantages of a group's rows sum to 0; with "episode"
    each episode counts once, by the mean of its rows' scores (give returns then: a penalty of one row would be divided
    by a deviation of episodes, which can be far smaller). A group of one has mean 0 and deviation 1.

    A group whose scores differ by less than `zero_range` gets exactly 0, a group of one too: rounding in equal scores,
    divided by rounding, would be noise of any size. `zero_range=0` turns that off, as in the reference.

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
        InvalidOption: the arguments do not align, or there are no such statistics.

    Source: GRPO (arXiv 2402.03300); verl/trainer/ppo/core_algos.py, `compute_grpo_outcome_advantage`, which with
        `compute_mean_std_cross_steps=False` counts an episode by the score of its first row.
    """
    if not scores.shape == group_index.shape == episode_index.shape or scores.dim() != 1:
        raise InvalidOption(
            f"scores, group_index and episode_index must align as (B,): got {tuple(scores.shape)}, "
            f"{tuple(group_index.shape)} and {tuple(episode_index.shape)}."
        )
    if stats not in get_args(AdvantageStats):
        raise InvalidOption(
            f"no statistics {stats!r}; wanted turn or episode.{did_you_mean(stats, ('turn', 'episode'))}"
        )
    scores = scores.detach().double()
    advantages = torch.zeros_like(scores)
    for members in _members(group_index):
        own = scores[members]
        values = own
        if stats == "episode":
            values = torch.stack([own[rows].mean() for rows in _members(episode_index[members])])
        if zero_range > 0 and float(values.max() - values.min()) < zero_range:
            continue
        mean, std = (values.mean(), values.std()) if len(values) > 1 else (values.new_zeros(()), values.new_ones(()))
        advantages[members] = (own - mean) / (std + epsilon) if divide_by_std else own - mean
    return advantages.float()


def group_metrics(
    returns: Tensor, scores: Tensor, group_index: Tensor, *, zero_range: float = 1e-6
) -> dict[str, Metric]:
    """Count the groups from which nothing can be learnt about the task.

    Args:
        returns: `(B,)`, `Row.episode_return`.
        scores: `(B,)`, `Row.score`.
        group_index: `(B,)`.
        zero_range: differences below are none.

    Returns:
        `group/zero_task_std`: the share of groups whose episodes all have the same return; `group/penalty_only`: the
        share of groups where, moreover, format penalties make the only difference.
    """
    equal, penalty_only, groups = 0, 0, 0
    for members in _members(group_index):
        groups += 1
        task, score = returns[members], scores[members]
        if float(task.max() - task.min()) < max(zero_range, 1e-6):
            equal += 1
            penalty_only += float(score.max() - score.min()) >= max(zero_range, 1e-6)
    count = torch.tensor(float(groups), dtype=torch.float64)
    return {
        "group/penalty_only": Metric(torch.tensor(float(penalty_only), dtype=torch.float64), count),
        "group/zero_task_std": Metric(torch.tensor(float(equal), dtype=torch.float64), count),
    }


def rlsd_coefficient(step: int, *, coefficient: float, warmdown_steps: int) -> float:
    """Return RLSD's mixing weight at a step: `coefficient (1 - step / warmdown_steps)`, and 0 from there on.

    Args:
        step: counted from 1.
        coefficient: lambda_0, from 0 to 1.
        warmdown_steps: W; 0 is no warm-down.

    Source: verl/trainer/ppo/rlsd_utils.py.
    """
    if warmdown_steps == 0:
        return coefficient
    return coefficient * (1.0 - step / warmdown_steps) if step < warmdown_steps else 0.0


def rlsd_advantages(advantages: Tensor, gap: Tensor, *, coefficient: float, clip: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return RLSD's advantages per token and the weights in them.

    `w_t = clip(exp(sign(A) d_t), 1 - clip, 1 + clip)` and `A_t = A ((1 - lambda) + lambda w_t)`: a token that the
    teacher likes better than the student did gets more of a positive advantage and less of a negative one. The sign
    is always the row's.

    Args:
        advantages: `(B,)`.
        gap: `(B, L)`, d = teacher - old log-probability, in nats, no gradient.
        coefficient: lambda, from 0 to 1; 0 gives the row's advantage bit for bit.
        clip: the most that a weight differs from 1.

    Returns:
        `(B, L)` each, without gradient: advantages, weights.

    Source: RLSD (arXiv 2604.03128); verl/trainer/ppo/rlsd_utils.py.
    """
    row = advantages.detach()[:, None]
    # Clamped before exp: the clip makes them equal, and a gap of 100 stays finite.
    exponent = (row.sign() * gap.detach()).clamp(-_MAX_EXPONENT, _MAX_EXPONENT)
    weights = exponent.exp().clamp(1.0 - clip, 1.0 + clip)
    return row * ((1.0 - coefficient) + coefficient * weights), weights


def _members(index: Tensor) -> list[Tensor]:
    """Return the row numbers of each value of an index."""
    if not len(index):
        return []
    order = index.argsort(stable=True)
    ordered = index[order]
    sizes = (ordered[1:] != ordered[:-1]).nonzero()[:, 0].add(1)
    return list(torch.tensor_split(order, sizes.cpu()))
