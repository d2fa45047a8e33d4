"""Words and rules that random play seldom meets, spelled out: the expected texts are TextWorld's."""

import pytest

from sdar_envs.alfworld.problem import Goal, Problem
from sdar_envs.alfworld.wording import DIALECTS
from sdar_envs.alfworld.world import Game

PLACES = {"fridge": "loc_bar_1", "microwave": "loc_bar_2", "desk": "loc_bar_3", "shelf": "loc_bar_3"}


def game(mugs=1, goal=None):
    """A fridge, a microwave, a desk and a shelf that share a place, with mugs on the desk."""
    names = [f"mug_bar_{i}" for i in range(mugs)]
    nothing = frozenset()
    problem = Problem(
        start="loc_bar_0",
        receptacle_types={f"{name}_bar_1": f"{name}type" for name in PLACES},
        receptacle_locations={f"{name}_bar_1": place for name, place in PLACES.items()},
        object_types=dict.fromkeys(names, "mugtype"),
        contents=frozenset((name, "desk_bar_1") for name in names),
        object_locations=frozenset((name, "loc_bar_3") for name in names),
        inner_objects=nothing,
        can_contain=frozenset((f"{place}type", "mugtype") for place in PLACES),
        openable=nothing,
        pickupable=frozenset(names),
        cleanable=nothing,
        heatable=frozenset(names),
        coolable=frozenset(names),
        sliceable=nothing,
        toggleable=nothing,
        containers=nothing,
        cool=nothing,
        goal=goal or Goal("mugtype", "fridgetype", treatment="hot"),
    )
    return Game(problem, "Your task is to: put a hot mug in fridge.", DIALECTS["move"])


def play(game, *commands):
    """Return the last answer and the state."""
    state, answer = game.initial.copy(), ""
    for command in commands:
        action = game.parse(state, command, game.local_actions(state))
        answer = "Nothing happens." if action is None else game.apply(state, action)
    return answer, state


TAKE = ("go to desk 1", "take mug 1 from desk 1")
HEAT = ("go to microwave 1", "heat mug 1 with microwave 1")
COOL = ("go to fridge 1", "cool mug 1 with fridge 1")


@pytest.mark.parametrize(
    ("treatments", "answer"),
    [
        ((), "There's nothing special about mug 1."),
        (HEAT, "This is a hot mug 1."),
        (COOL, "This is a cold mug 1."),
        (COOL + HEAT, "This is a hot mug 1."),
        (HEAT + COOL, "This is a cold mug 1."),
    ],
)
def test_heating_and_cooling_undo_each_other(treatments, answer):
    assert play(game(), *TAKE, *treatments, "examine mug 1")[0] == answer


def test_the_last_treatment_counts():
    assert play(game(), *TAKE, *HEAT, *COOL, "move mug 1 to fridge 1")[1].won is False
    assert play(game(), *TAKE, *COOL, *HEAT, "go to fridge 1", "move mug 1 to fridge 1")[1].won is True
    goal = Goal("mugtype", "microwavetype", treatment="cool")
    assert play(game(goal=goal), *TAKE, *COOL, *HEAT, "move mug 1 to microwave 1")[1].won is False


def test_what_was_moved_between_neighbours_is_listed_by_look_in_id_order():
    moves = [command for i in (3, 1, 2) for command in (f"take mug {i} from desk 1", f"move mug {i} to shelf 1")]
    answer, _ = play(game(mugs=3), "go to desk 1", *moves, "look")
    assert answer == "You are facing the desk 1, and shelf 1. Next to it, you see a mug 3, a mug 2, and a mug 1."


def test_three_where_two_are_wanted_is_won():
    goal = Goal("mugtype", "shelftype", count=2)
    won = []
    for count in (1, 2, 3):
        moves = [f"{verb} mug {i} {place} 1" for i in range(1, count + 1) for verb, place in VERBS]
        won.append(play(game(mugs=3, goal=goal), "go to desk 1", *moves)[1].won)
    assert won == [False, True, True]


VERBS = (("take", "from desk"), ("move", "to shelf"))
