import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from helpers.generated_games import check_game, compiled, facts
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.alfworld import knowledge
from sdar_envs.alfworld.export import export_game
from sdar_envs.alfworld.generator import SPLITS, generate
from sdar_envs.alfworld.pddl import read_problem, write_problem
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.wording import DIALECTS, read_dialect, read_task_sentence
from sdar_envs.errors import InvalidOption, UnknownName

# Published numbers (scores, seeds, skills) refer to these games: a change here is a new release of
# the embedded split, not a repair.
DIGEST = "e961c047f94b1f5352688be3d58bdae9d8cabc808c79b8478db1fe1aede1d91e"


def digest():
    games = [facts(generate(split, index)) for split in SPLITS["full"] for index in (*range(20), 133)]
    games += [facts(generate("train", index)) for index in (10**6, 2**31 - 1)]
    return hashlib.sha256(json.dumps(games).encode()).hexdigest()


@pytest.fixture(scope="module")
def games():
    return [generate("train", index) for index in range(600)]


def share(games, holds):
    return sum(map(holds, games)) / len(games)


def test_the_games_are_the_published_ones():
    assert digest() == DIGEST


def test_the_games_do_not_depend_on_the_process():
    environment = dict(os.environ, PYTHONHASHSEED="4711", PYTHONPATH=str(Path(__file__).parents[2]))
    printed = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == digest()


def test_every_game_of_the_panels_is_sound():
    for split in ("valid_seen", "valid_unseen"):
        for index in range(SPLITS["full"][split]):
            check_game(generate(split, index))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_any_train_game_is_sound_and_survives_pddl(index):
    made = generate("train", index)
    check_game(made)
    assert read_problem(write_problem(made.problem, "some_game")) == made.problem


def test_plans_are_as_long_as_in_the_official_games():
    lengths = Counter(check_game(generate("train", index)) for index in range(2000))
    assert min(lengths) == 3
    assert max(lengths) >= 10
    assert statistics.median(lengths.elements()) == statistics.mode(lengths.elements()) == 6


def test_splits_are_different_games_and_the_unseen_rooms_are_unseen(games):
    seen = {made.layout for made in games} | {generate("valid_seen", i).layout for i in range(140)}
    unseen = {generate("valid_unseen", i).layout for i in range(134)}
    assert len(seen) > 100
    assert len(unseen) == 12
    assert not seen & unseen
    starts = [json.dumps(facts(generate(split, i))) for split in SPLITS["full"] for i in range(100)]
    assert len(set(starts)) == 300


def test_a_layout_is_one_room(games):
    furniture = defaultdict(set)
    for made in games:
        problem = made.problem
        key = (tuple(sorted(problem.receptacle_locations.items())), tuple(sorted(problem.openable)))
        furniture[made.layout].add(key)
    assert all(len(rooms) == 1 for rooms in furniture.values())
    assert len(set.union(*furniture.values())) == len(furniture)


def test_tasks_are_mixed_as_in_the_official_split():
    games = [generate("train", index) for index in range(3000)]
    official = {
        "pick_two_obj_and_place": 813,
        "pick_and_place_simple": 790,
        "pick_clean_then_place_in_recep": 650,
        "pick_cool_then_place_in_recep": 533,
        "pick_heat_then_place_in_recep": 459,
        "look_at_obj_in_light": 308,
    }
    counts = Counter(made.problem.goal.task_type for made in games)
    for task_type, count in official.items():
        assert counts[task_type] / 3000 == pytest.approx(count / 3553, abs=0.025)
    for split in ("valid_seen", "valid_unseen"):
        panel = Counter(generate(split, index).problem.goal.task_type for index in range(134))
        assert min(panel[task_type] for task_type in TASK_TYPES) >= 7
    # A target comes 1, 2, 3 or 4 times.
    instances = Counter(list(m.problem.object_types.values()).count(m.problem.goal.object_type) for m in games)
    for number, wanted in {1: 0.29, 2: 0.33, 3: 0.24, 4: 0.14}.items():
        assert instances[number] / 3000 == pytest.approx(wanted, abs=0.03)
    assert sum(instances[number] for number in (1, 2, 3, 4)) > 2990


# Medians of the official train split: receptacles, objects in receptacles.
ROOMS = {"Kitchen": (33, 44), "LivingRoom": (13, 20), "Bedroom": (14, 23), "Bathroom": (14, 15)}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_as_full_as_in_the_official_games(games, room):
    problems = [made.problem for made in games if made.layout.startswith(room)]
    receptacles, objects = ROOMS[room]
    assert statistics.median(len(p.receptacle_types) for p in problems) == pytest.approx(receptacles, rel=0.15)
    assert statistics.median(len({id_ for id_, _ in p.contents}) for p in problems) == pytest.approx(objects, rel=0.15)
    empty = statistics.median(1 - len({r for _, r in p.contents}) / len(p.receptacle_types) for p in problems)
    assert 0.3 < empty < 0.52


