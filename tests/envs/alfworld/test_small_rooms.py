"""Small rooms: the same engine and wording, few things, homes with habits."""

import hashlib
import json
from collections import Counter

import gymnasium
import pytest
from helpers.generated_games import check_game, facts
from hypothesis import given, settings
from hypothesis import strategies as st

import sdar_envs
from sdar_envs.alfworld.generator import SPLITS, generate, room_habits
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.checker import check_env
from sdar_envs.errors import InvalidOption, UnknownName

ENV = "sdar/ALFWorld-v0"
SMALL = SPLITS["small"]
# Published numbers refer to these games: a change here is a new release of the small rooms.
DIGEST = "56dc5792a9a826a3d9c7c5418387caf316be976323dccbafaf9d37dfae695b2a"


def digest():
    splits = ("train", "home", "valid_seen", "valid_unseen")
    games = [facts(generate(split, index, "small")) for split in splits for index in (*range(20), 127)]
    return hashlib.sha256(json.dumps(games).encode()).hexdigest()


def test_the_games_are_the_published_ones():
    assert digest() == DIGEST


@pytest.mark.parametrize("split", SMALL)
def test_the_contract_holds(split):
    check_env(gymnasium.make(ENV, rooms="small", split=split))


@pytest.mark.parametrize("split", SMALL)
def test_ids_are_their_own_and_find_their_task(split):
    env = gymnasium.make(ENV, rooms="small", disable_env_checker=True)
    for task in sdar_envs.tasks(ENV, rooms="small", split=split, limit=20):
        assert task.id.startswith(f"alfworld/small_{split}/")
        assert task.split == split
        assert env.reset(options={"task_id": task.id})[1]["instruction"] == task.instruction
    full = gymnasium.make(ENV, disable_env_checker=True)
    with pytest.raises(UnknownName, match="no task 'alfworld/small_"):
        full.reset(options={"task_id": task.id})
    with pytest.raises(UnknownName, match="Did you mean 'alfworld/small_train/0000'"):
        env.reset(options={"task_id": "alfworld/train/0000"})


def test_rooms_and_observations_are_small():
    for task in sdar_envs.tasks(ENV, rooms="small", split="train", limit=200):
        made = generate("train", int(task.id[-4:]), "small")
        assert 4 <= len(made.problem.receptacle_types) <= 8
        assert len(made.problem.object_types) <= 24
        assert made.layout == task.data["layout"]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(SMALL)), st.integers(0, 127))
def test_any_game_is_sound(split, index):
    check_game(generate(split, index, "small"))


def test_all_kinds_of_task_occur_in_the_panels():
    for split in ("valid_seen", "valid_unseen"):
        assert SMALL[split] >= 100
        types = Counter(task.task_type for task in sdar_envs.tasks(ENV, rooms="small", split=split))
        assert set(types) == set(TASK_TYPES)
        assert min(types.values()) >= 5


def test_one_home_is_trained_in_and_seen_again_and_the_other_splits_are_elsewhere():
    layouts = {
        split: {task.data["layout"] for task in sdar_envs.tasks(ENV, rooms="small", split=split, limit=128)}
        for split in SMALL
    }
    rooms = {"SmallKitchen-0", "SmallLivingRoom-0", "SmallBedroom-0", "SmallBathroom-0"}
    assert layouts["home"] == layouts["valid_seen"] == rooms
    others = layouts["train"] | layouts["valid_unseen"]
    assert len(others) == 256
    assert not others & rooms


def test_things_are_where_the_habits_say_nine_times_of_ten():
    kept = Counter()
    for index in range(600):
        made = generate("train", index, "small")
        habits = room_habits(made.layout)
        goal = made.receptacle_class.lower()
        for thing, receptacle in made.problem.contents:
            kind = made.problem.object_types[thing].removesuffix("type")
            if kind in habits:
                place = made.problem.receptacle_types[receptacle].removesuffix("type")
                kept[place == habits[kind]] += 1
        # Nothing is wanted where it is kept.
        assert habits.get(made.object_class.lower()) != goal
    assert 0.85 < kept[True] / kept.total() < 0.95


