import random

import pytest

import sdar_envs
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.errors import UnknownName
from sdar_skills import Library, make_retriever
from sdar_skills.homes import home_skill, read_habits


def tasks(split, count=20):
    return sdar_envs.tasks("sdar/ALFWorld-v0", rooms="small", split=split, limit=count)


def test_a_skill_says_all_habits_of_the_room_and_is_read_back():
    for task in tasks("train"):
        assert read_habits(home_skill(task).text) == room_habits(task.data["layout"])


def test_all_games_of_a_home_have_the_same_four_skills():
    skills = {home_skill(task).id: home_skill(task) for task in tasks("valid_seen", 128)}
    assert sorted(skills) == [f"alfworld/{room}-of-home-0" for room in ("bathroom", "bedroom", "kitchen", "livingroom")]
    assert {home_skill(task) for task in tasks("home", 128)} == set(skills.values())


def test_the_strategy_puts_the_home_before_the_library():
    task = tasks("train", 1)[0]
    library = Library.load()
    retriever = make_retriever("home", library)
    found = retriever.retrieve(task, 3, None, random.Random(0))
    assert found[0].skill == home_skill(task)
    rest = make_retriever("task_type", library).retrieve(task, 2, None, random.Random(0))
    assert found[1:] == rest


def test_a_full_room_has_no_home():
    task = sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=1)[0]
    with pytest.raises(UnknownName, match="rooms='small'"):
        make_retriever("home", Library.load()).retrieve(task, 1, None, random.Random(0))


def test_skills_of_the_library_say_no_habits():
    assert not any(read_habits(skill.text) for skill in Library.load())
