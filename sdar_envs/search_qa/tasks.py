"""Task sources of Search-QA: lists of questions, and official data sets in a folder.

A folder of official data has one of two layouts: `train` and `test` files with rows of many data sets (Search-R1 and
the reference), or one folder for each data set with `train`, `dev` and `test` files (FlashRAG). Files end in
`.parquet`, `.jsonl`, `.jsonl.gz` or `.json`; `validation` is another name of `dev`. `test` is what the reference
evaluates on: where there is no test file, the dev file counts (SkyRL saves the test questions as `validation`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdar_envs.core import FrozenDict, Task, index_from_id
from sdar_envs.errors import InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.search_qa.questions import DATA_SETS, ENDINGS, Question, from_row, read_questions, without_empty
from sdar_envs.storage import given_path

__all__ = ["ROWS", "SPLITS", "TRAINING_SETS", "QuestionTasks", "official_tasks", "question_of", "row_task"]

SPLITS = ("train", "dev", "test")

ROWS = "rows"
"""What the ids of questions that came in a row have in the place of the split: `search_qa/rows/<data set>/<digest>`."""

TRAINING_SETS = ("nq", "hotpotqa")
"""What the reference and Search-R1 train on."""

_FILE_NAMES = MappingProxyType({"train": ("train",), "dev": ("dev", "validation"), "test": ("test",)})


class QuestionTasks:
    """Task source over questions, with ids `search_qa/<label>/<split>/<number>`, without a label shorter.

    Args:
        questions: by split, in their order.
        env_id: the environment that plays them.
        by_data_set: number the questions of each data set by themselves, with ids
            `search_qa/<split>/<data set>/<number>`: they do not depend on which others are there.
        label: what the questions are about, such as `invented`; empty for none.
        numbers: of each split's questions, rising; by default from 0. A number that is left out names no task.
    """

    def __init__(
        self,
        questions: Mapping[str, Sequence[Question]],
        env_id: str,
        *,
        by_data_set: bool,
        label: str = "",
        numbers: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._questions = {split: tuple(of) for split, of in questions.items() if of}
        self._env_id = env_id
        self._sizes = MappingProxyType({split: len(of) for split, of in self._questions.items()})
        # For each beginning of ids, the split and the places in it of the questions so numbered.
        self._places: dict[str, tuple[str, list[int]]] = {}
        self._ids: dict[str, list[str]] = {}
        self.label = label
        # Few: a group of episodes of a task asks for it by its id again and again.
        self._kept_task = lru_cache(maxsize=128)(self._make_task)
        begin = f"search_qa/{label}/" if label else "search_qa/"
        for split, of in self._questions.items():
            ids = self._ids[split] = []
            for place, question in enumerate(of):
                prefix = f"{begin}{split}/{question.data_set}/" if by_data_set else f"{begin}{split}/"
                _, places = self._places.setdefault(prefix, (split, []))
                number = len(places) if numbers is None else numbers[split][place]
                places += [-1] * (number - len(places))
                ids.append(f"{prefix}{number:04d}")
                places.append(place)

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Questions in each split."""
        return self._sizes

    def task(self, split: str, index: int) -> Task:
        """Return question `index` of the split."""
        if split not in self._questions:
            raise UnknownName(f"no split {split!r} here.{did_you_mean(split, self._questions)}")
        if not 0 <= index < len(self._questions[split]):
            raise UnknownName(f"no task {index} in {split}: it has {len(self._questions[split])} tasks, from 0.")
        return self._make_task(split, index)

    def _make_task(self, split: str, index: int) -> Task:
        return _task(self._questions[split][index], self._ids[split][index], split, self._env_id)

    def find(self, task_id: str) -> Task:
        """Return the question with that id."""
        prefix = task_id[: task_id.rfind("/") + 1]
        if prefix in self._places:
            split, places = self._places[prefix]
            place = places[index_from_id(task_id, prefix, len(places))]
            if place < 0:
                raise UnknownName(f"the task {task_id!r} was withdrawn: its question has more than one right answer.")
            return self._kept_task(split, place)
        examples = list({name[: name.rfind("/")]: name for of in self._ids.values() for name in reversed(of)}.values())
        raise UnknownName(
            f"no task {task_id[:200]!r}; the tasks here look like {examples[0]!r}.{did_you_mean(task_id, examples)}"
        )