def test_habits_differ_from_home_to_home():
    places = Counter(room_habits(f"SmallKitchen-{number}")["mug"] for number in range(300))
    assert len(places) >= 5
    assert places.most_common(1)[0][1] < 150
    assert room_habits("SmallKitchen-7") == room_habits("SmallKitchen-7")


@pytest.mark.parametrize("layout", ["Kitchen-07", "SmallKitchen", "SmallCellar-1", "SmallKitchen-x", ""])
def test_only_small_rooms_have_habits(layout):
    with pytest.raises(UnknownName, match="no small room"):
        room_habits(layout)


def test_bad_arguments_are_refused():
    with pytest.raises(InvalidOption, match=r"rooms is 'smal'.*Did you mean 'small'"):
        gymnasium.make(ENV, rooms="smal")
    with pytest.raises(InvalidOption, match="official games are as they are"):
        gymnasium.make(ENV, rooms="small", data="official")
    with pytest.raises(UnknownName, match="no rooms 'tiny'"):
        generate("train", 0, "tiny")
    with pytest.raises(UnknownName, match="no split 'home'"):
        generate("home", 0)
    with pytest.raises(UnknownName, match="no split 'home' here"):
        gymnasium.make(ENV, split="home")


SIMPLE = ["pick_and_place_simple"]


def test_games_of_some_types_are_those_of_the_split_in_its_order():
    source = sdar_envs.make_vec(ENV, 1, rooms="small", task_types=SIMPLE).envs[0].source
    whole = sdar_envs.make_vec(ENV, 1, rooms="small").envs[0].source
    expected = [task for i in range(128) if (task := whole.task("valid_seen", i)).task_type == SIMPLE[0]]
    assert source.splits["valid_seen"] == len(expected)
    assert [source.task("valid_seen", i) for i in range(len(expected))] == expected
    assert whole.find(expected[0].id) == source.find(expected[0].id) == expected[0]
    with pytest.raises(UnknownName, match="wanted 0 to 18"):
        source.task("valid_seen", 19)
    other = next(task for i in range(128) if (task := whole.task("valid_seen", i)).task_type != SIMPLE[0])
    with pytest.raises(UnknownName, match="task_types is pick_and_place_simple"):
        source.find(other.id)


@given(st.integers(0, 2**31 - 1), st.sets(st.sampled_from(TASK_TYPES), min_size=1))
@settings(max_examples=20, deadline=None)
def test_a_game_of_an_endless_split_is_of_the_types_asked_for(index, task_types):
    source = sdar_envs.make_vec(ENV, 1, rooms="small", task_types=sorted(task_types)).envs[0].source
    task = source.task("home", index)
    assert task.task_type in task_types
    assert source.find(task.id) == task


def test_the_first_games_of_an_endless_split_differ():
    source = sdar_envs.make_vec(ENV, 1, rooms="small", task_types=SIMPLE).envs[0].source
    assert len({source.task("home", i).id for i in range(200)}) == 200
    assert source.splits["home"] is None


def test_the_panel_of_the_home_is_large_and_in_the_home():
    source = sdar_envs.make_vec(ENV, 1, rooms="small", task_types=SIMPLE).envs[0].source
    assert source.splits["home_valid"] >= 512
    homes = {source.task("home_valid", i).data["layout"].rpartition("-")[2] for i in range(20)}
    assert homes == {"0"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_types": ["pick_and_plac_simple"]}, "Did you mean 'pick_and_place_simple'"),
        ({"task_types": []}, "wanted a list with some of"),
        ({"task_types": "pick_and_place_simple"}, "wanted a list with some of"),
        ({"data": "official", "rooms": "full", "task_types": SIMPLE}, "is for embedded games"),
    ],
)
def test_task_types_that_there_are_not(options, message):
    with pytest.raises(InvalidOption, match=message):
        gymnasium.make(ENV, **options)
