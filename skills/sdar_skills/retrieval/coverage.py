"""Coverage report: which skills each task of a panel gets under each strategy, and the gaps.

A gap is a task type without a skill, a task for which a strategy returns nothing, or a skill that is returned for no
task. Skills for task types that are not in the panel are no gap.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdar_envs import Task
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Retriever
from sdar_skills.library.task_types import TASK_TYPES

__all__ = ["Coverage", "TaskCoverage", "measure_coverage"]

# These return any skill of the suite sooner or later, whatever the task: they prove nothing about `unreached`.
_REACHES_ALL = ("full", "random", "ucb", "thompson")


@dataclass(frozen=True, slots=True)
class TaskCoverage:
    """Retrieved skills of one task.

    Attributes:
        task: the task.
        found: skills by strategy, best first; None if the strategy raised `UnknownName`.
    """

    task: Task
    found: Mapping[str, tuple[Retrieved, ...] | None]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of a panel of tasks.

    Attributes:
        suite: suite of the panel.
        tasks: coverage of each task, in the panel's order.
        types_without_skill: task types, known or in the panel, without an active skill.
        tasks_without_skill: number of tasks without any skill, by strategy.
        tasks_of_own_type: number of tasks with a skill for their type, by strategy.
        unreached: ids of active skills that no strategy returns for any task; strategies that ignore the task aside.
        types_not_in_panel: task types with skills that are not in the panel.
    """

    suite: str
    tasks: tuple[TaskCoverage, ...]
    types_without_skill: tuple[str, ...]
    tasks_without_skill: Mapping[str, int]
    tasks_of_own_type: Mapping[str, int]
    unreached: tuple[str, ...]
    types_not_in_panel: tuple[str, ...]

    @property
    def has_gaps(self) -> bool:
        """Whether there is any gap."""
        return bool(self.types_without_skill or self.unreached or any(self.tasks_without_skill.values()))


def measure_coverage(
    library: Library, tasks: Sequence[Task], retrievers: Mapping[str, Retriever], *, k: int, seed: int = 0
) -> Coverage:
    """Retrieve skills for every task with every strategy.

    Args:
        library: the skills that the strategies choose from.
        tasks: the panel, tasks of one suite.
        retrievers: the strategies by name. `none` is expected to return nothing.
        k: greatest number of skills for a task.
        seed: seed of the random generator.

    Raises:
        InvalidOption: there are no tasks, or tasks of several suites.
        UnknownName: the library has no skills for the suite.
    """
    suites = sorted({task.suite for task in tasks})
    if len(suites) != 1:
        raise InvalidOption(f"the panel has tasks of {len(suites)} suites ({', '.join(suites)}); wanted one.")
    suite = suites[0]
    skills = library.select(suite, strict=True)
    rng = random.Random(seed)
    covered = []
    for task in tasks:
        found: dict[str, tuple[Retrieved, ...] | None] = {}
        for name, retriever in retrievers.items():
            try:
                found[name] = retriever.retrieve(task, k, None, rng)
            except UnknownName:
                found[name] = None
        covered.append(TaskCoverage(task, found))
    panel_types = list(dict.fromkeys(task.task_type for task in tasks))
    skill_types = {skill.task_type for skill in skills if skill.task_type is not None}
    reached = {
        retrieved.skill.id
        for entry in covered
        for name, found_ in entry.found.items()
        if name not in _REACHES_ALL
        for retrieved in found_ or ()
    }
    expecting = [name for name in retrievers if name != "none"]
    return Coverage(
        suite=suite,
        tasks=tuple(covered),
        types_without_skill=tuple(
            kind for kind in dict.fromkeys((*TASK_TYPES.get(suite, ()), *panel_types)) if kind not in skill_types
        ),
        tasks_without_skill={name: sum(not entry.found[name] for entry in covered) for name in expecting},
        tasks_of_own_type={
            name: sum(
                any(retrieved.skill.task_type == entry.task.task_type for retrieved in entry.found[name] or ())
                for entry in covered
            )
            for name in expecting
        },
        unreached=tuple(
            skill.id
            for skill in skills
            if skill.id not in reached and (skill.task_type is None or skill.task_type in panel_types)
        )
        if set(retrievers) - {"none", *_REACHES_ALL}
        else (),
        types_not_in_panel=tuple(sorted(skill_types - set(panel_types))),
    )
