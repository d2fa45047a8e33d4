"""Scripted agents by name, and the `Agent` protocol.

`random` draws among the admissible commands (a lower bound). `oracle` follows the environment's own plan, which reads
the hidden state (an upper bound). `explorer`, `rule`, `majority` and `question-as-query` play one suite each and read
only what a person sees. The others are of `sdar_agents.baselines.search_baselines`. An agent of your own implements
`Agent` and is named `module:Class`.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import gymnasium as gym

from sdar_agents.baselines.explorer import Explorer
from sdar_agents.baselines.search_baselines import (
    ConstantAgent,
    NameOnlyAgent,
    OneSearchAgent,
    RandomOptionAgent,
    RelationConstantAgent,
)
from sdar_envs import TextEnv
from sdar_envs.alfworld.knowledge import usual_places
from sdar_envs.core import text_env
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName, UnsolvableGame, did_you_mean
from sdar_envs.importing import import_named, is_import_path
from sdar_skills import Skill
from sdar_skills.retrieval.homes import read_habits

__all__ = [
    "AGENTS",
    "FLOORS",
    "Agent",
    "DefaultAgent",
    "ExplorerAgent",
    "MajorityAgent",
    "OracleAgent",
    "QuestionAsQueryAgent",
    "RandomAgent",
    "RuleAgent",
    "default_agent",
    "import_agent",
    "make_agent",
]


# Templates in the lists of admissible commands, in place of all searches and all answers.
_SEARCH = "search[<your query>]"
_ANSWER = "answer[<your answer>]"


class Agent(Protocol):
    """Protocol of an agent: `reset` begins an episode, `act` chooses the command of each turn.

    `sdar_agents.AsyncAgent` is the same with coroutines.
    """

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode, or take one over in the middle.

        Args:
            env: the environment, already reset; not to be stepped.
            observation: the latest observation.
            info: the info that came with it.
            seed: of everything that the agent samples in this episode.
        """
        ...

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next command."""
        ...


class RandomAgent:
    """Samples admissible commands; fills in templates with words that it reads."""

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
                "it can only play environments that list them."
            )
        # Sorted, so that a seed plays the same whatever order an environment lists them in.
        return filled(self._random.choice(sorted(commands)), observation, info, self._random)


def filled(command: str, observation: str, info: Mapping[str, Any], rng: random.Random) -> str:
    """Return a command; a template such as `search[<your query>]` filled with words of the task or the observation."""
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
    """Follows a plan made from the hidden state in every turn: an upper bound."""

    def __init__(self) -> None:
        self._env: TextEnv[Any] | None = None
        self._has_planned = False

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Keep the environment inside the wrappers, to ask it for plans.

        Raises:
            InvalidOption: it is not a `TextEnv`.
            UnknownName: the environment has no oracle; told before the first episode begins, not in each.
        """
        self._env = text_env(env)
        if not self._has_planned:
            # A task without a winning plan has an oracle all the same.
            with suppress(UnsolvableGame):
                self._env.oracle_plan()
            self._has_planned = True

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next command of a plan that wins.

        Raises:
            EpisodeOver: the task is done, or no episode was begun.
            UnknownName: the environment has no oracle.
            UnsolvableGame: no plan wins from here, after an episode was taken over.
        """
        if self._env is None:
            raise EpisodeOver("the oracle agent was asked to act before reset(): call reset() first.")
        plan = self._env.oracle_plan()
        if not plan:
            raise EpisodeOver(f"nothing is left to do in {self._env.task.id!r}: reset the environment, then the agent.")
        return plan[0]


class _Script(Protocol):
    """A script for one suite, which reads observations and info alone."""

    def reset(self, observation: str, info: Mapping[str, Any]) -> None: ...

    def act(self, observation: str, info: Mapping[str, Any]) -> str: ...


class _SuiteAgent:
    """Plays by a suite's script."""

    name: ClassVar[str]
    scripts: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self._script: _Script | None = None

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode with the environment's script.

        Raises:
            InvalidOption: the environment is not a `TextEnv`.
            UnknownName: there is no script for it.
        """
        env_id = text_env(env).task.env
        if env_id not in self.scripts:
            raise UnknownName(
                f"no {self.name} for {env_id!r}; there is one for {', '.join(self.scripts)}. "
                "Try the random or oracle agent."
            )
        script: _Script = resolve_name(self.scripts[env_id])()
        script.reset(observation, info)
        self._script = script

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the script's command.

        Raises:
            EpisodeOver: no episode was begun.
        """
        if self._script is None:
            raise EpisodeOver(f"the {self.name} agent was asked to act before reset(): call reset() first.")
        return self._script.act(observation, info)

    def overruled(self) -> None:
        """Say that the latest command was not given, but another one, as in noisy demonstrations."""
        forget = getattr(self._script, "overruled", None)
        if forget is not None:
            forget()


