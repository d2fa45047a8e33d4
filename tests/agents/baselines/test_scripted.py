"""The scripted agents, on ALFWorld and on a toy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from helpers.toy import CountingEnv

from sdar_agents import Agent, ExplorerAgent, OracleAgent, RandomAgent, make_agent
from sdar_envs.alfworld.env import ALFWorldEnv
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName

ALFWORLD = "sdar/ALFWorld-v0"
# The others are for shops and questions.
PLAYERS = ("explorer", "oracle", "random")


def play(agent: Agent, env: gym.Env[str, str], seed: int) -> tuple[list[str], dict[str, Any]]:
    """Play one episode; return the commands and the last info."""
    observation, info = env.reset(seed=seed)
    agent.reset(env, observation, info, seed)
    commands: list[str] = []
    over = False
    while not over:
        commands.append(agent.act(observation, info))
        observation, _, terminated, truncated, info = env.step(commands[-1])
        over = terminated or truncated
    return commands, info


@pytest.mark.parametrize("name", PLAYERS)
def test_every_agent_plays_and_repeats_itself(name: str) -> None:
    env = gym.make(ALFWORLD, split="valid_seen", max_steps=20)
    first = play(make_agent(name), env, seed=3)
    assert first == play(make_agent(name), env, seed=3)
    assert 1 <= len(first[0]) <= 20


def test_an_agent_plays_episode_after_episode_as_if_new() -> None:
    env = gym.make(ALFWORLD, split="valid_seen", max_steps=20)
    for name in PLAYERS:
        used = make_agent(name)
        play(used, env, seed=1)
        assert play(used, env, seed=2) == play(make_agent(name), env, seed=2)


def test_random_gives_admissible_commands_and_depends_on_the_seed() -> None:
    agent = RandomAgent()
    info = {"task_id": "x", "admissible_commands": ["a", "b", "c"]}
    drawn = []
    for seed in (0, 0, 1):
        agent.reset(CountingEnv(), "", info, seed)
        drawn.append("".join(agent.act("", info) for _ in range(300)))
    assert drawn[0] == drawn[1] != drawn[2]
    # 300 draws at 1/3 each: mean 100, standard deviation 8.2.
    assert all(60 < drawn[0].count(command) < 140 for command in "abc")


def test_random_needs_commands() -> None:
    with pytest.raises(InvalidOption, match="no admissible command"):
        RandomAgent().act("", {"task_id": "x", "admissible_commands": []})


def test_oracle_wins_in_as_many_steps_as_its_plan() -> None:
    env = ALFWorldEnv(split="valid_unseen")
    for seed in range(10):
        env.reset(seed=seed)
        planned = len(env.oracle_plan())
        commands, info = play(OracleAgent(), env, seed)
        assert info["won"]
        assert len(commands) == planned


@pytest.mark.parametrize("name", ["oracle", "explorer"])
def test_takes_over_in_the_middle(name: str) -> None:
    env = ALFWorldEnv(split="valid_unseen", max_steps=200)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        stumbling, agent = RandomAgent(), make_agent(name)
        stumbling.reset(env, observation, info, seed)
        for _ in range(10):
            observation, _, _, _, info = env.step(stumbling.act(observation, info))
        agent.reset(env, observation, info, seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
            over = terminated or truncated
        assert info["won"], info["task_id"]


def test_oracle_stops_when_nothing_is_left_to_do() -> None:
    env = ALFWorldEnv(split="valid_unseen")
    agent = OracleAgent()
    _, info = play(agent, env, seed=0)
    with pytest.raises(EpisodeOver, match="nothing is left to do"):
        agent.act("", info)


@pytest.mark.parametrize("agent", [OracleAgent(), ExplorerAgent()])
def test_reset_comes_first(agent: Agent) -> None:
    with pytest.raises(EpisodeOver, match="reset"):
        agent.act("", {})


def test_environments_without_oracle_or_explorer_say_so() -> None:
    env = CountingEnv()
    observation, info = env.reset(seed=0)
    with pytest.raises(UnknownName, match="no oracle"):
        OracleAgent().reset(env, observation, info, 0)
    with pytest.raises(UnknownName, match="no explorer for 'toy/Counting-v0'; there is one for sdar/ALFWorld-v0"):
        ExplorerAgent().reset(env, observation, info, 0)


def test_only_text_environments() -> None:
    env: Any = gym.make("CartPole-v1")
    with pytest.raises(InvalidOption, match=r"CartPoleEnv; wanted a sdar_envs\.TextEnv"):
        OracleAgent().reset(env, "", {}, 0)


def test_an_agent_of_ones_own_is_made_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_scripts.py").write_text(
        "class Looks:\n"
        "    def reset(self, env, observation, info, seed): ...\n"
        "    def act(self, observation, info): return 'look'\n"
        "class Waits:\n"
        "    async def reset(self, env, observation, info, seed): ...\n"
        "    async def act(self, observation, info): ...\n"
        "class Wants(Looks):\n"
        "    def __init__(self, size): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert make_agent("own_scripts:Looks").act("", {}) == "look"
    with pytest.raises(InvalidOption, match=r"the methods of 'own_scripts:Waits' are coroutines; wanted a plain"):
        make_agent("own_scripts:Waits")
    with pytest.raises(InvalidOption, match=r"'own_scripts:Wants' cannot be made without arguments: .*'size'"):
        make_agent("own_scripts:Wants")
    with pytest.raises(UnknownName, match=r"own_scripts has no 'Look'.*Did you mean 'Looks'"):
        make_agent("own_scripts:Look")


def test_unknown_agent() -> None:
    with pytest.raises(UnknownName, match=r"no agent 'explorr'; .* Did you mean 'explorer'\?"):
        make_agent("explorr")
