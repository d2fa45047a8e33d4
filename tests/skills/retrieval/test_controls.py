"""Retrievers of negative controls: as many skills, without their advice."""

from __future__ import annotations

import random

import pytest

from sdar_envs.registry import tasks
from sdar_skills import Library, make_retriever
from sdar_skills.context import skill_block
from sdar_skills.retrieval.controls import Shuffled, Textless


def count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("fill", ["empty", "neutral"])
@pytest.mark.parametrize("env_id", ["sdar/ALFWorld-v0", "sdar/WebShop-v0"])
def test_skills_without_their_advice(env_id: str, fill: str) -> None:
    [task] = tasks(env_id, split="train", limit=1)
    retriever = make_retriever("task_type", Library.load())
    chosen = retriever.retrieve(task, 3, None, random.Random(0))
    textless = Textless(retriever, fill, count_tokens=count).retrieve(task, 3, None, random.Random(0))  # type: ignore[arg-type]
    assert len(textless) == len(chosen) == 3
    for found, own in zip(textless, chosen, strict=True):
        assert count(found.skill.text) == (0 if fill == "empty" else count(own.skill.text))
        assert (found.skill.suite, found.skill.task_type) == (own.skill.suite, own.skill.task_type)
    block = skill_block([found.skill for found in textless])
    assert not any(own.skill.name in block for own in chosen)
    # A wrong choice is as long a list, of other task types.
    wrong = Shuffled(retriever, Library.load()).retrieve(task, 3, None, random.Random(0))
    assert len(wrong) == 3
    assert task.task_type not in {found.skill.task_type for found in wrong}