def shares_a_location(made):
    locations = list(made.problem.receptacle_locations.values())
    return len(set(locations)) < len(locations)


def has_a_double(made):
    return max(Counter(id_ for id_, _ in made.problem.contents).values()) > 1


def has_an_astray(made):
    locations = dict(made.problem.object_locations)
    return any(locations[o] != made.problem.receptacle_locations[r] for o, r in made.problem.contents)


def lacks_a_door(made):
    return any(
        type_ in ("cabinettype", "drawertype") and id_ not in made.problem.openable
        for id_, type_ in made.problem.receptacle_types.items()
    )


@pytest.mark.parametrize(
    ("oddity", "official"),
    [
        (shares_a_location, 0.78),
        (has_a_double, 0.49),
        (has_an_astray, 0.36),
        (lacks_a_door, 0.59),
        (lambda made: bool(made.problem.inner_objects), 0.15),
        (lambda made: bool(made.problem.cool), 44 / 474),
    ],
)
def test_oddities_are_as_frequent_as_in_the_official_games(games, oddity, official):
    assert share(games, oddity) == pytest.approx(official, abs=0.07)


def test_doors_are_as_frequent_as_in_the_official_games(games):
    doors = defaultdict(list)
    for made in games:
        for id_, type_ in made.problem.receptacle_types.items():
            doors[type_].append(id_ in made.problem.openable)
    assert statistics.mean(doors["cabinettype"]) == pytest.approx(0.83, abs=0.06)
    assert statistics.mean(doors["drawertype"]) == pytest.approx(0.84, abs=0.06)
    assert 0.3 < statistics.mean(doors["safetype"]) < 1
    assert all(doors["fridgetype"])
    assert all(doors["microwavetype"])
    others = doors.keys() - {"cabinettype", "drawertype", "safetype", "fridgetype", "microwavetype"}
    assert not any(openable for type_ in others for openable in doors[type_])


SENTENCES = {
    "pick_and_place_simple": ["put a {} in {}.", "put some {} on {}."],
    "pick_two_obj_and_place": ["put two {} in {}.", "find two {} and put them in {}."],
    "pick_clean_then_place_in_recep": ["put a clean {} in {}.", "clean some {} and put it in {}."],
    "pick_heat_then_place_in_recep": ["put a hot {} in {}.", "heat some {} and put it in {}."],
    "pick_cool_then_place_in_recep": ["put a cool {} in {}.", "cool some {} and put it in {}."],
    "look_at_obj_in_light": ["look at {} under the {}.", "examine the {} with the {}."],
}


def test_both_sentences_of_each_task_are_used(games):
    used = Counter()
    for made in games:
        names = made.object_class.lower(), made.receptacle_class.lower()
        templates = [f"Your task is to: {text}".format(*names) for text in SENTENCES[made.problem.goal.task_type]]
        used[made.problem.goal.task_type, templates.index(made.task_sentence)] += 1
    for task_type in TASK_TYPES:
        assert 0.35 < used[task_type, 0] / (used[task_type, 0] + used[task_type, 1]) < 0.65


def test_lamps_are_in_reach(games):
    lit = [made.problem for made in games if made.problem.goal.lamp_type]
    assert len(lit) > 20
    for problem in lit:
        assert problem.goal.lamp_type == "desklamptype"
        lamps = [id_ for id_, type_ in problem.object_types.items() if type_ == "desklamptype"]
        assert len(lamps) == 1
        assert lamps[0] in problem.toggleable
        assert any(id_ == lamps[0] for id_, _ in problem.contents)


@pytest.mark.parametrize(
    ("split", "index"), [("valid_seen", 140), ("valid_unseen", 134), ("train", 2**31), ("train", -1)]
)
def test_refuses_indices_out_of_range(split, index):
    with pytest.raises(UnknownName, match=rf"{index}.*{split}"):
        generate(split, index)


def test_refuses_unknown_splits():
    with pytest.raises(UnknownName, match="Did you mean 'valid_unseen'"):
        generate("valid_unsen", 0)


# -- knowledge --------------------------------------------------------------------------------


