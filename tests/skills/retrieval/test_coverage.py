"""Coverage reports: what counts as a gap, and that the built-in skills have none."""

from __future__ import annotations

import pytest
from helpers.skill_toys import make_skill, make_task

import sdar_envs
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills import Library, make_retriever
from sdar_skills.retrieval.coverage import measure_coverage

SKILLS = [
    make_skill("a", "lift", metadata={"keywords": "lift"}),
    make_skill("b", "push", metadata={"keywords": "push"}),
    make_skill("c"),
]


def measure(skills, tasks, *strategies, k=6):
    library = Library(skills)
    return measure_coverage(library, tasks, {name: make_retriever(name, library) for name in strategies}, k=k)


def test_no_gap():
    found = measure(
        SKILLS, [make_task("lift", "lift it"), make_task("push", "push it")], "task_type", "keyword", "none"
    )
    assert not found.has_gaps
    assert found.tasks_of_own_type == found_counts(2, "task_type", "keyword")
    assert found.tasks_without_skill == found_counts(0, "task_type", "keyword")
    assert [r.skill.name for r in found.tasks[0].found["task_type"]] == ["a", "c"]
    assert found.tasks[0].found["none"] == ()
    assert (found.types_without_skill, found.unreached, found.types_not_in_panel) == ((), (), ())


def found_counts(n, *names):
    return dict.fromkeys(names, n)


def test_a_type_without_a_skill_is_a_gap():
    found = measure(SKILLS[1:], [make_task("lift")], "task_type")
    assert found.has_gaps
    assert found.types_without_skill == ("lift",)
    assert [retrieved.skill.id for retrieved in found.tasks[0].found["task_type"]] == ["toy/c"]
    assert found.tasks_without_skill == {"task_type": 0}
    assert found.types_not_in_panel == ("push",)
    found = measure(SKILLS[1:2], [make_task("lift")], "task_type")
    assert found.tasks[0].found["task_type"] is None
    assert found.tasks_without_skill == {"task_type": 1}


def test_a_skill_that_no_task_reaches_is_a_gap_whatever_full_and_random_give():
    mute = make_skill("d", "lift", text="Never seen.")
    found = measure([*SKILLS, mute], [make_task("lift", "lift it")], "keyword", "full", "random")
    assert found.unreached == ("toy/d",)
    assert found.has_gaps
    assert not measure([*SKILLS, mute], [make_task("lift", "lift it")], "task_type").has_gaps
    assert not measure([*SKILLS, mute], [make_task("lift", "lift it")], "full").has_gaps


def test_too_small_a_k_leaves_skills_unreached():
    found = measure(SKILLS, [make_task("lift"), make_task("push")], "task_type", k=1)
    assert found.unreached == ("toy/c",)


def test_a_task_without_any_skill_is_a_gap():
    found = measure(SKILLS[:2], [make_task("lift", "zzz")], "bm25")
    assert found.tasks_without_skill == {"bm25": 1}
    assert found.has_gaps


def test_a_panel_of_no_or_several_suites_is_refused():
    with pytest.raises(InvalidOption, match="the panel has tasks of 0 suites"):
        measure(SKILLS, [], "task_type")
    with pytest.raises(InvalidOption, match="of 2 suites"):
        measure(SKILLS, [make_task(), make_task(suite="other")], "task_type")
    with pytest.raises(UnknownName, match="no skills for the suite 'other'"):
        measure(SKILLS, [make_task(suite="other")], "task_type")


PANELS = {
    "alfworld": lambda: sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_unseen"),
    "webshop": lambda: sdar_envs.tasks("sdar/WebShop-v0", split="test"),
    "search_qa": lambda: sdar_envs.tasks("sdar/SearchQA-v0", split="test"),
}


@pytest.mark.parametrize("suite", list(PANELS))
def test_our_skills_have_no_gaps(suite):
    tasks = PANELS[suite]()
    library = Library.load()
    retrievers = {name: make_retriever(name, library) for name in ("task_type", "keyword", "bm25")}
    found = measure_coverage(library, tasks, retrievers, k=6)
    assert found.suite == suite
    assert found.types_without_skill == ()
    assert found.unreached == ()
    assert found.tasks_of_own_type["task_type"] == len(tasks)
    assert found.tasks_without_skill == dict.fromkeys(retrievers, 0)
