"""PDDL parser and writer: problem text of `game.tw-pddl` files to `Problem` and back.

Facts and goals that the engine does not implement are refused, not ignored: a game plays as in the original or not at
all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sdar_envs.alfworld.problem import Goal, Problem
from sdar_envs.errors import CorruptData, UnsupportedGame

__all__ = ["read_problem", "write_problem"]

_FACT = re.compile(r"\(([^()]+)\)")
_OBJECT_FLAGS = ("pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable")
_TREATMENTS = {"ishot": ("hot", "heatable"), "iscool": ("cool", "coolable"), "isclean": ("clean", "cleanable")}


def read_problem(text: str) -> Problem:
    """Parse a PDDL problem.

    Raises:
        CorruptData: the text is not a complete PDDL problem.
        UnsupportedGame: it states facts or a goal outside the six ALFWorld tasks.
    """
    # PDDL is case-insensitive, and the original sorts the lower-cased ids.
    text = text.lower()
    init_at, goal_at = text.find("(:init"), text.find("(:goal")
    if init_at < 0 or goal_at < init_at:
        raise CorruptData("the PDDL problem has no (:init ...) followed by (:goal ...): the file is damaged.")
    facts: dict[str, list[list[str]]] = {}
    for match in _FACT.findall(text, init_at, goal_at):
        predicate, *arguments = match.split()
        facts.setdefault(predicate, []).append(arguments)

    def pairs(predicate: str) -> list[tuple[str, str]]:
        rows = facts.pop(predicate, [])
        if any(len(row) != 2 for row in rows):
            raise CorruptData(f"a {predicate} fact has not two arguments: the file is damaged.")
        return [(row[0], row[1]) for row in rows]

    def singles(predicate: str) -> frozenset[str]:
        return frozenset(row[0] for row in facts.pop(predicate, []) if row)

    def mapping(predicate: str) -> dict[str, str]:
        rows = pairs(predicate)
        result = dict(rows)
        if len(result) != len(set(rows)):
            raise UnsupportedGame(f"something has two {predicate} facts; the engine wants one.")
        return result

    starts = [location for _, location in pairs("atlocation")]
    if len(starts) != 1:
        raise UnsupportedGame(f"the problem has {len(starts)} agents with a place; the engine wants one.")
    flags = {name: singles(name) for name in _OBJECT_FLAGS}
    problem = Problem(
        start=starts[0],
        receptacle_types=mapping("receptacletype"),
        receptacle_locations=mapping("receptacleatlocation"),
        object_types=mapping("objecttype"),
        contents=frozenset(pairs("inreceptacle")),
        object_locations=frozenset(pairs("objectatlocation")),
        inner_objects=frozenset(pairs("inreceptacleobject")),
        can_contain=frozenset(pairs("cancontain")),
        openable=singles("openable"),
        containers=singles("isreceptacleobject"),
        cool=singles("iscool"),
        goal=_read_goal(text[goal_at + len("(:goal") :]),
        **flags,
    )
    if facts:
        raise UnsupportedGame(
            f"the problem starts with facts that the engine does not know: {', '.join(sorted(facts))}. "
            "Only games as alfworld generates them can be played."
        )
    return problem


Expression = list["Expression | str"]


def _read_goal(text: str) -> Goal:
    blocks = _blocks(text)
    atoms = [atom for block in blocks for atom in _atoms(block)]
    wanted = sorted(atoms)
    types = {atom[1]: atom[2] for atom in atoms if atom[0] == "objecttype" and len(atom) == 3}
    receptacle_types = {atom[2] for atom in atoms if atom[0] == "receptacletype" and len(atom) == 3}
    held = [atom[2] for atom in atoms if atom[0] == "holds" and len(atom) == 3]
    lamps = [atom[1] for atom in atoms if atom[0] == "istoggled"]
    candidates: list[Goal] = []
    if len(blocks) == 2 and len(held) == len(lamps) == 1 and {*held, *lamps} == set(types):
        candidates.append(Goal(types[held[0]], lamp_type=types[lamps[0]]))
    if len(blocks) == 1 and len(set(types.values())) == len(receptacle_types) == 1:
        object_type, receptacle_type = next(iter(types.values())), next(iter(receptacle_types))
        candidates.append(Goal(object_type, receptacle_type, count=len(types)))
        candidates += [Goal(object_type, receptacle_type, treatment=t) for t in ("hot", "cool", "clean")]
    for goal in candidates:
        # All generators of such files fill the same six templates, so comparing atoms is exact.
        if wanted == sorted(atom for block in _blocks(_write_goal(goal)) for atom in _atoms(block)):
            return goal
    raise UnsupportedGame(
        f"the goal is none of the six ALFWorld goals: {' '.join(text.split())[:300]!r}. This engine cannot play it."
    )


def _blocks(text: str) -> list[Expression]:
    """Return the parts of a goal's outermost `and`, or the goal if it has none."""
    expression = _parse_expression(text)
    parts = expression[1:] if expression[:1] == ["and"] else [expression]
    return [part for part in parts if isinstance(part, list)]


