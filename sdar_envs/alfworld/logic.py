"""PDDL domain and text grammar of exported games: reimplementations of ALFWorld's rules and words.

TextWorld needs both inside every `game.tw-pddl`. They are equivalent to the released ones without the parts that no
game uses; tests prove that TextWorld plays games with either alike.
"""

from __future__ import annotations

import json

from sdar_envs.alfworld.wording import DIALECTS, Wording

__all__ = ["domain", "grammar"]


def domain(wording: Wording) -> str:
    """Return the PDDL domain of a wording."""
    sinks = " ".join(f"(receptacletype ?r {type_})" for type_ in sorted(DIALECTS[wording].washing_types))
    return _DOMAIN.replace("%SINKS%", sinks).replace("%HELP%", _HELP_ACTION if wording == "move" else "")


def grammar(wording: Wording, task_sentence: str) -> str:
    """Return the text grammar of a wording, with the task sentence in it."""
    move = wording == "move"
    productions = {
        "intro": "-= Welcome to TextWorld, ALFRED! =-\n\n#look.feedback#\n\n#task#",
        "task": task_sentence,
        "GotoLocation.feedback": f"You arrive at {'{r.name}' if move else '{lend.name}'}. #examineReceptacle.feedback#",
        "OpenObject.feedback": "You open the {r.name}. #examineReceptacle.feedback#",
        "CloseObject.feedback": "You close the {r.name}.",
        "PickupObject.feedback": "You pick up the {o.name} from the {r.name}.",
        "PutObject.feedback": DIALECTS[wording].put_feedback("{o.name}", "{r.name}"),
        "CleanObject.feedback": "You clean the {o.name} using the {r.name}.",
        "HeatObject.feedback": "You heat the {o.name} using the {r.name}.",
        "CoolObject.feedback": "You cool the {o.name} using the {r.name}.",
        "ToggleObject.feedback": "You turn on the {o.name}.",
        "SliceObject.feedback": "You sliced the {co.name} with the {ko.name}.",
        "overview(x)": "{x.indefinite} {x.name}",
        "list_empty": "nothing",
        "list_separator": ", ",
        "list_last_separator": ", and ",
    }
    rules: dict[str, list[dict[str, str]]] = {name: [{"rhs": text}] for name, text in productions.items()}
    rules |= _CHOICES
    commands = {
        "GotoLocation": "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]",
        "OpenObject": "open {r}",
        "CloseObject": "close {r}",
        "PickupObject": "take {o} from {r}",
        "PutObject": DIALECTS[wording].put_command("{o}", "{r}"),
        "CleanObject": "clean {o} with {r}",
        "HeatObject": "heat {o} with {r}",
        "CoolObject": "cool {o} with {r}",
        "ToggleObject": "use {o}",
        "SliceObject": "slice {co} with {ko}",
        "examineReceptacle": "examine {r}",
        "examineObject": "examine {o}",
        "inventory": "inventory",
        "look": "look",
    }
    if move:
        commands["help"] = "help"
        # TextWorld's parser eats one leading line break.
        rules["help.feedback"] = [{"rhs": f"\n{DIALECTS[wording].help_text}"}]
    actions = "\n".join(
        f'action {name} {{\n    template :: "{template}";\n    feedback :: "#{name}.feedback#";\n}}'
        for name, template in commands.items()
    )
    return f'grammar :: """\n{json.dumps(rules, indent=2, ensure_ascii=False)}\n""";\n\n{actions}\n'


_IN = "inreceptacle(o:object, r:receptacle)"
_HERE = "atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)"
_AROUND = (
    "atlocation(a:agent, l:location) & objectatlocation(o:object, l:location) & "
    "receptacleatlocation(r:receptacle, l:location) & not_inreceptacle(o:object, r:receptacle)"
)


def _list(variable: str, condition: str) -> str:
    return f"[{{{variable}.indefinite + ' ' + {variable}.name | {condition}}}]"


