"""Skill proposals from training episodes: drafts become skills on trial, near-duplicates are dropped.

    proposed = propose(episodes, TemplateProposer(), library)
    for skill in proposed.skills: ...   # status "shadow": `sdar_skills.evidence.trial` promotes or retires it

A proposer (`sdar_skills.evidence.proposers`) writes the drafts. This module ensures that it sees training episodes
only, that every skill has a unique id and names its origin, and that nothing is proposed twice. An episode of another
split is an error: a skill made from it would leak held-out answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple, Protocol

from sdar_envs import Task
from sdar_envs.bm25.analyzer import analyze
from sdar_envs.errors import InvalidOption, SdarError
from sdar_skills.library.naming import LONGEST_DESCRIPTION, content_hash, slug
from sdar_skills.library.skill import Skill

__all__ = [
    "Draft",
    "Dropped",
    "Episode",
    "HeldOutEpisode",
    "Proposals",
    "Proposer",
    "Step",
    "propose",
    "similarity",
]


class HeldOutEpisode(SdarError, ValueError):
    """An episode is not from the training split, so no skill may be made from it."""


class Step(NamedTuple):
    """One step of an episode: observation, then action."""

    observation: str
    action: str
    is_action_valid: bool = True


@dataclass(frozen=True, slots=True)
class Episode:
    """Finished episode, as a proposer reads it.

    Attributes:
        id: unique in its run.
        run: run in which it was played.
        task: the task.
        steps: the steps in order.
        is_success: whether the task was solved.
    """

    id: str
    run: str
    task: Task
    steps: tuple[Step, ...]
    is_success: bool


class Draft(NamedTuple):
    """Proposed skill, before checks and naming.

    Attributes:
        title: a few words; the skill's name is made from them.
        description: what the skill says and when to use it.
        text: what the teacher reads.
        is_general: whether it is for every task of the suite, not only for the task type of its episodes.
        episodes: the episodes that it is drawn from.
    """

    title: str
    description: str
    text: str
    is_general: bool
    episodes: tuple[Episode, ...]


class Proposer(Protocol):
    """Protocol of a proposer: writes drafts from episodes of one task type."""

    @property
    def name(self) -> str:
        """Name of the author, for `Skill.created_by`."""
        ...

    def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> Sequence[Draft]:
        """Return drafts; none if there is nothing to teach.

        Args:
            episodes: of one suite and task type, all from training.
            known: the suite's skills for that type and its general ones, so as not to repeat them.
        """
        ...


class Dropped(NamedTuple):
    """Rejected draft, with the reason."""

    title: str
    why: str


class Proposals(NamedTuple):
    """Result of `propose`: new skills, all with status `shadow`, and the drafts that were dropped."""

    skills: tuple[Skill, ...]
    dropped: tuple[Dropped, ...]


def propose(
    episodes: Iterable[Episode], proposer: Proposer, library: Iterable[Skill], *, max_similarity: float = 0.8
) -> Proposals:
    """Propose skills from training episodes.

    Args:
        episodes: successes and failures, of any suites and task types.
        proposer: writes the drafts.
        library: all existing skills, including retired ones, so that those are not proposed again.
        max_similarity: a draft with a greater `similarity` to a skill is dropped.

    Raises:
        HeldOutEpisode: an episode is not from the split `train`. Nothing is proposed then.
        InvalidOption: two episodes of a run have the same id.
    """
    episodes = sorted(episodes, key=lambda episode: (*_context(episode), episode.run, episode.id))
    for episode in episodes:
        # The id repeats the split, so a task whose split field was overwritten is noticed.
        if episode.task.split != "train" or episode.task.id.split("/")[1:2] != ["train"]:
            raise HeldOutEpisode(
                f"episode {episode.id!r} of run {episode.run!r} played {episode.task.id!r} of split "
                f"{episode.task.split!r}; wanted episodes of 'train' only. Leave out what you evaluate on."
            )
    for episode, following in pairwise(episodes):
        if (episode.run, episode.id) == (following.run, following.id):
            raise InvalidOption(f"two episodes of run {episode.run!r} have the id {episode.id!r}; wanted one of each.")
    skills = list(library)
    proposed: list[Skill] = []
    dropped: list[Dropped] = []
    for (suite, task_type), group in groupby(episodes, key=_context):
        members = list(group)
        known = [skill for skill in skills if skill.suite == suite and skill.task_type in (None, task_type)]
        for draft in proposer.propose(members, known):
            problem = _problem(draft)
            if problem is not None:
                dropped.append(Dropped(draft.title, problem))
                continue
            skill = _skill(draft, suite, task_type, proposer.name)
            # Compared with all of the suite: a skill of another task type may say the same.
            twin = _twin(skill, [other for other in skills if other.suite == suite], max_similarity)
            if twin is not None:
                dropped.append(Dropped(draft.title, twin))
                continue
            skills.append(skill)
            proposed.append(skill)
    return Proposals(tuple(proposed), tuple(dropped))


def similarity(text: str, other: str) -> float:
    """Return the Jaccard index of the search terms of two texts, 0 to 1."""
    first, second = frozenset(analyze(text)), frozenset(analyze(other))
    either = len(first | second)
    return len(first & second) / either if either else float(text.split() == other.split())


def _context(episode: Episode) -> tuple[str, str]:
    return episode.task.suite, episode.task.task_type


def _problem(draft: Draft) -> str | None:
    if not draft.text.strip():
        return "its text is empty"
    if not draft.description.strip():
        return "its description is empty"
    if len(draft.description) > LONGEST_DESCRIPTION:
        return f"its description has {len(draft.description)} characters; wanted {LONGEST_DESCRIPTION} at most"
    if not draft.episodes:
        return "it names no episode that it comes from"
    return None


def _skill(draft: Draft, suite: str, task_type: str, author: str) -> Skill:
    text = draft.text.strip()
    kind = None if draft.is_general else task_type
    runs: dict[str, list[str]] = {}
    for episode in draft.episodes:
        runs.setdefault(episode.run, []).append(episode.id)
    return Skill(
        # With a content hash, so that only equal skills share a name.
        name=f"{slug(draft.title)}-{content_hash(suite, kind or '', text)}",
        suite=suite,
        task_type=kind,
        description=" ".join(draft.description.split()),
        text=text,
        status="shadow",
        origin="; ".join(f"run {run}, episodes {', '.join(ids)}" for run, ids in runs.items()),
        created_by=author,
        metadata={"split": "train"},
    )


def _twin(skill: Skill, others: Sequence[Skill], max_similarity: float) -> str | None:
    """Return why a skill is a duplicate of another; None if it is not."""
    for other in others:
        if other.text.split() == skill.text.split():
            return f"the text of {other.id} ({other.status}) is the same"
    nearest = max(others, key=lambda other: similarity(skill.text, other.text), default=None)
    if nearest is None:
        return None
    shared = similarity(skill.text, nearest.text)
    return f"{nearest.id} ({nearest.status}) shares {shared:.0%} of its terms" if shared > max_similarity else None
