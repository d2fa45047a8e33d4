import random

import pytest
import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import group_advantages, group_metrics
from sdar_agents.scoring.metrics import summarise
from sdar_envs.errors import InvalidOption


def advantages(
    scores: list[float], groups: list[int] | None = None, episodes: list[int] | None = None, **changes: object
) -> Tensor:
    n = len(scores)
    return group_advantages(
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(groups or [0] * n),
        torch.tensor(episodes or list(range(n))),
        **changes,  # type: ignore[arg-type]
    )


# 4 episodes of 10 turns that win (return 10) and 4 of 50 turns that lose: 40 rows of 10 and 200 of 0.
EPISODES = [(10.0, 10)] * 4 + [(0.0, 50)] * 4
SCORES = [score for score, turns in EPISODES for _ in range(turns)]
OF_EPISODE = [i for i, (_, turns) in enumerate(EPISODES) for _ in range(turns)]


def test_turn_statistics_of_the_worked_example() -> None:
    # Mean 400/240 = 5/3; squared deviations 40 (25/3)^2 + 200 (5/3)^2 = 30000/9; variance 30000/9/239; std 3.7346.
    std = (30000 / 9 / 239) ** 0.5
    got = advantages(SCORES, [0] * 240, OF_EPISODE)
    assert got[0].item() == pytest.approx((10 - 5 / 3) / (std + 1e-6), rel=1e-6)
    assert got[-1].item() == pytest.approx((0 - 5 / 3) / (std + 1e-6), rel=1e-6)
    assert [round(got[i].item(), 2) for i in (0, -1)] == [2.23, -0.45]
    assert got.double().sum().abs() < 1e-4


def test_episode_statistics_of_the_worked_example() -> None:
    # Mean 5; variance 8 * 25 / 7; std 5.3452.
    std = (200 / 7) ** 0.5
    got = advantages(SCORES, [0] * 240, OF_EPISODE, stats="episode")
    assert got[0].item() == pytest.approx(5 / (std + 1e-6), rel=1e-6)
    assert got[-1].item() == pytest.approx(-5 / (std + 1e-6), rel=1e-6)
    assert round(got[0].item(), 3) == 0.935
    # 40 rows up, 200 down.
    assert got.double().sum().item() == pytest.approx(-160 * 5 / std, rel=1e-5)


def test_two_rows_by_hand() -> None:
    # Mean 1, unbiased std sqrt(2).
    assert advantages([0.0, 2.0]).tolist() == pytest.approx([-(2**-0.5), 2**-0.5], rel=1e-5)
    assert advantages([0.0, 2.0], divide_by_std=False).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("score", [0.0, 10.0, -0.1, 0.1 + 0.2])
@pytest.mark.parametrize("stats", ["turn", "episode"])
@pytest.mark.parametrize("count", [1, 2, 7, 240])
def test_a_group_of_equals_has_no_advantage(score: float, stats: str, count: int) -> None:
    assert (advantages([score] * count, stats=stats) == 0).all()


def test_a_group_of_one_without_the_rule_is_the_reference() -> None:
    # Mean 0 and deviation 1.
    assert advantages([10.0], zero_range=0.0).item() == pytest.approx(10.0, rel=1e-5)


def test_groups_do_not_see_each_other() -> None:
    alone = advantages([0.0, 10.0, 10.0])
    both = advantages([0.0, 5.0, 10.0, 5.0, 10.0, 7.0], [0, 1, 0, 1, 0, 1])
    assert torch.equal(both[[0, 2, 4]], alone)


@pytest.mark.parametrize("stats", ["turn", "episode"])
def test_the_order_of_rows_changes_nothing(stats: str) -> None:
    rng = random.Random(0)
    scores = SCORES + [rng.choice((0.0, 10.0, 9.9)) for _ in range(60)]
    groups = [0] * 240 + [1] * 60
    episodes = OF_EPISODE + [8 + i // 10 for i in range(60)]
    straight = advantages(scores, groups, episodes, stats=stats)
    order = list(range(300))
    rng.shuffle(order)
    shuffled = advantages(
        [scores[i] for i in order], [groups[i] for i in order], [episodes[i] for i in order], stats=stats
    )
    torch.testing.assert_close(shuffled, straight[order], atol=1e-6, rtol=1e-6)


def test_what_a_group_cannot_teach_is_counted() -> None:
    returns = torch.tensor([0.0, 0.0, 0.0, 0.0, 10.0, 0.0])
    scores = torch.tensor([0.0, 0.0, 0.0, -0.1, 10.0, 0.0])
    summary = summarise(group_metrics(returns, scores, torch.tensor([0, 0, 1, 1, 2, 2])))
    assert summary == {
        "group/zero_task_std": pytest.approx(2 / 3),
        "group/penalty_only": pytest.approx(1 / 3),
        "group/return_std": pytest.approx(5 / 3),
    }


def test_what_does_not_align_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"group_index must have the shape \(B,\) = \(2,\) of scores: got \(1,\)"):
        advantages([0.0, 1.0], [0])
    row = torch.zeros(3)
    with pytest.raises(InvalidOption, match=r"scores must have the shape \(B,\): got \(1, 3\)"):
        group_advantages(row[None], row[None].long(), row[None].long())
    with pytest.raises(InvalidOption, match=r"scores .* of returns: got \(2,\)"):
        group_metrics(row, row[:2], row.long())
    with pytest.raises(InvalidOption, match="Did you mean 'episode'"):
        advantages([0.0, 1.0], stats="episodes")
