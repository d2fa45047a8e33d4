"""Retrievers: which skills a teacher is shown for a task.

    retriever = make_retriever("task_type", Library.load())
    retriever.retrieve(task, k=6, token_budget=None, rng=random.Random(0))

The key is what the environment says about the task, `task_type` and `instruction`, never a rendered prompt. Every
strategy but `none` refuses a suite or a kind of task that the library has no skills for; none of them falls back to
general skills. Retired skills are never returned, skills on trial (`shadow`) only where asked for. Skills that do not
fit a token budget are left out whole, and what remains is tried in the order of rank; where the task's own skills come
first, a budget without room for any of them is refused.

A strategy of your own is a `LibraryRetriever` with a `_rank`, or anything with the method of `Retriever`;
`register_retriever` gives it a name.
"""

from __future__ import annotations

import inspect
import random
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sdar_envs import Task
from sdar_envs.bm25.index import SearchIndex
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Retriever, Skill, Status

__all__ = [
    "BM25Retriever",
    "EmbeddingRetriever",
    "FullRetriever",
    "KeywordRetriever",
    "LibraryRetriever",
    "NoneRetriever",
    "RandomRetriever",
    "TaskTypeRetriever",
    "TokenCounter",
    "check_limits",
    "fit_budget",
    "keywords",
    "make_retriever",
    "register_retriever",
    "retriever_names",
    "search_skills",
]

TokenCounter = Callable[[str], int]
"""Returns how many tokens a text takes, by the tokenizer of the model that will read it."""


class LibraryRetriever:
    """What strategies share: the checks, the candidates, the limits.

    Args:
        library: where the skills come from.
        count_tokens: measures a skill's text; needed for token budgets.
        include_shadow: return skills on trial, too.

    Attributes:
        puts_task_skills_first: whether skills for a kind of task precede the general ones. A budget that leaves out all
            of them is then an error: general skills alone would hide that something is missing.
    """

    puts_task_skills_first: ClassVar[bool] = False

    def __init__(
        self, library: Library, *, count_tokens: TokenCounter | None = None, include_shadow: bool = False
    ) -> None:
        self.library = library
        self.count_tokens = count_tokens
        self.statuses: frozenset[Status] = frozenset({"active", "shadow"} if include_shadow else {"active"})

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the skills to show to the teacher, best first.

        Args:
            task: what is played.
            k: how many at most.
            token_budget: tokens that their texts may take together; None is no limit.
            rng: the only source of chance.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
            InvalidOption: a limit is negative, there is a budget without `count_tokens`, or one that has no room for
                any of the task's own skills.
        """
        check_limits(k, token_budget, self.count_tokens)
        ranked = tuple(self._rank(task, self.library.candidates(task, self.statuses), k, rng))
        chosen = fit_budget(ranked, k, token_budget, self.count_tokens)
        kind = ranked[0].skill.task_type if ranked and k and self.puts_task_skills_first else None
        if kind is not None and self.count_tokens is not None and not any(r.skill.task_type == kind for r in chosen):
            shortest = min(self.count_tokens(r.skill.text) for r in ranked if r.skill.task_type == kind)
            raise InvalidOption(
                f"token_budget is {token_budget}, and no skill for {kind!r} fits: the shortest takes {shortest}. "
                "Give it more, or ask for no skills with k=0."
            )
        return chosen

    @abstractmethod
    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        """Return candidates, best first; a strategy may leave some out, and more than `k` is no error."""


def check_limits(k: int, token_budget: int | None, count_tokens: TokenCounter | None) -> None:
    """Check what `Retriever.retrieve` is given.

    Raises:
        InvalidOption: a limit is negative, or there is a budget without somebody who counts.
    """
    if not is_integer(k) or k < 0:
        raise InvalidOption(f"k is {k!r}; wanted how many skills at most, from 0.")
    if token_budget is None:
        return
    if not is_integer(token_budget) or token_budget < 0:
        raise InvalidOption(f"token_budget is {token_budget!r}; wanted None or a number of tokens from 0.")
    if count_tokens is None:
        raise InvalidOption(
            f"token_budget is {token_budget}, but nothing counts tokens: make the retriever with count_tokens=, "
            "such as lambda text: len(tokenizer.encode(text))."
        )


def fit_budget(
    ranked: Iterable[Retrieved], k: int, token_budget: int | None, count_tokens: TokenCounter | None
) -> tuple[Retrieved, ...]:
    """Return the first `k` skills that fit the budget together; one that does not fit is left out whole.

    Args:
        ranked: best first.
        k: how many at most.
        token_budget: tokens that their texts may take together; None is no limit.
        count_tokens: measures a text.
    """
    chosen: list[Retrieved] = []
    left = token_budget
    for retrieved in ranked:
        if len(chosen) == k:
            break
        if left is not None and count_tokens is not None:
            tokens = count_tokens(retrieved.skill.text)
            if tokens > left:
                continue
            left -= tokens
        chosen.append(retrieved)
    return tuple(chosen)


class TaskTypeRetriever(LibraryRetriever):
    """The skills for the task's type, then the general ones; in the order of names within each."""

    puts_task_skills_first = True

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        for skill in candidates:
            if skill.task_type == task.task_type:
                yield Retrieved(skill, 1.0, f"for {task.task_type}")
        yield from _general(candidates)


