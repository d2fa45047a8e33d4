"""Decorator for tests of a skill's claims: quotes must occur in the skill, so that neither changes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sdar_skills import Library

TestT = TypeVar("TestT", bound=Callable[..., None])


def claim(skill_id: str, *quotes: str) -> Callable[[TestT], TestT]:
    """Mark a test as the proof of what a built-in skill says; the quotes must stand in it, line breaks aside."""

    def mark(test: TestT) -> TestT:
        text = " ".join(Library.load()[skill_id].text.split())
        for quote in quotes:
            assert quote in text, f"{test.__name__}: {skill_id} does not say {quote!r}"
        return test

    return mark
