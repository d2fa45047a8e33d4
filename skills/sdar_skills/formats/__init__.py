"""Import and export of skill collections: SDAR's mapping of Markdown files (`sdar`) and SkillRL's JSON (`skillrl`).

Every text becomes one skill and is never shortened. Names are made from titles; colliding names get a content hash.
Task types that a format calls differently are translated (`comparison` is `compare`), and the original is kept for the
export. Everything that a format has no place for is listed in the report.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from sdar_skills.formats.drafts import Imported
from sdar_skills.formats.sdar import export_sdar, import_sdar
from sdar_skills.formats.skillrl import export_skillrl, import_skillrl
from sdar_skills.library.skill import Skill

__all__ = ["FORMATS", "Format", "Imported", "export_sdar", "export_skillrl", "import_sdar", "import_skillrl"]


class Format(NamedTuple):
    """Reader and writer of a format.

    Attributes:
        read: (path, suite, task types) -> `Imported`. The third maps task types of the source to ours.
        write: (skills, path) -> report, a line for everything that the format has no place for.
    """

    read: Callable[[Path, str, Mapping[str, str]], Imported]
    write: Callable[[Sequence[Skill], Path], tuple[str, ...]]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "sdar": Format(import_sdar, export_sdar),
        "skillrl": Format(import_skillrl, export_skillrl),
    }
)
"""Formats by name."""
