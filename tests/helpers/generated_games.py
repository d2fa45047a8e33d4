"""Invariants of generated ALFWorld games."""

import re
from dataclasses import fields

from sdar_envs.alfworld import knowledge
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.wording import DIALECTS
from sdar_envs.alfworld.world import Game

COORDINATE = r"_(?:plus|minus)_\d\d_dot_\d\d"
THING = re.compile(rf"([a-z]+)(?:_bar_{COORDINATE}){{3}}")
BASIN = re.compile(rf"(sink|bathtub)(?:_bar_{COORDINATE}){{3}}_bar_\1basin")
LOCATION = re.compile(r"loc(?:_bar_(?:_minus_)?\d+){4}")


def facts(made):
    problem = made.problem
    goal = problem.goal
    rows = {}
    for field in fields(problem):
        value = getattr(problem, field.name)
        if isinstance(value, dict | frozenset):
            rows[field.name] = sorted(value.items() if isinstance(value, dict) else value)
    rows["goal"] = [goal.object_type, goal.receptacle_type, goal.count, goal.treatment, goal.lamp_type]
    rows["start"] = problem.start
    return [made.task_sentence, made.object_class, made.receptacle_class, made.layout, rows]


def compiled(made, wording="move"):
    return Game(made.problem, made.task_sentence, DIALECTS[wording])


def check_game(made):
    """Check all that must hold in each single game."""
    problem, goal = made.problem, made.problem.goal
    things = [*problem.object_types, *problem.receptacle_types]
    assert len(things) == len(set(things))
    for id_, type_ in problem.object_types.items():
        assert f"{THING.fullmatch(id_)[1]}type" == type_
        assert "basin" not in id_
    for id_, type_ in problem.receptacle_types.items():
        assert BASIN.fullmatch(id_) if type_.endswith("basintype") else f"{THING.fullmatch(id_)[1]}type" == type_
    places = {*problem.receptacle_locations.values(), *(location for _, location in problem.object_locations)}
    assert all(LOCATION.fullmatch(location) for location in (problem.start, *places))
    assert problem.start not in problem.receptacle_locations.values()
    assert problem.receptacle_locations.keys() == problem.receptacle_types.keys()
    assert {id_ for id_, _ in problem.object_locations} == problem.object_types.keys()
    assert len(problem.object_locations) == len(problem.object_types)
    # An object is inside another one only in the same receptacle.
    for inner, outer in problem.inner_objects:
        assert outer in problem.containers
        assert {r for o, r in problem.contents if o == inner} & {r for o, r in problem.contents if o == outer}
    # Only targets in the fridge are cold.
    for id_ in problem.cool:
        assert problem.object_types[id_] == goal.object_type
        assert id_ in problem.coolable
        assert "fridgetype" in {problem.receptacle_types[r] for o, r in problem.contents if o == id_}
    assert goal.object_type == knowledge.type_id(made.object_class)
    assert (goal.lamp_type or goal.receptacle_type) == knowledge.type_id(made.receptacle_class)
    if goal.receptacle_type:
        assert (goal.receptacle_type, goal.object_type) in problem.can_contain
        assert goal.receptacle_type in problem.receptacle_types.values()
    in_receptacles = {id_ for id_, _ in problem.contents if problem.object_types[id_] == goal.object_type}
    assert len(in_receptacles) >= goal.count
    assert in_receptacles <= problem.pickupable
    game = compiled(made)
    assert not game.initial.won
    walkthrough = plan(game, game.initial)
    assert walkthrough is not None
    assert 3 <= len(walkthrough) <= 11
    return len(walkthrough)