def _states() -> list[dict[str, str]]:
    choices = []
    for sliced in ("issliced(o:object)", ""):
        for words, facts in (
            ("hot and clean", ["isclean", "ishot"]),
            ("cool and clean", ["isclean", "iscool"]),
            ("clean", ["isclean"]),
            ("hot", ["ishot"]),
            ("cool" if sliced else "cold", ["iscool"]),
        ):
            condition = " & ".join([*(f"{fact}(o:object)" for fact in facts), *([sliced] if sliced else [])])
            text = f"This is a {words} {'sliced ' if sliced else ''}{{o.name}}."
            choices.append({"condition": condition, "rhs": text})
    return choices


_CHOICES = {
    "inventory.feedback": [
        {"condition": "holdsany(a:agent)", "rhs": f"You are carrying: {_list('o', 'holds(a:agent, o:object)')}."},
        {"rhs": "You are not carrying anything."},
    ],
    "examineReceptacle.feedback": [
        {
            "condition": "openable(r:receptacle) & opened(r:receptacle)",
            "rhs": f"The {{r.name}} is open. In it, you see {_list('o', _IN)}.",
        },
        {"condition": "openable(r:receptacle)", "rhs": "The {r.name} is closed."},
        {"rhs": f"On the {{r.name}}, you see {_list('o', _IN)}."},
    ],
    "examineObject.feedback": [
        {
            "condition": "isreceptacleobject(o:object)",
            "rhs": "This is a normal {o.name}. In it, you see "
            f"{_list('o2', 'inreceptacleobject(o2:object, o:object)')}.",
        },
        *_states(),
        {"condition": "toggleable(o:object) & istoggled(o:object)", "rhs": "This {o.name} is on."},
        {"condition": "sliceable(o:object) & issliced(o:object)", "rhs": "This is a sliced {o.name}."},
        {"rhs": "There's nothing special about {o.name}."},
    ],
    "look.feedback": [
        {"condition": _HERE, "rhs": f"You are facing the [{{r.name | {_HERE}}}]. Next to it, you see #around#."},
        {"rhs": "You are in the middle of a room. Looking quickly around you, you see #receptacles#."},
    ],
    "around": [
        {"condition": _AROUND, "rhs": _list("o", _AROUND)},
        {"rhs": "nothing"},
    ],
    "receptacles": [
        {
            "condition": "receptacleatlocation(r:receptacle, l:location)",
            "rhs": _list("r", "receptacleatlocation(r:receptacle, l:location)"),
        },
        {"rhs": "nothing"},
    ],
}

_HELP_ACTION = """\
(:action help :parameters (?a - agent) :precondition () :effect (and (checked ?a)))
"""