class _QuestionData(FrozenDict):
    """Data of a task, and the question that they were made of."""

    __slots__ = ("question",)

    question: Question


def _task(question: Question, task_id: str, split: str, env_id: str) -> Task:
    data: dict[str, Any] = {
        "question_id": question.id,
        "data_set": question.data_set,
        "answers": list(question.answers),
        "supporting": list(question.supporting),
        "queries": list(question.queries),
    }
    if question.supporting_titles:
        data["supporting_titles"] = list(question.supporting_titles)
    if question.answer_is_text:
        data["answer_is_text"] = True
    if question.aliases:
        data["aliases"] = list(question.aliases)
    if question.folds_accents:
        data["folds_accents"] = True
    if question.kind:
        data["kind"] = question.kind
    if question.path:
        data["path"] = list(question.path)
    if question.name_queries:
        data["name_queries"] = list(question.name_queries)
    frozen = _QuestionData(data)
    frozen.question = question
    return Task(
        id=task_id,
        env=env_id,
        split=split,
        task_type=question.type,
        instruction=question.text,
        data=frozen,
        suite="search_qa",
    )


def row_task(
    row: Mapping[str, Any], env_id: str, default_type: str | None = None, *, keeps_empty: bool = False
) -> Task:
    """Return the task of a question that comes in a row of a data set, in any form that `read_questions` reads.

    Its id is made of the question, its golden answers and its data set: equal rows are the same task everywhere.

    Args:
        row: may have any other columns.
        env_id: the environment that plays it.
        default_type: the kind of question if row and data set tell none.
        keeps_empty: keep golden answers that are empty after normalisation.

    Raises:
        InvalidOption: the row cannot be played; the message says why.
    """
    try:
        question = from_row(row, ROWS, 1, default_type)
        if not keeps_empty:
            question = without_empty(question)
    except ValueError as error:
        raise InvalidOption(
            f"the row holds no question that can be played: {error}. A row with a 'task_id' plays that task instead."
        ) from error
    content = json.dumps([question.data_set, question.text, question.answers, question.answer_is_text])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    question = replace(question, id=digest)
    return _task(question, f"search_qa/{ROWS}/{question.data_set}/{digest}", ROWS, env_id)


def question_of(task: Task) -> Question:
    """Return the question of a task."""
    data = task.data
    if isinstance(data, _QuestionData):
        question = data.question
        if question.text == task.instruction and question.type == task.task_type:
            return question
    return _read_question(task)


# Few are kept: with a question, its task stays in memory after the environment has gone on.
@lru_cache(maxsize=128)
def _read_question(task: Task) -> Question:
    data = task.data
    return Question(
        id=data["question_id"],
        text=task.instruction,
        answers=tuple(data["answers"]),
        data_set=data["data_set"],
        type=task.task_type,
        supporting=tuple(data["supporting"]),
        queries=tuple(data["queries"]),
        supporting_titles=tuple(data.get("supporting_titles", ())),
        answer_is_text=data.get("answer_is_text", False),
        aliases=tuple(data.get("aliases", ())),
        folds_accents=data.get("folds_accents", False),
        kind=data.get("kind", ""),
        path=tuple(data.get("path", ())),
        name_queries=tuple(data.get("name_queries", ())),
    )


