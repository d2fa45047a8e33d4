"""The built-in skills through each format, there and back."""

from __future__ import annotations

import pytest
from helpers.skill_toys import make_skill

from sdar_envs.errors import InvalidOption
from sdar_skills.formats import FORMATS
from sdar_skills.library.library import builtin_skills


@pytest.mark.parametrize("suite", ["alfworld", "webshop", "search_qa"])
@pytest.mark.parametrize("name", list(FORMATS))
def test_our_skills_go_out_and_come_back(suite, name, tmp_path):
    skills = [skill for skill in builtin_skills() if skill.suite == suite]
    target = tmp_path / "out.json" if name == "skillrl" else tmp_path / "out"
    report = FORMATS[name].write(skills, target)
    assert all(skill.id in " ".join(report) for skill in skills)
    found = FORMATS[name].read(target, suite, {}).skills
    assert {skill.task_type for skill in found} == {skill.task_type for skill in skills}
    whole = "\n".join(skill.text for skill in found)
    assert all(skill.text in whole for skill in skills)
    with pytest.raises(InvalidOption, match="exists"):
        FORMATS[name].write(skills, target)


@pytest.mark.parametrize("name", list(FORMATS))
def test_one_suite_at_a_time(name, tmp_path):
    for skills in ([], [make_skill("a"), make_skill("b", suite="other")]):
        with pytest.raises(InvalidOption, match="wanted those of one"):
            FORMATS[name].write(skills, tmp_path / "x")
