"""Ledger rows of a rollout: the skills that were shown in its episodes, with the rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sdar_agents.types import Trajectory
from sdar_envs.errors import InvalidOption
from sdar_skills import Skill, showings_of_group
from sdar_skills.evidence.ledger import Showing

__all__ = ["skill_showings"]


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
