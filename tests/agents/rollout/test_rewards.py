"""Reward functions of one's own, and wrappers that the rollout refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from helpers.tiny_models import tiny_tokenizer
from helpers.toy import CountingEnv, Numbers

from sdar_agents.baselines.scripted import RandomAgent
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.rollout.rewards import apply_reward, load_reward
from sdar_agents.rollout.rollout import Rollout, RolloutResult, RolloutSettings
from sdar_agents.types import Trajectory, make_rows
from sdar_envs.errors import InvalidOption, UnknownName

ENV = "toy/Rewarded-v0"
REWARDS = """
def per_turn(trajectory):
    return [turn.reward - 0.5 * (not turn.is_action_valid) + 0.25 * i for i, turn in enumerate(trajectory.turns)]

def per_episode(trajectory):
    return len(trajectory.turns)

NO_FUNCTION = 3
"""


@pytest.fixture(autouse=True)
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "rewards_of_mine.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    gymnasium.register(ENV, "helpers.toy:CountingEnv")
    yield
    del gymnasium.registry[ENV]


def played(reward: str | None, **kwargs: Any) -> RolloutResult:
    settings = RolloutSettings(ENV, {"max_steps": 3}, reward=reward, **kwargs)
    tasks = [Numbers().task("valid", i) for i in range(4)]
    return Rollout(settings, ScriptedPolicy(RandomAgent, tokenizer=tiny_tokenizer())).collect(
        tasks, group_size=2, seed=0, step=0
    )


def test_a_function_of_the_working_directory_replaces_the_reward_and_keeps_the_environments() -> None:
    plain, shaped = played(None), played("rewards_of_mine:per_turn")
    for before, after in zip(plain.trajectories, shaped.trajectories, strict=True):
        assert [turn.env_reward for turn in after.turns] == [turn.reward for turn in before.turns]
        assert [turn.reward for turn in after.turns] == [
            turn.reward - 0.5 * (not turn.is_action_valid) + 0.25 * i for i, turn in enumerate(before.turns)
        ]
        assert make_rows(after)[0].episode_return == after.episode_return
        assert [turn.env_reward for turn in before.turns] == [None] * len(before.turns)
    assert shaped.metrics["rollout/env_return"] == plain.metrics["rollout/return"]
    returns = [trajectory.episode_return for trajectory in shaped.trajectories]
    assert shaped.metrics["rollout/return"] == pytest.approx(sum(returns) / 8)
    assert shaped.metrics["rollout/success"] == plain.metrics["rollout/success"]
    assert "rollout/env_return" not in plain.metrics


def test_one_number_is_the_episodes_return_and_stands_at_its_last_turn() -> None:
    for trajectory in played("rewards_of_mine:per_episode").trajectories:
        count = len(trajectory.turns)
        assert [turn.reward for turn in trajectory.turns] == [0.0] * (count - 1) + [float(count)]


@pytest.mark.parametrize(
    "reward",
    [lambda _: [1.0], lambda _: "1", lambda _: None, lambda _: math.nan, lambda t: [math.inf] * len(t.turns)],
)
def test_what_is_no_reward_is_refused(reward: Callable[[Trajectory], Any]) -> None:
    trajectory = next(t for t in played(None).trajectories if len(t.turns) == 3)
    with pytest.raises(InvalidOption, match=r"the reward function mine:f returned .* which has 3 turns; wanted"):
        apply_reward(trajectory, reward, "mine:f")


def test_numbers_of_numpy_are_rewards() -> None:
    trajectory = played(None).trajectories[0]
    rewarded = apply_reward(trajectory, lambda t: [np.float32(0.5)] * len(t.turns), "mine:f")
    assert {(type(turn.reward), turn.reward) for turn in rewarded.turns} == {(float, 0.5)}


def test_an_error_in_the_function_says_where() -> None:
    trajectory = played(None).trajectories[0]
    with pytest.raises(ZeroDivisionError) as caught:
        apply_reward(trajectory, lambda _: 1 / 0, "mine:f")
    assert caught.value.__notes__ == [f"in the reward function mine:f, for {trajectory.episode_id!r}"]


def test_what_is_no_function_is_refused_before_anything_is_played() -> None:
    with pytest.raises(InvalidOption, match="reward is 'shaped'; wanted module:function"):
        RolloutSettings(ENV, reward="shaped")
    with pytest.raises(UnknownName, match="Did you mean 'per_turn'"):
        Rollout(RolloutSettings(ENV, reward="rewards_of_mine:per_turns"), ScriptedPolicy(RandomAgent))
    with pytest.raises(InvalidOption, match="NO_FUNCTION is a int; wanted a function of a trajectory"):
        load_reward("rewards_of_mine:NO_FUNCTION")


def wrapped(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return TransformReward(CountingEnv(**kwargs), lambda reward: reward - 0.1)


def test_a_reward_wrapper_around_an_environment_is_refused_and_not_dropped() -> None:
    gymnasium.register("toy/Wrapped-v0", wrapped)
    try:
        rollout = Rollout(RolloutSettings("toy/Wrapped-v0"), ScriptedPolicy(RandomAgent))
        with pytest.raises(InvalidOption, match="is in the wrapper TransformReward"):
            rollout.collect([Numbers().task("valid", 0)], group_size=1, seed=0, step=0)
    finally:
        del gymnasium.registry["toy/Wrapped-v0"]
