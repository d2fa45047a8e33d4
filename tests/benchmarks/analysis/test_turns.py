"""What turns say about episodes, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sdar_benchmarks.analysis.turns import (
    ActionKind,
    EpisodeTurns,
    TurnShares,
    action_kinds,
    losses,
    shares_by_turn,
    turn_facts,
)


def turn(action: Any = "look", *, fits: bool | None = None, valid: bool | None = True, **more: Any) -> dict[str, Any]:
    return {"action": action, "is_well_formed": fits, "is_action_valid": valid, "score": 0.0, **more}


def played(
    *turns: dict[str, Any], outcome: str = "lost", reason: str = "step_limit", kind: str = "easy"
) -> EpisodeTurns:
    return EpisodeTurns(kind, outcome, reason, turn_facts(turns))


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("go to desk 1", "go to"),
        ("go away", "go"),
        ("Take mug 1 from desk 1", "take"),
        ("search[red mug]", "search"),
        ("click[Buy Now]", "click[buy now]"),
        ("click[b07xyz1234]", "click[product]"),
        ("click[light blue]", "click[option]"),
        ("click[chocolates]", "click[option]"),
        ("answer[Paris]", "answer"),
        ("", "nothing"),
        (None, "nothing"),
        ("x" * 90, "x" * 20),
    ],
)
def test_kinds_of_actions(action: Any, kind: str) -> None:
    [facts] = turn_facts([turn(action)])
    assert facts.kind == kind


def test_first_failing_turns_and_shares() -> None:
    episodes = [
        played(turn(fits=True), turn(fits=False, valid=False), turn(fits=True)),
        played(turn(fits=True, finish_reason="length"), turn(fits=True, finish_reason="eos")),
        played(turn(fits=True, finish_reason="stop")),
    ]
    assert [episode.first_failing for episode in episodes] == [2, 1, None]
    assert shares_by_turn(episodes) == [
        TurnShares(1, 3, 0.0, 0.0, 0.5),
        TurnShares(2, 2, 0.5, 0.5, 0.0),
        TurnShares(3, 1, 0.0, 0.0, None),
    ]
    assert shares_by_turn([]) == []


def test_actions_by_kind() -> None:
    episodes = [
        played(turn("go to desk 1"), turn("take mug 1"), turn("go to bed 1"), outcome="won"),
        played(turn("go to desk 1"), turn("fly", valid=False), turn("swim", valid=False), turn("go to x", valid=False)),
    ]
    assert action_kinds(episodes) == [
        ActionKind("go to", 4, 4 / 7, 0.25, 2.0, 2.0),
        ActionKind("take", 1, 1 / 7, 0.0, 1.0, 0.0),
        ActionKind("other", 2, 2 / 7, 1.0, 0.0, 2.0),
    ]
    assert [row.kind for row in action_kinds(episodes, most=1)] == ["go to", "other"]


def test_where_lost_episodes_end() -> None:
    episodes = [
        played(turn(score=0.5), turn(score=0.5), turn(score=0.25), turn(score=0.25)),
        played(turn("a"), turn("b", fits=False), reason="terminated"),
        played(turn(), outcome="won", reason="terminated"),
        played(outcome="error", reason="endpoint_error", kind="hard"),
        played(turn(), outcome="won", reason="terminated", kind="won by all"),
    ]
    easy, hard, total = losses(episodes)
    assert (easy.task_type, easy.episodes, easy.lost) == ("easy", 3, 2)
    assert easy.quartiles == (2.0, 2.0, 4.0)
    assert (easy.failing, easy.first_failing, easy.progress) == (0.5, 2.0, 1.0)
    assert (easy.reached, easy.repeated) == (0.125, 0.5)
    assert easy.ends == {"step_limit": 1, "terminated": 1}
    assert (hard.quartiles, hard.failing, hard.first_failing, hard.progress) == ((0.0,) * 3, 0.0, None, None)
    assert (total.task_type, total.episodes, total.lost) == ("all", 5, 3)
    assert losses(episodes[2:3]) == []


def test_odd_turns_are_passed_over() -> None:
    [facts] = turn_facts([3, None, {"action": 5, "score": True, "is_action_valid": "no", "finish_reason": 1}])
    assert facts == ("5", "5", None, None, None, 0.0)