def _atoms(expression: Expression) -> Iterator[tuple[str, ...]]:
    match expression:
        case ["and", *parts]:
            for part in parts:
                if isinstance(part, list):
                    yield from _atoms(part)
        case ["exists", [*_], [*body]]:
            yield from _atoms(body)
        case ["not", ["=", str() as first, str() as second]]:
            yield ("not =", first, second)
        case [str(), *arguments] if all(isinstance(argument, str) for argument in arguments):
            yield tuple(str(part) for part in expression)
        case _:
            yield ("unsupported",)


def _parse_expression(text: str) -> Expression:
    stack: list[Expression] = []
    for token in re.findall(r"[()]|[^\s()]+", text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                return stack[0]
            if not stack:
                break
            done = stack.pop()
            stack[-1].append(done)
        elif stack:
            stack[-1].append(token)
    raise CorruptData("the goal's brackets do not close: the file is damaged.")


def write_problem(problem: Problem, name: str) -> str:
    """Return a problem as PDDL text that `read_problem` and the original engine parse.

    Every class's type constant is declared, also those of absent classes: the original's planner
    refuses a domain whose constants (`fridgetype`, `knifetype`, ...) the problem does not have.
    """
    goal = problem.goal
    locations = {problem.start, *problem.receptacle_locations.values()} | {
        location for _, location in problem.object_locations
    }
    receptacle_types = set(problem.receptacle_types.values()) | {"fridgetype", "microwavetype", "sinkbasintype"}
    receptacle_types |= {receptacle for receptacle, _ in problem.can_contain}
    object_types = set(problem.object_types.values()) | {"knifetype", "butterknifetype"}
    object_types |= {object_ for _, object_ in problem.can_contain} | {goal.object_type}
    lines = [f"(define (problem {name})", "(:domain alfred)", "(:objects", "agent1 - agent"]
    for kind, ids in (
        ("otype", object_types),
        ("rtype", receptacle_types),
        ("object", problem.object_types),
        ("receptacle", problem.receptacle_types),
        ("location", locations),
    ):
        lines += [f"{id_} - {kind}" for id_ in sorted(ids)]
    lines += [")", "(:init", f"(atlocation agent1 {problem.start})"]

    def facts(predicate: str, rows: Iterable[tuple[str, ...]]) -> None:
        lines.extend(f"({predicate} {' '.join(row)})" for row in sorted(rows))

    facts("receptacletype", problem.receptacle_types.items())
    facts("receptacleatlocation", problem.receptacle_locations.items())
    facts("objecttype", problem.object_types.items())
    facts("inreceptacle", problem.contents)
    facts("objectatlocation", problem.object_locations)
    facts("inreceptacleobject", problem.inner_objects)
    facts("cancontain", problem.can_contain)
    for flag in ("openable", *_OBJECT_FLAGS):
        facts(flag, ((id_,) for id_ in getattr(problem, flag)))
    facts("isreceptacleobject", ((id_,) for id_ in problem.containers))
    facts("iscool", ((id_,) for id_ in problem.cool))
    lines += [")", f"(:goal {_write_goal(goal)})", ")", ""]
    return "\n".join(lines)


def _write_goal(goal: Goal) -> str:
    if goal.lamp_type is not None:
        return (
            "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) "
            f"(and (objecttype ?ot {goal.lamp_type}) (toggleable ?ot) (istoggled ?ot) "
            "(receptacleatlocation ?r ?l) (atlocation ?a ?l) (inreceptacle ?ot ?r))) "
            f"(exists (?o - object ?a - agent) (and (objecttype ?o {goal.object_type}) (holds ?a ?o))))"
        )

    def placed(variable: str, more: str = "") -> str:
        return (
            f"(and (objecttype {variable} {goal.object_type}) (receptacletype ?r {goal.receptacle_type}) "
            f"(inreceptacle {variable} ?r){more})"
        )

    if goal.count == 2:
        second = f" (exists (?o2 - object) (and (not (= ?o1 ?o2)) {placed('?o2')}))"
        return f"(and (exists (?r - receptacle) (exists (?o1 - object) {placed('?o1', second)})))"
    state = ""
    for fact, (treatment, property_) in _TREATMENTS.items():
        if treatment == goal.treatment:
            state = f" ({property_} ?o) ({fact} ?o)"
    return f"(and (exists (?r - receptacle) (exists (?o - object) {placed('?o', state)})))"
