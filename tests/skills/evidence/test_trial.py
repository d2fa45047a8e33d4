"""Trials: verdicts computed by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, Showing
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.evidence.trial import TrialRule, Verdict, judge, paired_showings
from sdar_skills.library.skill import Arm, Skill, Status, arm_of

TASK = Task("toy/train/0", "toy", "train", "pick", "")


def skill(name: str, status: Status = "shadow", kind: str | None = "pick") -> Skill:
    return Skill(name, "toy", kind, "d", f"Text of {name}.", status=status)


NEW, OLD = skill("new"), skill("old", "active")


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(None) as ledger:
        yield ledger


def show(
    ledger: Ledger, arm: Arm | Skill, *advantages: float, times: int = 1, kind: str = "pick", step: int = 0
) -> None:
    arm = arm_of(arm) if isinstance(arm, Skill) else arm
    row = Showing(arm, "toy", kind, TASK.id, "run-1", step, "trial", 0.0, 0.0)
    ledger.append(row._replace(reward=advantage) for advantage in advantages * times)


def verdict(ledger: Ledger, judged: Skill = NEW, *others: Skill, gamma: float = 1.0, **rule: Any) -> Verdict:
    return judge([judged, *others], Statistics(ledger, gamma=gamma), TrialRule(**{"min_showings": 4, "z": 2, **rule}))[
        0
    ]


# -- verdicts ---------------------------------------------------------------------------------


def test_a_verdict_by_hand(ledger: Ledger) -> None:
    show(ledger, NEW, 1.0, 0.0, times=4)
    show(ledger, NO_SKILL, 0.5, -0.5, times=8)
    found = verdict(ledger)
    # Means 0.5 and 0; variances 2 / 7 over 8 and 4 / 15 over 16.
    assert found.difference == pytest.approx(0.5)
    assert found.error == pytest.approx(math.sqrt(2 / 7 / 8 + 4 / 15 / 16))
    assert (found.status, found.showings) == ("active", 8)
    assert found.why == "+0.500 ± 0.458 against the control over 8 showings: it helps"
    assert verdict(ledger, z=2.2).status == "shadow"
    assert verdict(ledger, z=2.2).why.endswith("undecided")
    assert verdict(ledger, promote_above=0.05).status == "shadow"


def test_task_types_are_compared_one_by_one(ledger: Ledger) -> None:
    # In the hard type everything fails more; the skill was mostly shown there.
    general = skill("general", kind=None)
    show(ledger, general, 0.25, 0.15, times=2, kind="easy")
    show(ledger, NO_SKILL, 0.15, 0.05, times=20, kind="easy")
    show(ledger, general, -0.65, -0.75, times=6, kind="hard")
    show(ledger, NO_SKILL, -0.85, -0.95, times=2, kind="hard")
    # Nothing to compare with: does not count.
    show(ledger, general, -9.0, -9.0, kind="other")
    found = verdict(ledger, general)
    # 0.1 in the easy one (4 of 16), 0.2 in the hard one.
    assert found.difference == pytest.approx(0.25 * 0.1 + 0.75 * 0.2)
    assert found.showings == 16
    assert found.status == "active"


def test_too_few_on_one_side_decide_nothing(ledger: Ledger) -> None:
    show(ledger, NEW, 1.0, 0.9, times=50)
    assert verdict(ledger) == (NEW, "shadow", 0, None, None, "nothing to compare with the control yet")
    show(ledger, NO_SKILL, 0.0, 0.1)
    assert verdict(ledger).status == "shadow"
    assert verdict(ledger).why.endswith("too few, 2 of 4 on one side")
    show(ledger, NO_SKILL, 0.0, 0.1)
    assert verdict(ledger).status == "active"
    # After a long time little of it counts.
    show(ledger, NO_SKILL, 0.0, step=10)
    assert "too few, 1 of 4" in verdict(ledger, gamma=0.3).why


def test_bad_skills_are_retired_and_so_are_undecided_ones(ledger: Ledger) -> None:
    show(ledger, NEW, -0.5, -0.4, times=5)
    show(ledger, OLD, -0.5, -0.4, times=5)
    show(ledger, NO_SKILL, 0.0, 0.1, times=5)
    assert verdict(ledger).status == "retired"
    assert verdict(ledger).why.endswith("it does harm")
    assert verdict(ledger, OLD).status == "retired"
    assert verdict(ledger, retire_below=-0.6).status == "shadow"
    other = skill("other")
    show(ledger, other, 0.5, -0.5, times=5)
    assert verdict(ledger, other).status == "shadow"
    assert verdict(ledger, other, max_showings=10).status == "retired"
    assert verdict(ledger, other, max_showings=10).why.endswith("undecided for too long")
    # An active skill is not retired for being no news.
    steady = skill("steady", "active")
    show(ledger, steady, 0.5, -0.5, times=5)
    assert verdict(ledger, steady, max_showings=10).status == "active"


def test_a_changed_skill_is_judged_by_its_own_showings(ledger: Ledger) -> None:
    show(ledger, NEW, -0.5, -0.4, times=50)
    show(ledger, NO_SKILL, 0.0, 0.1, times=50)
    changed = Skill("new", "toy", "pick", "d", "A better text.", version="1.1.0", status="shadow")
    assert verdict(ledger, changed).difference is None


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"min_showings": 1}, "min_showings is 1; wanted a whole number from 2"),
        ({"max_showings": 10}, "max_showings is 10; wanted a whole number from min_showings, 50"),
        ({"z": 0}, "z is 0"),
        ({"retire_below": 0.1}, "retire_below is 0.1, promote_above is 0.0; wanted the first not above"),
    ],
)
def test_rules_are_checked(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        TrialRule(**settings)


@pytest.mark.parametrize(("worth", "wanted"), [(0.25, "active"), (0.0, "shadow"), (-0.25, "retired")])
def test_luck_does_not_promote_even_if_judged_at_every_step(worth: float, wanted: Status) -> None:
    for seed in range(10):
        rng = random.Random(seed)
        status: Status = "shadow"
        with Ledger(None) as ledger:
            statistics = Statistics(ledger)
            for step in range(60):
                show(ledger, NEW, *[float(rng.random() < 0.5 + worth) for _ in range(8)], step=step)
                show(ledger, NO_SKILL, *[float(rng.random() < 0.5) for _ in range(8)], step=step)
                statistics.refresh()
                status = judge([NEW], statistics, TrialRule())[0].status
                if status != "shadow":
                    break
        assert status == wanted


def test_a_paired_trial_is_judged_by_the_differences_of_tasks(ledger: Ledger) -> None:
    # The tasks differ much more than the skill changes them; by its differences alone it is found to help.
    rewards = {f"toy/train/{i}": (i / 10, i / 10 + (0.1 if i % 2 else 0.2)) for i in range(8)}
    ledger.append(paired_showings(NEW, "pick", rewards, "trial-1"))
    found = verdict(ledger)
    assert found.difference == pytest.approx(0.15)
    # The variance of 0.1 and 0.2, four times each, is 0.02 / 7.
    assert found.error == pytest.approx(math.sqrt(0.02 / 7 / 8))
    assert (found.status, found.showings) == ("active", 8)
