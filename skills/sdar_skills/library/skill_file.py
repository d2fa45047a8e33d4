"""SKILL.md format: strict reader and writer (agentskills.io, with our fields under `metadata`).

    ---
    name: heat-in-the-microwave
    description: How to heat something. For tasks that want it hot.
    metadata:
      suite: alfworld
      task-type: pick_heat_then_place_in_recep
      version: "1.0.0"
    ---

    What the teacher reads.

Every value is a string: YAML numbers, dates and booleans (`version: 1.0`, `status: off`) are errors, as are unknown and
duplicate keys. `license`, `compatibility` and `allowed-tools` are kept in `Skill.metadata`, like further fields of
`metadata`. `parse_skill` of what `format_skill` returned gives an equal skill.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, get_args

import yaml

from sdar_envs.errors import CorruptData, InvalidOption, did_you_mean
from sdar_envs.files.yaml_text import compose_yaml
from sdar_skills.library.naming import LONGEST_DESCRIPTION, LONGEST_NAME
from sdar_skills.library.skill import Skill, Status
from sdar_skills.library.task_types import TASK_TYPES

__all__ = ["GENERAL", "format_skill", "parse_skill"]

GENERAL = "general"
"""Value of `task-type` for a skill that is for all tasks of its suite."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SUITE = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")  # a folder name on any system
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}")
_LONGEST = {"name": LONGEST_NAME, "description": LONGEST_DESCRIPTION, "compatibility": 500}
_LONGEST_FRONT = 1 << 16  # the time that PyYAML needs may grow with the square
_OPTIONAL = ("license", "compatibility", "allowed-tools")
_TOP = ("name", "description", *_OPTIONAL, "metadata")
_REQUIRED = ("suite", "task-type")
_OURS = (*_REQUIRED, "version", "status", "origin", "created-by")


class _Field(NamedTuple):
    """Value in the front matter, with its line number in the file."""

    text: str
    line: int


def parse_skill(content: str, path: str) -> Skill:
    """Parse a SKILL.md file.

    Args:
        content: the whole file.
        path: its path, for error messages; the name of its folder must be the skill's.

    Raises:
        CorruptData: it breaks the format; the message has file and line.
    """
    lines = content.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None or lines[0].rstrip() != "---":
        raise _error(path, 1, "there is no front matter; wanted a line '---', fields, and another line '---' on top")
    front = "\n".join(lines[1:end])
    if len(front) > _LONGEST_FRONT:
        raise _error(path, 1, f"the front matter has {len(front):,} characters; wanted at most {_LONGEST_FRONT:,}")
    top = _read_front_matter(front, path)
    for name in ("name", "description"):
        if name not in top:
            raise _error(path, 1, f"the field {name!r} is missing")
    nested = {key: value for key, value in top.items() if key.startswith("metadata.")}
    for name in _REQUIRED:
        if f"metadata.{name}" not in nested:
            raise _error(path, top.get("metadata", _Field("", 1)).line, f"the field {name!r} of metadata is missing")
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        raise _error(path, end + 2, "the body is empty; wanted the text that the teacher reads below the front matter")
    _check(top, path)
    ours = {name: nested[f"metadata.{name}"].text for name in _OURS if f"metadata.{name}" in nested}
    task_type = ours["task-type"]
    status: dict[str, Status] = {name: name for name in get_args(Status)}
    return Skill(
        name=top["name"].text,
        suite=ours["suite"],
        task_type=None if task_type == GENERAL else task_type,
        description=top["description"].text,
        text=body,
        version=ours.get("version", "1.0.0"),
        status=status[ours.get("status", "active")],
        origin=ours.get("origin", ""),
        created_by=ours.get("created-by", ""),
        metadata={name: top[name].text for name in _OPTIONAL if name in top}
        | {
            key.removeprefix("metadata."): value.text
            for key, value in nested.items()
            if key.removeprefix("metadata.") not in _OURS
        },
    )


