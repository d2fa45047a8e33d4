"""Skill library: skills loaded from folders of SKILL.md files, looked up by id, suite and task type.

The built-in skills are `sdar_skills/builtin/<suite>/<name>/SKILL.md`. A user's folder may have any depth and any
suites; every Markdown file in it must belong to a skill, so that none is skipped unnoticed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path

from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.files.foreign import check_target, files_below, read_foreign
from sdar_envs.search_qa.questions import UNCLASSIFIED
from sdar_envs.storage import write_atomic
from sdar_skills.library.skill import Skill, Status
from sdar_skills.library.skill_file import format_skill, parse_skill
from sdar_skills.library.task_types import TASK_TYPES

__all__ = ["Library", "builtin_skills", "load_folder", "save_skill", "skill_files"]

_FILE = "SKILL.md"
_ACTIVE: frozenset[Status] = frozenset({"active"})


class Library:
    """Immutable collection of skills with unique ids, sorted by id.

    Args:
        skills: the skills.

    Raises:
        CorruptData: two skills have the same id.
    """

    def __init__(self, skills: Iterable[Skill]) -> None:
        self._skills: dict[str, Skill] = {}
        for skill in sorted(skills, key=lambda skill: skill.id):
            if skill.id in self._skills:
                raise CorruptData(
                    f"two skills have the id {skill.id!r}; wanted one of each: rename one, or load without the "
                    "built-in skills."
                )
            self._skills[skill.id] = skill

    @classmethod
    def load(cls, *folders: str | Path, builtin: bool = True) -> Library:
        """Load the built-in skills and those of folders.

        Args:
            folders: folders with SKILL.md files at any depth.
            builtin: include the skills of this package.

        Raises:
            MissingData: a folder does not exist or has no skill.
            CorruptData: a file breaks the format, or two skills have the same id.
        """
        skills = list(builtin_skills()) if builtin else []
        for folder in folders:
            skills += load_folder(Path(folder))
        return cls(skills)

    def __len__(self) -> int:
        return len(self._skills)

    def __iter__(self) -> Iterator[Skill]:
        return iter(self._skills.values())

    def __getitem__(self, skill_id: str) -> Skill:
        """Return the skill with this id.

        Raises:
            UnknownName: there is no such skill.
        """
        try:
            return self._skills[skill_id]
        except KeyError:
            raise UnknownName(
                f"no skill {skill_id!r:.200}; ids are <suite>/<name>.{did_you_mean(skill_id, self._skills)}"
            ) from None

    @property
    def suites(self) -> tuple[str, ...]:
        """Suites with skills, sorted."""
        return tuple(dict.fromkeys(skill.suite for skill in self))

    def select(self, suite: str, statuses: Collection[Status] = _ACTIVE, *, strict: bool = False) -> tuple[Skill, ...]:
        """Return the skills of a suite.

        Args:
            suite: name of the suite.
            statuses: statuses to include.
            strict: raise an error for a suite without any skill, whatever its status, instead of returning none.

        Raises:
            UnknownName: the library has no skills for the suite, and the request is strict.
        """
        skills = tuple(skill for skill in self if skill.suite == suite)
        if strict and not self._skills:
            raise UnknownName(
                f"no skills for the suite {suite!r:.200}: the library is empty. Give it a folder with skills "
                "(--library DIR, or skills.library in training), or keep those of the package (no --no-builtin)."
            )
        if strict and not skills:
            raise UnknownName(
                f"no skills for the suite {suite!r:.200}; there are some for {', '.join(self.suites) or 'none'}."
                f"{did_you_mean(suite, self.suites)}"
            )
        return tuple(skill for skill in skills if skill.status in statuses)

    def candidates(self, task: Task, statuses: Collection[Status] = _ACTIVE) -> tuple[Skill, ...]:
        """Return the skills of a task's suite, of which at least one is for its task type, or general.

        Args:
            task: the task; only `suite` and `task_type` are read.
            statuses: statuses to include.

        Raises:
            UnknownName: the library has no skills for the task's suite, or none of these statuses that is for the type
                or general; or there is no such type: none of the suite's (`TASK_TYPES`), or, in a suite that is not
                known, one that is nearly spelt like another.
        """
        skills = self.select(task.suite, statuses, strict=True)
        types = dict.fromkeys(skill.task_type for skill in skills if skill.task_type is not None)
        if task.task_type in types:
            return skills
        known = TASK_TYPES.get(task.suite)
        is_type = not did_you_mean(task.task_type, types) if known is None else task.task_type in known
        if is_type and any(skill.task_type is None for skill in skills):
            return skills
        raise UnknownName(
            f"no {task.suite} skill ({', '.join(sorted(statuses))}) for the task type {task.task_type!r:.200}; "
            f"there are some for {', '.join(types) or 'none'}.{did_you_mean(task.task_type, types)}"
        )

    def uncovered_words(self, suite: str) -> str:
        """Return in words which known task types of a suite have no active skill of their own, and what they get.

        Empty if there are none, or if the suite's types are not known.
        """
        skills = self.select(suite)
        own = {skill.task_type for skill in skills}
        # `unclassified` is what a question gets that names no type.
        missing = [kind for kind in TASK_TYPES.get(suite, ()) if kind not in own and kind != UNCLASSIFIED]
        if not missing:
            return ""
        general = sum(skill.task_type is None for skill in skills)
        gets = f"get only the general skills ({general})" if general else "are refused: there are no general skills"
        return f"the {suite} task types {', '.join(missing)}; tasks of these types {gets}"


def load_folder(folder: Path) -> tuple[Skill, ...]:
    """Load all skills below a folder, sorted by path.

    Raises:
        MissingData: the folder does not exist, or has no skill.
        CorruptData: a file breaks the format, is no regular file, or is a Markdown file that belongs to no skill; or a
            symbolic link leads out of the folder.
    """
    return tuple(skill_files(folder).values())


def skill_files(folder: Path) -> dict[Path, Skill]:
    """Load all skills below a folder, by the paths of their files; as `load_folder` otherwise."""
    return _load(folder, inside=folder)


def _load(folder: Path, inside: Path | None) -> dict[Path, Skill]:
    """Load all skills below a folder, whose files must not lead out of another one; None: they may lead anywhere."""
    if not folder.is_dir():
        raise MissingData(f"there is no folder {str(folder)!r}; wanted one with <suite>/<name>/{_FILE} files.")
    skills = {}
    skill_folders = set()
    texts = [path for path in files_below(folder, inside=inside) if path.suffix.lower() == ".md"]
    for path in texts:
        if path.name == _FILE:
            skill_folders.add(path.parent)
            skills[path] = parse_skill(read_foreign(path, inside=inside), str(path.absolute()))
    if not skills:
        raise MissingData(f"there is no skill in {str(folder)!r}; wanted <suite>/<name>/{_FILE} files.")
    for path in texts:
        if not skill_folders & set(path.parents) and path.name.lower() != "readme.md":
            raise CorruptData(
                f"{path}: this file belongs to no skill and would never be read; wanted it as <name>/{_FILE}."
            )
    return skills


@lru_cache(maxsize=1)
def builtin_skills() -> tuple[Skill, ...]:
    """Return the skills of this package."""
    with resources.as_file(resources.files("sdar_skills") / "builtin") as folder:
        # Some installers make each file of a package a link to their cache.
        return tuple(_load(folder, inside=None).values())


def save_skill(skill: Skill, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a skill atomically to `<folder>/<suite>/<name>/SKILL.md`.

    Args:
        skill: the skill.
        folder: the library's folder.
        overwrite: replace a file with another content. Another text needs another version even then.

    Returns:
        The path. Loading it gives an equal skill.

    Raises:
        InvalidOption: the format cannot represent the skill, another skill is there, the text changed and the version
            did not, or a symbolic link leads out of the folder.
        OSError: the file cannot be written.
    """
    content = format_skill(skill)
    path = Path(folder) / skill.suite / skill.name / _FILE
    check_target(path, Path(folder))
    if path.exists():
        old = parse_skill(read_foreign(path), str(path.absolute()))
        if old == skill:
            return path
        if not overwrite:
            raise InvalidOption(f"{path} exists with another content; wanted a new name, or overwrite=True.")
        if old.sha256 != skill.sha256 and old.version == skill.version:
            raise InvalidOption(
                f"{skill.id} has another text than {path}, but the same version {skill.version}: statistics could not "
                "tell them apart. Give it a new version."
            )
    write_atomic(path, content)
    return path