class ExplorerAgent(_SuiteAgent):
    """ALFWorld: searches the likeliest places first; reads only what a player sees."""

    name = "explorer"
    scripts = MappingProxyType({"sdar/ALFWorld-v0": "sdar_agents.baselines.explorer:Explorer"})

    def read(self, skills: Iterable[Skill], rng: random.Random) -> None:
        """Take the likely places from skills instead of common sense: first those they name, then the others at random.

        Args:
            skills: read by `sdar_skills.retrieval.homes.read_habits`; none for a purely random order.
            rng: draws the order of the usual places that no skill names.

        Raises:
            EpisodeOver: no episode was begun.
        """
        if not isinstance(self._script, Explorer):
            raise EpisodeOver(f"the {self.name} agent was asked to read before reset(): call reset() first.")
        habits: dict[str, str] = {}
        for skill in skills:
            habits |= read_habits(skill.text)

        @cache
        def places(thing: str) -> Mapping[str, int]:
            guesses = {place: rng.randint(1, 1000) for place in usual_places(thing)}
            return {**guesses, habits[thing]: 10_000} if thing in habits else guesses

        self._script.places = places


class RuleAgent(_SuiteAgent):
    """WebShop: searches, compares results, chooses options, buys; reads only pages."""

    name = "rule"
    scripts = MappingProxyType({"sdar/WebShop-v0": "sdar_agents.baselines.rule_shopper:RuleShopper"})


class MajorityAgent(_SuiteAgent):
    """WebShop: the most frequent actions of demonstrations, whatever is wanted; a floor."""

    name = "majority"
    scripts = MappingProxyType({"sdar/WebShop-v0": "sdar_agents.baselines.majority:MajorityShopper"})


class QuestionAsQueryAgent(_SuiteAgent):
    """Search-QA: searches for the question itself and answers by pattern matching."""

    name = "question-as-query"
    scripts = MappingProxyType({"sdar/SearchQA-v0": "sdar_agents.baselines.question_as_query:QuestionAsQuery"})


AGENTS: Mapping[str, Callable[[], Agent]] = MappingProxyType(
    {
        "constant": ConstantAgent,
        "explorer": ExplorerAgent,
        "majority": MajorityAgent,
        "name-only": NameOnlyAgent,
        "one-search": OneSearchAgent,
        "oracle": OracleAgent,
        "question-as-query": QuestionAsQueryAgent,
        "random": RandomAgent,
        "random-option": RandomOptionAgent,
        "relation-constant": RelationConstantAgent,
        "rule": RuleAgent,
    }
)
"""The scripted agents by name."""

FLOORS: Mapping[str, type[_SuiteAgent]] = MappingProxyType({"majority": MajorityAgent})
"""Agents that show what a suite gives for its form alone, beside `random`."""


def default_agent(env_id: str) -> str:
    """Return the name of the agent that has a script for the environment; `random` if none has."""
    scripted = (agent for agent in (ExplorerAgent, RuleAgent, QuestionAsQueryAgent) if env_id in agent.scripts)
    return next((agent.name for agent in scripted), "random")


class DefaultAgent:
    """Plays each environment by its script; random where there is none."""

    def __init__(self) -> None:
        self._agent: Agent | None = None

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode with `default_agent` of the environment.

        Raises:
            InvalidOption: the environment is not a `TextEnv`.
        """
        self._agent = AGENTS[default_agent(text_env(env).task.env)]()
        self._agent.reset(env, observation, info, seed)

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next command.

        Raises:
            EpisodeOver: no episode was begun.
        """
        if self._agent is None:
            raise EpisodeOver("the default agent was asked to act before reset(): call reset() first.")
        return self._agent.act(observation, info)


def make_agent(name: str) -> Agent:
    """Make an agent by name.

    Args:
        name: one of `AGENTS`, or `module:Class` for a class of your own, which is made without arguments.

    Raises:
        UnknownName: there is no such agent.
        InvalidOption: your class needs arguments, or its methods are coroutines.
    """
    if is_import_path(name):
        return _make_own(name)
    if name not in AGENTS:
        raise UnknownName(
            f"no agent {name!r}; the agents are {', '.join(AGENTS)}, and module:Class for your own."
            f"{did_you_mean(name, AGENTS)}"
        )
    return AGENTS[name]()


def _make_own(name: str) -> Agent:
    made = import_agent(name)
    if inspect.iscoroutinefunction(made.act):
        raise InvalidOption(f"the methods of {name!r} are coroutines; wanted a plain sdar_agents.Agent here.")
    try:
        agent: Agent = made()
    except TypeError as error:
        raise InvalidOption(f"the agent {name!r} cannot be made without arguments: {error}.") from error
    return agent


def import_agent(name: str) -> Any:
    """Return the agent class that `module:Class` names, with plain or coroutine methods.

    Raises:
        UnknownName: it cannot be imported, or it is no class with the methods `reset` and `act`.
    """
    made = import_named(name, what="an agent")
    if not isinstance(made, type):
        raise UnknownName(f"the agent {name!r} is a {type(made).__name__}; wanted a class.")
    reset, act = getattr(made, "reset", None), getattr(made, "act", None)
    if not (callable(reset) and callable(act)):
        raise UnknownName(
            f"the class {name!r} is no agent; wanted the methods reset and act, plain (sdar_agents.Agent) or as "
            "coroutines (sdar_agents.AsyncAgent)."
        )
    if inspect.iscoroutinefunction(reset) != inspect.iscoroutinefunction(act):
        raise UnknownName(f"the class {name!r} has one coroutine among reset and act; wanted both or neither.")
    return made
