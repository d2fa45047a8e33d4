"""How skills get into the prompts of a rollout: which, for whom, where, and what the ledger is told of it.

The reader is the teacher (the default): it scores the student's tokens with skills in its prompt, and the student never
sees one. Or it is the student itself, as in Skill-GRPO. Skills are chosen by the task's own fields
(`sdar_skills.Retriever`) and stand where `sdar_skills.teacher_context` puts them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sdar_agents.types import Trajectory
from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, did_you_mean
from sdar_skills import Retriever, Skill, showings_of_group
from sdar_skills.context import Placement
from sdar_skills.evidence.ledger import Showing
from sdar_skills.library.skill import Arm

__all__ = ["Reader", "SkillPrompts", "skill_showings"]

Reader = Literal["teacher", "student"]
"""Whose prompt has skills in it."""


@dataclass(frozen=True, slots=True, eq=False)
class SkillPrompts:
    """Which skills are shown, to whom and where.

    Attributes:
        retriever: chooses them, once per episode.
        reader: see `Reader`.
        placement: where they stand in the prompt.
        k: how many at most.
        skill_tokens: that their texts may take together; the retriever needs `count_tokens` then. None is no limit.
        max_prompt_tokens: of the teacher's whole prompt, its own limit beside the student's; None is what the policy's
            context leaves. What does not fit gives way as `teacher_context` says: skills from the worst, but not the
            best; then history. The student's prompt has the rollout's limit.
        varied: draw anew for each member of a group, for strategies that draw; else the group shares its skills.
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
        for name, choices in (("reader", get_args(Reader)), ("placement", get_args(Placement))):
            value = getattr(self, name)
            if value not in choices:
                raise InvalidOption(
                    f"{name} is {value!r}; wanted one of {', '.join(choices)}.{did_you_mean(value, choices)}"
                )
        for name, least in (("k", 0), ("control_members", 0)):
            value = getattr(self, name)
            if not is_integer(value) or value < least:
                raise InvalidOption(f"{name} is {value!r}; wanted a number from {least}.")
        limit = self.max_prompt_tokens
        if limit is not None and (not is_integer(limit) or limit < 1):
            raise InvalidOption(f"max_prompt_tokens is {limit!r}; wanted None or a number of tokens from 1.")

    def choose(self, task: Task, member: int, group_size: int, seeds: tuple[int, int]) -> tuple[Skill, ...] | None:
        """Return the skills for a member of a group, best first; None if it is a control.

        Args:
            task: what the group plays.
            member: its number in the group, from 0.
            group_size: how many there are.
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
    """Return how `Turn.skill_ids` names a skill: `<id>@<version>`."""
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
    """Return what to append to the ledger for a rollout (see `sdar_skills.showings_of_group`).

    Args:
        trajectories: whole groups. Episodes without a turn are left out: nobody was shown anything.
        shown: the skills of each episode, by its id: `RolloutResult.shown`.
        run: names the training run.
        step: training step, from 0.
        strategy: what chose the skills.
        baseline: what rewards are compared with. `control` wants `SkillPrompts.control_members`, `group` wants
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
                    raise InvalidOption(f"gaps has none of the episode {member.episode_id!r}; wanted one of each.")
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
