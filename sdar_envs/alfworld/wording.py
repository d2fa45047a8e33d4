"""Wordings of ALFWorld's releases (`put` and `move`), and detection of the one that a game file uses.

A `game.tw-pddl` file embeds its domain (the rules) and its grammar (the words), so an old file
keeps its old words whatever software plays it. Files of release 2.1.1 say `put mug 1 in/on desk 1`;
later ones say `move mug 1 to desk 1` and have a `help` command. We do not interpret domains and
grammars: we recognise the published ones, by fingerprint, and refuse all others.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sdar_envs.errors import CorruptData, UnsupportedGame
from sdar_envs.files.json_text import parse_json

__all__ = ["DIALECTS", "Dialect", "Wording", "fingerprints", "read_dialect", "read_task_sentence"]

Wording = Literal["put", "move"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Rules and wording of a game file, as far as releases differ.

    Attributes:
        wording: `put` (release 2.1.1) or `move` (later releases; with `help`).
        washing_types: receptacle types that `clean` works with.
    """

    wording: Wording
    washing_types: frozenset[str]

    @property
    def help_text(self) -> str | None:
        """The observation after `help`; None where that is no command."""
        return _HELP if self.wording == "move" else None

    def put_command(self, object_name: str, receptacle_name: str) -> str:
        """Return the command that puts an object into a receptacle."""
        if self.wording == "move":
            return f"move {object_name} to {receptacle_name}"
        return f"put {object_name} in/on {receptacle_name}"

    def put_feedback(self, object_name: str, receptacle_name: str) -> str:
        """Return the observation after `put_command`."""
        if self.wording == "move":
            return f"You move the {object_name} to the {receptacle_name}."
        return f"You put the {object_name} in/on the {receptacle_name}."


_SINK_BASIN = frozenset({"sinkbasintype"})
_ANY_SINK = frozenset({"sinkbasintype", "sinktype"})

DIALECTS: dict[Wording, Dialect] = {"put": Dialect("put", _ANY_SINK), "move": Dialect("move", _SINK_BASIN)}
"""The two released pairs of domain and grammar."""

# The columns of the original do not line up ("move" has two blanks fewer than its neighbours).
_HELP = "Available commands:\n" + "".join(
    f"  {command}{' ' * (width - len(command))}{meaning}\n"
    for command, width, meaning in (
        ("look:", 34, "look around your current location"),
        ("inventory:", 34, "check your current inventory"),
        ("go to (receptacle):", 34, "move to a receptacle"),
        ("open (receptacle):", 34, "open a receptacle"),
        ("close (receptacle):", 34, "close a receptacle"),
        ("take (object) from (receptacle):", 34, "take an object from a receptacle"),
        ("move (object) to (receptacle):", 32, "place an object in or on a receptacle"),
        ("examine (something):", 34, "examine a receptacle or an object"),
        ("use (object):", 34, "use an object"),
        ("heat (object) with (receptacle):", 34, "heat an object using a receptacle"),
        ("clean (object) with (receptacle):", 34, "clean an object using a receptacle"),
        ("cool (object) with (receptacle):", 34, "cool an object using a receptacle"),
        ("slice (object) with (object):", 34, "slice an object using a sharp object"),
    )
)

# Fingerprints ignore comments, blanks and the task sentence.
_DOMAINS: dict[str, frozenset[str]] = {
    "2bb2c5c7591ba445": _ANY_SINK,  # release 2.1.1
    "54e29bce2933d7dc": _ANY_SINK,  # release 2.1.1 brought to 2.1.2 by alfworld's own patch script
    "6eca02b13b273d84": _SINK_BASIN,  # release 2.1.1 without `sinktype`: `valid_train`, and in AgentBench and ETO
    "da18d44ab1bcf831": _SINK_BASIN,  # alfworld 0.4 and later
    "205381eb246743e7": _ANY_SINK,  # ours (logic.py), "put"
    "fb6b7ffaba257d66": _SINK_BASIN,  # ours, "move"
}
_GRAMMARS: dict[str, Wording] = {
    "49b373425005f369": "put",  # release 2.1.1
    "0799a5c634545513": "move",  # release 2.1.1 brought to 2.1.2 by alfworld's own patch script
    "9f506a0ed041c9d6": "move",  # alfworld 0.4 and later
    "bfc57928dc5a18d2": "put",  # ours (logic.py)
    "176f01b55e5e5bbf": "move",  # ours
}

_TASK = re.compile(r'("task"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*)("(?:[^"\\]|\\.)*")')
# The original's text generator reads these characters as the end of a sentence.
_SENTENCE_END = re.compile(r"[;|<>\[\]]")


def read_dialect(domain: str, grammar: str) -> Dialect:
    """Return the dialect of a game file's `pddl_domain` and `grammar`.

    Raises:
        UnsupportedGame: either is not a published one.
    """
    domain_print, grammar_print = fingerprints(domain, grammar)
    if domain_print not in _DOMAINS or grammar_print not in _GRAMMARS:
        what = "domain" if domain_print not in _DOMAINS else "grammar"
        raise UnsupportedGame(
            f"unknown {what} (fingerprint {domain_print if what == 'domain' else grammar_print}): the engine plays "
            "the ALFWorld releases 2.1.1 to 2.1.3 and games exported by this package. "
            "Play other games with TextWorld itself."
        )
    return Dialect(_GRAMMARS[grammar_print], _DOMAINS[domain_print])


def fingerprints(domain: str, grammar: str) -> tuple[str, str]:
    """Return the fingerprints of a game file's rules and words, which comments, blanks and the task do not change."""
    return _domain_fingerprint(domain), _fingerprint(_TASK.sub(r'\1""', grammar))


def read_task_sentence(grammar: str) -> str:
    """Return the task sentence that ends the first observation, such as `Your task is to: put a mug in desk.`.

    Raises:
        CorruptData: the grammar has no task.
        UnsupportedGame: the original engine would crash on the sentence or read it as code.
    """
    found = _TASK.search(grammar)
    if found is None:
        raise CorruptData("the grammar has no 'task' entry: the file is damaged.")
    try:
        sentence = str(parse_json(found.group(2), strict=False))
    except ValueError as error:
        raise CorruptData(
            f"the grammar's task {found.group(2)!r} is not a valid JSON string: the file is damaged."
        ) from error
    if re.search(r'[{#"]', sentence):
        raise UnsupportedGame(
            f"the task {sentence!r} holds one of {{ # \", which the original's text generator takes for code."
        )
    return _SENTENCE_END.split(sentence)[0]


@lru_cache(maxsize=64)
def _domain_fingerprint(domain: str) -> str:
    return _fingerprint(re.sub(r";[^\n]*", "", domain).lower())


def _fingerprint(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
