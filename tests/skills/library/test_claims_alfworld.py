"""Claims of the ALFWorld skills, checked against the engine and the layouts of its rooms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import gymnasium
import pytest
from helpers.claims import claim

from sdar_envs.alfworld.env import ALFWorldEnv
from sdar_envs.alfworld.knowledge import CAN_CONTAIN
from sdar_envs.alfworld.world import Game

HOUSES = 400
NOTHING = "Nothing happens."
DISHES = {"bowl", "cup", "mug", "plate", "pan", "pot"}
PLACING = ("pick_and_place_simple", "pick_two_obj_and_place", "pick_heat_then_place_in_recep")


@lru_cache(maxsize=1)
def _source():
    return make().source


def make(wording: str = "move") -> ALFWorldEnv:
    env = gymnasium.make("sdar/ALFWorld-v0", split="train", wording=wording, disable_env_checker=True).unwrapped
    assert isinstance(env, ALFWorldEnv)
    return env


def kind(name: str) -> str:
    return name.rsplit(" ", 1)[0]


def games(task_type: str | None = None) -> Iterator[tuple[str, Game]]:
    source = _source()
    for index in range(HOUSES):
        task = source.task("train", index)
        if task_type in (None, task.task_type):
            yield task.id, source.game(task)


class Play:
    """One episode with short cuts: walking to a place, opening what is shut there."""

    def __init__(self, task_id: str, wording: str = "move") -> None:
        self.env = make(wording)
        self.env.reset(options={"task_id": task_id})
        self.game = self.env.game
        self.over = self.won = False

    @property
    def commands(self) -> list[str]:
        return self.env._commands()

    @property
    def state(self):
        return self.env.snapshot().state

    def do(self, command: str) -> str:
        observation, _, terminated, truncated, info = self.env.step(command)
        self.over, self.won = terminated or truncated, info["won"]
        return observation

    def go(self, place: str, *, door: bool = True) -> None:
        if f"go to {place}" in self.commands:
            self.do(f"go to {place}")
        if door and f"open {place}" in self.commands:
            self.do(f"open {place}")

    def take(self, thing: str, place: str) -> str:
        self.go(place)
        return self.do(f"take {thing} from {place}")

    def place(self, kind_: str) -> str:
        return next(name for name in self.game.receptacles if kind(name) == kind_)

    def contents(self) -> list[tuple[str, str]]:
        """Return (thing, place) for all that lies somewhere."""
        game = self.game
        return [
            (game.objects[thing], game.receptacles[place])
            for place, things in enumerate(self.state.contents)
            for thing in things
        ]

    def wanted(self) -> list[tuple[str, str]]:
        """Return (thing, place) for all things that the goal can be reached with."""
        game = self.game
        return [
            (thing, place) for thing, place in self.contents() if game.goal_objects >> game.objects.index(thing) & 1
        ]

    def targets(self) -> list[str]:
        return [self.game.receptacles[i] for i in self.game.goal_receptacles]

    def holds(self, thing: str) -> bool:
        return self.state.held == self.game.objects.index(thing)

    def is_(self, state: str, thing: str) -> bool:
        return bool(getattr(self.state, state) >> self.game.objects.index(thing) & 1)


def plays(task_type: str, n: int = 12) -> Iterator[Play]:
    for number, (task_id, _) in enumerate(games(task_type)):
        if number < n:
            yield Play(task_id)


def walk(n: int = 6) -> Iterator[Play]:
    """Yield episodes of all kinds at moments on the way to their end."""
    seen: Counter[str] = Counter()
    for task_id, game in games():
        seen[game.goal.task_type] += 1
        if seen[game.goal.task_type] <= n:
            play = Play(task_id)
            for command in play.env.oracle_plan()[:-1]:
                yield play
                play.do(command)
            yield play


def shares(things: set[str] | frozenset[str]) -> Counter[str]:
    """Count in which kinds of furniture things of these kinds lie, over all houses."""
    places: Counter[str] = Counter()
    for _, game in games():
        for receptacle, inside in zip(game.receptacles, game.initial.contents, strict=True):
            places[kind(receptacle)] += sum(kind(game.objects[i]) in things for i in inside)
    return places


def top(places: Counter[str], n: int) -> set[str]:
    return {place for place, _ in places.most_common(n)}


def share(places: Counter[str], *kinds: str) -> float:
    return sum(places[kind_] for kind_ in kinds) / places.total()


# -- give-commands-that-are-listed ------------------------------------------------------------

COMMANDS = "alfworld/give-commands-that-are-listed"


@claim(COMMANDS, "Nothing else works, and there are no synonyms.", '"Nothing happens."')
def test_commands_only_listed_ones_work():
    for play in walk(2):
        state = play.state
        for command in play.commands:
            for other in (
                re.sub(r" \d+$", "", command),
                command.replace("go to", "walk to").replace("take", "pick up").replace("open", "unlock"),
                command.replace(" from ", " out of ").replace(" to ", " into "),
                command.upper(),
            ):
                if other not in play.commands:
                    before = play.env.snapshot()
                    assert play.do(other) == NOTHING
                    assert play.state == state
                    play.env.restore(before)


@claim(COMMANDS, "Every command counts towards the step limit, also a useless one.")
def test_commands_all_count():
    play = Play("alfworld/train/0000")
    for number in range(1, 51):
        *_, truncated, info = play.env.step("look" if number % 2 else "nonsense")
        assert (info["step"], truncated) == (number, number == 50)


@claim(COMMANDS, "You act only on the furniture that you stand at.")
def test_commands_reach_only_the_furniture_here():
    for play in walk():
        here = {play.game.receptacles[i] for i in play.game.receptacles_at[play.state.at]}
        for command in play.commands:
            if not command.startswith("go to "):
                named = {name for name in play.game.receptacles if re.search(rf"\b{name}$", command)}
                assert named <= here
            if command.startswith("use "):
                assert (command.removeprefix("use "), True) in {(thing, at in here) for thing, at in play.contents()}


@claim(
    COMMANDS, "does nothing, also if it names another piece of furniture at the same place: all of those are at hand"
)
def test_commands_going_where_one_is_does_nothing():
    together = 0
    for play in walk():
        here = play.game.receptacles_at[play.state.at]
        together += len(here) > 1
        for name in (play.game.receptacles[i] for i in here):
            assert f"go to {name}" not in play.commands
            assert f"examine {name}" in play.commands
    assert together
    play = next(walk())
    play.go("countertop 1")
    assert play.do("go to countertop 1") == NOTHING


@claim(COMMANDS, 'The instruction names a kind of thing, not one thing: any mug will do for "a mug", any drawer')
def test_commands_any_thing_of_the_kind_will_do():
    ways = 0
    for play in plays("pick_and_place_simple", 30):
        start = play.env.snapshot()
        for thing, place in play.wanted():
            for target in play.targets():
                play.env.restore(start)
                play.take(thing, place)
                play.go(target)
                play.do(f"move {thing} to {target}")
                assert play.won
                ways += 1
    assert ways > 60


@claim(COMMANDS, "You never need to slice anything or to close anything.")
def test_commands_nothing_needs_slicing_or_closing():
    for task_id, _ in games():
        if int(task_id[-2:]) % 5 == 0:
            assert not [c for c in Play(task_id).env.oracle_plan() if c.startswith(("slice", "close"))]


# -- carry-one-thing --------------------------------------------------------------------------

CARRY = "alfworld/carry-one-thing"


@claim(CARRY, "While you hold something, no `take` is listed anywhere.")
def test_carry_no_take_with_a_full_hand():
    full = 0
    for play in walk():
        if play.state.held >= 0:
            full += 1
            for name in play.game.receptacles:
                before = play.env.snapshot()
                play.go(name)
                assert not [c for c in play.commands if c.startswith("take ")]
                play.env.restore(before)
    assert full > 60


@claim(CARRY, "put it back where you took it (`move ... to ...`; in the older wording `put ... in/on ...`)")
@pytest.mark.parametrize(("wording", "command"), [("move", "move {} to {}"), ("put", "put {} in/on {}")])
def test_carry_a_thing_goes_back_where_it_was(wording, command):
    taken = back = 0
    for task_id, _ in list(games())[:20]:
        play = Play(task_id, wording)
        start = play.env.snapshot()
        for thing, place in play.contents():
            play.env.restore(start)
            if "pick up" in play.take(thing, place):
                taken += 1
                back += command.format(thing, place) in play.commands
    # The rest are things that no furniture takes, such as towels.
    assert back / taken > 0.97


@claim(CARRY, "listed only where the furniture accepts that kind of thing and is open.")
def test_carry_putting_down_wants_open_furniture_that_accepts():
    accepted = {kind_.lower(): {thing.lower() for thing in things} for kind_, things in CAN_CONTAIN.items()}
    for play in walk(2):
        if play.state.held < 0:
            continue
        thing = play.game.objects[play.state.held]
        for place in play.game.receptacles:
            before = play.env.snapshot()
            play.go(place, door=False)
            closed = f"open {place}" in play.commands
            listed = f"move {thing} to {place}" in play.commands
            assert listed == (not closed and kind(thing) in accepted[kind(place)])
            play.env.restore(before)


@claim(CARRY, "otherwise walk to a countertop, a table or a shelf")
def test_carry_surfaces_take_nearly_everything():
    for kinds in ({"CounterTop"}, {"DiningTable"}, {"SideTable"}, {"CoffeeTable"}, {"Shelf"}):
        things = {thing for kind_ in kinds for thing in CAN_CONTAIN[kind_]}
        assert len(things) > 30
    assert min(len(CAN_CONTAIN[kind_]) for kind_ in ("CounterTop", "DiningTable", "SideTable", "CoffeeTable")) > 50


@claim(CARRY, "With a thing in hand you can still open, close and examine furniture")
def test_carry_doors_open_with_a_full_hand():
    opened = 0
    for play in walk(2):
        if play.state.held < 0:
            continue
        for place in play.game.receptacles[:12]:
            before = play.env.snapshot()
            play.go(place, door=False)
            assert f"examine {place}" in play.commands
            if f"open {place}" in play.commands:
                assert f"The {place} is open. In it, you see" in play.do(f"open {place}")
                assert play.do(f"close {place}") == f"You close the {place}."
                opened += 1
            play.env.restore(before)
    assert opened > 20


# -- open-what-is-closed ----------------------------------------------------------------------

DOORS = "alfworld/open-what-is-closed"


@claim(
    DOORS, "Cabinets, drawers, the fridge, the microwave and the safe usually have a door; some cabinets and drawers"
)
def test_doors_are_on_five_kinds_of_furniture():
    all_, doors = Counter[str](), Counter[str]()
    for _, game in games():
        for number, name in enumerate(game.receptacles):
            all_[kind(name)] += 1
            doors[kind(name)] += game.openable >> number & 1
    assert {name for name in doors if doors[name]} == {"cabinet", "drawer", "fridge", "microwave", "safe"}
    for name in ("cabinet", "drawer", "safe"):
        assert 0.65 < doors[name] / all_[name] < 0.95
    for name in ("fridge", "microwave"):
        assert doors[name] == all_[name]


@claim(DOORS, '"The cabinet 2 is closed." tells you nothing', "`open` it, and the answer lists the contents")
def test_doors_hide_what_is_inside():
    looked = 0
    for play in walk(1):
        lying = play.contents()
        for place in play.game.receptacles:
            before = play.env.snapshot()
            play.go(place, door=False)
            if f"open {place}" in play.commands:
                assert play.do(f"examine {place}") == f"The {place} is closed."
                text = play.do(f"open {place}")
                inside = [thing for thing, at in lying if at == place]
                assert all(f"a {thing}" in text for thing in inside)
                assert ("you see nothing" in text) == (not inside)
                looked += 1
            play.env.restore(before)
    assert looked > 50


@claim(DOORS, "You can neither take something out of closed furniture nor put something in.")
def test_doors_stop_taking_and_putting():
    tried = 0
    for play in walk(1):
        for thing, place in play.contents():
            before = play.env.snapshot()
            play.go(place, door=False)
            if f"open {place}" in play.commands and play.state.held < 0:
                assert play.do(f"take {thing} from {place}") == NOTHING
                play.take(thing, place)
                assert play.do(f"close {place}") == f"You close the {place}."
                assert play.do(f"move {thing} to {place}") == NOTHING
                tried += 1
            play.env.restore(before)
    assert tried > 50


@claim(DOORS, "work while the door is closed, with the thing in your hand.")
@pytest.mark.parametrize(
    ("task_type", "verb", "place", "state"),
    [
        ("pick_heat_then_place_in_recep", "heat", "microwave 1", "hot"),
        ("pick_cool_then_place_in_recep", "cool", "fridge 1", "cool"),
    ],
)
def test_doors_may_stay_closed_for_heating_and_cooling(task_type, verb, place, state):
    tried = 0
    for play in plays(task_type, 20):
        for thing, at in [pair for pair in play.wanted() if pair[1] != place][:1]:
            play.take(thing, at)
            play.go(place, door=False)
            assert f"open {place}" in play.commands
            assert play.do(f"{verb} {thing} with {place}") == f"You {verb} the {thing} using the {place}."
            assert play.is_(state, thing)
            assert play.holds(thing)
            tried += 1
    assert tried > 10


# -- search-likely-places-first ---------------------------------------------------------------

SEARCH = "alfworld/search-likely-places-first"


@claim(SEARCH, "The first observation lists all furniture.", "a closed door costs one more step")
def test_search_the_first_observation_lists_all_furniture():
    for _, game in games():
        room = game.first_observation.split("\n\n")[1]
        assert set(re.findall(r"\ba ([a-z]+ \d+)", room)) == set(game.receptacles)


@claim(SEARCH, "Every look lists all that is there", "About half of all furniture is empty")
def test_search_a_look_is_complete_and_often_empty():
    empty = total = 0
    for _, game in games():
        empty += sum(not inside for inside in game.initial.contents)
        total += len(game.receptacles)
    assert 0.4 < empty / total < 0.55
    play = Play("alfworld/train/0000")
    lying = play.contents()
    for place in play.game.receptacles:
        play.go(place)
        text = play.do(f"examine {place}")
        assert {thing for thing, at in lying if at == place} == set(re.findall(r"\ba ([a-z]+ \d+)", text))
        play.env.reset(options={"task_id": "alfworld/train/0000"})


@claim(
    SEARCH,
    "Kitchen food (apple, egg, lettuce, potato, tomato, bread): countertop, fridge, sinkbasin, diningtable.",
    "Dishes (bowl, cup, mug, plate): cabinet, countertop, diningtable, sinkbasin; mugs also at the coffeemachine.",
    "Cutlery (knife, fork, spoon, spatula): countertop, drawer, diningtable, sinkbasin. Pots, pans, kettles: "
    "stoveburner, cabinet, countertop.",
    "Pen, pencil, CD: desk, drawer, shelf, sidetable. Keychain, creditcard, cellphone: sidetable, drawer, desk, bed, "
    "shelf.",
    "Book and laptop: bed, desk, sidetable. Pillow: bed, sofa, armchair. Remotecontrol, newspaper: sofa, coffeetable, "
    "sidetable.",
    "Bathroom things (soap, candle, spraybottle, toiletpaper): countertop, cabinet, toilet, drawer, sinkbasin.",
)
@pytest.mark.parametrize(
    ("things", "places", "least"),
    [
        ("apple egg lettuce potato tomato bread", "countertop fridge sinkbasin diningtable", 0.8),
        ("bowl cup mug plate", "cabinet countertop diningtable sinkbasin", 0.65),
        ("mug", "cabinet countertop diningtable sinkbasin coffeemachine", 0.7),
        ("knife fork spoon spatula", "countertop drawer diningtable sinkbasin", 0.9),
        ("pot pan kettle", "stoveburner cabinet countertop", 0.75),
        ("pen pencil cd", "desk drawer shelf sidetable", 0.65),
        ("keychain creditcard cellphone", "sidetable drawer desk bed shelf", 0.6),
        ("book laptop", "bed desk sidetable", 0.5),
        ("pillow", "bed sofa armchair", 0.95),
        ("remotecontrol newspaper", "sofa coffeetable sidetable", 0.5),
        ("soapbar soapbottle candle spraybottle toiletpaper", "countertop cabinet toilet drawer sinkbasin", 0.65),
    ],
)
def test_search_things_lie_in_the_likely_places(things, places, least):
    found = shares(set(things.split()))
    assert share(found, *places.split()) > least
    # They are, but for one, the most likely ones.
    assert len(top(found, len(places.split()) + 1) & set(places.split())) >= len(places.split()) - 1


# -- notice-when-it-is-done -------------------------------------------------------------------

DONE = "alfworld/notice-when-it-is-done"


@claim(DONE, "The episode ends by itself the moment the goal holds.")
def test_done_ends_by_itself():
    for task_id, _ in list(games())[:60]:
        play = Play(task_id)
        for command in play.env.oracle_plan():
            assert not play.over
            play.do(command)
        assert play.won
        assert play.over


@claim(DONE, "Sidetable, coffeetable, diningtable and countertop are four different things.")
def test_done_other_furniture_does_not_count():
    tried = 0
    for play in plays("pick_and_place_simple", 30):
        thing, at = play.wanted()[0]
        play.take(thing, at)
        for other in play.game.receptacles:
            if other not in play.targets():
                before = play.env.snapshot()
                play.go(other)
                tried += play.do(f"move {thing} to {other}") != NOTHING
                assert not play.won
                play.env.restore(before)
    assert tried > 200


@claim(DONE, "Heating undoes cooling, and cooling undoes heating.")
def test_done_heating_and_cooling_undo_each_other():
    for play in plays("pick_heat_then_place_in_recep"):
        thing, at = play.wanted()[0]
        if "cool" not in _treatments(play, thing):
            continue
        play.take(thing, at)
        for command, hot in (("heat {} with microwave 1", True), ("cool {} with fridge 1", False)) * 2:
            play.go(command.rpartition(" with ")[2], door=False)
            assert play.do(command.format(thing)).startswith("You ")
            assert (play.is_("hot", thing), play.is_("cool", thing)) == (hot, not hot)


def _treatments(play: Play, thing: str) -> set[str]:
    number = play.game.objects.index(thing)
    return {
        verb
        for verb, mask in (("heat", play.game.heatable), ("cool", play.game.coolable), ("clean", play.game.cleanable))
        if mask >> number & 1
    }


@claim(DONE, "do both lie in the same piece of furniture, with the same number?")
def test_done_two_places_do_not_count_together():
    tried = 0
    for play in plays("pick_two_obj_and_place", 40):
        targets, wanted = play.targets(), play.wanted()
        free = [pair for pair in wanted if pair[1] not in targets]
        if len(targets) < 2 or len(free) < 2 or len(free) < len(wanted):
            continue
        for (thing, at), target in zip(free[:2], targets[:2], strict=True):
            play.take(thing, at)
            play.go(target)
            play.do(f"move {thing} to {target}")
        assert not play.won
        thing = free[1][0]
        play.take(thing, targets[1])
        play.go(targets[0])
        play.do(f"move {thing} to {targets[0]}")
        assert play.won
        tried += 1
    assert tried > 5


@claim(
    DONE,
    "`examine` works for a thing only while you hold it.",
    'It shows "hot", "cold" or "clean" for food and cutlery, but never for bowls, cups, mugs, plates, pots and pans',
)
def test_done_what_examine_shows():
    words = {"heat": "hot", "cool": "cold", "clean": "clean"}
    tools = {"heat": "microwave 1", "cool": "fridge 1", "clean": "sinkbasin 1"}
    seen = Counter[tuple[str, bool]]()
    for task_type, verb in (
        ("pick_heat_then_place_in_recep", "heat"),
        ("pick_cool_then_place_in_recep", "cool"),
        ("pick_clean_then_place_in_recep", "clean"),
    ):
        for play in plays(task_type, 25):
            thing, at = play.wanted()[0]
            play.go(at)
            assert play.do(f"examine {thing}") == NOTHING
            play.take(thing, at)
            play.go(tools[verb], door=False)
            play.do(f"{verb} {thing} with {tools[verb]}")
            text = play.do(f"examine {thing}")
            shown = text == f"This is a {words[verb]} {thing}."
            assert shown or text.startswith(f"This is a normal {thing}. In it, you see ")
            assert shown == (kind(thing) not in DISHES)
            seen[verb, shown] += 1
    assert all(seen[verb, shown] for verb in words for shown in (True, False))


# -- the six kinds of task --------------------------------------------------------------------


def plan_lengths(task_type: str) -> Counter[int]:
    return Counter(len(Play(task_id).env.oracle_plan()) for task_id, _ in games(task_type))


PLACE = "alfworld/place-one-thing"


@claim(PLACE, "With knowledge of the room this takes four or five commands, rarely six")
def test_place_takes_four_or_five_commands():
    lengths = plan_lengths("pick_and_place_simple")
    assert {4, 5} <= set(lengths) <= {4, 5, 6}
    assert lengths[6] / lengths.total() < 0.05


@claim(PLACE, "A thing that already lies in the wanted furniture would end the task at once, so look elsewhere first.")
def test_place_the_thing_is_never_there_already():
    for play in plays("pick_and_place_simple", 200):
        assert not {at for _, at in play.wanted()} & set(play.targets())


@claim(PLACE, "Choose one that you know to be open, or a surface, before a closed one.")
def test_place_a_door_costs_a_step():
    for play in plays("pick_and_place_simple", 40):
        thing, at = play.wanted()[0]
        play.take(thing, at)
        costs = {}
        for target in play.targets():
            before = play.env.snapshot()
            play.go(target)
            play.do(f"move {thing} to {target}")
            assert play.won
            costs[target] = play.env.snapshot().step - before.step
            play.env.restore(before)
        for target, cost in costs.items():
            shut = play.game.openable >> play.game.receptacles.index(target) & 1 and target != at
            here = f"go to {target}" not in play.commands
            assert cost == 1 + bool(shut) + (not here) - (bool(shut) and f"close {target}" in play.commands)


TWO = "alfworld/place-two-things"


@claim(TWO, "eight to ten commands, or four to five if one lies there already")
def test_two_takes_eight_to_ten_commands():
    lengths = plan_lengths("pick_two_obj_and_place")
    assert set(lengths) <= {4, 5, 8, 9, 10}
    assert {4, 5} & set(lengths)
    for play in plays("pick_two_obj_and_place", 60):
        there = {at for _, at in play.wanted()} & set(play.targets())
        assert (len(play.env.oracle_plan()) <= 5) == bool(there)


@claim(TWO, "bring it to the same number. The door is still open.")
def test_two_doors_stay_open():
    opened = 0
    for play in plays("pick_two_obj_and_place", 60):
        plan = play.env.oracle_plan()
        doors = [command for command in plan if command.startswith("open ")]
        assert len(doors) == len(set(doors))
        opened += f"open {plan[-1].rpartition(' to ')[2]}" in doors
    assert opened > 5


@claim(TWO, "You carry one at a time, so there are two trips.")
def test_two_needs_two_takes():
    for play in plays("pick_two_obj_and_place", 60):
        plan = play.env.oracle_plan()
        assert sum(command.startswith("take ") for command in plan) == (1 if len(plan) <= 5 else 2)


LAMP = "alfworld/look-under-the-desklamp"


@claim(LAMP, "you hold the thing, you stand where the desklamp stands, and the lamp was switched on")
def test_lamp_three_conditions():
    for play in plays("look_at_obj_in_light", 20):
        thing, at = play.wanted()[0]
        lamp, stand = next(pair for pair in play.contents() if kind(pair[0]) == "desklamp")
        play.take(thing, at)
        if f"use {lamp}" not in play.commands:
            assert play.do(f"use {lamp}") == NOTHING
        play.go(stand, door=False)
        assert not play.won
        assert play.do(f"use {lamp}") == f"You turn on the {lamp}."
        assert play.won


@claim(LAMP, "No `examine` and no `look` is needed", "`use` is listed only at its place.")
def test_lamp_examining_is_no_part_of_it():
    for play in plays("look_at_obj_in_light", 200):
        plan = play.env.oracle_plan()
        assert not [command for command in plan if command.startswith(("examine", "look"))]
        assert 3 <= len(plan) <= 5


@claim(LAMP, "Switched on, it stays on: if you used it before you had the thing, come back with the thing in hand.")
def test_lamp_may_be_switched_on_first():
    apart = 0
    for play in plays("look_at_obj_in_light", 20):
        thing, at = play.wanted()[0]
        lamp, stand = next(pair for pair in play.contents() if kind(pair[0]) == "desklamp")
        play.go(stand, door=False)
        play.do(f"use {lamp}")
        play.take(thing, at)
        if not play.over:
            play.go(stand, door=False)
            apart += 1
        assert play.won
    assert apart


@claim(LAMP, "If it lies beside the thing, take the thing and use the lamp right there.", "The lamp cannot be carried.")
def test_lamp_beside_the_thing():
    beside = 0
    for task_id, _ in games("look_at_obj_in_light"):
        play = Play(task_id)
        beside += len(play.env.oracle_plan()) == 3
        lamp, stand = next(pair for pair in play.contents() if kind(pair[0]) == "desklamp")
        play.go(stand)
        assert f"take {lamp} from {stand}" not in play.commands
    assert beside > 5


@claim(LAMP, "on a sidetable or a desk in three of four rooms, else on a dresser, shelf or coffeetable")
def test_lamp_where_it_stands():
    places = Counter[str]()
    for _, game in games("look_at_obj_in_light"):
        for place, inside in zip(game.receptacles, game.initial.contents, strict=True):
            places[kind(place)] += any(kind(game.objects[i]) == "desklamp" for i in inside)
    assert 0.65 < share(places, "sidetable", "desk") < 0.85
    assert share(places, "sidetable", "desk", "dresser", "shelf", "coffeetable") > 0.97


@claim(LAMP, "A floorlamp does not help.")
def test_lamp_floorlamps_cannot_be_used():
    floorlamps = 0
    for task_id, game in games("look_at_obj_in_light"):
        if any(kind(name) == "floorlamp" for name in game.objects):
            floorlamps += 1
            play = Play(task_id)
            for place in game.receptacles:
                play.go(place, door=False)
                assert not [command for command in play.commands if command.startswith("use floorlamp")]
                play.env.reset(options={"task_id": task_id})
    assert floorlamps


@claim(LAMP, "Things to look at lie mostly on sidetables, beds, desks, shelves and in drawers.")
def test_lamp_where_the_things_lie():
    places = Counter(kind(at) for play in plays("look_at_obj_in_light", 200) for _, at in play.wanted())
    assert share(places, "sidetable", "bed", "desk", "shelf", "drawer") > 0.6


HEAT = "alfworld/heat-in-the-microwave"


@claim(HEAT, "Putting a thing into the microwave does not heat it.", "The stove heats nothing.")
def test_heat_the_command_is_what_heats():
    tried = 0
    for play in plays("pick_heat_then_place_in_recep", 30):
        thing, at = play.wanted()[0]
        play.take(thing, at)
        play.go("microwave 1")
        play.do(f"move {thing} to microwave 1")
        play.do("close microwave 1")
        play.do("open microwave 1")
        play.do(f"take {thing} from microwave 1")
        assert play.holds(thing)
        assert not play.is_("hot", thing)
        for burner in (name for name in play.game.receptacles if kind(name) == "stoveburner"):
            play.go(burner)
            assert play.do(f"heat {thing} with {burner}") == NOTHING
            tried += 1
    assert tried > 20


@claim(HEAT, "the fridge cools nothing by itself, but the command `cool` would undo the heating")
def test_heat_a_hot_thing_may_go_into_the_fridge():
    won = 0
    for play in plays("pick_heat_then_place_in_recep", 60):
        if play.targets() == ["fridge 1"]:
            thing, at = play.wanted()[0]
            play.take(thing, at)
            play.go("microwave 1", door=False)
            play.do(f"heat {thing} with microwave 1")
            play.go("fridge 1")
            before = play.env.snapshot()
            if f"cool {thing} with fridge 1" in play.commands:
                play.do(f"cool {thing} with fridge 1")
                play.do(f"move {thing} to fridge 1")
                assert not play.won
            play.env.restore(before)
            play.do(f"move {thing} to fridge 1")
            won += play.won
    assert won > 5


@claim(HEAT, "If the thing already lies in the target, take it out, heat it, bring it back.")
def test_heat_what_lies_in_the_target():
    won = 0
    for play in plays("pick_heat_then_place_in_recep", 60):
        for thing, at in [pair for pair in play.wanted() if pair[1] in play.targets()][:1]:
            play.take(thing, at)
            play.go("microwave 1", door=False)
            play.do(f"heat {thing} with microwave 1")
            play.go(at)
            play.do(f"move {thing} to {at}")
            won += play.won
            assert play.won
    assert won


@claim(HEAT, "Only apple, bread, cup, egg, mug, plate, potato and tomato are ever to be heated.")
def test_heat_what_can_be_heated():
    wanted = {game.goal.object_type.removesuffix("type") for _, game in games("pick_heat_then_place_in_recep")}
    assert wanted == {"apple", "bread", "cup", "egg", "mug", "plate", "potato", "tomato"}


def wanted_places(task_type: str, *, room: str = "") -> Counter[str]:
    source = _source()
    return Counter(
        kind(at)
        for play in plays(task_type, HOUSES)
        if source.find(play.env.task.id).data["layout"].startswith(room)
        for _, at in play.wanted()
    )


@claim(HEAT, "mostly on the countertop, in the fridge, the sinkbasin, a cabinet or on the diningtable")
def test_heat_where_the_things_lie():
    assert share(wanted_places("pick_heat_then_place_in_recep"), *FIVE) > 0.75


FIVE = ("countertop", "fridge", "sinkbasin", "cabinet", "diningtable")
COOL = "alfworld/cool-in-the-fridge"


@claim(
    COOL,
    "what lies there at the start is mostly cool already. Then take it straight to the target; `cool` on the spot "
    "costs one step and makes sure of it.",
)
def test_cool_what_lies_in_the_fridge_is_cool_already():
    there = 0
    for play in plays("pick_cool_then_place_in_recep", 60):
        for thing, at in [pair for pair in play.wanted() if pair[1] == "fridge 1"][:1]:
            target = play.targets()[0]
            play.take(thing, at)
            before = play.env.snapshot()
            for certain in (False, True):
                play.env.restore(before)
                if certain:
                    assert play.do(f"cool {thing} with fridge 1").startswith("You cool")
                play.go(target)
                play.do(f"move {thing} to {target}")
                assert play.won
            there += 1
    assert there > 5


@claim(COOL, "A thing that you put into the fridge yourself does not become cool by that: only the command cools.")
def test_cool_the_command_is_what_cools():
    tried = 0
    for play in plays("pick_cool_then_place_in_recep", 60):
        for thing, at in [pair for pair in play.wanted() if pair[1] != "fridge 1"][:1]:
            play.take(thing, at)
            play.go("fridge 1")
            for command in ("move {} to fridge 1", "close fridge 1", "open fridge 1", "take {} from fridge 1"):
                assert play.do(command.format(thing)) != NOTHING
            assert not play.is_("cool", thing)
            tried += 1
    assert tried > 30


@claim(COOL, "Look into the fridge early: about one in five is there")
def test_cool_one_in_five_is_in_the_fridge():
    assert 0.12 < share(wanted_places("pick_cool_then_place_in_recep"), "fridge") < 0.28


@claim(
    COOL, "mostly on the countertop, in the fridge, a cabinet, the sinkbasin or on the diningtable; pots and pans on"
)
def test_cool_where_the_things_lie():
    assert share(wanted_places("pick_cool_then_place_in_recep"), *FIVE, "stoveburner") > 0.8
    assert top(shares({"pot", "pan"}), 1) == {"stoveburner"}


@claim(COOL, "Into a microwave you only put it: go to, open, move.")
def test_cool_a_cool_thing_may_go_into_the_microwave():
    won = 0
    for play in plays("pick_cool_then_place_in_recep", 60):
        if play.targets() == ["microwave 1"]:
            thing, at = play.wanted()[0]
            play.take(thing, at)
            play.go("fridge 1", door=False)
            play.do(f"cool {thing} with fridge 1")
            play.go("microwave 1")
            play.do(f"move {thing} to microwave 1")
            assert play.won
            won += 1
    assert won


CLEAN = "alfworld/clean-in-the-sinkbasin"


@claim(
    CLEAN,
    "A thing that lies in the sinkbasin is not clean for that: take it, clean it on the spot, go on.",
    "No thing is clean at the start",
)
def test_clean_the_command_is_what_cleans():
    there = 0
    for play in plays("pick_clean_then_place_in_recep", 60):
        assert play.state.clean == 0
        for thing, at in play.wanted():
            if kind(at) == "sinkbasin" and not play.over:
                play.take(thing, at)
                assert play.do(f"clean {thing} with {at}") == f"You clean the {thing} using the {at}."
                assert play.holds(thing)
                target = play.targets()[0]
                play.go(target)
                play.do(f"move {thing} to {target}")
                assert play.won
                there += 1
    assert there > 5


@claim(CLEAN, "A bathtubbasin cleans nothing, nor do a cloth or a soapbar; only a sinkbasin does.")
@pytest.mark.parametrize("wording", ["move", "put"])
def test_clean_only_in_a_sinkbasin(wording):
    tried = 0
    for task_id, _ in list(games("pick_clean_then_place_in_recep"))[:30]:
        play = Play(task_id, wording)
        thing, at = play.wanted()[0]
        play.take(thing, at)
        for place in play.game.receptacles:
            before = play.env.snapshot()
            play.go(place)
            here = {play.game.receptacles[i] for i in play.game.receptacles_at[play.state.at]}
            cleaning = [command for command in play.commands if command.startswith("clean ")]
            assert {command.rpartition(" with ")[2] for command in cleaning} == {
                name for name in here if kind(name) == "sinkbasin"
            }
            tried += kind(place) == "bathtubbasin"
            play.env.restore(before)
    assert tried


@claim(
    CLEAN,
    "In a kitchen mostly on the countertop, in the sinkbasin, a cabinet, on the diningtable, in the fridge or a "
    "drawer.",
    "In a bathroom it is a cloth, a soapbar or a dishsponge, on the countertop or toilet, in the sinkbasin, the "
    "bathtubbasin, a cabinet or a drawer.",
)
def test_clean_where_the_things_lie():
    clean = "pick_clean_then_place_in_recep"
    assert share(wanted_places(clean, room="Kitchen"), *FIVE, "drawer") > 0.8
    bathroom = ("countertop", "toilet", "sinkbasin", "bathtubbasin", "cabinet", "drawer")
    assert share(wanted_places(clean, room="Bathroom"), *bathroom) > 0.75
    source = _source()
    wanted = {
        game.goal.object_type for id_, game in games(clean) if source.find(id_).data["layout"].startswith("Bathroom")
    }
    assert wanted == {"clothtype", "soapbartype", "dishspongetype"}


@claim(CLEAN, "Cleaning, heating and cooling are independent except that heating and cooling undo each other")
def test_clean_survives_heating_and_cooling():
    for play in plays("pick_clean_then_place_in_recep", 40):
        thing, at = play.wanted()[0]
        if _treatments(play, thing) != {"heat", "cool", "clean"}:
            continue
        play.take(thing, at)
        for verb, place in (("clean", "sinkbasin 1"), ("heat", "microwave 1"), ("cool", "fridge 1")):
            play.go(place, door=False)
            play.do(f"{verb} {thing} with {place}")
            assert play.is_("clean", thing)


# -- the steps, in their order ----------------------------------------------------------------


def bring(play: Play, thing: str, at: str, treatment: str = "") -> str:
    """Do what the numbered lists of the skills say; return the target."""
    play.take(thing, at)
    if treatment:
        verb, _, place = treatment.partition(" ")
        play.go(place, door=False)
        assert play.do(f"{verb} {thing} with {place}").startswith(f"You {verb} the {thing}")
    target = next((place for place in play.targets() if place != at), at)
    play.go(target)
    play.do(f"move {thing} to {target}")
    return target


@pytest.mark.parametrize(
    ("task_type", "treatment"),
    [
        ("pick_and_place_simple", ""),
        ("pick_heat_then_place_in_recep", "heat microwave 1"),
        ("pick_cool_then_place_in_recep", "cool fridge 1"),
        ("pick_clean_then_place_in_recep", "clean sinkbasin 1"),
    ],
)
@claim(PLACE, "If it is closed, `open` it. `move` the thing there: done.", "Any furniture of the wanted kind counts.")
@claim(
    HEAT,
    "with the thing in your hand, `heat <thing> with microwave 1`. The door may stay closed;",
    "`open` it if it is closed (cabinet, fridge). `move` the thing there: done.",
)
@claim(COOL, "with the thing in your hand, `cool <thing> with fridge 1`. The door may stay closed", "`move` the thing")
@claim(CLEAN, "with the thing in your hand, `clean <thing> with sinkbasin 1`. Do not put it down", "`move` the thing")
def test_steps_in_their_order_solve_the_task(task_type, treatment):
    for play in plays(task_type, 30):
        thing, at = play.wanted()[0]
        bring(play, thing, at, treatment)
        assert play.won, play.env.task.id


@claim(LAMP, "Find and `take` the thing.", "`go to` the furniture with the desklamp, with the thing in your hand.")
@claim(LAMP, "`use desklamp 1`: done.")
def test_steps_to_the_lamp_solve_the_task():
    for play in plays("look_at_obj_in_light", 30):
        thing, at = play.wanted()[0]
        play.take(thing, at)
        play.go(next(place for lamp, place in play.contents() if kind(lamp) == "desklamp"))
        play.do(next(command for command in play.commands if command.startswith("use desklamp")))
        assert play.won, play.env.task.id


@claim(
    TWO,
    "Fetch the second one, from where you saw it, and bring it to the same number.",
    "If one of them lies in furniture of the target kind already, leave it there, make that your target, and bring "
    "only one.",
    "after the first delivery, its place lists a thing of the wanted kind, which is not the one to fetch",
)
def test_steps_with_two_things_solve_the_task():
    there = 0
    for play in plays("pick_two_obj_and_place", HOUSES):
        (thing, at), (other, other_at) = sorted(play.wanted(), key=lambda pair: pair[1] not in play.targets())[:2]
        place = at
        if at in play.targets():
            there += 1
        else:
            place = bring(play, thing, at)
            assert not play.over
            assert (thing, place) in play.contents()
        play.take(other, other_at)
        play.go(place)
        play.do(f"move {other} to {place}")
        assert play.won, play.env.task.id
    assert there >= 3  # it is rare


@claim(DONE, "A cup is no mug, a pen is no pencil, a soapbottle is no soapbar.")
def test_done_like_things_do_not_count():
    pairs = {"mugtype": "cup", "cuptype": "mug", "penciltype": "pen", "pentype": "pencil", "soapbartype": "soapbottle"}
    tried = 0
    for play in plays("pick_and_place_simple", 200):
        like = pairs.get(play.game.goal.object_type)
        for thing, at in [pair for pair in play.contents() if kind(pair[0]) == like][:1]:
            target = bring(play, thing, at)
            assert not play.won
            tried += (thing, target) in play.contents()
    assert tried > 5
