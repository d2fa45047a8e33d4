"""Full-text search over skills (BM25)."""

from __future__ import annotations

from sdar_envs.bm25.index import SearchIndex
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Skill

__all__ = ["search_skills", "searchable_text", "skill_index"]


def search_skills(library: Library, query: str, *, k: int, suite: str | None = None) -> tuple[tuple[Skill, float], ...]:
    """Return the active skills that share words with a query, with their BM25 scores, best first.

    Args:
        library: the skills to search.
        query: any words.
        k: greatest number of results.
        suite: search this suite only.

    Raises:
        UnknownName: the library has no skills for the suite.
    """
    suites = library.suites if suite is None else (suite,)
    skills = tuple(skill for name in suites for skill in library.select(name, strict=True))
    index = skill_index(skills)
    return tuple(
        (skills[number], score) for number, score in zip(index.search(query, k), index.scores(query, k), strict=True)
    )


def skill_index(skills: tuple[Skill, ...]) -> SearchIndex:
    """Return a BM25 index over names, descriptions and texts."""
    return SearchIndex.build([(skill.id, searchable_text(skill)) for skill in skills], progress=False)


def searchable_text(skill: Skill) -> str:
    """Return name, description and text of a skill, one below the other."""
    return "\n".join((skill.name.replace("-", " "), skill.description, skill.text))
