"""Episodes of run folders as skill proposers read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdar_benchmarks.records.runs import CONFIG, ERROR_REASONS, TRAJECTORIES, read_trajectories
from sdar_envs import Task
from sdar_envs.errors import CorruptData, MissingData
from sdar_skills.evidence.experience import Episode, Step

__all__ = ["read_training_episodes"]


def read_training_episodes(folder: Path) -> list[Episode]:
    """Read the episodes of an evaluation or a training run; those that ended in an error are left out.

    Their split is not looked at here: `sdar_skills.evidence.experience.propose` refuses all but training episodes.

    Raises:
        MissingData: the folder is no run, or has no trajectories.
        CorruptData: one of them cannot be read.
    """
    if not (folder / TRAJECTORIES).is_file():
        has_config = (folder / CONFIG).is_file()
        raise MissingData(
            f"{folder} has no {TRAJECTORIES}; wanted the folder of {'another ' if has_config else 'a '}run, as "
            "`sdar eval --split train --out` or `sdar train` writes it."
        )
    return list(_episodes(folder))


def _episodes(folder: Path) -> Iterator[Episode]:
    copies: Counter[str] = Counter()
    for row in read_trajectories(folder):
        if row.get("stop_reason") in ERROR_REASONS:
            continue
        try:
            task = Task(
                id=str(row["task_id"]),
                env=str(row["env_id"]),
                split=str(row["split"]),
                task_type=str(row["task_type"]),
                instruction=str(row.get("instruction", "")),
            )
            name = f"{task.id} seed {row['seed']}"
            steps = tuple(map(_step, row["turns"]))
            is_success = row["is_success"] is True
        except (LookupError, TypeError, AttributeError) as error:
            raise CorruptData(
                f"{folder / TRAJECTORIES} has a row that is no episode ({type(error).__name__}: {error}): remove it."
            ) from error
        copies[name] += 1
        number = "" if copies[name] == 1 else f" copy {copies[name]}"
        yield Episode(f"{name}{number}", folder.resolve().name, task, steps, is_success)


def _step(turn: dict[str, Any]) -> Step:
    return Step(str(turn["observation"]), str(turn["action"]), turn.get("is_action_valid") is not False)
