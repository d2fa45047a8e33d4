"""Trade with other collections of skills: SDAR's mapping of Markdown files, and SkillRL's JSON.

- `sdar`: a folder with `skill_mapping.json`, which names a Markdown file for each key (`skill_files`), a key for each
  kind of task (`task_to_skill`) and perhaps words that hint at a key (`task_keywords`). A file that no kind of task
  leads to is general.
- `skillrl`: one file with `general_skills`, `task_specific_skills` or `query_type_skills`, and `common_mistakes`.

Every text becomes a skill of its own and is never shortened. Names are made from titles; where two texts would have
the same name, both get the beginning of their hash at its end. What these formats call a kind of task in a way of
their own is translated (`comparison` is `compare`), and the word is kept for the way back. What has no place, here or
there, is listed in the report, never dropped in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.storage import write_atomic
from sdar_skills.library.naming import LONGEST_DESCRIPTION, digits, words_of
from sdar_skills.library.skill import Skill
from sdar_skills.library.suites import TASK_TYPES
from sdar_skills.retrieval.retrievers import keywords

__all__ = ["FORMATS", "Format", "Imported", "export_sdar", "export_skillrl", "import_sdar", "import_skillrl"]

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
"""What other collections call a kind of task; None is general."""

_MAPPING = "skill_mapping.json"
_WHEN = "\n\nWhen to apply: "
_WHY = "\n\nWhy it happens: "
_HOW = "\n\nHow to avoid it: "


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import gave.

    Attributes:
        skills: the skills, in the order of the source.
        report: what was dropped, merged, renamed or translated, a line each.
    """

    skills: tuple[Skill, ...]
    report: tuple[str, ...]


class Format(NamedTuple):
    """How a format is read and written.

    Attributes:
        read: (path, suite, task types) -> `Imported`. The third maps names of the source to ours.
        write: (skills, path) -> report.
    """

    read: Callable[[Path, str, Mapping[str, str]], Imported]
    write: Callable[[Sequence[Skill], Path], tuple[str, ...]]


# -- SDAR -------------------------------------------------------------------------------------


