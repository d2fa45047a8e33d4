"""Decisions about skills: promotion and retirement, written into the files of a library with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.files.foreign import check_target
from sdar_envs.storage import write_atomic
from sdar_skills.library.library import skill_files
from sdar_skills.library.skill import Skill
from sdar_skills.library.skill_file import format_skill

__all__ = ["decide"]

REASON = "status-reason"
"""Metadata field that says why a skill has its status."""


def decide(folder: Path, skill_id: str, status: Literal["active", "retired"], reason: str) -> tuple[Path, Skill]:
    """Give a skill of a library another status, and write the reason beside it; text and version stay.

    Args:
        folder: the library's folder, with the skill's file at any depth.
        skill_id: `<suite>/<name>`.
        status: the new status.
        reason: why, with its date and source.

    Returns:
        The file, and the skill as it is now.

    Raises:
        MissingData: the folder does not exist or has no skill.
        UnknownName: it has no such skill.
        InvalidOption: the skill has this status, or the file is a link.
        OSError: the file cannot be written.
    """
    files = {skill.id: (path, skill) for path, skill in skill_files(folder).items()}
    if skill_id not in files:
        raise UnknownName(
            f"{folder} has no skill {skill_id!r:.200}; it has {', '.join(files)}.{did_you_mean(skill_id, files)}"
        )
    path, skill = files[skill_id]
    if skill.status == status:
        raise InvalidOption(f"{skill_id} is {status} already: {skill.metadata.get(REASON, 'no reason is given')}.")
    changed = replace(skill, status=status, metadata={**skill.metadata, REASON: " ".join(reason.split())})
    content = format_skill(changed)
    check_target(path, folder)
    write_atomic(path, content)
    return path, changed
