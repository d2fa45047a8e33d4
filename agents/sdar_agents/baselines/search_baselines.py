"""Search-QA baselines that know some of what a player does not: how far constants, names or one search alone lead.

| agent | knows | what its score says |
|---|---|---|
| `constant` | the answers of the training split | how far the most common answer goes |
| `relation-constant` | these, and what the question asks for last | the same for each last relation |
| `random-option` | nothing | how far a name out of the question goes |
| `one-search` | the best of five queries, and the gold answer once all evidence was shown | what one search can do |
| `name-only` | the names along the way, in order, and the gold answer as above | what names without words find |

`oracle` knows good queries too, and `question-as-query` nothing. For a model without search, play with
`retriever="off"`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium as gym

from sdar_agents.baselines.question_as_query import answer_from
from sdar_envs import TextEnv
from sdar_envs.core import Task, TaskSource, text_env
from sdar_envs.errors import UnknownName
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.scoring import normalize
from sdar_envs.search_qa.single_search import one_search_queries

__all__ = [
    "SEARCH_BASELINES",
    "ConstantAgent",
    "NameOnlyAgent",
    "OneSearchAgent",
    "RandomOptionAgent",
    "RelationConstantAgent",
]

SEARCH_BASELINES = ("constant", "relation-constant", "random-option", "one-search", "name-only")
"""Names of the agents."""

_GIVE_UP = "answer[unknown]"
_NAME = re.compile(r'"[^"]+"|[A-Z][\w-]+(?: [A-Z][\w-]+)*')


class _Baseline:
    """Base of the agents: keeps the environment of the episode.

    Attributes:
        name: of the agent.
        needs: what a task's data have to tell.
    """

    name = ""
    needs: tuple[str, ...] = ()

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode.

        Raises:
            UnknownName: the environment is not Search-QA, or its questions do not tell what the agent knows.
        """
        inner: TextEnv[Any] = text_env(env)
        if not isinstance(inner, SearchQAEnv):
            raise UnknownName(f"no {self.name} for {inner.task.env!r}; there is one for sdar/SearchQA-v0.")
        self._env = inner
        self._task: Task = inner.task
        self._random = random.Random(seed)
        for need in self.needs:
            if not self._task.data.get(need):
                raise UnknownName(
                    f"{self.name} cannot play {self._task.id!r}: its data set tells no {need}. The corpora invented, "
                    "films and films_twin do."
                )


class ConstantAgent(_Baseline):
    """Answers the most common answer of the training split; without one, of the split that is played."""

    name = "constant"

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the answer."""
        return f"answer[{_constants(self._env)[self._group(self._task)]}]"

    def _group(self, task: Task) -> str:
        return ""


class RelationConstantAgent(ConstantAgent):
    """Answers the most common answer among training questions that end with the same relation."""

    name = "relation-constant"

    def _group(self, task: Task) -> str:
        group = last_relation(task)
        return group if group in _constants(self._env) else ""


class RandomOptionAgent(_Baseline):
    """Answers a random name out of the question."""

    name = "random-option"

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the answer."""
        first, _, rest = self._task.instruction.partition(" ")
        names = _NAME.findall(rest) or [first]
        return f"answer[{self._random.choice(names).strip(chr(34))}]"


class OneSearchAgent(_Baseline):
    """Searches once, with the best of five queries that can be made from the question alone."""

    name = "one-search"
    needs = ("supporting", "queries")

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode; see the base class."""
        super().reset(env, observation, info, seed)
        self._has_searched = False

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the search, then the answer."""
        if self._has_searched:
            if info["metrics"]["evidence"] == 1.0:
                return f"answer[{self._task.data['answers'][0]}]"
            return f"answer[{answer_from(self._task.instruction, observation)}]"
        self._has_searched = True
        data = self._task.data
        queries = one_search_queries(self._task.instruction, data["queries"], data.get("name_queries", ()))
        needed = set(data["supporting"])
        shown = [len(needed.intersection(found)) for found in self._env.look(queries)]
        return f"search[{queries[shown.index(max(shown))]}]"


class NameOnlyAgent(_Baseline):
    """Searches for the names along the way, one after the other, without another word."""

    name = "name-only"
    needs = ("supporting", "name_queries")

    def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode; see the base class."""
        super().reset(env, observation, info, seed)
        self._hop = 0

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next search; the gold answer once all evidence was shown, and none if a hop was not found."""
        metrics, hops = info["metrics"], self._task.data["name_queries"]
        if metrics["evidence"] == 1.0:
            return f"answer[{self._task.data['answers'][0]}]"
        if round(metrics["hops_solved"] * len(hops)) < self._hop or self._hop == len(hops):
            return _GIVE_UP
        self._hop = round(metrics["hops_solved"] * len(hops)) + 1
        return f"search[{hops[self._hop - 1]}]"


def last_relation(task: Task) -> str:
    """Return what a question asks for last: the last step of its path, else its kind, else its type."""
    path = task.data.get("path")
    return str(path[-1]) if path else str(task.data.get("kind") or task.task_type)


_fitted: WeakKeyDictionary[TaskSource, dict[str, dict[str, str]]] = WeakKeyDictionary()


def _constants(env: SearchQAEnv) -> dict[str, str]:
    """Return the most common answer by last relation, and under an empty text that of all questions."""
    split = "train" if "train" in env.source.splits else env.split
    by_split = _fitted.setdefault(env.source, {})
    if split not in by_split:
        by_split[split] = _most_common(env.source, split)
    return by_split[split]


def _most_common(source: TaskSource, split: str) -> dict[str, str]:
    counts: dict[str, Counter[str]] = {"": Counter()}
    spelt: dict[str, str] = {}
    for index in range(source.splits[split] or 0):
        task = source.task(split, index)
        answer = task.data["answers"][0]
        key = normalize(answer)
        spelt.setdefault(key, answer)
        for group in ("", last_relation(task)):
            counts.setdefault(group, Counter())[key] += 1
    # Of equally common answers the first in the alphabet.
    return {
        group: spelt[min(of, key=lambda key, of=of: (-of[key], key))]  # type: ignore[misc]
        for group, of in counts.items()
    }