class KeywordRetriever(LibraryRetriever):
    """The skills of one type whose keywords occur in the instruction, then the general ones.

    A keyword counts where it stands as whole words, in any case: `hat` is not in "that". More keywords rank
    higher; of equally many, the skill ranks higher that has fewer others. The type is that of the best skill: "put a
    clean plate" is about cleaning, though it also says "put". A skill without keywords is never found; if none is,
    `why` of the general ones says so.
    """

    puts_task_skills_first = True

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        found = []
        for skill in candidates:
            words = keywords(skill)
            hits = [word for word in words if _occurs(word, task.instruction)]
            if hits and skill.task_type is not None:
                score = len(hits) + len(hits) / (len(words) + 1)
                found.append(Retrieved(skill, score, f"the instruction says {', '.join(hits)}"))
        found.sort(key=lambda retrieved: (-retrieved.score, retrieved.skill.id))
        yield from (item for item in found if item.skill.task_type == found[0].skill.task_type)
        yield from _general(candidates, "" if found else "; no keyword of a task skill is in the instruction")


class BM25Retriever(LibraryRetriever):
    """All skills of the suite by the words that they share with the instruction, then the general ones that share none.

    `why` says of the latter that they share none.
    """

    def __init__(
        self, library: Library, *, count_tokens: TokenCounter | None = None, include_shadow: bool = False
    ) -> None:
        super().__init__(library, count_tokens=count_tokens, include_shadow=include_shadow)
        self._index = lru_cache(maxsize=16)(_index)

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        index = self._index(candidates)
        found = index.search(task.instruction, len(candidates))
        for number, score in zip(found, index.scores(task.instruction, len(candidates)), strict=True):
            yield Retrieved(candidates[number], score, "shares words with the instruction")
        rest = tuple(skill for number, skill in enumerate(candidates) if number not in found)
        yield from _general(rest, "; shares no word with the instruction")


class EmbeddingRetriever(LibraryRetriever):
    """All skills of the suite by the cosine between their vectors and the instruction's.

    Args:
        library: where the skills come from.
        encoder: makes vectors of texts: `sdar_envs.search_qa.retrieval.engines.encoder.sentence_encoder(name)`, or
            a function from n texts to (n, d) numbers.
        count_tokens: measures a skill's text; needed for token budgets.
        include_shadow: return skills on trial, too.
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
            lambda skills: _unit(made.passages([_document(skill) for skill in skills]))
        )
        self._query = lru_cache(maxsize=4096)(lambda text: _unit(made.queries([text]))[0])

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        scores = self._skills(candidates) @ self._query(task.instruction)
        for number in np.argsort(-scores, kind="stable").tolist():
            yield Retrieved(candidates[number], float(scores[number]), "is close in meaning to the instruction")


class RandomRetriever(LibraryRetriever):
    """Skills of the suite drawn at random, whatever they are for: the control."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        # Of a generator's methods, only random() gives the same numbers in every version of Python.
        for skill in sorted(candidates, key=lambda _: rng.random()):
            yield Retrieved(skill, 0.0, "drawn at random")


