"""Skills in the prompts of a rollout: which are shown, to whom and where, and the ledger rows that result.

The reader is the teacher by default: it scores the student's tokens with skills in its prompt, and the student never
sees one. In Skill-GRPO the reader is the student. Skills are chosen by the task's own fields (`sdar_skills.Retriever`)
and placed by `sdar_skills.teacher_context`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sdar_agents.settings.checks import check_value
from sdar_agents.types import Trajectory
from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills import Retriever, Skill, showings_of_group
from sdar_skills.context import Placement
from sdar_skills.evidence.ledger import Showing
from sdar_skills.library.skill import Arm

__all__ = ["Reader", "SkillPrompts", "skill_showings"]

Reader = Literal["teacher", "student"]
"""Whose prompt has skills in it."""


@dataclass(frozen=True, slots=True, eq=False)
class SkillPrompts:
    """Retriever, reader, placement and limits of the skills in prompts.

    Attributes:
        retriever: chooses the skills, once per episode.
        reader: see `Reader`.
        placement: where in the prompt they are inserted.
        k: how many at most.
        skill_tokens: that their texts may take together; the retriever needs `count_tokens` then. None is no limit.
        max_prompt_tokens: limit of the teacher's whole prompt; None is what the policy's context leaves. What does not
            fit is dropped as `teacher_context` says: skills from the worst, but not the best; then history. The
            student's prompt has the rollout's limit.
        varied: draw again for each member of a group, for strategies that draw; else the group shares its skills.
        control_members: so many members of each group, the last ones, are shown nothing: the ledger's control.

    Raises:
        InvalidOption: a value is out of range.
    """

    retriever: Retriever
    reader: Reader = "teacher"
    placement: Placement = "user"
    k: int = 6
    skill_tokens: int | None = None
    max_prompt_tokens: int | None = None
    varied: bool = False
    control_members: int = 0

    def __post_init__(self) -> None:
        check_value("reader", self.reader, Reader)
        check_value("placement", self.placement, Placement)
        check_value("k", self.k, int, low=0)
        check_value("control_members", self.control_members, int, low=0)
        check_value("max_prompt_tokens", self.max_prompt_tokens, int | None, low=1)

    def choose(self, task: Task, member: int, group_size: int, seeds: tuple[int, int]) -> tuple[Skill, ...] | None:
        """Return the skills for a member of a group, best first; None if it is a control.

        Args:
            task: the group's task.
            member: number of the member in the group, from 0.
            group_size: how many members there are.
            seeds: of the group and of the episode.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
        """
        if member >= group_size - self.control_members:
            return None
        rng = random.Random(seeds[1] if self.varied else seeds[0])
        retrieved = self.retriever.retrieve(task, self.k, self.skill_tokens, rng)
        return tuple(item.skill for item in retrieved)


def name_skill(arm: Arm) -> str:
    """Return the name of a skill in `Turn.skill_ids`: `<id>@<version>`."""
    return f"{arm.skill}@{arm.version}"


def skill_showings(
    trajectories: Sequence[Trajectory],
    shown: Mapping[str, Sequence[Skill]],
    *,
    run: str,
    step: int,
    strategy: str,
    baseline: Literal["control", "group"] | float = "control",
    gaps: Mapping[str, float] | None = None,
) -> list[Showing]:
    """Return the ledger rows of a rollout (see `sdar_skills.showings_of_group`).

    Args:
        trajectories: whole groups. Episodes without a turn are left out: no prompt showed a skill.
        shown: the skills of each episode, by its id: `RolloutResult.shown`.
        run: name of the training run.
        step: training step, from 0.
        strategy: name of the retriever.
        baseline: what rewards are compared with. `control` needs `SkillPrompts.control_members`, `group` wants
            `varied`.
        gaps: of each episode, by its id: the teacher's mean log-probability minus the student's, in nats per token.

    Raises:
        InvalidOption: the baseline cannot tell skills apart, or a gap is missing.
    """
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if trajectory.turns:
            groups.setdefault(trajectory.group_id, []).append(trajectory)
    if gaps is not None:
        for members in groups.values():
            for member in members:
                if member.episode_id not in gaps:
                    raise InvalidOption(f"gaps has no gap of {member.episode_id!r}; wanted one for each episode.")
    return [
        showing
        for members in groups.values()
        for showing in showings_of_group(
            members[0].task,
            [shown.get(member.episode_id, ()) for member in members],
            [member.episode_return for member in members],
            baseline,
            run=run,
            step=step,
            strategy=strategy,
            gaps=None if gaps is None else [gaps[member.episode_id] for member in members],
        )
    ]
