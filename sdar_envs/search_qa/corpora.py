"""Embedded corpora of Search-QA: questions and passages that need no download, by name.

| corpus | passages | what it is for |
|---|---|---|
| `invented` | a world made from a seed | the default: nothing in it can be known by heart, and a question takes a search for each hop |
| `films` | films and their people, from Wikidata | the same with real names, some of which models know |
| `films_twin` | the films with invented names | the part of `films` that memory answers is the difference of the two |
| `facts` | countries, cities, airports, elements | short and easy: one fact in a passage |

Ids of tasks begin with `search_qa/` and the corpus. Ids without one, of older versions, are of `facts`.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from sdar_envs.core import Task
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.search_qa import embedded
from sdar_envs.search_qa.aliases import aliases_of
from sdar_envs.search_qa.invented.dataset import LEVELS, WorldSettings, open_data, with_settings
from sdar_envs.search_qa.questions import Question, from_row
from sdar_envs.search_qa.retrieval.index import bm25_over
from sdar_envs.search_qa.retrieval.retriever import Retriever
from sdar_envs.search_qa.tasks import QuestionTasks

__all__ = ["CORPORA", "CorpusName", "EmbeddedCorpus", "EmbeddedTasks", "embedded_tasks", "open_corpus"]

CorpusName = Literal["invented", "films", "films_twin", "facts"]
CORPORA: tuple[CorpusName, ...] = get_args(CorpusName)
"""The embedded corpora; the first is the default."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedCorpus:
    """Embedded corpus.

    Attributes:
        tasks: its questions.
        max_steps: turns that they are made for.
        says_turns: whether the first observation says how many turns there are.
        retriever: returns the search engine for the questions of a split.
        fingerprint: of the engine over its main passages.
    """

    tasks: QuestionTasks
    max_steps: int
    says_turns: bool
    retriever: Callable[[str], Retriever]
    fingerprint: str