def import_sdar(path: Path, suite: str, task_types: Mapping[str, str] | None = None) -> Imported:
    """Read a folder with `skill_mapping.json`.

    Args:
        path: the folder.
        suite: the suite that the skills are for.
        task_types: names of kinds of task in the source -> ours, `general` included; besides the known ones.

    Raises:
        MissingData: the mapping or a file that it names is not there.
        CorruptData: the mapping is not as it should be, or a file is empty.
        UnknownName: a kind of task is not one of the suite's.
    """
    source = path / _MAPPING
    mapping = _read_json(source)
    files = _texts(mapping, "skill_files", source)
    types = _texts(mapping, "task_to_skill", source)
    for file in files.values():
        _check_inside(file, source)
    report = [f"dropped: the field {key!r} of {_MAPPING}" for key in mapping if key not in _SDAR_FIELDS]
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
        text = _read_text(path / file)
        metadata = {"legacy-id": key, "legacy-file": file}
        words = _words(hints.get(key, []), f"{source}: task_keywords of {key!r}")
        metadata |= {"keywords": ", ".join(words)} if words else {}
        kinds: list[str | None] = [kind for kind, skill in types.items() if skill == key]
        if len(kinds) > 1:
            report.append(f"copied: {file} serves {', '.join(map(str, kinds))}, one skill for each")
        for kind in kinds or [None]:
            task_type, told = _task_type(kind, suite, task_types or {}, source)
            report += told
            legacy = {} if kind in (None, task_type) else {"legacy-task-type": str(kind)}
            drafts.append(
                Skill(
                    name=words_of(f"{key} {task_type or ''}" if len(kinds) > 1 else key),
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
    return _named(drafts, report)


_SDAR_FIELDS = ("skill_files", "task_to_skill", "task_keywords")


def export_sdar(skills: Sequence[Skill], path: Path) -> tuple[str, ...]:
    """Write a folder with `skill_mapping.json`: one file for all general skills, one for each kind of task.

    Skills that came from such a folder and were not joined with others get their old keys, files and names back.

    Args:
        skills: the skills of one suite.
        path: the folder; must not have a mapping yet.

    Returns:
        A report, a line for all that has no place in the format.

    Raises:
        InvalidOption: the skills are of several suites, or there is a mapping already.
        OSError: it cannot be written.
    """
    _one_suite(skills)
    if (path / _MAPPING).exists():
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
                f"both {types[kind]!r} and {key!r} are for {kind!r}, and the format has one file for each kind of "
                "task: leave one out."
            )
        text = members[0].text if legacy else "\n\n".join(f"### {skill.name}\n{skill.text}" for skill in members)
        if texts.setdefault(file, text) != text:
            raise InvalidOption(f"two texts want the file {file!r}: leave one out.")
        files[key] = file
        if kind is not None:
            types[kind] = key
        words = [word for skill in members for word in keywords(skill)]
        if words:
            hints[key] = list(dict.fromkeys(words))
        # A description that an import made says nothing; one that somebody wrote is lost.
        report += [
            line
            for skill in members
            for line in _lost(skill, {"legacy-id", "legacy-file", "keywords"}, *([] if legacy else ["description"]))
        ]
    for file, text in texts.items():
        _check_inside(file, path)
        write_atomic(path / file, f"{text}\n")
    mapping: dict[str, Any] = {"skill_files": files, "task_to_skill": types}
    mapping |= {"task_keywords": hints} if hints else {}
    write_atomic(path / _MAPPING, json.dumps(mapping, indent=2, ensure_ascii=False) + "\n")
    return tuple(report)


# -- SkillRL ----------------------------------------------------------------------------------


def import_skillrl(path: Path, suite: str, task_types: Mapping[str, str] | None = None) -> Imported:
    """Read a SkillRL file.

    Args:
        path: the file.
        suite: the suite that the skills are for.
        task_types: names of kinds of task in the source -> ours, `general` included; besides the known ones.

    Raises:
        MissingData: it is not there.
        CorruptData: it is not as it should be.
        UnknownName: a kind of task is not one of the suite's.
    """
    content = _read_json(path)
    report = [f"dropped: the field {key!r}" for key in content if key not in _SKILLRL_FIELDS]
    drafts: list[Skill] = []
    sections: list[tuple[str, str | None, Any, bool]] = [
        ("general_skills", None, content.get("general_skills", []), False)
    ]
    for field in ("task_specific_skills", "query_type_skills"):
        groups = content.get(field, {})
        if not isinstance(groups, dict):
            raise CorruptData(f"{path}: {field} is no object; wanted kind of task -> list of skills.")
        sections += [(f"{field} of {kind!r}", kind, records, False) for kind, records in groups.items()]
    sections.append(("common_mistakes", None, content.get("common_mistakes", []), True))
    for where, kind, records, are_mistakes in sections:
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise CorruptData(f"{path}: {where} is no list of objects.")
        task_type, told = _task_type(kind, suite, task_types or {}, path)
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
    ids = Counter(skill.metadata["legacy-id"] for skill in _distinct(drafts) if "legacy-id" in skill.metadata)
    report += [
        f"collided: the id {id_!r} is of {count} different skills; all are kept"
        for id_, count in ids.items()
        if count > 1
    ]
    return _named(drafts, report)


_SKILLRL_FIELDS = ("general_skills", "task_specific_skills", "query_type_skills", "common_mistakes")
_LESSON = ("skill_id", "title", "principle", "when_to_apply")
_MISTAKE = ("mistake_id", "description", "why_it_happens", "how_to_avoid")


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
    suite = _one_suite(skills)
    if path.exists():
        raise InvalidOption(f"{path} exists: wanted a new file.")
    general: list[dict[str, str]] = []
    mistakes: list[dict[str, str]] = []
    by_type: dict[str, list[dict[str, str]]] = {}
    report: list[str] = []
    taken: set[str] = set()
    for skill in skills:
        id_ = skill.metadata.get("legacy-id") or skill.name
        if id_ in taken:
            report.append(f"renamed: a second skill has the id {id_!r}; it is {id_}-{_digest(skill)} now")
            id_ = f"{id_}-{_digest(skill)}"
        taken.add(id_)
        kind = skill.metadata.get("legacy-task-type", skill.task_type)
        if skill.metadata.get("kind") == "mistake":
            mistakes.append({"mistake_id": id_, **_split_mistake(skill.text)})
        else:
            record = {"skill_id": id_, **_split_lesson(skill)}
            (general if kind is None else by_type.setdefault(kind, [])).append(record)
        report += _lost(skill, {"legacy-id", "legacy-task-type", "kind", "title"})
    content = {
        "general_skills": general,
        "query_type_skills" if suite == "search_qa" else "task_specific_skills": by_type,
        "common_mistakes": mistakes,
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return tuple(report)


def _lesson(record: Mapping[str, Any], suite: str, path: Path, place: str) -> Skill:
    title, principle, when, id_ = (
        _field(record, name, path, place) for name in ("title", "principle", "when_to_apply", "skill_id")
    )
    if not title or not principle:
        raise CorruptData(f"{path}: {place} has no {'principle' if title else 'title'}.")
    text = f"{title}: {principle}" + (f"{_WHEN}{when}" if when else "")
    skill = Skill(
        name=words_of(title),
        suite=suite,
        task_type=None,
        description=_sentence(when or title),
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
        _field(record, name, path, place) for name in ("description", "why_it_happens", "how_to_avoid", "mistake_id")
    )
    if not what:
        raise CorruptData(f"{path}: {place} has no description.")
    text = what + (f"{_WHY}{why}" if why else "") + (f"{_HOW}{how}" if how else "")
    given = {"description": what} | ({"why_it_happens": why} if why else {}) | ({"how_to_avoid": how} if how else {})
    if _split_mistake(text) != given:
        raise CorruptData(f"{path}: {place} holds {_WHY.strip()!r} or {_HOW.strip()!r} inside a field.")
    return Skill(
        name=words_of(f"avoid {what}"),
        suite=suite,
        task_type=None,
        description=_sentence(f"A common mistake: {what}"),
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


# -- shared -----------------------------------------------------------------------------------


def _task_type(
    kind: str | None, suite: str, task_types: Mapping[str, str], source: Path
) -> tuple[str | None, list[str]]:
    """Return our name of a kind of task, and what to report about it."""
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
            f"{source}: {kind!r} is no kind of task in {suite}; wanted one of {', '.join(known)}, or a translation."
            f"{did_you_mean(kind, (*known, *aliases))}"
        )
    if found is not None and known is not None and found not in known:
        raise UnknownName(
            f"{kind!r} is to become {found!r}, which is no kind of task in {suite}; wanted one of {', '.join(known)}."
            f"{did_you_mean(found, known)}"
        )
    return found, [f"translated: {kind!r} is {found or 'general'!r} here"]


def _named(drafts: Sequence[Skill], report: Iterable[str]) -> Imported:
    """Give skills different names, by their content, and merge equal ones."""
    lines = list(report)
    distinct = _distinct(drafts)
    if len(distinct) < len(drafts):
        lines.append(f"merged: {len(drafts) - len(distinct)} skills equal to others in kind of task and text")
    counts = Counter(skill.name for skill in distinct)
    skills = []
    for skill in distinct:
        name = skill.name if counts[skill.name] == 1 else f"{skill.name}-{_digest(skill)}"
        if name != skill.name:
            lines.append(f"renamed: one of {counts[skill.name]} skills called {skill.name!r} is {name!r}")
        skills.append(replace(skill, name=name))
    return Imported(tuple(skills), tuple(lines))


def _distinct(drafts: Sequence[Skill]) -> list[Skill]:
    first: dict[tuple[str | None, str], Skill] = {}
    for skill in drafts:
        first.setdefault((skill.task_type, skill.text), skill)
    return list(first.values())


def _digest(skill: Skill) -> str:
    return digits(skill.task_type or "", skill.text)


def _sentence(text: str) -> str:
    """Return a description, on one line and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[: LONGEST_DESCRIPTION - 3]}..."


def _lost(skill: Skill, kept: set[str], *more: str) -> list[str]:
    """Return a line for what the other format has no place for."""
    fields = [
        *more,
        *(name for name in ("origin", "created_by") if getattr(skill, name)),
        *(["version"] if skill.version != "1.0.0" else []),
        *(["status"] if skill.status != "active" else []),
        *(name for name in skill.metadata if name not in kept and name != "legacy-task-type"),
    ]
    return [f"dropped: {', '.join(fields)} of {skill.id}"] if fields else []


def _one_suite(skills: Sequence[Skill]) -> str:
    suites = sorted({skill.suite for skill in skills})
    if len(suites) != 1:
        raise InvalidOption(f"the skills are of {len(suites)} suites ({', '.join(suites)}); wanted those of one.")
    return suites[0]


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode().replace("\r\n", "\n").strip()
    except FileNotFoundError as error:
        raise MissingData(f"there is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise CorruptData(f"{path} is not UTF-8 ({error}).") from error
    if not text:
        raise CorruptData(f"{path} is empty.")
    return text


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except ValueError as error:
        if isinstance(error, CorruptData):
            raise
        raise CorruptData(f"{path} is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} is no JSON object.")
    return content


def _check_inside(file: str, source: Path) -> None:
    if not file or Path(file).is_absolute() or ".." in Path(file).parts:
        raise CorruptData(f"{source}: the file {file!r} is not inside the folder.")


def _texts(mapping: Mapping[str, Any], field: str, source: Path) -> dict[str, str]:
    if field not in mapping:
        raise CorruptData(f"{source}: the field {field!r} is missing.{did_you_mean(field, mapping)}")
    texts = mapping[field]
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CorruptData(f"{source}: {field} is no object of texts.")
    return texts


def _words(words: object, where: str) -> list[str]:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CorruptData(f"{where} is no list of words.")
    if any("," in word for word in words):
        raise CorruptData(f"{where} has a word with a comma.")
    return [word.strip() for word in words if word.strip()]


def _field(record: Mapping[str, Any], name: str, path: Path, place: str) -> str:
    value = record.get(name, "")
    if not isinstance(value, str):
        raise CorruptData(f"{path}: {name} of {place} is {value!r:.80}; wanted text.")
    return value.replace("\r\n", "\n").strip()


FORMATS: Mapping[str, Format] = {
    "sdar": Format(import_sdar, export_sdar),
    "skillrl": Format(import_skillrl, export_skillrl),
}
"""The formats by name."""