def official_tasks(
    data_dir: str | None,
    *,
    data_sets: Sequence[str] | None,
    default_type: str | None,
    env_id: str,
    keeps_empty: bool = False,
) -> QuestionTasks:
    """Read official data sets; equal arguments and unchanged files give the same object within a process.

    Args:
        data_dir: their folder; None for `$SEARCH_QA_DATA`. A file in it that is named after a split stands for the
            folder's files with that ending; a file of another name for the split `test`.
        data_sets: only these, in this order; None for all, in the order of published tables (`train`: those of
            `TRAINING_SETS` if they are there).
        default_type: the kind of questions whose row and data set tell none.
        env_id: the environment that plays them.
        keeps_empty: keep golden answers that are empty after normalisation.

    Raises:
        MissingData: there is no folder, or it holds no question file.
        CorruptData: a row cannot be played.
        UnknownName: a data set is not there.
        InvalidOption: the data sets are not a list of names.
    """
    if data_dir is None:
        data_dir = os.environ.get("SEARCH_QA_DATA")
        if not data_dir:
            raise MissingData(
                "official questions were asked for, and neither data_dir nor $SEARCH_QA_DATA says where they are: "
                "pass the folder of FlashRAG's or Search-R1's files."
            )
    is_list = isinstance(data_sets, Sequence) and not isinstance(data_sets, str)
    if data_sets is not None and not (is_list and all(isinstance(name, str) for name in data_sets)):
        raise InvalidOption(f"data_sets is {data_sets!r}; wanted a list of names such as ['nq', 'bamboogle'].")
    folder = given_path(data_dir)
    files = _named_files(folder) if folder.is_file() else _files(folder, ENDINGS)
    state = tuple((split, str(path), path.stat().st_size, path.stat().st_mtime_ns) for split, path in files)
    names = None if data_sets is None else tuple(data_sets)
    return _read(
        folder.parent if folder.is_file() else folder,
        state,
        names,
        default_type,
        env_id=env_id,
        keeps_empty=keeps_empty,
    )


@lru_cache(maxsize=4)
def _read(
    folder: Path,
    state: tuple[tuple[str, str, int, int], ...],
    data_sets: tuple[str, ...] | None,
    default_type: str | None,
    *,
    env_id: str,
    keeps_empty: bool,
) -> QuestionTasks:
    by_split: dict[str, dict[str, list[Question]]] = {split: {} for split in SPLITS}
    for split, name, _, _ in state:
        path = Path(name)
        own = None if path.parent == folder else path.parent.name
        # Rows of the many-in-one layout name their data set; where one does not, the folder's name is as good as any.
        for question in read_questions(
            path, data_set=own or folder.name, default_type=default_type, keeps_empty=keeps_empty
        ):
            by_split[split].setdefault(question.data_set, []).append(question)
    known = list(dict.fromkeys(name for of in by_split.values() for name in of))
    for name in data_sets or ():
        if name not in known:
            raise UnknownName(
                f"no data set {name!r} in {folder}; there are {', '.join(known)}.{did_you_mean(name, known)}"
            )
    order = data_sets or (*(name for name in DATA_SETS if name in known), *(n for n in known if n not in DATA_SETS))
    questions = {}
    for split, of in by_split.items():
        chosen = [name for name in order if name in of]
        if data_sets is None and split == "train":
            chosen = [name for name in chosen if name in TRAINING_SETS] or chosen
        questions[split] = [question for name in chosen for question in of[name]]
    return QuestionTasks(questions, env_id, by_data_set=True)


def _named_files(path: Path) -> list[tuple[str, Path]]:
    """Return (split, file) for a file that was named instead of its folder."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
    if ending is None:
        raise InvalidOption(
            f"data_dir is the file {path}; wanted a folder, or a file with one of {', '.join(ENDINGS)}."
        )
    stem = path.name.removesuffix(ending)
    if any(stem in names for names in _FILE_NAMES.values()):
        return _files(path.parent, (ending,))
    return [("test", path)]


def _files(folder: Path, endings: Sequence[str]) -> list[tuple[str, Path]]:
    """Return (split, file) of a folder of official data, in a fixed order."""
    if not folder.is_dir():
        raise MissingData(f"there is no folder {folder}: check data_dir or $SEARCH_QA_DATA.")
    found = _split_files(folder, endings)
    if not found:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            found.update({f"{split} {inner.name}": path for split, path in _split_files(inner, endings).items()})
    if not found:
        raise MissingData(
            f"{folder} holds no questions: wanted train, dev or test with one of the endings {', '.join(ENDINGS)}, or "
            "a folder with these for each data set."
        )
    return [(name.partition(" ")[0], path) for name, path in found.items()]


def _split_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    found = {}
    for split, names in _FILE_NAMES.items():
        paths = [folder / f"{name}{ending}" for name in names for ending in endings]
        present = [path for path in paths if path.is_file()]
        if len(present) > 1:
            raise InvalidOption(
                f"{folder} has {' and '.join(path.name for path in present)}, and one file per split is read: pass the "
                f"one you mean as data_dir={str(present[0])!r}, which takes the files with its ending."
            )
        if present:
            found[split] = present[0]
    if "dev" in found:
        found.setdefault("test", found["dev"])
    return found
