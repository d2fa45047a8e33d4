"""The strategy `home`: skills generated for tasks in small ALFWorld rooms."""

import random
import re

import pytest

import sdar_envs
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.alfworld.instruction import read_instruction
from sdar_envs.errors import UnknownName
from sdar_skills import Library, make_retriever
from sdar_skills.retrieval.homes import home_skill, read_habits


def tasks(split, count=20):
    return sdar_envs.tasks("sdar/ALFWorld-v0", rooms="small", split=split, limit=count)


def test_a_skill_says_the_habits_that_the_task_is_about_and_is_read_back():
    for task in tasks("train"):
        habits, mission = room_habits(task.data["layout"]), read_instruction(task.instruction)
        wanted = {mission.object_class, mission.lamp_class} & set(habits)
        assert wanted
        assert read_habits(home_skill(task).text) == {thing: habits[thing] for thing in wanted}


def test_a_skill_says_nothing_about_the_game():
    """Tasks about the same thing in the same room of the same home have the same skill, whatever lies where."""
    seen = {}
    for task in (*tasks("valid_seen", 128), *tasks("home", 128)):
        mission = read_instruction(task.instruction)
        key = task.data["layout"], mission.object_class, mission.lamp_class
        assert seen.setdefault(key, home_skill(task)) == home_skill(task)
    assert len({skill.id for skill in seen.values()}) == len(seen)
    assert {home_skill(task) for task in tasks("valid_seen", 128)} <= {home_skill(task) for task in tasks("home", 1000)}


def test_words_of_a_skill_stand_nowhere_else_in_a_prompt():
    env = sdar_envs.make_vec("sdar/ALFWorld-v0", 1, rooms="small").envs[0]
    for task in tasks("train"):
        observation, info = env.reset(options={"task_id": task.id})
        for place in re.findall(r": (\w+)", home_skill(task).text):
            assert place not in observation + info["instruction"]
            assert f"{place.lower()} 1" in observation


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


def test_only_furniture_is_a_habit():
    assert read_habits("- mug: SideTable\n- note: well\n- pen: Desk, mostly\nmug: Shelf") == {"mug": "sidetable"}


def test_skills_of_the_library_say_no_habits():
    assert not any(read_habits(skill.text) for skill in Library.load())


def test_a_misleading_skill_names_other_furniture_of_the_room_and_the_same_for_each_task():
    seen = {}
    for task in (*tasks("valid_seen", 128), *tasks("train")):
        right, wrong = home_skill(task), home_skill(task, is_misleading=True)
        told, false = read_habits(right.text), read_habits(wrong.text)
        assert told.keys() == false.keys()
        assert not any(told[thing] == false[thing] for thing in told)
        assert set(false.values()) <= set(room_habits(task.data["layout"]).values())
        assert seen.setdefault(wrong.id, wrong.text) == wrong.text
    retriever = make_retriever("home", Library.load())
    task = tasks("valid_seen", 1)[0]
    shown = retriever.misleading().retrieve(task, 1, None, random.Random(0))
    assert [item.skill for item in shown] == [home_skill(task, is_misleading=True)]
    assert [item.skill for item in retriever.retrieve(task, 1, None, random.Random(0))] == [home_skill(task)]
