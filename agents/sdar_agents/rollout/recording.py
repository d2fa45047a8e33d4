"""Trajectories on disk: a line of JSON each, which `sdar view` shows and from which the trajectory can be made again.

A line has the fields of a run folder's `trajectories.jsonl` (`sdar_benchmarks.records.runs` lists them) and, beside
them, those that training needs and a reader of transcripts does not: token ids, log-probabilities, groups. Put the file
into a folder under that name and `sdar view` opens the folder. `tokens`, with the gap and the gate of each, belong to
the viewer alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdar_agents.types import Completion, Trajectory, Turn
from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.lines import append_row, drop_torn_line, read_rows
from sdar_envs.prompt import parse_completion, style_for

__all__ = ["FILE", "TrajectoryWriter", "read_trajectories", "token_marks", "trajectory_from_row", "trajectory_row"]

FILE = "trajectories.jsonl"
"""The name under which `sdar view` looks for them."""

_STOP_REASONS = {"terminated": "terminated", "truncated": "step_limit", "overlong": "token_limit"}


def trajectory_row(
    trajectory: Trajectory,
    *,
    tokens: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a trajectory as a dictionary of JSON values: one line.

    Args:
        trajectory: the episode.
        tokens: for each turn what `token_marks` gives, or None.
        details: further fields, such as `{"step": 12}`; a reader of trajectories ignores them.

    Raises:
        InvalidOption: `tokens` has another number of turns, or a detail's name is taken.
    """
    if tokens is not None and len(tokens) != len(trajectory.turns):
        raise InvalidOption(f"tokens has {len(tokens)} turns, the trajectory {len(trajectory.turns)}; wanted one each.")
    task = trajectory.task
    row: dict[str, Any] = {
        "env_id": task.env,
        "task_id": task.id,
        "task_type": task.task_type,
        "split": task.split,
        "seed": trajectory.seed,
        "attempt": 1,
        "instruction": task.instruction,
        "is_success": trajectory.success,
        "score": trajectory.score,
        "stop_reason": _STOP_REASONS[trajectory.end_reason],
        "group_id": trajectory.group_id,
        "episode_id": trajectory.episode_id,
        "end_reason": trajectory.end_reason,
        "task_data": dict(task.data),
    }
    for name, value in (details or {}).items():
        if name in row or name == "turns":
            raise InvalidOption(f"the field {name!r} is one of the trajectory's own: choose another name.")
        row[name] = value
    marks = [None] * len(trajectory.turns) if tokens is None else tokens
    # Last: the viewer reads what stands before without reading the turns.
    row["turns"] = [_turn_row(turn, task, mark) for turn, mark in zip(trajectory.turns, marks, strict=True)]
    return row


def _turn_row(turn: Turn, task: Task, tokens: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    fields = turn.to_json()
    completion = fields.pop("completion")
    row = {
        "response": completion.pop("text"),
        "reasoning": parse_completion(turn.completion.text, style_for(task.suite)).reasoning or None,
        "skills": fields.pop("skill_ids"),
        **fields,
        "completion": completion,
    }
    return row if tokens is None else {**row, "tokens": [dict(token) for token in tokens]}


def trajectory_from_row(row: Mapping[str, Any]) -> Trajectory:
    """Rebuild a trajectory from `trajectory_row`'s dictionary; equal to the original.

    Raises:
        CorruptData: it is no such dictionary.
    """
    try:
        task = Task(row["task_id"], row["env_id"], row["split"], row["task_type"], row["instruction"], row["task_data"])
        return Trajectory(
            task=task,
            seed=row["seed"],
            group_id=row["group_id"],
            episode_id=row["episode_id"],
            turns=tuple(map(_turn, row["turns"])),
            success=row["is_success"],
            end_reason=row["end_reason"],
            score=row["score"],
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptData(
            f"this is not the trajectory of a rollout ({type(error).__name__}: {error}): wanted what trajectory_row "
            "gives; those of `sdar eval` have no tokens."
        ) from error


def _turn(row: Mapping[str, Any]) -> Turn:
    return Turn(
        observation=row["observation"],
        messages=row["messages"],
        prompt_ids=row["prompt_ids"],
        completion=Completion(text=row["response"], **row["completion"]),
        action=row["action"],
        reward=row["reward"],
        is_action_valid=row["is_action_valid"],
        teacher_prompt_ids=row["teacher_prompt_ids"],
        skill_ids=row["skills"],
    )


def token_marks(
    completion: Completion,
    decode: Callable[[int], str],
    *,
    gaps: Sequence[float] | None = None,
    gates: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return what the viewer colours: each token of a completion with its gap and gate.

    Args:
        completion: of a turn.
        decode: returns the text of a token.
        gaps: the teacher's log-probability minus the student's, in nats, one per token.
        gates: from 0 to 1, one per token.

    Raises:
        InvalidOption: there is not one number per token.
    """
    marks: list[dict[str, Any]] = [{"text": decode(token)} for token in completion.token_ids]
    for name, values in (("gap", gaps), ("gate", gates)):
        if values is None:
            continue
        if len(values) != len(marks):
            raise InvalidOption(f"{name}s must pair with the tokens: got {len(values)}, expected {len(marks)}.")
        for mark, value in zip(marks, values, strict=True):
            mark[name] = float(value)
    return marks


class TrajectoryWriter:
    """Appends rows to `trajectories.jsonl` of a folder, whole lines only. A context manager.

    Args:
        folder: made if it is missing.
        size: cut the file back to so many bytes first: the `size` that a checkpoint has kept. None keeps all whole
            lines.

    Raises:
        InvalidOption: the file is shorter than that.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, *, size: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        drop_torn_line(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        if size is not None:
            if size > self.size:
                have = self.size
                self.close()
                raise InvalidOption(
                    f"{path} has {have} bytes, and {size} were wanted: this is not the checkpoint's file."
                )
            self._file.truncate(size)

    def __enter__(self) -> TrajectoryWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @property
    def size(self) -> int:
        """Bytes in the file, for a checkpoint."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, see `trajectory_row`.

        Raises:
            OSError: one cannot be written; no part of its line is left if that is possible.
        """
        for row in rows:
            append_row(self._file, row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Read trajectories one by one; a torn last line is left out.

    Args:
        path: the file, or the folder that holds `trajectories.jsonl`.

    Raises:
        MissingData: there is none.
        CorruptData: another line cannot be read.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise MissingData(f"there are no trajectories {file}: name the folder that a rollout was recorded in.")
    yield from map(trajectory_from_row, read_rows(file))
