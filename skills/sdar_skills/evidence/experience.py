"""Skills from experience: episodes of training are read, drafts become skills on trial, copies are dropped.

    proposed = propose(episodes, TemplateProposer(), library)
    for skill in proposed.skills: ...   # status "shadow": `sdar_skills.evidence.trial` promotes or retires it

What a proposer writes is its own affair (`sdar_skills.evidence.proposers`); that it sees only training episodes, that
every skill has an id of its own and tells where it comes from, and that nothing is proposed twice, is decided here. An
episode of any other split is an error: a skill made from it would know the answers of the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal, NamedTuple, Protocol

from sdar_envs import Task
from sdar_envs.bm25.analyzer import analyze
from sdar_envs.errors import InvalidOption, SdarError
from sdar_skills.library.naming import LONGEST_DESCRIPTION, digits, words_of
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
    "revise",
    "similarity",
]


class HeldOutEpisode(SdarError, ValueError):
    """An episode is not from the training split: no skill may be made from it."""


class Step(NamedTuple):
    """What the player read, and what it did then."""

    observation: str
    action: str
    is_action_valid: bool = True


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished episode, as a proposer reads it.

    Attributes:
        id: unique in its run.
        run: where it was played.
        task: what was played.
        steps: in their order.
        is_success: whether the task was solved.
    """

    id: str
    run: str
    task: Task
    steps: tuple[Step, ...]
    is_success: bool


class Draft(NamedTuple):
    """What a proposer writes.

    Attributes:
        title: a few words; the skill's name is made from them.
        description: what the skill says and when to use it.
        text: what the teacher reads.
        is_general: whether it is for every task of the suite, not only for the type that it comes from.
        episodes: what it comes from.
    """

    title: str
    description: str
    text: str
    is_general: bool
    episodes: tuple[Episode, ...]


class Proposer(Protocol):
    """Writes drafts from episodes of one task type."""

    @property
    def name(self) -> str:
        """Who writes, for `Skill.created_by`."""
        ...

    def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> Sequence[Draft]:
        """Return drafts; none if there is nothing to say.

        Args:
            episodes: of one suite and task type, all from training.
            known: the suite's skills for that type and its general ones, so as not to repeat them.
        """
        ...


class Dropped(NamedTuple):
    """A draft that became no skill, and why."""

    title: str
    why: str


class Proposals(NamedTuple):
    """New skills, all with status `shadow`, and the drafts that were dropped."""

    skills: tuple[Skill, ...]
    dropped: tuple[Dropped, ...]


def propose(
    episodes: Iterable[Episode], proposer: Proposer, library: Iterable[Skill], *, max_similarity: float = 0.8
) -> Proposals:
    """Let a proposer write skills from training episodes.

    Args:
        episodes: of any suites and task types; failures are welcome.
        proposer: who writes.
        library: all skills that there are; also those that were retired, so that they do not come back.
        max_similarity: a draft that shares more with a skill is dropped, see `similarity`.

    Raises:
        HeldOutEpisode: an episode is not from the split `train`. Nothing is proposed then.
        InvalidOption: two episodes of a run have the same id.
    """
    episodes = sorted(episodes, key=lambda episode: (*_context(episode), episode.run, episode.id))
    for episode in episodes:
        # The id repeats the split: a task whose split was overwritten is noticed.
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
            # Against all of the suite: what another type's skill says is no news either.
            twin = _twin(skill, [other for other in skills if other.suite == suite], max_similarity)
            if twin is not None:
                dropped.append(Dropped(draft.title, twin))
                continue
            skills.append(skill)
            proposed.append(skill)
    return Proposals(tuple(proposed), tuple(dropped))


def revise(
    skill: Skill, text: str, *, description: str | None = None, part: Literal["major", "minor", "patch"] = "minor"
) -> Skill:
    """Return a skill with another text: a higher version, on trial, with statistics of its own.

    Args:
        skill: what is revised.
        text: the new text.
        description: the new description; None keeps the old one.
        part: of the version that is raised.

    Raises:
        InvalidOption: the text is empty or the same, or the version cannot be read.
    """
    if not text.strip() or text == skill.text:
        found = "the old one" if text.strip() else "empty"
        raise InvalidOption(f"the new text of {skill.id} is {found}; wanted another.")
    metadata = {**skill.metadata, "parent": f"{skill.id}@{skill.version}"}
    return replace(
        skill,
        text=text,
        description=skill.description if description is None else description,
        version=_raised(skill, part),
        status="shadow",
        metadata=metadata,
    )


def similarity(text: str, other: str) -> float:
    """Return how much two texts share, 0 to 1: common search terms over all terms of either (Jaccard's index)."""
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
        # With a hash: two skills share a name only if they are the same.
        name=f"{words_of(draft.title)}-{digits(suite, kind or '', text)}",
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
    """Say which skill already says this; None if none does."""
    for other in others:
        if other.text.split() == skill.text.split():
            return f"the text of {other.id} ({other.status}) is the same"
    nearest = max(others, key=lambda other: similarity(skill.text, other.text), default=None)
    if nearest is None:
        return None
    shared = similarity(skill.text, nearest.text)
    return f"{nearest.id} ({nearest.status}) shares {shared:.0%} of its terms" if shared > max_similarity else None


def _raised(skill: Skill, part: Literal["major", "minor", "patch"]) -> str:
    match = re.fullmatch(r"([0-9]+)\.([0-9]+)\.([0-9]+)", skill.version)
    if match is None:
        raise InvalidOption(f"the version of {skill.id} is {skill.version!r}; wanted three numbers, such as 1.0.0.")
    major, minor, patch = map(int, match.groups())
    raised: Mapping[str, tuple[int, int, int]] = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
    }
    if part not in raised:
        raise InvalidOption(f"part is {part!r}; wanted major, minor or patch.")
    return ".".join(map(str, raised[part]))
