"""Results of the episodes that the ranks of a run have played, gathered on all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sdar_agents.parallel import World
from sdar_agents.rollout.episode import RunningEpisode
from sdar_agents.types import Trajectory
from sdar_envs import Task
from sdar_envs.errors import RunStopped
from sdar_skills import Skill

__all__ = ["Failure", "PlayedEpisode", "gather_played"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An episode whose environment raised.

    Attributes:
        task: what was played.
        episode_id: which episode.
        turn_index: in which turn, from 0.
        error: type and message of the exception.
    """

    task: Task
    episode_id: str
    turn_index: int
    error: str


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """An episode that has ended.

    Attributes:
        episode_id: of its trajectory.
        trajectory: its record; None if its environment raised.
        shown: the skills that stood in one of its prompts.
        failure: what is told of the exception.
        error: the exception; None if another rank has it.
    """

    episode_id: str
    trajectory: Trajectory | None
    shown: tuple[Skill, ...] = ()
    failure: Failure | None = None
    error: Exception | None = None

    @classmethod
    def of(cls, episode: RunningEpisode) -> PlayedEpisode:
        """Return the result of an episode that runs no more."""
        if episode.failure is None:
            return cls(episode.episode_id, episode.trajectory(), tuple(episode.shown.values()))
        said = f"{type(episode.failure).__name__}: {episode.failure}"
        failure = Failure(episode.task, episode.episode_id, len(episode.turns), said)
        return cls(episode.episode_id, None, failure=failure, error=episode.failure)


def gather_played(
    world: World,
    episodes: Sequence[PlayedEpisode],
    counts: Counter[str],
    times: Mapping[str, float],
    *,
    group_size: int,
) -> tuple[list[PlayedEpisode], Counter[str], dict[str, float]]:
    """Return the episodes of all ranks in the order of the tasks, the sums of their counts, the longest times.

    Collective.

    Args:
        world: the ranks, of which each has played every size-th task.
        episodes: of this rank, group by group.
        counts: of this rank.
        times: of this rank.
        group_size: episodes of a task.

    Raises:
        RunStopped: all episodes of all ranks have failed, none of them here.
    """
    if world.size == 1:
        return list(episodes), counts, dict(times)
    sent = [replace(episode, error=None) for episode in episodes]
    found = world.gather((sent, counts, dict(times)))
    groups = {
        rank + world.size * (start // group_size): played[start : start + group_size]
        for rank, (played, _, _) in enumerate(found)
        for start in range(0, len(played), group_size)
    }
    everything = [episode for number in sorted(groups) for episode in groups[number]]
    if all(episode.failure is not None for episode in everything) and not episodes:
        raise RunStopped(f"all episodes of the step have failed: {everything[-1].failure}")
    if any(episode.failure is not None for episode in episodes):
        errors = {episode.episode_id: episode.error for episode in episodes}
        everything = [replace(episode, error=errors.get(episode.episode_id)) for episode in everything]
    total: Counter[str] = Counter()
    for _, each, _ in found:
        total.update(each)
    return everything, total, {name: max(each[name] for _, _, each in found) for name in times}
