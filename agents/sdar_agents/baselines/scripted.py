"""Agents that need no model: a lower bound, an upper bound, and a player that only reads.

`random` picks among the admissible commands, `oracle` follows the environment's own plan (it sees the
hidden state), `explorer`, `rule` and
`question-as-query` are players of one suite each that act on what a person can read. An agent
returns one command a turn and never steps the environment itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import gymnasium as gym

from sdar_agents.baselines.explorer import Explorer
from sdar_envs import TextEnv
from sdar_envs.alfworld.knowledge import usual_places
from sdar_envs.core import text_env
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName, did_you_mean
from sdar_skills import Skill
from sdar_skills.retrieval.homes import read_habits

__all__ = [
    "AGENTS",
    "Agent",
    "ExplorerAgent",
    "OracleAgent",
    "QuestionAsQueryAgent",
    "RandomAgent",
    "RuleAgent",
    "default_agent",
    "make_agent",
]


# Among the admissible commands, templates stand for every search and every answer.
_SEARCH = "search[<your query>]"
_ANSWER = "answer[<your answer>]"


class Agent(Protocol):
    """Plays one episode at a time: `reset`, then `act` for every turn."""

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode, or take one over in the middle.

        Args:
            env: the environment, already reset. Whoever runs the episode steps it, not the agent.
            observation: the latest observation.
            info: the info that came with it.
            seed: of everything that the agent draws in this episode.
        """
        ...

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next command."""
        ...


class RandomAgent:
    """Draws uniformly from the admissible commands; searches for words of the task, answers with words it reads."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Seed the draws."""
        self._random = random.Random(seed)

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return one of the admissible commands.

        Raises:
            InvalidOption: the environment lists none.
        """
        commands: list[str] = info["admissible_commands"]
        if not commands:
            raise InvalidOption(
                f"the random agent got no admissible command in {info['task_id']!r}; "
                "it can only play environments that list some."
            )
        return filled(self._random.choice(commands), observation, info, self._random)


def filled(command: str, observation: str, info: Mapping[str, Any], rng: random.Random) -> str:
    """Return a command; a template such as `search[<your query>]` with words of the task or the observation in it."""
    if command == _SEARCH:
        words = _words(info["instruction"])
        count = rng.randint(1, min(6, len(words)))
        return f"search[{' '.join(rng.sample(words, count))}]"
    if command == _ANSWER:
        words = _words(observation)
        start = rng.randrange(len(words))
        return f"answer[{' '.join(words[start : start + rng.randint(1, 3)])}]"
    return command


def _words(text: str) -> list[str]:
    return text.replace("[", " ").replace("]", " ").split() or ["anything"]


class OracleAgent:
    """Follows a plan that knows the hidden state, made anew every turn."""

    def __init__(self) -> None:
        self._env: TextEnv[Any] | None = None

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Look at the environment behind the wrappers.

        Raises:
            InvalidOption: it is not a `TextEnv`.
        """
        self._env = text_env(env)

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next command of a plan that wins.

        Raises:
            EpisodeOver: the task is done, or no episode was begun.
            UnknownName: the environment has no oracle.
            UnsolvableGame: no plan wins from here (an episode can be taken over after somebody spoilt it).
        """
        if self._env is None:
            raise EpisodeOver("the oracle agent was asked to act before reset(): call reset() first.")
        plan = self._env.oracle_plan()
        if not plan:
            raise EpisodeOver(f"nothing is left to do in {self._env.task.id!r}: reset the environment, then the agent.")
        return plan[0]


class _Player(Protocol):
    """A scripted player of one suite, which sees what a person would see and nothing else."""

    def reset(self, observation: str, info: Mapping[str, Any]) -> None: ...

    def act(self, observation: str, info: Mapping[str, Any]) -> str: ...


class _SuiteAgent:
    """Plays by the script that was written for the suite, if one was."""

    name: ClassVar[str]
    players: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self._player: _Player | None = None

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Choose the script of this environment and show it the situation.

        Raises:
            InvalidOption: the environment is not a `TextEnv`.
            UnknownName: no script was written for it.
        """
        env_id = text_env(env).task.env
        if env_id not in self.players:
            raise UnknownName(
                f"no {self.name} for {env_id!r}; there is one for {', '.join(self.players)}. "
                "Try the random or oracle agent."
            )
        player: _Player = resolve_name(self.players[env_id])()
        player.reset(observation, info)
        self._player = player

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the script's command.

        Raises:
            EpisodeOver: no episode was begun.
        """
        if self._player is None:
            raise EpisodeOver(f"the {self.name} agent was asked to act before reset(): call reset() first.")
        return self._player.act(observation, info)


class ExplorerAgent(_SuiteAgent):
    """ALFWorld: looks for things where they usually are; sees only what a player sees."""

    name = "explorer"
    players = MappingProxyType({"sdar/ALFWorld-v0": "sdar_agents.baselines.explorer:Explorer"})

    def read(self, skills: Iterable[Skill], rng: random.Random) -> None:
        """Forget common sense for this episode: search first where skills say that a thing is kept, then anywhere.

        Args:
            skills: read by `sdar_skills.retrieval.homes.read_habits`; none for an explorer that only guesses.
            rng: draws the order in which the usual places are looked into otherwise.

        Raises:
            EpisodeOver: no episode was begun.
        """
        if not isinstance(self._player, Explorer):
            raise EpisodeOver(f"the {self.name} agent was asked to read before reset(): call reset() first.")
        habits: dict[str, str] = {}
        for skill in skills:
            habits |= read_habits(skill.text)

        @cache
        def places(thing: str) -> Mapping[str, int]:
            guesses = {place: rng.randint(1, 1000) for place in usual_places(thing)}
            return {**guesses, habits[thing]: 10_000} if thing in habits else guesses

        self._player.places = places


class RuleAgent(_SuiteAgent):
    """WebShop: searches the instruction, compares results, chooses options, buys; sees only pages."""

    name = "rule"
    players = MappingProxyType({"sdar/WebShop-v0": "sdar_agents.baselines.rule_shopper:RuleShopper"})


class QuestionAsQueryAgent(_SuiteAgent):
    """Search-QA: searches for the question as it is, answers with what looks like an answer; sees only passages."""

    name = "question-as-query"
    players = MappingProxyType({"sdar/SearchQA-v0": "sdar_agents.baselines.question_as_query:QuestionAsQuery"})


AGENTS: Mapping[str, Callable[[], Agent]] = MappingProxyType(
    {
        "explorer": ExplorerAgent,
        "oracle": OracleAgent,
        "question-as-query": QuestionAsQueryAgent,
        "random": RandomAgent,
        "rule": RuleAgent,
    }
)
"""The agents by name."""


def default_agent(env_id: str) -> str:
    """Return the name of the agent that plays by the environment's own script; `random` if there is no script."""
    scripted = (agent for agent in (ExplorerAgent, RuleAgent, QuestionAsQueryAgent) if env_id in agent.players)
    return next((agent.name for agent in scripted), "random")


def make_agent(name: str) -> Agent:
    """Make an agent by name.

    Raises:
        UnknownName: there is no such agent.
    """
    if name not in AGENTS:
        raise UnknownName(f"no agent {name!r}; the agents are {', '.join(AGENTS)}.{did_you_mean(name, AGENTS)}")
    return AGENTS[name]()
