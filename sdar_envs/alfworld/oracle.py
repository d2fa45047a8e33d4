"""Oracle planner: a shortest plan from any state of a game, by full knowledge of it.

Every ALFWorld goal is reached by a route of a few visits in a fixed order: put down what is held, then take, treat, put
(twice for two objects) or take and switch the lamp on. A plan's length is its visits, plus a `go to` whenever the place
changes, plus an `open` for each closed door. So the routes are enumerated and the shortest is kept; tests compare it
with breadth-first search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sdar_envs.alfworld.world import Action, Game, State, Verb

__all__ = ["plan"]

Route = tuple[Action, ...]
Fetches = Callable[[int], Iterator[Route]]

_TREATING = {"hot": Verb.HEAT, "cool": Verb.COOL, "clean": Verb.CLEAN}


def plan(game: Game, state: State) -> tuple[str, ...] | None:
    """Return a shortest list of commands that reaches the goal from `state`.

    Returns:
        The commands, an empty tuple if the goal holds already; None if the goal cannot be reached. The same
        state always gives the same plan.
    """
    if state.won:
        return ()
    best: Route | None = None
    best_cost = 1 << 30
    for route in _routes(game, state):
        cost = _cost(game, state, route, best_cost)
        if cost < best_cost:
            best, best_cost = route, cost
    return None if best is None else tuple(_commands(game, state, best))


def _cost(game: Game, state: State, route: Route, limit: int) -> int:
    at, opened, cost = state.at, state.opened, 0
    for verb, _, receptacle in route:
        location = game.location[receptacle]
        if location != at:
            at = location
            cost += 1
        if verb is Verb.TAKE or verb is Verb.PUT:
            bit = 1 << receptacle
            if game.openable & bit and not opened & bit:
                opened |= bit
                cost += 1
        if verb is not Verb.GO:
            cost += 1
        if cost >= limit:
            break
    return cost


def _commands(game: Game, state: State, route: Route) -> Iterator[str]:
    at, opened = state.at, state.opened
    for verb, object_, receptacle in route:
        name = game.receptacles[receptacle]
        if game.location[receptacle] != at:
            at = game.location[receptacle]
            yield f"go to {name}"
        if verb is Verb.TAKE or verb is Verb.PUT:
            bit = 1 << receptacle
            if game.openable & bit and not opened & bit:
                opened |= bit
                yield f"open {name}"
        if verb is Verb.TAKE:
            yield f"take {game.objects[object_]} from {name}"
        elif verb is Verb.PUT:
            yield game.dialect.put_command(game.objects[object_], name)
        elif verb is Verb.USE:
            yield f"use {game.objects[object_]}"
        elif verb is not Verb.GO:
            yield f"{verb.name.lower()} {game.objects[object_]} with {name}"


def _routes(game: Game, state: State) -> Iterator[Route]:
    """Yield every route worth considering from `state`, which is not won."""
    goal = game.goal
    wanted = [o for o in range(len(game.objects)) if game.goal_objects >> o & 1]
    sources = {o: _sources(game, state, o) for o in wanted}
    appliances = _appliances(game)
    lamps = [
        Action(Verb.GO if state.toggled >> o & 1 else Verb.USE, o, r)
        for o in range(len(game.objects))
        if game.goal_lamps >> o & 1
        for r in _receptacles_with(game, state, o)
    ]
    source_receptacles = {action.receptacle for route in sources.values() for (action,) in filter(None, route)}
    stops = source_receptacles | set(appliances) | {lamp.receptacle for lamp in lamps}
    targets = _representatives(
        game,
        state,
        (r for r in game.goal_receptacles if game.location[r] >= 0),
        stops,
        source_receptacles if goal.count == 1 else source_receptacles | _holding(game, state),
    )
    layings: list[Route] = [()]
    if state.held >= 0:
        reachable = (r for r in _bits(game.accepts[state.held]) if game.location[r] >= 0)
        special = source_receptacles | set(targets)
        layings = [
            (Action(Verb.PUT, state.held, r),)
            for r in _representatives(game, state, reachable, stops | set(targets), special)
        ]

    def fetches(object_: int) -> Iterator[Route]:
        """Yield the routes that end with `object_` in hand."""
        if state.held == object_:
            yield ()
        else:
            for laying in layings:
                for source in sources[object_]:
                    yield laying + source

    if goal.lamp_type is not None:
        yield from ((*fetch, lamp) for o in wanted for fetch in fetches(o) for lamp in lamps)
        return
    if goal.count == 2:
        yield from _pair_routes(game, state, targets, sources, fetches)
        return
    treated = {None: -1, "hot": state.hot, "cool": state.cool, "clean": state.clean}[goal.treatment]
    for object_ in wanted:
        treatments: list[Route] = [()]
        if goal.treatment is not None and not treated >> object_ & 1:
            treatments = [(Action(_TREATING[goal.treatment], object_, r),) for r in appliances]
        for fetch in fetches(object_):
            taken_from = fetch[-1].receptacle if fetch else -1
            # What lies in two receptacles stays in the other one, and may need no putting.
            stays = any(r != taken_from and object_ in state.contents[r] for r in game.goal_receptacles)
            for treatment in treatments:
                if stays:
                    yield fetch + treatment
                else:
                    for target in targets:
                        if game.accepts[object_] >> target & 1:
                            yield (*fetch, *treatment, Action(Verb.PUT, object_, target))


def _pair_routes(
    game: Game, state: State, targets: list[int], sources: dict[int, list[Route]], fetches: Fetches
) -> Iterator[Route]:
    """Yield the routes that bring two of the wanted objects together."""
    for target in targets:
        outside = [o for o in sources if o not in state.contents[target] and game.accepts[o] >> target & 1]
        enough = any(o in state.contents[target] for o in sources)  # one lies there already
        for first in outside:
            for fetch in fetches(first):
                route = (*fetch, Action(Verb.PUT, first, target))
                if enough:
                    yield route
                    continue
                for second in outside:
                    if second != first:
                        for source in sources[second]:
                            yield (*route, *source, Action(Verb.PUT, second, target))


def _appliances(game: Game) -> list[int]:
    usable = {"hot": game.can_heat, "cool": game.can_cool, "clean": game.can_wash}
    mask = usable[game.goal.treatment] if game.goal.treatment is not None else 0
    return [r for r in _bits(mask) if game.location[r] >= 0]


def _bits(mask: int) -> Iterator[int]:
    index = 0
    while mask:
        if mask & 1:
            yield index
        mask >>= 1
        index += 1


def _receptacles_with(game: Game, state: State, object_: int) -> list[int]:
    return [r for r, contents in enumerate(state.contents) if object_ in contents and game.location[r] >= 0]


def _sources(game: Game, state: State, object_: int) -> list[Route]:
    if not game.pickupable >> object_ & 1:
        return []
    return [(Action(Verb.TAKE, object_, r),) for r in _receptacles_with(game, state, object_)]


def _holding(game: Game, state: State) -> set[int]:
    """Return the goal's receptacles that have a goal object in them."""
    return {r for r in game.goal_receptacles if any(game.goal_objects >> o & 1 for o in state.contents[r])}


def _representatives(
    game: Game, state: State, receptacles: Iterable[int], stops: set[int], special: set[int]
) -> list[int]:
    """Return the receptacles without those that are equivalent to an earlier one.

    Two are alike if both have to be travelled to or lie at the same stop, and both have to be
    opened or not. `special` receptacles are like no other.
    """
    stop_locations = {game.location[r] for r in stops} | {state.at}
    first: dict[tuple[int, int, bool], int] = {}
    for receptacle in receptacles:
        location = game.location[receptacle]
        bit = 1 << receptacle
        key = (
            receptacle if receptacle in special else -1,
            location if location in stop_locations else -1,
            bool(game.openable & bit and not state.opened & bit),
        )
        first.setdefault(key, receptacle)
    return list(first.values())