_DOMAIN = """\
(define (domain alfred)
(:requirements :adl :action-costs :typing)
(:types agent location receptacle object rtype otype)
(:predicates
  (atlocation ?a - agent ?l - location) (receptacleatlocation ?r - receptacle ?l - location)
  (objectatlocation ?o - object ?l - location) (openable ?r - receptacle) (opened ?r - receptacle)
  (inreceptacle ?o - object ?r - receptacle) (isreceptacleobject ?o - object)
  (inreceptacleobject ?innerobject - object ?outerobject - object) (checked ?x)
  (receptacletype ?r - receptacle ?t - rtype) (cancontain ?rt - rtype ?ot - otype)
  (objecttype ?o - object ?t - otype) (holds ?a - agent ?o - object) (holdsany ?a - agent)
  (isclean ?o - object) (cleanable ?o - object) (ishot ?o - object) (heatable ?o - object)
  (iscool ?o - object) (coolable ?o - object) (pickupable ?o - object) (toggleable ?o - object)
  (istoggled ?o - object) (sliceable ?o - object) (issliced ?o - object))
(:functions (total-cost) - number)
(:action look :parameters (?a - agent ?l - location)
  :precondition (and (atlocation ?a ?l)) :effect (and (checked ?l)))
(:action inventory :parameters (?a - agent) :precondition () :effect (and (checked ?a)))
%HELP%(:action examineReceptacle :parameters (?a - agent ?r - receptacle)
  :precondition (exists (?l - location) (and (atlocation ?a ?l) (receptacleatlocation ?r ?l)))
  :effect (and (checked ?r)))
(:action examineObject :parameters (?a - agent ?o - object)
  :precondition (and (holds ?a ?o)) :effect (and (checked ?o)))
(:action GotoLocation :parameters (?a - agent ?lstart - location ?lend - location ?r - receptacle)
  :precondition (and (atlocation ?a ?lstart) (receptacleatlocation ?r ?lend))
  :effect (and (not (atlocation ?a ?lstart)) (atlocation ?a ?lend) (increase (total-cost) 1)))
(:action OpenObject :parameters (?a - agent ?l - location ?r - receptacle)
  :precondition (and (openable ?r) (atlocation ?a ?l) (receptacleatlocation ?r ?l) (not (opened ?r)))
  :effect (and (opened ?r) (increase (total-cost) 1)))
(:action CloseObject :parameters (?a - agent ?l - location ?r - receptacle)
  :precondition (and (openable ?r) (atlocation ?a ?l) (receptacleatlocation ?r ?l) (opened ?r))
  :effect (and (not (opened ?r)) (increase (total-cost) 1)))
(:action PickupObject :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
  :precondition (and (pickupable ?o) (atlocation ?a ?l) (receptacleatlocation ?r ?l) (inreceptacle ?o ?r)
    (not (holdsany ?a)) (or (not (openable ?r)) (opened ?r)))
  :effect (and (not (inreceptacle ?o ?r)) (holds ?a ?o) (holdsany ?a) (not (objectatlocation ?o ?l))
    (increase (total-cost) 1)))
(:action PutObject
  :parameters (?a - agent ?l - location ?o - object ?r - receptacle ?ot - otype ?rt - rtype)
  :precondition (and (holds ?a ?o) (atlocation ?a ?l) (receptacleatlocation ?r ?l)
    (or (not (openable ?r)) (opened ?r)) (objecttype ?o ?ot) (receptacletype ?r ?rt) (cancontain ?rt ?ot))
  :effect (and (inreceptacle ?o ?r) (objectatlocation ?o ?l) (not (holds ?a ?o)) (not (holdsany ?a))
    (increase (total-cost) 1)))
(:action CleanObject :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
  :precondition (and (cleanable ?o) (or %SINKS%) (atlocation ?a ?l) (receptacleatlocation ?r ?l) (holds ?a ?o))
  :effect (and (isclean ?o) (increase (total-cost) 5)))
(:action HeatObject :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
  :precondition (and (heatable ?o) (receptacletype ?r microwavetype) (atlocation ?a ?l)
    (receptacleatlocation ?r ?l) (holds ?a ?o))
  :effect (and (ishot ?o) (not (iscool ?o)) (increase (total-cost) 5)))
(:action CoolObject :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
  :precondition (and (coolable ?o) (receptacletype ?r fridgetype) (atlocation ?a ?l)
    (receptacleatlocation ?r ?l) (holds ?a ?o))
  :effect (and (iscool ?o) (not (ishot ?o)) (increase (total-cost) 5)))
(:action ToggleObject :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
  :precondition (and (toggleable ?o) (atlocation ?a ?l) (receptacleatlocation ?r ?l) (inreceptacle ?o ?r))
  :effect (and (istoggled ?o) (increase (total-cost) 5)))
(:action SliceObject :parameters (?a - agent ?l - location ?co - object ?ko - object)
  :precondition (and (sliceable ?co) (or (objecttype ?ko knifetype) (objecttype ?ko butterknifetype))
    (atlocation ?a ?l) (objectatlocation ?co ?l) (holds ?a ?ko))
  :effect (and (issliced ?co) (increase (total-cost) 5)))
)
"""
