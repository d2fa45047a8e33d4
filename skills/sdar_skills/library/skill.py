"""Core data types: Skill, Arm (a skill in one exact wording), Retrieved, and the Retriever protocol."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from sdar_envs import Task

__all__ = ["Arm", "Retrieved", "Retriever", "Skill", "Status", "arm_of"]

Status = Literal["active", "shadow", "retired"]
"""`active`: shown to teachers. `shadow`: on trial. `retired`: kept for the record, never shown."""


@dataclass(frozen=True, slots=True)
class Skill:
    """Advice for tasks of one type, or for all tasks of a suite. Data only.

    Attributes:
        name: lower-case words joined by hyphens, unique in the suite, such as `heat-then-place`.
        suite: `alfworld`, `webshop`, `search_qa`, or the suite of a user's environment (`Task.suite`).
        task_type: the `Task.task_type` that it is for; None if it is general.
        description: what it says and when to use it, in a sentence or two.
        text: what the teacher reads, in Markdown.
        version: three numbers, such as `1.0.0`. Another text needs another version.
        status: see `Status`.
        origin: source, such as a file, a repository with its commit, or a run with its trajectories.
        created_by: author.
        metadata: further fields of the file.
    """

    name: str
    suite: str
    task_type: str | None
    description: str
    text: str
    version: str = "1.0.0"
    status: Status = "active"
    origin: str = ""
    created_by: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """`<suite>/<name>`."""
        return f"{self.suite}/{self.name}"

    @property
    def sha256(self) -> str:
        """SHA-256 of id, task type and text."""
        content = "\0".join((self.id, self.task_type or "", self.text))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def keywords(self) -> tuple[str, ...]:
        """Words and phrases of the metadata field `keywords`, which commas separate; for the keyword retriever."""
        return tuple(filter(None, (word.strip() for word in self.metadata.get("keywords", "").split(","))))


class Arm(NamedTuple):
    """Bandit arm: a skill in one exact wording. Another version or another text is another arm.

    Attributes:
        skill: id of the skill.
        version: version of the skill.
        sha256: `Skill.sha256`.
    """

    skill: str
    version: str
    sha256: str


@lru_cache(maxsize=1 << 14)
def arm_of(skill: Skill) -> Arm:
    """Return the arm of a skill."""
    return Arm(skill.id, skill.version, skill.sha256)


class Retrieved(NamedTuple):
    """Retrieval result: the skill, its score (the strategy's own scale, higher is better), and the reason in words."""

    skill: Skill
    score: float
    why: str


class Retriever(Protocol):
    """Protocol of skill retrieval: chooses skills for a task by the task's fields, never by a rendered prompt."""

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the skills to show to the teacher, best first.

        Args:
            task: the task that is played. Its `suite`, `task_type` and `instruction` are the query.
            k: greatest number of skills.
            token_budget: tokens that their texts may take together; skills that do not fit are left out whole.
                None is no limit.
            rng: the only source of randomness.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
        """
        ...
