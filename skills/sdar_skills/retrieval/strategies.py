"""Built-in retrieval strategies: task type, keywords, BM25, embeddings, random, full, none.

The query is what the environment says about the task (`task_type`, `instruction`), never a rendered prompt. Every
strategy but `none` refuses a suite without skills and a task type that does not exist. A task type that exists but has
no skills of its own gets the general ones; `Library.uncovered_words` names these types. Retired skills are never
returned, skills on trial (`shadow`) only with `include_shadow`. Skills that do not fit a token budget are left out
whole and the next ones are tried; a budget without room for any of the task's own skills is an error where those come
first.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdar_envs import Task
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_skills.library.budget import TokenCounter, check_limits
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Skill
from sdar_skills.retrieval.base import LibraryRetriever
from sdar_skills.retrieval.search import searchable_text, skill_index

__all__ = [
    "BM25Retriever",
    "EmbeddingRetriever",
    "FullRetriever",
    "KeywordRetriever",
    "NoneRetriever",
    "RandomRetriever",
    "TaskTypeRetriever",
]


class TaskTypeRetriever(LibraryRetriever):
    """Exact match on the task type, then general skills; by name within each."""

    puts_task_skills_first = True

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        own = [skill for skill in candidates if skill.task_type == task.task_type]
        for skill in own:
            yield Retrieved(skill, 1.0, f"for {task.task_type}")
        yield from _general(candidates, "" if own else f"; there is no skill for {task.task_type}")


class KeywordRetriever(LibraryRetriever):
    """Keyword match: skills of one task type whose keywords occur in the instruction, then general skills.

    A keyword matches whole words, case-insensitively: `hat` does not match "that". More matches rank higher; of equally
    many, the skill with fewer other keywords. Only skills of the best skill's task type are returned: "put a clean
    plate" is about cleaning, though it also says "put". A skill without keywords is never found; if none is found,
    `why` of the general skills says so.
    """

    puts_task_skills_first = True

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        found = []
        for skill in candidates:
            words = skill.keywords
            hits = [word for word in words if _occurs(word, task.instruction)]
            if hits and skill.task_type is not None:
                score = len(hits) + len(hits) / (len(words) + 1)
                found.append(Retrieved(skill, score, f"the instruction says {', '.join(hits)}"))
        found.sort(key=lambda retrieved: (-retrieved.score, retrieved.skill.id))
        yield from (item for item in found if item.skill.task_type == found[0].skill.task_type)
        yield from _general(candidates, "" if found else "; no keyword of a task skill is in the instruction")


class BM25Retriever(LibraryRetriever):
    """BM25 ranking of the suite's skills by the instruction, then the general skills that share no word with it."""

    def __init__(
        self, library: Library, *, count_tokens: TokenCounter | None = None, include_shadow: bool = False
    ) -> None:
        super().__init__(library, count_tokens=count_tokens, include_shadow=include_shadow)
        self._index = lru_cache(maxsize=16)(skill_index)

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        index = self._index(candidates)
        found = index.search(task.instruction, len(candidates))
        for number, score in zip(found, index.scores(task.instruction, len(candidates)), strict=True):
            yield Retrieved(candidates[number], score, "shares words with the instruction")
        rest = tuple(skill for number, skill in enumerate(candidates) if number not in found)
        yield from _general(rest, "; shares no word with the instruction")


class EmbeddingRetriever(LibraryRetriever):
    """Embedding ranking of the suite's skills: cosine similarity of their vectors and the instruction's.

    Args:
        library: the skills to choose from.
        encoder: text encoder: `sdar_envs.search_qa.retrieval.engines.encoder.sentence_encoder(name)`, or a function
            from n texts to (n, d) numbers.
        count_tokens: counts the tokens of a skill's text; needed for token budgets.
        include_shadow: return skills on trial (status `shadow`) too.
    """

    def __init__(
        self,
        library: Library,
        *,
        encoder: Encoder | Callable[[Sequence[str]], Any],
        count_tokens: TokenCounter | None = None,
        include_shadow: bool = False,
    ) -> None:
        super().__init__(library, count_tokens=count_tokens, include_shadow=include_shadow)
        made = encoder if isinstance(encoder, Encoder) else Encoder("of the retriever", encoder)
        self._skills = lru_cache(maxsize=16)(
            lambda skills: _unit(made.passages([searchable_text(skill) for skill in skills]))
        )
        self._query = lru_cache(maxsize=4096)(lambda text: _unit(made.queries([text]))[0])

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        scores = self._skills(candidates) @ self._query(task.instruction)
        for number in np.argsort(-scores, kind="stable").tolist():
            yield Retrieved(candidates[number], float(scores[number]), "is close in meaning to the instruction")


class RandomRetriever(LibraryRetriever):
    """Random order of the suite's skills, whatever they are for: a control."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        # Of a generator's methods, only random() gives the same numbers in every version of Python.
        for skill in sorted(candidates, key=lambda _: rng.random()):
            yield Retrieved(skill, 0.0, "drawn at random")


class FullRetriever(TaskTypeRetriever):
    """All skills of the suite: those for the task's type, the general ones, then the rest."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        yield from super()._rank(task, candidates, k, rng)
        for skill in candidates:
            if skill.task_type not in (None, task.task_type):
                yield Retrieved(skill, -1.0, f"for another type, {skill.task_type}")


class NoneRetriever(LibraryRetriever):
    """No skills, for any task: the teacher's prompt equals the student's."""

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return no skills."""
        check_limits(k, token_budget, self.count_tokens)
        return ()


def _general(candidates: tuple[Skill, ...], remark: str = "") -> Iterable[Retrieved]:
    return (Retrieved(skill, 0.0, f"general{remark}") for skill in candidates if skill.task_type is None)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float64)
    return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths), dtype=np.float64)


def _occurs(phrase: str, text: str) -> bool:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", text, flags=re.IGNORECASE) is not None
