"""What happens in the turns of a panel's episodes: failing turns, kinds of actions, and where lost episodes end.

facts = [turn_facts(trajectory) for trajectory in trajectories]
failing_by_turn(facts)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sdar_benchmarks.records.schema import NUMBER

__all__ = [
    "ActionKind",
    "EpisodeTurns",
    "Losses",
    "TurnFacts",
    "TurnShares",
    "action_kinds",
    "losses",
    "shares_by_turn",
    "turn_facts",
]

_BRACKETS = re.compile(r"([A-Za-z_]{1,20})\[(.*)\]", re.DOTALL)
_BUTTONS = frozenset(
    {"back to search", "< prev", "next >", "description", "features", "reviews", "attributes", "buy now", "search"}
)
_ASIN = re.compile(r"[a-z0-9]{10}")
# How often in a row an action is done before it counts as repeated.
_REPEATED = 3


class TurnFacts(NamedTuple):
    """One turn; None where a run does not tell.

    Attributes:
        kind: of the action, such as `go to`, `click[product]`.
        action: the action.
        is_malformed: the answer did not keep the format.
        is_invalid: the environment did not accept the action.
        is_truncated: the token limit cut the answer.
        score: after the turn.
    """

    kind: str
    action: str
    is_malformed: bool | None
    is_invalid: bool | None
    is_truncated: bool | None
    score: float

    @property
    def is_failing(self) -> bool:
        """Whether anything was wrong with it."""
        return bool(self.is_malformed or self.is_invalid or self.is_truncated)


@dataclass(frozen=True, slots=True)
class EpisodeTurns:
    """Turns of an episode with what became of it.

    Attributes:
        task_type: of its task.
        outcome: `won`, `lost` or `error`.
        stop_reason: why it ended.
        turns: all of them.
    """

    task_type: str
    outcome: str
    stop_reason: str
    turns: Sequence[TurnFacts]

    @property
    def first_failing(self) -> int | None:
        """Number of the first turn with which something was wrong, from 1; None if there is none."""
        return next((i for i, turn in enumerate(self.turns, 1) if turn.is_failing), None)


def turn_facts(turns: Iterable[Any]) -> list[TurnFacts]:
    """Return the facts of the turns of a trajectory; what is no turn is left out."""
    facts = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        action = str(turn.get("action") or "")
        reason = turn.get("finish_reason")
        score: Any = turn.get("score")
        facts.append(
            TurnFacts(
                kind=_kind(action),
                action=action,
                is_malformed=_opposite(turn.get("is_well_formed")),
                is_invalid=_opposite(turn.get("is_action_valid")),
                is_truncated=reason == "length" if isinstance(reason, str) else None,
                score=float(score) if NUMBER.accepts(score) else 0.0,
            )
        )
    return facts


class TurnShares(NamedTuple):
    """Shares of a turn over the episodes that came to it; None where no episode tells.

    Attributes:
        turn: its number, from 1.
        episodes: that came to it.
        malformed: share of malformed answers.
        invalid: share of invalid actions.
        truncated: share of truncated answers.
    """

    turn: int
    episodes: int
    malformed: float | None
    invalid: float | None
    truncated: float | None


def shares_by_turn(episodes: Sequence[EpisodeTurns]) -> list[TurnShares]:
    """Return the shares of failing turns for each turn that an episode came to."""
    last = max((len(episode.turns) for episode in episodes), default=0)
    rows = []
    for i in range(last):
        there = [episode.turns[i] for episode in episodes if len(episode.turns) > i]
        shares = [_share([getattr(turn, name) for turn in there]) for name in TurnFacts._fields[2:5]]
        rows.append(TurnShares(i + 1, len(there), *shares))
    return rows


class ActionKind(NamedTuple):
    """Actions of one kind.

    Attributes:
        kind: such as `go to`.
        number: how many.
        share: of all actions.
        invalid: share of them that the environment did not accept; None if no run tells.
        won: mean number in an episode that was won; None if none was.
        lost: likewise of those that were not.
    """

    kind: str
    number: int
    share: float
    invalid: float | None
    won: float | None
    lost: float | None


def action_kinds(episodes: Sequence[EpisodeTurns], most: int = 15) -> list[ActionKind]:
    """Return the kinds of actions, the most frequent first; beyond `most`, the rest are one kind, `other`.

    What the environment never accepted in any form is `other` too: a model's nonsense has many first words.
    """
    turns = [turn for episode in episodes for turn in episode.turns]
    accepted = Counter(turn.kind for turn in turns if not turn.is_invalid)
    named = {kind for kind, _ in accepted.most_common(most)}
    won = [episode for episode in episodes if episode.outcome == "won"]
    lost = [episode for episode in episodes if episode.outcome != "won"]
    groups: dict[str, list[TurnFacts]] = {}
    for turn in turns:
        groups.setdefault(turn.kind if turn.kind in named else "other", []).append(turn)

    def mean(kind: str, group: Sequence[EpisodeTurns]) -> float | None:
        counts = [sum((t.kind if t.kind in named else "other") == kind for t in episode.turns) for episode in group]
        return float(np.mean(counts)) if counts else None

    rows = [
        ActionKind(
            kind=kind,
            number=len(group),
            share=len(group) / len(turns),
            invalid=_share([turn.is_invalid for turn in group]),
            won=mean(kind, won),
            lost=mean(kind, lost),
        )
        for kind, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.kind == "other", -row.number, row.kind))


class Losses(NamedTuple):
    """Where the lost episodes of a task type end.

    Attributes:
        task_type: the type, or `all`.
        episodes: all of the type.
        lost: of them, not won, with errors.
        quartiles: turns by which a quarter, half and three quarters of the lost ones had ended.
        failing: share of the lost ones with a failing turn.
        first_failing: median number of the first one; None if there is none.
        progress: median number of the last turn that raised the score; None if none did.
        reached: mean score at the end.
        repeated: share whose last actions were the same, three or more.
        ends: how many ended for each reason.
    """

    task_type: str
    episodes: int
    lost: int
    quartiles: tuple[float, float, float]
    failing: float
    first_failing: float | None
    progress: float | None
    reached: float
    repeated: float
    ends: Mapping[str, int]


def losses(episodes: Sequence[EpisodeTurns]) -> list[Losses]:
    """Return where lost episodes end, by task type, then over all if there are several types.

    Types of which no episode is lost are left out.
    """
    types = sorted({episode.task_type for episode in episodes})
    groups = [(name, [episode for episode in episodes if episode.task_type == name]) for name in types]
    if len(groups) > 1:
        groups.append(("all", list(episodes)))
    return [row for name, group in groups if (row := _losses(name, group))]


def _losses(name: str, episodes: Sequence[EpisodeTurns]) -> Losses | None:
    lost = [episode for episode in episodes if episode.outcome != "won"]
    if not lost:
        return None
    first = [turn for episode in lost if (turn := episode.first_failing)]
    progress = [turn for episode in lost if (turn := _last_progress(episode.turns))]
    quarters = np.quantile([len(episode.turns) for episode in lost], [0.25, 0.5, 0.75], method="inverted_cdf")
    return Losses(
        task_type=name,
        episodes=len(episodes),
        lost=len(lost),
        quartiles=(float(quarters[0]), float(quarters[1]), float(quarters[2])),
        failing=len(first) / len(lost),
        first_failing=float(np.median(first)) if first else None,
        progress=float(np.median(progress)) if progress else None,
        reached=float(np.mean([episode.turns[-1].score if episode.turns else 0.0 for episode in lost])),
        repeated=sum(map(_is_repeating, lost)) / len(lost),
        ends=dict(Counter(episode.stop_reason for episode in lost).most_common()),
    )


def _last_progress(turns: Sequence[TurnFacts]) -> int | None:
    """Return the number of the last turn after which the score was higher than before; None if there is none."""
    last, before = None, 0.0
    for i, turn in enumerate(turns, 1):
        if turn.score > before:
            last = i
        before = turn.score
    return last


def _is_repeating(episode: EpisodeTurns) -> bool:
    last = [turn.action for turn in episode.turns[-_REPEATED:]]
    return len(last) == _REPEATED and len(set(last)) == 1


def _kind(action: str) -> str:
    """Return the kind of an action: the word before brackets, or the first word of a command."""
    action = action.strip()
    found = _BRACKETS.fullmatch(action)
    if found:
        name, inner = found[1].lower(), found[2].strip().lower()
        if name != "click":
            return name
        if inner in _BUTTONS:
            return f"click[{inner}]"
        # A product's number has digits, a value of an option hardly ever ten letters and digits.
        is_product = _ASIN.fullmatch(inner) and any(letter.isdigit() for letter in inner)
        return "click[product]" if is_product else "click[option]"
    words = action.split(maxsplit=2)
    if not words:
        return "nothing"
    return "go to" if words[:2] == ["go", "to"] else words[0][:20].lower()


def _opposite(value: Any) -> bool | None:
    return not value if isinstance(value, bool) else None


def _share(values: Sequence[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