class FullRetriever(TaskTypeRetriever):
    """All skills of the suite: those for the task's type, the general ones, then the others."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        yield from super()._rank(task, candidates, k, rng)
        for skill in candidates:
            if skill.task_type not in (None, task.task_type):
                yield Retrieved(skill, -1.0, f"for another type, {skill.task_type}")


class NoneRetriever(LibraryRetriever):
    """No skill at all: the teacher is the student. Any task is welcome."""

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return nothing."""
        check_limits(k, token_budget, self.count_tokens)
        return ()


def keywords(skill: Skill) -> tuple[str, ...]:
    """Return the words and phrases of the field `keywords` of a skill's metadata, which commas separate."""
    return tuple(filter(None, (word.strip() for word in skill.metadata.get("keywords", "").split(","))))


def search_skills(library: Library, query: str, *, k: int, suite: str | None = None) -> tuple[tuple[Skill, float], ...]:
    """Return the active skills that share words with a query, with their BM25 scores, best first.

    Args:
        library: where to look.
        query: any words.
        k: how many at most.
        suite: only skills of this suite.

    Raises:
        UnknownName: the library has no skills for the suite.
    """
    suites = library.suites if suite is None else (suite,)
    skills = tuple(skill for name in suites for skill in library.select(name))
    index = _index(skills)
    return tuple(
        (skills[number], score) for number, score in zip(index.search(query, k), index.scores(query, k), strict=True)
    )


_RETRIEVERS: dict[str, Callable[..., Retriever]] = {
    "task_type": TaskTypeRetriever,
    "keyword": KeywordRetriever,
    "bm25": BM25Retriever,
    "embedding": EmbeddingRetriever,
    "random": RandomRetriever,
    "full": FullRetriever,
    "none": NoneRetriever,
}


def retriever_names() -> tuple[str, ...]:
    """Return the names that `make_retriever` knows."""
    return tuple(_RETRIEVERS)


def register_retriever(name: str, factory: Callable[..., Retriever]) -> None:
    """Give a strategy a name.

    Args:
        name: the name.
        factory: makes it from a library and settings, by name.

    Raises:
        InvalidOption: the name is taken by another strategy.
    """
    if _RETRIEVERS.setdefault(name, factory) is not factory:
        raise InvalidOption(f"the strategy {name!r} is there already; wanted a new name.")


def make_retriever(name: str, library: Library, **settings: Any) -> Retriever:
    """Make a strategy by its name.

    Args:
        name: one of `retriever_names()`.
        library: where the skills come from.
        **settings: what the strategy takes besides, such as `count_tokens` or `encoder`.

    Raises:
        UnknownName: there is no such strategy, or it has no such setting.
        InvalidOption: a setting that it needs is missing.
    """
    if name not in _RETRIEVERS:
        raise UnknownName(
            f"no strategy {name!r:.200}; the strategies are {', '.join(_RETRIEVERS)}.{did_you_mean(name, _RETRIEVERS)}"
        )
    factory = _RETRIEVERS[name]
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    for setting in settings:
        if setting not in known:
            raise UnknownName(
                f"the strategy {name!r} has no setting {setting!r}; its settings are {', '.join(known)}."
                f"{did_you_mean(setting, known)}"
            )
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in settings:
            raise InvalidOption(f"the strategy {name!r} needs {parameter.name}: pass {parameter.name}=... too.")
    return factory(library, **settings)


def _general(candidates: tuple[Skill, ...], remark: str = "") -> Iterable[Retrieved]:
    return (Retrieved(skill, 0.0, f"general{remark}") for skill in candidates if skill.task_type is None)


def _index(skills: tuple[Skill, ...]) -> SearchIndex:
    return SearchIndex.build([(skill.id, _document(skill)) for skill in skills], progress=False)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float64)
    return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths), dtype=np.float64)


def _document(skill: Skill) -> str:
    return "\n".join((skill.name.replace("-", " "), skill.description, skill.text))


def _occurs(phrase: str, text: str) -> bool:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", text, flags=re.IGNORECASE) is not None
