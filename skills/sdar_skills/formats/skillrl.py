"""Import and export of SkillRL's JSON files.

One file holds `general_skills`, `task_specific_skills` (or `query_type_skills`, as in its Search file) and
`common_mistakes`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.storage import write_atomic
from sdar_skills.formats.drafts import (
    Imported,
    distinct,
    lost_fields,
    only_suite,
    skill_hash,
    translate_task_type,
    with_unique_names,
)
from sdar_skills.formats.files import read_json, text_field
from sdar_skills.library.naming import LONGEST_DESCRIPTION, slug
from sdar_skills.library.skill import Skill

__all__ = ["export_skillrl", "import_skillrl"]

_FIELDS = ("general_skills", "task_specific_skills", "query_type_skills", "common_mistakes")
_LESSON = ("skill_id", "title", "principle", "when_to_apply")
_MISTAKE = ("mistake_id", "description", "why_it_happens", "how_to_avoid")
_WHEN = "\n\nWhen to apply: "
_WHY = "\n\nWhy it happens: "
_HOW = "\n\nHow to avoid it: "


def import_skillrl(path: Path, suite: str, task_types: Mapping[str, str] | None = None) -> Imported:
    """Read a SkillRL file.

    Args:
        path: the file.
        suite: the suite that the skills are for.
        task_types: task types of the source -> ours, `general` included; in addition to the known ones.

    Raises:
        MissingData: it is not there.
        CorruptData: it is not as it should be, or no regular file.
        UnknownName: a task type is not one of the suite's.
    """
    content = read_json(path)
    report = [f"dropped: the field {key!r}" for key in content if key not in _FIELDS]
    drafts: list[Skill] = []
    sections: list[tuple[str, str | None, Any, bool]] = [
        ("general_skills", None, content.get("general_skills", []), False)
    ]
    for field in ("task_specific_skills", "query_type_skills"):
        groups = content.get(field, {})
        if not isinstance(groups, dict):
            raise CorruptData(f"{path}: {field} is no object; wanted task type -> list of skills.")
        sections += [(f"{field} of {kind!r}", kind, records, False) for kind, records in groups.items()]
    sections.append(("common_mistakes", None, content.get("common_mistakes", []), True))
    for where, kind, records, are_mistakes in sections:
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise CorruptData(f"{path}: {where} is no list of objects.")
        task_type, told = translate_task_type(kind, suite, task_types or {}, path)
        report += told
        for number, record in enumerate(records, 1):
            place = f"{where}, number {number}"
            draft = _mistake(record, suite, path, place) if are_mistakes else _lesson(record, suite, path, place)
            legacy = {} if kind in (None, task_type) else {"legacy-task-type": str(kind)}
            drafts.append(replace(draft, task_type=task_type, metadata={**draft.metadata, **legacy}))
            known = _MISTAKE if are_mistakes else _LESSON
            report += [f"dropped: the field {key!r} of {place}" for key in record if key not in known]
    if not drafts:
        raise CorruptData(
            f"{path}: there are no skills; wanted general_skills, task_specific_skills or query_type_skills."
        )
    ids = Counter(skill.metadata["legacy-id"] for skill in distinct(drafts) if "legacy-id" in skill.metadata)
    report += [
        f"collided: the id {id_!r} is of {count} different skills; all are kept"
        for id_, count in ids.items()
        if count > 1
    ]
    return with_unique_names(drafts, report)


def export_skillrl(skills: Sequence[Skill], path: Path) -> tuple[str, ...]:
    """Write a SkillRL file.

    Skills that came from such a file get their fields back. Of others, the name becomes the title, the text the
    principle and the description the occasion.

    Args:
        skills: the skills of one suite.
        path: the file; must not exist.

    Returns:
        A report, a line for all that has no place in the format.

    Raises:
        InvalidOption: the skills are of several suites, or the file exists.
        OSError: it cannot be written.
    """
    suite = only_suite(skills)
    if os.path.lexists(path):
        raise InvalidOption(f"{path} exists: wanted a new file.")
    general: list[dict[str, str]] = []
    mistakes: list[dict[str, str]] = []
    by_type: dict[str, list[dict[str, str]]] = {}
    report: list[str] = []
    taken: set[str] = set()
    for skill in skills:
        id_ = skill.metadata.get("legacy-id") or skill.name
        if id_ in taken:
            report.append(f"renamed: a second skill has the id {id_!r}; it is {id_}-{skill_hash(skill)} now")
            id_ = f"{id_}-{skill_hash(skill)}"
        taken.add(id_)
        kind = skill.metadata.get("legacy-task-type", skill.task_type)
        if skill.metadata.get("kind") == "mistake":
            mistakes.append({"mistake_id": id_, **_split_mistake(skill.text)})
        else:
            record = {"skill_id": id_, **_split_lesson(skill)}
            (general if kind is None else by_type.setdefault(kind, [])).append(record)
        report += lost_fields(skill, {"legacy-id", "legacy-task-type", "kind", "title"})
    content = {
        "general_skills": general,
        "query_type_skills" if suite == "search_qa" else "task_specific_skills": by_type,
        "common_mistakes": mistakes,
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return tuple(report)


def _lesson(record: Mapping[str, Any], suite: str, path: Path, place: str) -> Skill:
    title, principle, when, id_ = (
        text_field(record, name, path, place) for name in ("title", "principle", "when_to_apply", "skill_id")
    )
    if not title or not principle:
        raise CorruptData(f"{path}: {place} has no {'principle' if title else 'title'}.")
    text = f"{title}: {principle}" + (f"{_WHEN}{when}" if when else "")
    skill = Skill(
        name=slug(title),
        suite=suite,
        task_type=None,
        description=_one_line(when or title),
        text=text,
        origin=path.name,
        metadata={"title": title} | ({"legacy-id": id_} if id_ else {}),
    )
    wanted = {"title": title, "principle": principle} | ({"when_to_apply": when} if when else {})
    if _split_lesson(skill) != wanted:
        raise CorruptData(f"{path}: {place} holds {_WHEN.strip()!r} inside a field, which would not read back.")
    return skill


def _split_lesson(skill: Skill) -> dict[str, str]:
    title = skill.metadata.get("title")
    if title is None or not skill.text.startswith(f"{title}: "):
        title = skill.name.replace("-", " ").capitalize()
        return {"title": title, "principle": skill.text, "when_to_apply": skill.description}
    principle, when, occasion = skill.text.removeprefix(f"{title}: ").partition(_WHEN)
    return {"title": title, "principle": principle} | ({"when_to_apply": occasion} if when else {})


def _mistake(record: Mapping[str, Any], suite: str, path: Path, place: str) -> Skill:
    what, why, how, id_ = (
        text_field(record, name, path, place)
        for name in ("description", "why_it_happens", "how_to_avoid", "mistake_id")
    )
    if not what:
        raise CorruptData(f"{path}: {place} has no description.")
    text = what + (f"{_WHY}{why}" if why else "") + (f"{_HOW}{how}" if how else "")
    given = {"description": what} | ({"why_it_happens": why} if why else {}) | ({"how_to_avoid": how} if how else {})
    if _split_mistake(text) != given:
        raise CorruptData(f"{path}: {place} holds {_WHY.strip()!r} or {_HOW.strip()!r} inside a field.")
    return Skill(
        name=slug(f"avoid {what}"),
        suite=suite,
        task_type=None,
        description=_one_line(f"A common mistake: {what}"),
        text=text,
        origin=path.name,
        metadata={"kind": "mistake"} | ({"legacy-id": id_} if id_ else {}),
    )


def _split_mistake(text: str) -> dict[str, str]:
    before, has_how, how = text.partition(_HOW)
    what, has_why, why = before.partition(_WHY)
    return (
        {"description": what}
        | ({"why_it_happens": why} if has_why else {})
        | ({"how_to_avoid": how} if has_how else {})
    )


def _one_line(text: str) -> str:
    """Return a text on one line, cut to the greatest length of a description."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[: LONGEST_DESCRIPTION - 3]}..."