def format_skill(skill: Skill) -> str:
    """Format a skill as a SKILL.md file.

    Raises:
        InvalidOption: the format cannot represent the skill, such as one with a bad name, an empty text, or a text that
            begins or ends with blanks.
    """
    top: dict[str, object] = {"name": skill.name, "description": skill.description}
    top |= {name: skill.metadata[name] for name in _OPTIONAL if name in skill.metadata}
    ours: dict[str, str] = {
        "suite": skill.suite,
        "task-type": GENERAL if skill.task_type is None else skill.task_type,
        "version": skill.version,
        "status": skill.status,
    }
    ours |= {"origin": skill.origin} if skill.origin else {}
    ours |= {"created-by": skill.created_by} if skill.created_by else {}
    further = {name: value for name, value in skill.metadata.items() if name not in _OPTIONAL}
    try:
        front = yaml.safe_dump({**top, "metadata": {**further, **ours}}, sort_keys=False, allow_unicode=True, width=100)
        content = f"---\n{front}---\n\n{skill.text}\n"
        content.encode()
        read = parse_skill(content, f"{skill.name}/SKILL.md")
    except (CorruptData, UnicodeEncodeError, yaml.YAMLError) as error:
        raise InvalidOption(f"the skill {skill.id!r:.200} cannot be written as a file: {error}") from error
    if read != skill:
        changed = [name for name in Skill.__slots__ if getattr(read, name) != getattr(skill, name)]
        raise InvalidOption(
            f"the skill {skill.id!r:.200} would read back with another {' and '.join(changed)}: wanted text without "
            "blanks around it and without odd line breaks, and no field of the convention in its metadata."
        )
    return content


def _read_front_matter(text: str, path: str) -> dict[str, _Field]:
    """Return the fields; those of `metadata` as `metadata.<name>`, and `metadata` itself with its line."""
    try:
        root = compose_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise _error(path, 2 if mark is None else mark.line + 2, f"the front matter is no YAML: {problem}") from error
    fields: dict[str, _Field] = {}
    _collect(root, "", _TOP, fields, path)
    return fields


def _collect(
    node: yaml.Node | None, prefix: str, known: tuple[str, ...] | None, fields: dict[str, _Field], path: str
) -> None:
    if not isinstance(node, yaml.MappingNode):
        line = 2 if node is None else node.start_mark.line + 2
        raise _error(
            path, line, f"{prefix.rstrip('.') or 'the front matter'} is no mapping; wanted 'field: text' lines"
        )
    for key, value in node.value:
        line = key.start_mark.line + 2
        name = _text(key, path)
        if known is not None and name not in known:
            hint = " It belongs under metadata." if name in _OURS else did_you_mean(name, known)
            raise _error(path, line, f"the field {name!r} is unknown; wanted {', '.join(known)}.{hint}")
        if prefix + name in fields:
            raise _error(path, line, f"the field {name!r} occurs twice")
        if prefix and name in _TOP:
            raise _error(path, line, f"the field {name!r} is under metadata; it belongs to the top level")
        if not prefix and name == "metadata":
            fields[name] = _Field("", line)
            _collect(value, "metadata.", None, fields, path)
        else:
            fields[prefix + name] = _Field(_text(value, path, name), line)


def _text(node: yaml.Node, path: str, name: str = "") -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        return str(node.value)
    what = f"the field {name!r}" if name else "a field's name"
    came = (
        f"{node.value!r}, which YAML takes for {node.tag.rpartition(':')[2]}"
        if isinstance(node, yaml.ScalarNode)
        else "no plain text"
    )
    raise _error(path, node.start_mark.line + 2, f"{what} is {came}; wanted text: write it in quotes")


def _check(fields: Mapping[str, _Field], path: str) -> None:
    def refuse(name: str, wanted: str) -> CorruptData:
        field = fields[name]
        return _error(path, field.line, f"{name.removeprefix('metadata.')} is {field.text[:200]!r}; wanted {wanted}")

    for name, longest in _LONGEST.items():
        if name in fields and len(fields[name].text) > longest:
            raise refuse(name, f"at most {longest} characters, not {len(fields[name].text)}")
    if not _NAME.fullmatch(fields["name"].text):
        raise refuse("name", "lower-case letters and digits, in words joined by single hyphens")
    folder = path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    if fields["name"].text != folder:
        raise refuse("name", f"the name of the folder, {folder!r}")
    if not fields["description"].text.strip():
        raise refuse("description", "a sentence or two on what it says and when to use it")
    suite = fields["metadata.suite"].text
    if not _SUITE.fullmatch(suite):
        raise refuse("metadata.suite", "letters and digits, in words joined by one of . _ -")
    kind = fields["metadata.task-type"].text
    kinds = (*TASK_TYPES.get(suite, (kind,)), GENERAL)
    if kind not in kinds or not kind.strip():
        raise refuse("metadata.task-type", f"one of {', '.join(kinds)}.{did_you_mean(kind, kinds)}")
    version = fields.get("metadata.version")
    if version is not None and not _VERSION.fullmatch(version.text):
        raise refuse("metadata.version", "three numbers, such as 1.0.0")
    status = fields.get("metadata.status")
    if status is not None and status.text not in get_args(Status):
        statuses = get_args(Status)
        raise refuse("metadata.status", f"one of {', '.join(statuses)}.{did_you_mean(status.text, statuses)}")


def _error(path: str, line: int, message: str) -> CorruptData:
    return CorruptData(f"{path}, line {line}: {message}")