class EmbeddedTasks:
    """Task source of one embedded corpus, which finds the tasks of all others by their ids.

    Args:
        corpus: the one whose splits these are.
        env_id: the environment that plays them.
    """

    def __init__(self, corpus: EmbeddedCorpus, env_id: str) -> None:
        self.corpus = corpus
        self._env_id = env_id
        self._begin = f"search_qa/{corpus.tasks.label}/"

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Questions in each split."""
        return self.corpus.tasks.splits

    def task(self, split: str, index: int) -> Task:
        """Return question `index` of the split."""
        return self.corpus.tasks.task(split, index)

    def find(self, task_id: str) -> Task:
        """Return the question with that id."""
        if task_id.startswith(self._begin):
            return self.corpus.tasks.find(task_id)
        return self.corpus_of(task_id).tasks.find(_present_id(task_id))

    def corpus_of(self, task_id: str) -> EmbeddedCorpus:
        """Return the corpus of a task by its id; its own if the id names no other."""
        if task_id.startswith(self._begin):
            return self.corpus
        label = _label(_present_id(task_id))
        if label == self.corpus.tasks.label:
            return self.corpus
        if label in CORPORA:
            return open_corpus(label, "default", None, self._env_id)
        level = label.removeprefix("invented-")
        if level in LEVELS and level != label:
            return open_corpus("invented", level, None, self._env_id)
        return self.corpus


@lru_cache(maxsize=8)
def embedded_tasks(corpus: EmbeddedCorpus, env_id: str) -> EmbeddedTasks:
    """Return the task source of a corpus, shared within the process; see `EmbeddedTasks`."""
    return EmbeddedTasks(corpus, env_id)


def _label(task_id: str) -> str:
    """Return the part of an id that names its corpus; empty if there is none."""
    parts = task_id.split("/")
    return parts[1] if len(parts) == 4 and parts[0] == "search_qa" else ""


def _present_id(task_id: str) -> str:
    """Return an id with its corpus: those of older versions are of `facts`."""
    parts = task_id.split("/")
    if len(parts) == 3 and parts[0] == "search_qa" and parts[1] in embedded.SPLITS:
        return "/".join((parts[0], "facts", *parts[1:]))
    return task_id


def open_corpus(name: str, level: str, world: Mapping[str, Any] | None, env_id: str) -> EmbeddedCorpus:
    """Return an embedded corpus, shared within the process.

    Args:
        name: one of `CORPORA`.
        level: of `invented`, one of its levels.
        world: of `invented`, settings that differ from the level's; None for none.
        env_id: the environment that plays the questions.

    Raises:
        UnknownName: there is no such corpus, level or setting.
        InvalidOption: a setting is out of range, or the corpus has no levels.
    """
    if name not in CORPORA:
        raise UnknownName(f"no corpus {name!r}; the corpora are {', '.join(CORPORA)}.{did_you_mean(name, CORPORA)}")
    if name == "invented":
        return _invented(with_settings(level, world), env_id)
    for argument, value, usual in (("level", level, "default"), ("world", world, None)):
        if value != usual:
            raise InvalidOption(f"{argument} is {value!r:.80}, but the corpus {name} has no levels: leave it out.")
    return _facts(env_id) if name == "facts" else _films(name, env_id)


@lru_cache(maxsize=8)
def _invented(settings: WorldSettings, env_id: str) -> EmbeddedCorpus:
    data = open_data(settings)

    @lru_cache(maxsize=2)
    def retriever(is_other: bool) -> Retriever:
        passages = data.other_passages if is_other else data.passages
        fingerprint = data.other_fingerprint if is_other else data.fingerprint
        return bm25_over(passages, f"invented-{fingerprint}")

    tasks = QuestionTasks(
        {split: _questions(rows, "invented") for split, rows in data.rows.items()},
        env_id,
        by_data_set=False,
        label=_invented_label(settings),
    )
    return EmbeddedCorpus(
        tasks,
        settings.max_steps,
        True,
        lambda split: retriever(split == "test_worlds"),
        f"bm25:invented-{data.fingerprint}",
    )


def _invented_label(settings: WorldSettings) -> str:
    level = next((level for level, known in LEVELS.items() if known == settings), None)
    return "invented" if level == "default" else f"invented-{level or settings.key()[:8]}"


@lru_cache(maxsize=2)
def _films(name: str, env_id: str) -> EmbeddedCorpus:
    # Of all corpora this one alone needs them.
    from sdar_envs.search_qa.films import dataset as films  # noqa: PLC0415

    data = films.open_data(is_twin=name == "films_twin")

    @lru_cache(maxsize=1)
    def retriever() -> Retriever:
        return bm25_over(data.passages, f"{name}-{data.fingerprint}")

    tasks = QuestionTasks({"test": _questions(data.rows, name)}, env_id, by_data_set=False, label=name)
    return EmbeddedCorpus(tasks, films.MAX_STEPS, True, lambda split: retriever(), f"bm25:{name}-{data.fingerprint}")


@lru_cache(maxsize=1)
def _facts(env_id: str) -> EmbeddedCorpus:
    # The other spellings are no part of the questions, whose digest published results name.
    numbered = embedded.numbered_questions()
    questions = {
        split: [_with_aliases(question) for question in _questions((row for _, row in of), "facts")]
        for split, of in numbered.items()
    }
    numbers = {split: [number for number, _ in of] for split, of in numbered.items()}
    tasks = QuestionTasks(questions, env_id, by_data_set=False, label="facts", numbers=numbers)
    return EmbeddedCorpus(tasks, 4, False, lambda split: embedded.embedded_retriever(), f"bm25:{embedded.FINGERPRINT}")


def _with_aliases(question: Question) -> Question:
    aliases = aliases_of(question.id, question.answers, question.supporting)
    return replace(question, aliases=aliases, folds_accents=True)


def _questions(rows: Iterable[Mapping[str, Any]], data_set: str) -> list[Question]:
    questions = []
    for number, row in enumerate(rows, 1):
        about = row["metadata"]
        questions.append(
            replace(
                from_row(row, data_set, number),
                kind=about.get("kind", about.get("template", "")),
                path=tuple(about.get("path", ())),
                name_queries=tuple(about.get("name_queries", ())),
            )
        )
    return questions
