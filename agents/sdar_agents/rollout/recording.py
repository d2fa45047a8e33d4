"""JSON form of trajectories: a line each in `trajectories.jsonl`, which `sdar view` shows and training code reads.

A line has the fields that `sdar_benchmarks.records.runs` lists, so that the viewer shows training runs and evaluations
alike, and those that only training needs: token ids, log-probabilities, groups. Two fields of a turn are for the viewer
alone: `teacher_prompt`, the text of the teacher's prompt with its skills, and `tokens`, the gap and gate of each token.

Format 2 has `is_well_formed` (the completion kept the format) and `is_action_valid` (the environment accepted the
command) in each turn. Format 1 had the first under the name of the second; it is migrated on reading, with
`is_action_valid` None, because the environment's word was not kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdar_agents.engines.chat.reading import infer_prefilled
from sdar_agents.types import Completion, Trajectory, Turn
from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.lines import append_row, drop_torn_line, read_rows
from sdar_envs.prompt import parse_completion, style_for

__all__ = [
    "FILE",
    "FORMAT",
    "TrajectoryWriter",
    "read_trajectories",
    "trajectory_from_row",
    "trajectory_row",
]

FILE = "trajectories.jsonl"
"""The file name that `sdar view` looks for."""

FORMAT = 2
"""Version of the lines written here, which a training run keeps in its `run.json`."""


def trajectory_row(
    trajectory: Trajectory,
    *,
    tokens: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    decode: Callable[[Sequence[int]], str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a trajectory as a dictionary of JSON values: one line.

    Args:
        trajectory: the episode.
        tokens: for each turn what `sdar_agents.learner.token_marks` returns, or None.
        decode: returns the text of token ids; with it, turns that have a teacher get `teacher_prompt`.
        details: further fields, such as `{"step": 12}`; a reader of trajectories ignores them.

    Raises:
        InvalidOption: `tokens` does not pair with the turns, or a detail's name is taken.
    """
    if tokens is not None and len(tokens) != len(trajectory.turns):
        raise InvalidOption(f"tokens has {len(tokens)} turns, the trajectory {len(trajectory.turns)}; wanted one each.")
    task = trajectory.task
    row: dict[str, Any] = {
        "env_id": task.env,
        "task_id": task.id,
        "suite": task.suite,
        "task_type": task.task_type,
        "split": task.split,
        "seed": trajectory.seed,
        "attempt": 1,
        "instruction": task.instruction,
        "is_success": trajectory.success,
        "score": trajectory.score,
        "stop_reason": trajectory.stop_reason,
        "group_id": trajectory.group_id,
        "episode_id": trajectory.episode_id,
        "task_data": dict(task.data),
        "final_observation": trajectory.final_observation,
    }
    for name, value in (details or {}).items():
        if name in row or name == "turns":
            raise InvalidOption(f"the field {name!r} is one of the trajectory's own: choose another name.")
        row[name] = value
    if trajectory.mode != "windowed":
        row["mode"] = trajectory.mode
    # Last: the viewer's index reads the fields before `turns` without reading the turns.
    marks = [None] * len(trajectory.turns) if tokens is None else tokens
    row["turns"] = [_turn_row(turn, task, decode, mark) for turn, mark in zip(trajectory.turns, marks, strict=True)]
    return row


def _turn_row(
    turn: Turn,
    task: Task,
    decode: Callable[[Sequence[int]], str] | None,
    tokens: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    completion = turn.completion.to_json()
    text = completion.pop("text")
    parsed = parse_completion(
        text, style_for(task.suite), prefilled=infer_prefilled(text), reasoning=turn.completion.reasoning
    )
    row = {
        "observation": turn.observation,
        "messages": [dict(message) for message in turn.messages],
        "response": text,
        "reasoning": parsed.reasoning or None,
        "action": turn.action,
        "reward": turn.reward,
        "env_reward": turn.env_reward,
        "score": turn.score,
        "is_well_formed": turn.is_well_formed,
        "is_action_valid": turn.is_action_valid,
        "skills": list(turn.skill_ids),
        "prompt_ids": list(turn.prompt_ids),
        "teacher_prompt_ids": None if turn.teacher_prompt_ids is None else list(turn.teacher_prompt_ids),
        "completion": completion,
    }
    if decode is not None and turn.teacher_prompt_ids is not None:
        row["teacher_prompt"] = decode(turn.teacher_prompt_ids)
    if tokens is not None:
        row["tokens"] = [dict(token) for token in tokens]
    return row


def trajectory_from_row(row: Mapping[str, Any]) -> Trajectory:
    """Rebuild a trajectory from `trajectory_row`'s dictionary; equal to the original.

    Raises:
        CorruptData: the dictionary lacks a field or holds an impossible value.
    """
    try:
        task = Task(
            id=row["task_id"],
            env=row["env_id"],
            split=row["split"],
            task_type=row["task_type"],
            instruction=row["instruction"],
            data=row["task_data"],
            suite=row.get("suite", ""),
        )
        return Trajectory(
            task=task,
            seed=row["seed"],
            group_id=row["group_id"],
            episode_id=row["episode_id"],
            turns=tuple(map(_turn, row["turns"])),
            success=row["is_success"],
            stop_reason=row["stop_reason"],
            score=row["score"],
            final_observation=row.get("final_observation", ""),
            mode=row.get("mode", "windowed"),
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptData(
            f"this is not the trajectory of a rollout ({type(error).__name__}: {error}): wanted what trajectory_row "
            "returns; those of `sdar eval` have no tokens."
        ) from error


def _turn(row: Mapping[str, Any]) -> Turn:
    is_format_1 = "is_well_formed" not in row
    return Turn(
        observation=row["observation"],
        messages=row["messages"],
        prompt_ids=row["prompt_ids"],
        completion=Completion.from_json({"text": row["response"], **row["completion"]}),
        action=row["action"],
        reward=row["reward"],
        is_well_formed=row["is_action_valid" if is_format_1 else "is_well_formed"],
        is_action_valid=None if is_format_1 else row["is_action_valid"],
        score=row.get("score", 0.0),
        env_reward=row.get("env_reward"),
        teacher_prompt_ids=row["teacher_prompt_ids"],
        skill_ids=row["skills"],
    )


class TrajectoryWriter:
    """Writer of a folder's `trajectories.jsonl`, which appends whole lines only. A context manager.

    Args:
        folder: made if it is missing.
        size: truncate the file to so many bytes first: the `size` that a checkpoint has kept. None keeps all whole
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
        """Size of the file in bytes, for a checkpoint."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows, see `trajectory_row`.

        Raises:
            OSError: one cannot be written; no part of its line is left if that is possible.
        """
        for row in rows:
            append_row(self._file, row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Iterate over the trajectories of a file; an incomplete last line is left out.

    Args:
        path: the file, or the folder that holds `trajectories.jsonl`.

    Raises:
        MissingData: the file does not exist.
        CorruptData: another line cannot be read.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise MissingData(f"there are no trajectories {file}: name the folder of a training run.")
    yield from map(trajectory_from_row, read_rows(file))
