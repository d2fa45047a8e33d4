"""The scripted shoppers on the embedded catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from sdar_agents import AGENTS, Agent, RandomAgent, RuleAgent, make_agent
from sdar_agents.baselines.rule_shopper import RuleShopper
from sdar_envs.alfworld.env import ALFWorldEnv
from sdar_envs.errors import EpisodeOver, UnknownName
from sdar_envs.webshop.env import WebShopEnv


def play(agent: Agent, env: WebShopEnv, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Play one episode; return the actions and the last info."""
    observation, info = env.reset(seed=seed)
    agent.reset(env, observation, info, seed)
    actions: list[str] = []
    over = False
    while not over:
        actions.append(agent.act(observation, info))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        over = terminated or truncated
    return actions, info


def scores(name: str, env: WebShopEnv, episodes: int) -> list[float]:
    found = [play(make_agent(name), env, seed)[1]["score"] for seed in range(episodes)]
    full = sum(score == 1 for score in found) / episodes
    print(f"{name}: score {sum(found) / episodes:.3f}, success {full:.3f} in {episodes} episodes")
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_oracle_reaches_a_full_score_with_fixed_quirks(goals: Any) -> None:
    assert set(scores("oracle", WebShopEnv(split="test", goals=goals, quirks="fixed"), 100)) == {1.0}


def test_rule_beats_random_clearly() -> None:
    env = WebShopEnv(split="test")
    rule, chance = scores("rule", env, 300), scores("random", env, 300)
    assert mean(rule) > 0.75
    assert mean([score == 1 for score in rule]) > 0.5
    assert mean(chance) < 0.25
    assert mean([score == 1 for score in chance]) < 0.05


def test_rule_shops_for_people_too() -> None:
    assert mean(scores("rule", WebShopEnv(split="test", goals="human"), 200)) > 0.7


@pytest.mark.parametrize("name", ["random", "rule"])
def test_the_same_seed_gives_the_same_episode(name: str) -> None:
    env = WebShopEnv(split="valid")
    used = make_agent(name)
    for seed in range(5):
        assert play(used, env, seed) == play(make_agent(name), env, seed)


def test_rule_reads_rich_pages_as_well() -> None:
    plain, rich = WebShopEnv(split="valid"), WebShopEnv(split="valid", observation="text_rich")
    assert [play(RuleAgent(), plain, seed)[0] for seed in range(20)] == [
        play(RuleAgent(), rich, seed)[0] for seed in range(20)
    ]


def test_rule_reads_nothing_but_pages_instruction_and_actions() -> None:
    env = WebShopEnv(split="valid")
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        shopper = RuleShopper()
        shopper.reset(observation, {"instruction": info["instruction"]})
        over, actions = False, []
        while not over:
            actions.append(shopper.act(observation, {"available_actions": info["available_actions"]}))
            observation, _, terminated, truncated, info = env.step(actions[-1])
            over = terminated or truncated
        assert actions == play(RuleAgent(), env, seed)[0]


def test_rule_acts_validly_and_buys_in_time() -> None:
    env = WebShopEnv(split="valid")
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        agent = RuleAgent()
        agent.reset(env, observation, info, seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
            over = terminated or truncated
            assert info["is_action_valid"]
        assert terminated


def test_rule_takes_over_in_the_middle() -> None:
    env = WebShopEnv(split="valid", max_steps=40)
    bought = 0
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        stumbling, agent = RandomAgent(), RuleAgent()
        stumbling.reset(env, observation, info, seed)
        over = False
        for _ in range(6):
            if not over:
                observation, _, over, _, info = env.step(stumbling.act(observation, info))
        if over:
            continue
        agent.reset(env, observation, info, seed)
        while not over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
            over = terminated or truncated
        bought += terminated
    assert bought >= 15


def test_random_searches_for_words_of_the_instruction() -> None:
    env = WebShopEnv(split="valid")
    agent = RandomAgent()
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        agent.reset(env, observation, info, seed)
        words = agent.act(observation, info).removeprefix("search[").removesuffix("]").split()
        assert words
        assert set(words) <= set(info["instruction"].split())


def test_rule_is_for_shops_alone() -> None:
    env = ALFWorldEnv(split="valid_seen")
    observation, info = env.reset(seed=0)
    with pytest.raises(UnknownName, match="no rule for 'sdar/ALFWorld-v0'; there is one for sdar/WebShop-v0"):
        RuleAgent().reset(env, observation, info, 0)
    with pytest.raises(EpisodeOver, match="reset"):
        RuleAgent().act("", {})
    assert "rule" in AGENTS
