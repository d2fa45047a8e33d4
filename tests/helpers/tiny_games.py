"""Hypothesis strategies for tiny ALFWorld games that cover every kind of goal and quirk."""

from hypothesis import strategies as st

from sdar_envs.alfworld.problem import Goal, Problem
from sdar_envs.alfworld.wording import DIALECTS
from sdar_envs.alfworld.world import Game

RECEPTACLES = ("cabinet", "countertop", "sinkbasin", "microwave", "fridge", "drawer")


def _receptacle_id(kind, number):
    if kind == "sinkbasin":
        return f"sink_bar__plus_0{number}_dot_00_bar_sinkbasin"
    return f"{kind}_bar__plus_0{number}_dot_00"


@st.composite
def problems(draw):
    """Three to six receptacles at one to four places, one to four objects, any goal, any quirk."""
    kinds = draw(st.lists(st.sampled_from(RECEPTACLES), min_size=2, max_size=5))
    receptacles = {_receptacle_id(kind, i): f"{kind}type" for i, kind in enumerate(kinds)}
    locations = [f"loc_bar_{i}" for i in range(draw(st.integers(1, 4)))]
    objects = {}
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("mug", "mug", "mug", "egg", "knife")))
        objects[f"{kind}_bar__plus_0{i}_dot_00"] = f"{kind}type"
    lamp = draw(st.booleans())
    if lamp:
        objects["desklamp_bar__plus_00_dot_00"] = "desklamptype"
    names = sorted(objects)
    places = sorted(receptacles)
    contents = set()
    for name in names:
        for place in draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
            contents.add((name, place))
    movable = [name for name in names if "lamp" not in name]
    treatments = st.sampled_from((None, "hot", "cool", "clean"))
    if lamp and draw(st.booleans()):
        goal = Goal("mugtype", lamp_type="desklamptype")
    elif draw(st.booleans()):
        goal = Goal("mugtype", draw(st.sampled_from(list(receptacles.values()))), count=2)
    else:
        goal = Goal("mugtype", draw(st.sampled_from(list(receptacles.values()))), treatment=draw(treatments))

    def some(things):
        return frozenset(draw(st.lists(st.sampled_from(things), max_size=len(things)))) if things else frozenset()

    def most(things):
        return frozenset(things) - (some(things) if draw(st.booleans()) else frozenset())

    types = sorted(set(receptacles.values()))
    mugs = [name for name in movable if name.startswith("mug")]
    return Problem(
        start=draw(st.sampled_from(["loc_bar_9", *locations])),
        receptacle_types=receptacles,
        receptacle_locations={name: draw(st.sampled_from(locations)) for name in most(places)},
        object_types=objects,
        contents=frozenset(contents),
        object_locations=frozenset((name, draw(st.sampled_from(locations))) for name in names),
        inner_objects=frozenset(),
        can_contain=frozenset((r, o) for r in most(types) for o in ("mugtype", "eggtype", "knifetype")),
        openable=some(places),
        pickupable=most(movable),
        cleanable=most(mugs),
        heatable=most(mugs),
        coolable=most(mugs),
        sliceable=frozenset(name for name in movable if name.startswith("egg")),
        toggleable=frozenset(name for name in names if "lamp" in name),
        containers=frozenset(),
        cool=some(mugs) if draw(st.booleans()) else frozenset(),
        goal=goal,
    )


def games(wording="move"):
    """The same, compiled."""
    return problems().map(lambda problem: Game(problem, "Your task is to: put a mug in desk.", DIALECTS[wording]))
