"""Check of the official Search-QA questions on this machine, for `sdar data check search_qa`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

from sdar_envs.core import Task
from sdar_envs.data_check import Finding, compared
from sdar_envs.errors import MissingData, SdarError
from sdar_envs.search_qa.questions import DATA_SETS
from sdar_envs.search_qa.tasks import official_tasks

__all__ = ["PUBLISHED", "check"]

PUBLISHED = {
    "test": {
        "nq": 3610,
        "triviaqa": 11_313,
        "popqa": 14_267,
        "hotpotqa": 7405,
        "2wikimultihopqa": 12_576,
        "musique": 2417,
        "bamboogle": 125,
    },
    "train": {"nq": 79_168, "hotpotqa": 90_447},
}
"""Rows of each data set that the reference trains and evaluates on; of some, `test` is what they publish as dev."""

_SOURCE = (
    "from the Hugging Face data set PeterJinGo/nq_hotpotqa_train (train and test in one file each), or FlashRAG's "
    "files, one folder for each data set"
)
_PASSAGES = (
    "passages are not looked for here: the reference searches 21,015,324 passages of Wikipedia with a flat E5 index "
    "(60 to 70 GB to download, 132 GB on disk); pass a server or the folder of an index as retriever="
)


def check(data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
    """Yield what is there of the official questions and what is missing.

    Args:
        data_dir: their folder, as for `SearchQAEnv`.
    """
    place = None if data_dir is None else os.fspath(data_dir)
    tasks: dict[tuple[str, str], list[Task]] = {}
    try:
        source = official_tasks(place, data_sets=None, default_type=None, env_id="sdar/SearchQA-v0")
    except SdarError as error:
        yield Finding("missing", str(error))
        if not isinstance(error, MissingData):
            return
    else:
        for split, size in source.splits.items():
            for index in range(size or 0):
                task = source.task(split, index)
                tasks.setdefault((split, task.data["data_set"]), []).append(task)
    wanted = {(split, name): count for split, of in PUBLISHED.items() for name, count in of.items()}
    others = [key for key in tasks if key not in wanted]
    is_complete = True
    for split, name in (*wanted, *others):
        finding = compared(f"{split}, {name}, questions", len(tasks.get((split, name), ())), wanted.get((split, name)))
        is_complete &= finding.state != "missing"
        yield finding
    if not is_complete:
        yield Finding("note", _SOURCE)
    for (split, name), of in tasks.items():
        yield Finding("note", f"{split}, {name}, fingerprint: {_fingerprint(of)}")
    unknown = sorted({name for _, name in others if name not in DATA_SETS})
    if unknown:
        yield Finding("note", f"data sets that are not of the benchmark: {', '.join(unknown)}")
    yield Finding("note", _PASSAGES)


def _fingerprint(tasks: list[Task]) -> str:
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps([task.id, task.instruction, task.data["answers"]]).encode())
    return digest.hexdigest()[:32]
