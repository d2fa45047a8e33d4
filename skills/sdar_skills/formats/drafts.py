"""Shared parts of imports and exports: task type translation, unique names, reports of what was lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdar_envs.control_tokens import find_control_tokens
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_skills.library.naming import content_hash
from sdar_skills.library.skill import Skill
from sdar_skills.library.task_types import TASK_TYPES

__all__ = [
    "Imported",
    "distinct",
    "lost_fields",
    "only_suite",
    "skill_hash",
    "translate_task_type",
    "with_unique_names",
]

_ALIASES: Mapping[str, Mapping[str, str | None]] = {
    "alfworld": {
        "pick_and_place": "pick_and_place_simple",
        "pick_two": "pick_two_obj_and_place",
        "clean": "pick_clean_then_place_in_recep",
        "heat": "pick_heat_then_place_in_recep",
        "cool": "pick_cool_then_place_in_recep",
        "examine": "look_at_obj_in_light",
    },
    "webshop": {
        "apparel": "fashion",
        "footwear": "fashion",
        "accessories": "fashion",
        "home_decor": "garden",
        "beauty_health": "beauty",
        "other": None,
    },
    "search_qa": {"comparison": "compare"},
}
"""Task types by their names in other collections; None is general."""

_THOUGHT = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import.

    Attributes:
        skills: the skills, in the order of the source.
        report: one line for everything that was dropped, merged, renamed or translated.
    """

    skills: tuple[Skill, ...]
    report: tuple[str, ...]


def translate_task_type(
    kind: str | None, suite: str, task_types: Mapping[str, str], source: Path
) -> tuple[str | None, list[str]]:
    """Return the task type for a name of the source, None for general, and lines for the report.

    Raises:
        UnknownName: the name, or its given translation, is no task type of the suite.
    """
    if kind is None:
        return None, []
    known = TASK_TYPES.get(suite)
    aliases = _ALIASES.get(suite, {})
    if kind in task_types:
        found: str | None = task_types[kind]
        found = None if found == "general" else found
    elif known is None or kind in known:
        return kind, []
    elif kind in aliases:
        found = aliases[kind]
    else:
        raise UnknownName(
            f"{source}: {kind!r} is no task type of {suite}; wanted one of {', '.join(known)}, or a translation."
            f"{did_you_mean(kind, (*known, *aliases))}"
        )
    if found is not None and known is not None and found not in known:
        raise UnknownName(
            f"{kind!r} is to become {found!r}, which is no task type of {suite}; wanted one of {', '.join(known)}."
            f"{did_you_mean(found, known)}"
        )
    return found, [f"translated: {kind!r} is {found or 'general'!r} here"]


def with_unique_names(drafts: Sequence[Skill], report: Iterable[str]) -> Imported:
    """Make names unique with content hashes, merge skills of equal task type and text, and warn of control tokens."""
    lines = [*report, *_warnings(drafts)]
    kept = distinct(drafts)
    if len(kept) < len(drafts):
        lines.append(f"merged: {len(drafts) - len(kept)} skills equal to others in task type and text")
    counts = Counter(skill.name for skill in kept)
    skills = []
    for skill in kept:
        name = skill.name if counts[skill.name] == 1 else f"{skill.name}-{skill_hash(skill)}"
        if name != skill.name:
            lines.append(f"renamed: one of {counts[skill.name]} skills called {skill.name!r} is {name!r}")
        skills.append(replace(skill, name=name))
    return Imported(tuple(skills), tuple(lines))


def _warnings(drafts: Sequence[Skill]) -> list[str]:
    """Return a line for each file whose skills hold control tokens of chat models, or the tags of thoughts."""
    found: dict[str, dict[str, None]] = {}
    for skill in drafts:
        whole = "\n".join((skill.text, skill.description, *skill.metadata.values()))
        tokens = [*find_control_tokens(whole), *_THOUGHT.findall(whole)]
        found.setdefault(skill.origin, {}).update(dict.fromkeys(tokens))
    return [
        f"warning: {file} holds {', '.join(map(repr, tokens))}: words that control chat models, in prompts plain text"
        for file, tokens in found.items()
        if tokens
    ]


def distinct(drafts: Sequence[Skill]) -> list[Skill]:
    """Return the first skill of each task type and text."""
    first: dict[tuple[str | None, str], Skill] = {}
    for skill in drafts:
        first.setdefault((skill.task_type, skill.text), skill)
    return list(first.values())


def skill_hash(skill: Skill) -> str:
    """Return a short hash of task type and text."""
    return content_hash(skill.task_type or "", skill.text)


def lost_fields(skill: Skill, kept: set[str], *more: str) -> list[str]:
    """Return a line for the report with the fields that a format cannot hold; no line if there are none."""
    fields = [
        *more,
        *(name for name in ("origin", "created_by") if getattr(skill, name)),
        *(["version"] if skill.version != "1.0.0" else []),
        *(["status"] if skill.status != "active" else []),
        *(name for name in skill.metadata if name not in kept and name != "legacy-task-type"),
    ]
    return [f"dropped: {', '.join(fields)} of {skill.id}"] if fields else []


def only_suite(skills: Sequence[Skill]) -> str:
    """Return the suite of skills.

    Raises:
        InvalidOption: there is none, or more than one.
    """
    suites = sorted({skill.suite for skill in skills})
    if len(suites) != 1:
        raise InvalidOption(f"the skills are of {len(suites)} suites ({', '.join(suites)}); wanted those of one.")
    return suites[0]
