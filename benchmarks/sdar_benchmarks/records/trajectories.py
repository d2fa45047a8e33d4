"""Index of the episodes in a run folder, of an evaluation or a training run, that is updated while the run grows.

`RunIndex` keeps the byte offset of each episode in `trajectories.jsonl` and reads one trajectory at a time, so files of
many gigabytes and runs that are still being written can be shown. Lines that cannot be read, or whose fields do not
fit, are left out and named in `notes`; an incomplete last line is read when it is complete.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from sdar_benchmarks.records.metrics import METRICS
from sdar_benchmarks.records.migration import migrate_trajectory
from sdar_benchmarks.records.runs import CONFIG, EPISODES, TRAJECTORIES, Episode
from sdar_benchmarks.records.schema import Count, LeftOut, Name, Number, Text, make_row
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.json_text import LONGEST_LINE, open_file, parse_json
from sdar_envs.files.lines import Line, parse_row, read_lines

__all__ = ["EpisodeEntry", "EpisodeId", "RunIndex"]

_TURNS = re.compile(rb'(?<!\\)"turns"\s*:\s*\[')
_COMPARED = 64


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
        self._left_out = (LeftOut(TRAJECTORIES), LeftOut(EPISODES))

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
                for counter, left_out in zip(self._copies, self._left_out, strict=True):
                    counter.clear()
                    left_out.clear()
            for tail, copies, left_out, is_trajectory in zip(
                self._tails, self._copies, self._left_out, (True, False), strict=True
            ):
                for number, line in tail.lines():
                    try:
                        row = _head(line.content) if is_trajectory else parse_row(line.content, "the line")
                        facts: Mapping[str, Any] = {} if is_trajectory else _facts(row)
                        entry = _entry(row)
                    except CorruptData as error:
                        left_out.add(number, error)
                        continue
                    entry_id = entry.id._replace(copy=copies[entry.id])
                    copies[entry.id] += 1
                    known = self._entries.get(entry_id)
                    if is_trajectory:
                        facts = known.facts if known else {}
                        entry = replace(entry, id=entry_id, facts=facts, offset=line.offset, size=line.size)
                    elif known:
                        entry = replace(known, facts=facts)
                    else:
                        entry = replace(entry, id=entry_id, facts=facts)
                    self._entries[entry_id] = entry
                    if progress and is_trajectory:
                        progress(line.offset + line.size)
            return tuple(self._entries.values())

    @property
    def size(self) -> int:
        """Size of the trajectories in bytes."""
        return self._tails[0].size()

    @property
    def notes(self) -> list[str]:
        """Sentences about lines that could not be read."""
        notes: list[str] = []
        for tail, left_out in zip(self._tails, self._left_out, strict=True):
            notes += filter(None, (left_out.sentence(), tail.fault))
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
            with open_file(self.folder / TRAJECTORIES) as file:
                file.seek(entry.offset)
                row = parse_row(file.read(min(entry.size, LONGEST_LINE + 1)), "the line")
            if _entry(row).id != entry.id._replace(copy=0):
                raise ValueError("it is another episode's")
            if not isinstance(row.get("turns"), list):
                raise ValueError("it has no list of turns")
        except (OSError, ValueError) as error:
            raise CorruptData(
                f"the trajectory at byte {entry.offset} of {TRAJECTORIES} cannot be read "
                f"({str(error).rstrip('.')}): it is damaged, or the file was changed; look again."
            ) from error
        return migrate_trajectory(row)


class _Tail:
    """Reader of the complete lines of a growing file.

    Attributes:
        path: the file.
        is_torn: whether it ends in an incomplete line.
        fault: why it cannot be read at all; empty if it can, or is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_torn = False
        self.fault = ""
        self.rewind()

    def rewind(self) -> None:
        self._position = 0
        self._number = 0
        self._before = b""

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def is_as_before(self) -> bool:
        """Return whether the lines read so far are still in the file: resuming a run can remove the last one."""
        if self._position == 0:
            return True
        try:
            with open_file(self.path) as file:
                file.seek(self._position - len(self._before))
                return file.read(len(self._before)) == self._before
        except (OSError, CorruptData):
            return False

    def lines(self) -> Iterator[tuple[int, Line]]:
        """Yield number, from 1, and each complete line since the last time."""
        self.is_torn, self.fault = False, ""
        try:
            file = open_file(self.path)
        except OSError:
            return
        except CorruptData as error:
            self.fault = f"{self.path.name} is left out: {error}"
            return
        with file:
            file.seek(self._position)
            for line in read_lines(file):
                if not line.is_whole:
                    self.is_torn = True
                    return
                self._position += line.size
                self._number += 1
                # The end of a line that is too long was not kept.
                self._before = line.content[-_COMPARED:] if line.size == len(line.content) else b""
                if not line.content.isspace():
                    yield self._number, line


def _head(line: bytes) -> dict[str, Any]:
    """Return a trajectory without its turns, which are most of the line, or all of it if that does not work."""
    # Only a key can begin with a quotation mark that no backslash escapes and go on with a colon.
    turns = _TURNS.search(line)
    if turns and line.rstrip().endswith(b"}"):
        try:
            row = parse_json(line[: turns.start()].rstrip(b", \t") + b"}")
        except ValueError:
            pass
        else:
            if "seed" in row and "instruction" in row:
                assert isinstance(row, dict)
                return row
    return parse_row(line, "the line")


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `episodes.jsonl`; in one of format 1, the count that has two meanings gets a name of its own.

    Raises:
        CorruptData: it is no such row.
    """
    Episode.from_json({"malformed_answers": None, **row})
    if "malformed_answers" in row or not row.get("invalid_actions"):
        return dict(row)
    return {**row, "invalid_actions": None, "unusable_turns": row["invalid_actions"]}


@dataclass(frozen=True, slots=True)
class _Head:
    """Schema of what a row of either file says about its episode."""

    env_id: Name
    task_id: Name
    seed: Count
    attempt: Count = 1
    task_type: Name = ""
    split: Name = ""
    instruction: Text = ""
    is_success: bool | None = None
    score: Number | None = None
    stop_reason: Name = ""
    step: Count | None = None
    group_id: Name | None = None
    advantage: Number | None = None


def _entry(row: Mapping[str, Any]) -> EpisodeEntry:
    head = make_row(_Head, row)
    return EpisodeEntry(
        id=EpisodeId(head.env_id, head.task_id, head.seed, head.attempt),
        task_type=head.task_type,
        split=head.split,
        instruction=head.instruction,
        is_success=head.is_success is True,
        score=head.score or 0.0,
        stop_reason=head.stop_reason,
        facts={},
        step=head.step,
        group_id=head.group_id or "",
        advantage=head.advantage,
    )
