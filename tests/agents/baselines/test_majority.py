"""The WebShop agent that always does the same."""

from __future__ import annotations

import gymnasium as gym
import pytest

import sdar_envs  # noqa: F401
from sdar_agents import make_agent


@pytest.mark.parametrize("mode", ["text", "text_rich"])
def test_it_buys_the_first_result_with_two_first_values(mode: str) -> None:
    env = gym.make("sdar/WebShop-v0", split="test", observation=mode)
    kinds, scores = [], []
    for seed in range(8):
        agent = make_agent("majority")
        observation, info = env.reset(seed=seed)
        agent.reset(env, observation, info, seed)
        commands, done = [], False
        while not done:
            clicks = info["available_actions"]["clickables"]
            command = agent.act(observation, info)
            if len(commands) == 1:
                assert command == f"click[{next(name for name in clicks if name.startswith('b') and len(name) == 10)}]"
            if len(commands) > 3:
                assert command[6:-1] in clicks
            commands.append(command)
            observation, score, terminated, truncated, info = env.step(command)
            done = terminated or truncated
        assert commands[0].startswith("search[")
        assert commands[2:4] == ["click[features]", "click[< prev]"]
        assert commands[-1] == "click[buy now]"
        assert len(set(commands)) == len(commands)
        kinds.append(len(commands))
        scores.append(float(score))
    assert set(kinds) <= {5, 6, 7}
    assert max(kinds) == 7
    assert 0 < sum(scores) / 8 < 1