def test_usual_places_are_allowed_places():
    for object_class, places in knowledge.USUAL_PLACES.items():
        assert object_class in knowledge.OBJECT_CLASSES
        # Lamps and plants stand where nobody may put them; towel rolls and teddies cannot be put back.
        put_nowhere = not any(object_class in allowed for allowed in knowledge.CAN_CONTAIN.values())
        for place, weight in places.items():
            assert weight > 0
            assert put_nowhere or object_class in knowledge.CAN_CONTAIN[place]
    for objects in (*knowledge.CAN_CONTAIN.values(), *knowledge.CAN_HOLD.values()):
        assert set(objects) <= knowledge.PICKUPABLE
        assert all(knowledge.usual_places(class_) for class_ in objects)


def test_usual_places_speak_as_they_are_asked():
    assert knowledge.usual_places("Mug")["CoffeeMachine"] == knowledge.usual_places("mug")["coffeemachine"] > 0
    assert knowledge.usual_places("Window") == knowledge.usual_places("unicorn") == {}


@pytest.mark.data
def test_knowledge_agrees_with_the_official_games():
    from sdar_envs.alfworld.official import data_folder

    classes = {name.lower(): name for name in (*knowledge.OBJECT_CLASSES, *knowledge.RECEPTACLE_CLASSES)}
    paths = sorted(data_folder().glob("*/*/*/game.tw-pddl"))[:200]
    assert paths
    for path in paths:
        problem = read_problem(json.loads(path.read_text())["pddl_problem"])
        for receptacle_type, object_type in problem.can_contain:
            allowed = knowledge.CAN_CONTAIN[classes[receptacle_type.removesuffix("type")]]
            assert classes[object_type.removesuffix("type")] in allowed
        for flag in ("pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable", "containers"):
            for id_, type_ in problem.object_types.items():
                expected = classes[type_.removesuffix("type")] in getattr(knowledge, flag.upper())
                assert (id_ in getattr(problem, flag)) == expected, (flag, type_)


# -- export -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["move", "put"])
def test_exported_games_load_as_what_they_were(tmp_path, wording):
    kinds = set()
    for index in range(30):
        made = generate("valid_seen", index)
        path = export_game("valid_seen", index, tmp_path, wording)
        content = json.loads(path.read_text())
        assert read_problem(content["pddl_problem"]) == made.problem
        assert read_dialect(content["pddl_domain"], content["grammar"]) == DIALECTS[wording]
        assert read_task_sentence(content["grammar"]) == made.task_sentence
        assert content["solvable"] is True
        game = compiled(made, wording)
        state = game.initial.copy()
        for command in content["walkthrough"]:
            assert not state.won
            game.apply(state, game.parse(state, command, game.local_actions(state)))
        assert state.won
        kinds.add(made.problem.goal.task_type)
    assert kinds == set(TASK_TYPES)


def test_exported_folders_are_named_as_the_official_ones(tmp_path):
    rooms = {"Kitchen": range(1, 31), "LivingRoom": range(201, 231)}
    rooms |= {"Bedroom": range(301, 331), "Bathroom": range(401, 431)}
    for index in range(30):
        made = generate("valid_unseen", index)
        path = export_game("valid_unseen", index, tmp_path)
        split, folder, trial, name = path.relative_to(tmp_path).parts
        task_type, object_class, none, receptacle_class, number = folder.split("-")
        assert (split, name, none) == ("valid_unseen", "game.tw-pddl", "None")
        assert task_type == made.problem.goal.task_type
        assert (object_class, receptacle_class) == (made.object_class, made.receptacle_class)
        assert int(number) in rooms[made.layout.split("-")[0]]
        trajectory = json.loads((path.parent / "traj_data.json").read_text())
        assert trajectory["task_id"] == trial
        assert trajectory["task_type"] == task_type
        assert trajectory["turk_annotations"]["anns"][0]["task_desc"] in made.task_sentence
        params = trajectory["pddl_params"]
        assert params["object_target"] == object_class
        assert [params["parent_target"], params["toggle_target"]] == (
            ["", "DeskLamp"] if task_type == "look_at_obj_in_light" else [receptacle_class, ""]
        )
        assert sorted(file.name for file in path.parent.iterdir()) == ["game.tw-pddl", "traj_data.json"]
    assert len(list(tmp_path.rglob("game.tw-pddl"))) == 30


def test_exporting_twice_changes_nothing(tmp_path):
    path = export_game("train", 17, tmp_path)
    before = path.read_bytes()
    assert export_game("train", 17, tmp_path) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["movable", "appleSliced"])
def test_refuses_folders_that_alfworld_passes_over(tmp_path, name):
    with pytest.raises(InvalidOption, match="ALFWorld skips"):
        export_game("train", 0, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_refuses_an_unknown_wording(tmp_path):
    with pytest.raises(InvalidOption, match="Did you mean 'move'"):
        export_game("train", 0, tmp_path, "moove")


if __name__ == "__main__":
    print(digest())
