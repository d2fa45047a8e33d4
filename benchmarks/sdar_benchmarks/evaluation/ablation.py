"""Conditions of a skill ablation: all skills, none, shuffled ones, and all but one of each that was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdar_benchmarks.analysis.ablation import Contrast
from sdar_benchmarks.evaluation.presets import PresetRun
from sdar_benchmarks.records.runs import Episode, final_episodes, read_episodes, read_trajectories
from sdar_envs.errors import InvalidOption

__all__ = ["ALL", "NONE", "SHUFFLED", "ablation_contrasts", "first_conditions", "left_out_conditions", "shown_skills"]

ALL, NONE, SHUFFLED = "all", "none", "shuffled"
"""Names of the run folders of the first three conditions."""

Shown = Mapping[str, Mapping[str, frozenset[str]]]
"""By skill id and environment, the tasks in which it was shown."""


def first_conditions(run: PresetRun) -> list[PresetRun]:
    """Return the runs with all skills, with none, and with those of other task types.

    Args:
        run: a run of a model that reads skills.

    Raises:
        InvalidOption: the model reads no skills.
    """
    if not run.settings.get("skills"):
        raise InvalidOption("an ablation is of skills: name how they are chosen with --skills, such as task_type.")
    return [
        replace(run, name=ALL),
        _with_skills(run, NONE, retriever="none", options={}),
        _with_skills(run, SHUFFLED, shuffled=True),
    ]


def shown_skills(folder: Path) -> dict[str, dict[str, frozenset[str]]]:
    """Return the skills that stood in a prompt of a run, with the tasks in which they did.

    Raises:
        InvalidOption: there is none.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for row in read_trajectories(folder):
        for turn in row["turns"]:
            for name in turn.get("skills") or ():
                tasks = found.setdefault(name.rpartition("@")[0], {})
                tasks.setdefault(row["env_id"], set()).add(row["task_id"])
    if not found:
        raise InvalidOption(f"no skill stood in any prompt of {folder}: there is nothing to leave out.")
    return {
        skill: {env_id: frozenset(tasks) for env_id, tasks in sorted(by_env.items())}
        for skill, by_env in sorted(found.items())
    }


def left_out_conditions(run: PresetRun, shown: Shown) -> dict[str, PresetRun]:
    """Return for each skill the run with all skills but this one, on the tasks in which it was shown.

    On other tasks the prompts would be those of the run with all skills.
    """
    conditions = {}
    for skill, by_env in shown.items():
        panels = tuple(
            replace(panel, only=tuple(sorted(by_env[panel.env_id]))) for panel in run.panels if panel.env_id in by_env
        )
        name = f"without-{skill.replace('/', '-')}"
        conditions[skill] = replace(_with_skills(run, name, leave_out=[skill]), panels=panels)
    return conditions


def ablation_contrasts(out: Path, left_out: Mapping[str, PresetRun]) -> list[Contrast]:
    """Read the runs of an ablation as contrasts.

    Args:
        out: the folder of the runs.
        left_out: what `left_out_conditions` returned.

    Raises:
        CorruptData: a run is damaged.
    """

    def read(name: str) -> list[Episode]:
        return final_episodes(read_episodes(out / name))

    everything, nothing = read(ALL), read(NONE)
    return [
        Contrast("all skills", "library", nothing, everything),
        *(Contrast(skill, "skill", read(run.name), everything) for skill, run in left_out.items()),
        Contrast("shuffled", "control", nothing, read(SHUFFLED)),
    ]


def _with_skills(run: PresetRun, name: str, **changes: Any) -> PresetRun:
    return replace(run, name=name, settings={**run.settings, "skills": {**run.settings["skills"], **changes}})
