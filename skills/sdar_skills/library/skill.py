"""A skill and what retrieves it: the nouns that the whole package shares."""

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
"""`active`: given to teachers. `shadow`: on trial. `retired`: kept for the record, never given."""


@dataclass(frozen=True, slots=True)
class Skill:
    """A piece of advice for one kind of task: data only.

    Attributes:
        name: lower-case words joined by hyphens, unique in the suite, such as `heat-then-place`.
        suite: `alfworld`, `webshop`, `search_qa`, or another environment's.
        task_type: the `Task.task_type` that it is for; None if it is general.
        description: what it says and when to use it, in a sentence or two.
        text: what the teacher reads, in Markdown.
        version: three numbers, such as `1.0.0`. Another text is another version.
        status: see `Status`.
        origin: where it comes from, such as a file, a repository with its commit, or a run with its trajectories.
        created_by: who or what wrote it.
        metadata: further text fields of the file.
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
        """Hash of what a teacher reads: name, task type and text."""
        content = "\0".join((self.id, self.task_type or "", self.text))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class Arm(NamedTuple):
    """A skill in exactly one wording: what a record says was shown. Another version or another text is another arm.

    Attributes:
        skill: its id.
        version: of it.
        sha256: of what it says, `Skill.sha256`.
    """

    skill: str
    version: str
    sha256: str


@lru_cache(maxsize=1 << 14)
def arm_of(skill: Skill) -> Arm:
    """Return the arm that a skill is now."""
    return Arm(skill.id, skill.version, skill.sha256)


class Retrieved(NamedTuple):
    """A skill that a retriever chose, how strongly (the strategy's own scale, higher is better), and why in words."""

    skill: Skill
    score: float
    why: str


class Retriever(Protocol):
    """Chooses skills for a task, by the task's structured fields and never by a rendered prompt."""

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the skills to show to the teacher, best first.

        Args:
            task: what is played. Its `task_type` and `instruction` are the key.
            k: how many at most.
            token_budget: tokens that their texts may take together; skills that do not fit are left out whole.
                None is no limit.
            rng: the only source of chance.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
        """
        ...
