"""Import and export of SDAR's skill folders: `skill_mapping.json` and Markdown files.

The mapping names a Markdown file for each key (`skill_files`), a key for each task type (`task_to_skill`) and perhaps
keywords for a key (`task_keywords`). A file that no task type leads to is general.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, InvalidOption, did_you_mean
from sdar_envs.files.foreign import check_target
from sdar_envs.storage import write_atomic
from sdar_skills.formats.drafts import (
    Imported,
    lost_fields,
    only_suite,
    translate_task_type,
    with_unique_names,
)
from sdar_skills.formats.files import check_inside, read_json, read_text, texts_field, word_list
from sdar_skills.library.naming import slug
from sdar_skills.library.skill import Skill

__all__ = ["export_sdar", "import_sdar"]

_MAPPING = "skill_mapping.json"
_FIELDS = ("skill_files", "task_to_skill", "task_keywords")


def import_sdar(path: Path, suite: str, task_types: Mapping[str, str] | None = None) -> Imported:
    """Read a folder with `skill_mapping.json`.

    Args:
        path: the folder.
        suite: the suite that the skills are for.
        task_types: task types of the source -> ours, `general` included; in addition to the known ones.

    Raises:
        MissingData: the mapping or a file that it names is not there.
        CorruptData: the mapping is not as it should be, or a file is empty, no regular file, or outside of the folder.
        UnknownName: a task type is not one of the suite's.
    """
    source = path / _MAPPING
    mapping = read_json(source, path)
    files = texts_field(mapping, "skill_files", source)
    types = texts_field(mapping, "task_to_skill", source)
    for file in files.values():
        check_inside(file, source)
    report = [f"dropped: the field {key!r} of {_MAPPING}" for key in mapping if key not in _FIELDS]
    hints = mapping.get("task_keywords", {})
    if not isinstance(hints, dict):
        raise CorruptData(f"{source}: task_keywords is no object; wanted key -> list of words.")
    for theirs, key in types.items():
        if key not in files:
            raise CorruptData(
                f"{source}: task_to_skill sends {theirs!r} to {key!r}, which skill_files does not have."
                f"{did_you_mean(key, files)}"
            )
    report += [
        f"dropped: the keywords of {key!r}, which skill_files does not have" for key in hints if key not in files
    ]
    drafts = []
    for key, file in files.items():
        text = read_text(path / file, path)
        metadata = {"legacy-id": key, "legacy-file": file}
        words = word_list(hints.get(key, []), f"{source}: task_keywords of {key!r}")
        metadata |= {"keywords": ", ".join(words)} if words else {}
        kinds: list[str | None] = [kind for kind, skill in types.items() if skill == key]
        if len(kinds) > 1:
            report.append(f"copied: {file} serves {', '.join(map(str, kinds))}, one skill for each")
        for kind in kinds or [None]:
            task_type, told = translate_task_type(kind, suite, task_types or {}, source)
            report += told
            legacy = {} if kind in (None, task_type) else {"legacy-task-type": str(kind)}
            drafts.append(
                Skill(
                    name=slug(f"{key} {task_type or ''}" if len(kinds) > 1 else key),
                    suite=suite,
                    task_type=task_type,
                    description=f"The skill file {file} for {kind or 'all tasks'}.",
                    text=text,
                    origin=file,
                    metadata={**metadata, **legacy},
                )
            )
    named = {path / file for file in files.values()}
    report += [
        f"dropped: {p.name}, which the mapping does not name" for p in sorted(path.glob("*.md")) if p not in named
    ]
    return with_unique_names(drafts, report)


def export_sdar(skills: Sequence[Skill], path: Path) -> tuple[str, ...]:
    """Write a folder with `skill_mapping.json`: one file for all general skills, one for each task type.

    Skills that came from such a folder and were not joined with others get their old keys, files and names back.

    Args:
        skills: the skills of one suite.
        path: the folder; must not have a mapping yet, nor one of the files.

    Returns:
        A report, a line for all that has no place in the format.

    Raises:
        InvalidOption: the skills are of several suites, a file is there already, or a symbolic link leads out.
        OSError: it cannot be written.
    """
    only_suite(skills)
    if os.path.lexists(path / _MAPPING):
        raise InvalidOption(f"{path / _MAPPING} exists: wanted a new folder.")
    groups: dict[tuple[str | None, str], list[Skill]] = {}
    for skill in skills:
        kind = skill.metadata.get("legacy-task-type", skill.task_type)
        key = skill.metadata.get("legacy-id", "") if "legacy-file" in skill.metadata else ""
        groups.setdefault((kind, key), []).append(skill)
    report: list[str] = []
    files: dict[str, str] = {}
    types: dict[str, str] = {}
    hints: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for (kind, legacy), members in groups.items():
        key = legacy or (kind or "general_skills")
        file = members[0].metadata.get("legacy-file", f"{key}.md") if legacy else f"{key}.md"
        if kind in types:
            raise InvalidOption(
                f"both {types[kind]!r} and {key!r} are for {kind!r}, and the format has one file for each task "
                "type: leave one out."
            )
        text = members[0].text if legacy else "\n\n".join(f"### {skill.name}\n{skill.text}" for skill in members)
        if texts.setdefault(file, text) != text:
            raise InvalidOption(f"two texts want the file {file!r}: leave one out.")
        files[key] = file
        if kind is not None:
            types[kind] = key
        words = [word for skill in members for word in skill.keywords]
        if words:
            hints[key] = list(dict.fromkeys(words))
        # Descriptions written by an import carry no information; others are lost.
        report += [
            line
            for skill in members
            for line in lost_fields(
                skill, {"legacy-id", "legacy-file", "keywords"}, *([] if legacy else ["description"])
            )
        ]
    # The names of files may be those of somebody else's collection.
    for file in texts:
        check_inside(file, path)
        if os.path.lexists(path / file) or file == _MAPPING:
            raise InvalidOption(f"{path / file} exists: wanted a new folder.")
        check_target(path / file, path)
    for file, text in texts.items():
        write_atomic(path / file, f"{text}\n")
    mapping: dict[str, Any] = {"skill_files": files, "task_to_skill": types}
    mapping |= {"task_keywords": hints} if hints else {}
    write_atomic(path / _MAPPING, json.dumps(mapping, indent=2, ensure_ascii=False) + "\n")
    return tuple(report)
