"""Index of the episodes in a run folder, of an evaluation or a training run, that is updated while the run grows.

`RunIndex` keeps the byte offset of each episode in `trajectories.jsonl` and reads one trajectory at a time, so files of
many gigabytes and runs that are still being written can be shown. Unlike `runs`, which refuses a damaged file, it skips
lines that cannot be read and lists them in `notes`; an incomplete last line is read when it is complete.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from sdar_benchmarks.records.metrics import METRICS
from sdar_benchmarks.records.migration import migrate_trajectory
from sdar_benchmarks.records.runs import CONFIG, EPISODES, TRAJECTORIES
from sdar_envs.errors import CorruptData, MissingData

__all__ = ["EpisodeEntry", "EpisodeId", "RunIndex"]

_TURNS = re.compile(rb'(?<!\\)"turns"\s*:\s*\[')
_COMPARED = 64
_NAMED_LINES = 5


class EpisodeId(NamedTuple):
    """Identity of an attempt in a run. `copy` numbers those with the same key, as in groups of a training run."""

    env_id: str
    task_id: str
    seed: int
    attempt: int
    copy: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeEntry:
    """Entry of the index: one episode.

    Attributes:
        id: identity of the attempt.
        task_type: the kind of task.
        split: its split.
        instruction: the goal in words; empty while there is no trajectory.
        is_success: the task was done.
        score: the environment's score at the end.
        stop_reason: why it ended.
        facts: the row of `episodes.jsonl`; empty while there is none.
        step: the step of a training run; None in an evaluation.
        group_id: the group of a training run that its advantage is relative to; empty in an evaluation.
        advantage: of the episode in a training run, if it was recorded.
        offset: where its trajectory begins in the file; None while there is none.
        size: bytes of the trajectory.
    """

    id: EpisodeId
    task_type: str
    split: str
    instruction: str
    is_success: bool
    score: float
    stop_reason: str
    facts: Mapping[str, Any]
    step: int | None = None
    group_id: str = ""
    advantage: float | None = None
    offset: int | None = None
    size: int = 0

    @property
    def outcome(self) -> str:
        """`won`, `lost`, or `error` if the agent, the endpoint or the environment failed."""
        if self.facts.get("status") == "error" or self.stop_reason.endswith("_error"):
            return "error"
        return "won" if self.is_success else "lost"


class RunIndex:
    """Index of a run folder: its episodes in order of completion.

    Args:
        folder: a run folder.

    Raises:
        MissingData: the folder is no run folder.
    """

    def __init__(self, folder: Path) -> None:
        if not any((folder / name).exists() for name in (CONFIG, EPISODES, TRAJECTORIES, METRICS)):
            raise MissingData(f"{folder} is no run folder; wanted one that `sdar eval --out` or a trainer has written.")
        self.folder = folder
        self._lock = Lock()
        self._tails = (_Tail(folder / TRAJECTORIES), _Tail(folder / EPISODES))
        self._entries: dict[EpisodeId, EpisodeEntry] = {}
        self._copies: tuple[Counter[EpisodeId], ...] = (Counter(), Counter())
        self._damaged: tuple[list[int], ...] = ([], [])

    def refresh(self, progress: Callable[[int], object] | None = None) -> tuple[EpisodeEntry, ...]:
        """Read what was appended since the last call, and return all episodes.

        Args:
            progress: called with the bytes of trajectories that were read so far.
        """
        with self._lock:
            if not all(tail.is_as_before() for tail in self._tails):
                for tail in self._tails:
                    tail.rewind()
                self._entries.clear()
                for counter, numbers in zip(self._copies, self._damaged, strict=True):
                    counter.clear()
                    numbers.clear()
            for tail, copies, damaged, is_trajectory in zip(
                self._tails, self._copies, self._damaged, (True, False), strict=True
            ):
                for number, offset, line in tail.lines():
                    try:
                        row = _head(line) if is_trajectory else _told_apart(json.loads(line))
                        entry = _entry(row)
                    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                        damaged.append(number)
                        continue
                    entry_id = entry.id._replace(copy=copies[entry.id])
                    copies[entry.id] += 1
                    known = self._entries.get(entry_id)
                    if is_trajectory:
                        facts = known.facts if known else {}
                        entry = replace(entry, id=entry_id, facts=facts, offset=offset, size=len(line))
                    elif known:
                        entry = replace(known, facts=row)
                    else:
                        entry = replace(entry, id=entry_id, facts=row)
                    self._entries[entry_id] = entry
                    if progress and is_trajectory:
                        progress(offset + len(line))
            return tuple(self._entries.values())

    @property
    def size(self) -> int:
        """Size of the trajectories in bytes."""
        return self._tails[0].size()

    @property
    def notes(self) -> list[str]:
        """Sentences about lines that could not be read."""
        notes = []
        for tail, damaged in zip(self._tails, self._damaged, strict=True):
            if damaged:
                named = ", ".join(map(str, damaged[:_NAMED_LINES])) + (", …" if len(damaged) > _NAMED_LINES else "")
                lines = "1 line" if len(damaged) == 1 else f"{len(damaged)} lines"
                left_out = "is left out: number" if len(damaged) == 1 else "are left out: numbers"
                notes.append(f"{lines} of {tail.path.name} cannot be read and {left_out} {named}.")
            if tail.is_torn:
                notes.append(
                    f"The last line of {tail.path.name} is incomplete: it is being written, or a kill has cut it."
                )
        return notes

    def trajectory(self, entry: EpisodeEntry) -> dict[str, Any]:
        """Read the trajectory of an episode.

        Raises:
            MissingData: there is none.
            CorruptData: it is damaged, or the file was changed.
        """
        if entry.offset is None:
            raise MissingData(f"{TRAJECTORIES} has no trajectory of this episode.")
        try:
            with open(self.folder / TRAJECTORIES, "rb") as file:
                file.seek(entry.offset)
                row = json.loads(file.read(entry.size))
            if _entry(row).id != entry.id._replace(copy=0):
                raise ValueError("it is another episode's")
            if not isinstance(row.get("turns"), list):
                raise TypeError("it has no list of turns")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptData(
                f"the trajectory at byte {entry.offset} of {TRAJECTORIES} cannot be read "
                f"({type(error).__name__}: {error}): it is damaged, or the file was changed; look again."
            ) from error
        assert isinstance(row, dict)
        return migrate_trajectory(row)


class _Tail:
    """Reader of the complete lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_torn = False
        self.rewind()

    def rewind(self) -> None:
        self._position = 0
        self._number = 0
        self._before = b""

    def size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def is_as_before(self) -> bool:
        """Return whether the lines read so far are still in the file: resuming a run can remove the last one."""
        if self._position == 0:
            return True
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position - len(self._before))
                return file.read(len(self._before)) == self._before
        except FileNotFoundError:
            return False

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield number from 1, offset and content of each complete line since the last time."""
        self.is_torn = False
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        with file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    self.is_torn = True
                    return
                offset = self._position
                self._position += len(line)
                self._number += 1
                self._before = line[-_COMPARED:]
                if not line.isspace():
                    yield self._number, offset, line


def _head(line: bytes) -> Any:
    """Return a trajectory without its turns, which are most of the line, or all of it if that does not work."""
    # Only a key can begin with a quotation mark that no backslash escapes and go on with a colon.
    turns = _TURNS.search(line)
    if turns and line.rstrip().endswith(b"}"):
        try:
            row = json.loads(line[: turns.start()].rstrip(b", \t") + b"}")
        except ValueError:
            pass
        else:
            if "seed" in row and "instruction" in row:
                return row
    return json.loads(line)


def _told_apart(row: Any) -> Any:
    """Return a row of `episodes.jsonl`; in one of format 1, the count that has two meanings gets a name of its own."""
    if "malformed_answers" in row or not row.get("invalid_actions"):
        return row
    return {**row, "invalid_actions": None, "unusable_turns": row["invalid_actions"]}


def _entry(row: Any) -> EpisodeEntry:
    attempt = row.get("attempt", 1)
    if not (isinstance(row["seed"], int) and isinstance(attempt, int)):
        raise TypeError("seed and attempt are integers")
    return EpisodeEntry(
        id=EpisodeId(str(row["env_id"]), str(row["task_id"]), row["seed"], attempt),
        task_type=str(row.get("task_type", "")),
        split=str(row.get("split", "")),
        instruction=str(row.get("instruction", "")),
        is_success=row.get("is_success") is True,
        score=float(row.get("score") or 0.0),
        stop_reason=str(row.get("stop_reason", "")),
        facts={},
        step=None if row.get("step") is None else int(row["step"]),
        group_id=str(row.get("group_id", "")),
        advantage=None if row.get("advantage") is None else float(row["advantage"]),
    )
