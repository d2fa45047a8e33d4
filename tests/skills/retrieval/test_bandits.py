"""Bandits: scores computed by hand, order, the no-skill arm, budgets; and that they find the better skill."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, UnknownName
from sdar_skills import Library, make_retriever
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, Showing
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.skill import Arm, Retrieved, Skill, Status, arm_of
from sdar_skills.retrieval.bandits import BanditRetriever, HybridRetriever, ThompsonRetriever, UcbRetriever

TASK = Task("alfworld/train/0001", "sdar/ALFWorld-v0", "train", "pick", "put a mug in a drawer")


def skill(name: str, task_type: str | None = "pick", *, status: Status = "active", text: str = "") -> Skill:
    return Skill(name, "alfworld", task_type, f"About {name}.", text or f"Do {name}.", status=status)


A, B, C = skill("a"), skill("b"), skill("c", None)
OTHER = skill("other", "heat")
SKILLS = (A, B, C, OTHER)


def show(
    ledger: Ledger, shown: Skill | Arm, *advantages: float, step: int = 0, task_type: str = "pick", run: str = "r"
) -> None:
    arm = shown if isinstance(shown, Arm) else arm_of(shown)
    ledger.append(
        Showing(arm, "alfworld", task_type, TASK.id, run, step, "ucb", advantage, 0.0) for advantage in advantages
    )


@pytest.fixture
def ledger():
    with Ledger(None) as ledger:
        yield ledger


def retrieve(retriever: BanditRetriever, k: int = 9, budget: int | None = None, seed: int = 0) -> tuple[Retrieved, ...]:
    return retriever.retrieve(TASK, k, budget, random.Random(seed))


def names(retrieved: tuple[Retrieved, ...]) -> str:
    return "".join(found.skill.name for found in retrieved)


# -- UCB --------------------------------------------------------------------------------------


def test_ucb_by_hand(ledger: Ledger) -> None:
    show(ledger, A, 0.5, 0.25, 0.0, 0.25)
    show(ledger, B, 0.5, -0.5)
    show(ledger, C, 0.25, 0.25)
    # Shown for another task type: no news for this one.
    show(ledger, A, -9.0, task_type="heat")
    found = retrieve(UcbRetriever(Library((A, B, C)), statistics=Statistics(ledger), c=0.3))
    # N = 8, 2 ln 8 = 4.158883083; a: 0.25 + 0.3 sqrt(4.158883083 / 4), b: 0 + 0.3 sqrt(4.158883083 / 2).
    assert [one.skill for one in found] == [C, A, B]
    assert [one.score for one in found] == pytest.approx([0.6826081, 0.5559001, 0.4326081], abs=1e-7)
    assert [one.why for one in found] == [
        "mean +0.25 over 2 showings, bonus 0.43",
        "mean +0.25 over 4 showings, bonus 0.31",
        "mean +0.00 over 2 showings, bonus 0.43",
    ]
    # Without exploration, equal means come in a drawn order.
    orders = Counter(
        names(retrieve(UcbRetriever(Library((A, B, C)), statistics=Statistics(ledger), c=0), seed=s)) for s in range(60)
    )
    assert set(orders) == {"acb", "cab"}


def test_one_showing_has_no_bonus(ledger: Ledger) -> None:
    show(ledger, A, 0.5)
    found = retrieve(UcbRetriever(Library((A,)), statistics=Statistics(ledger), c=1))
    assert found == (Retrieved(A, 0.5, "mean +0.50 over 1 showing, bonus 0.00"),)


def test_ucb_with_a_discount_by_hand(ledger: Ledger) -> None:
    show(ledger, A, 1.0, 1.0, step=0)
    show(ledger, A, 0.0, step=2)
    show(ledger, B, 0.5, 0.5, 0.5, step=2)
    found = retrieve(UcbRetriever(Library((A, B)), statistics=Statistics(ledger, gamma=0.5), c=1))
    # a: weights 1/4, 1/4, 1: n = 1.5, mean 1/3. b: n = 3. N = 4.5, 2 ln 4.5 = 3.008154794.
    assert [one.skill for one in found] == [A, B]
    assert [one.score for one in found] == pytest.approx([1 / 3 + 1.4161344, 0.5 + 1.0013583], abs=1e-7)
    assert found[0].why == "mean +0.33 over 3 showings (1.5 after the discount), bonus 1.42"
    # What is too old to weigh anything is unseen again.
    show(ledger, B, 0.0, step=5000)
    assert retrieve(UcbRetriever(Library((A, B)), statistics=Statistics(ledger, gamma=0.5)))[0].score == math.inf


def test_little_weight_is_no_negative_logarithm(ledger: Ledger) -> None:
    show(ledger, A, 0.25, step=0)
    show(ledger, OTHER, 0.0, step=3)
    (found,) = retrieve(UcbRetriever(Library((A,)), statistics=Statistics(ledger, gamma=0.5), c=1))
    assert found.score == 0.25


def test_unseen_skills_come_first_in_a_drawn_order(ledger: Ledger) -> None:
    show(ledger, A, 9.0)
    retriever = UcbRetriever(Library(SKILLS), statistics=Statistics(ledger))
    orders = Counter(names(retrieve(retriever, seed=seed)) for seed in range(200))
    assert len(orders) == 6  # of b, c and other; a is always last
    assert all(order.endswith("a") for order in orders)
    assert retrieve(retriever, seed=3) == retrieve(retriever, seed=3)
    first = retrieve(retriever)[0]
    assert (first.score, first.why) == (math.inf, "not shown yet for this task type")


def test_a_changed_skill_starts_anew(ledger: Ledger) -> None:
    show(ledger, A, -1.0)
    show(ledger, B, 0.0)
    changed = skill("a", text="Do a, but better.")
    assert retrieve(UcbRetriever(Library((A, B)), statistics=Statistics(ledger)), 1)[0].skill == B
    assert retrieve(UcbRetriever(Library((changed, B)), statistics=Statistics(ledger)), 1)[0].skill == changed


# -- Thompson ---------------------------------------------------------------------------------


def test_thompson_belief_by_hand(ledger: Ledger) -> None:
    show(ledger, A, 0.5, 0.0, 0.5, 0.6)
    statistics = Statistics(ledger)
    retriever = ThompsonRetriever(Library((A, B)), statistics=statistics, prior=0.5, noise=0.5)
    belief = retriever.belief(statistics.context("alfworld", "pick")[arm_of(A)])
    # Precision 4 + 4 * 4 = 20; mean 16 * 0.4 / 20.
    assert (belief.mean, belief.variance) == pytest.approx((0.32, 0.05))
    unseen = retriever.belief(None)
    assert (unseen.mean, unseen.stdev) == (0.0, 0.5)


def test_thompson_draws_from_its_beliefs(ledger: Ledger) -> None:
    show(ledger, A, *[0.4] * 100)
    retriever = ThompsonRetriever(Library((A, B)), statistics=Statistics(ledger), prior=0.5, noise=0.5)
    rng = random.Random(0)
    draws = [{one.skill: one for one in retriever.retrieve(TASK, 2, None, rng)} for _ in range(2000)]
    a = [draw[A].score for draw in draws]
    # A: mean 160 / 404 ... = 0.396, sd 1 / sqrt(404) = 0.0498; B: the prior.
    assert math.fsum(a) / 2000 == pytest.approx(0.39604, abs=0.005)
    assert math.sqrt(math.fsum((x - 0.39604) ** 2 for x in a) / 2000) == pytest.approx(0.04975, rel=0.08)
    # P(B above A) = 1 - Phi(0.39604 / sqrt(0.25 + 0.0025)) = 0.2153.
    assert sum(draw[B].score > draw[A].score for draw in draws) / 2000 == pytest.approx(0.2153, abs=0.03)
    assert draws[0][B].why.endswith("from +0.00 ± 0.50, not shown yet")
    assert "from +0.40 ± 0.05, 100 showings" in draws[0][A].why


def test_a_draw_of_zero_is_no_infinity(ledger: Ledger) -> None:
    class Zero(random.Random):
        def random(self) -> float:
            return 0.0

    retriever = ThompsonRetriever(Library((A,)), statistics=Statistics(ledger))
    assert -2 < retriever.retrieve(TASK, 1, None, Zero())[0].score < -1


# -- hybrid -----------------------------------------------------------------------------------


def test_hybrid_tries_only_what_can_be_meant(ledger: Ledger) -> None:
    show(ledger, A, 0.5)
    hybrid = HybridRetriever(Library(SKILLS), statistics=Statistics(ledger))
    assert {one.skill for one in retrieve(hybrid)} == {A, B, C}
    ucb = UcbRetriever(Library(SKILLS), statistics=Statistics(ledger))
    assert {one.skill for one in retrieve(ucb)} == set(SKILLS)


def test_hybrid_with_a_router(ledger: Ledger) -> None:
    class Router:
        asked: tuple[int, int | None]

        def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
            self.asked = (k, token_budget)
            return tuple(Retrieved(one, 1.0, "routed") for one in (OTHER, A)[:k])

    router = Router()
    show(ledger, A, 0.5)
    show(ledger, OTHER, 0.0)
    hybrid = HybridRetriever(Library(SKILLS), statistics=Statistics(ledger), router=router, proposals=5)
    found = retrieve(hybrid)
    assert [one.skill for one in found] == [A, OTHER]
    assert "mean +0.50 over 1 showing" in found[0].why
    assert router.asked == (5, None)


# -- limits -----------------------------------------------------------------------------------


def test_the_budget_leaves_out_whole_skills_by_rank(ledger: Ledger) -> None:
    long = skill("long", text="word " * 50)
    show(ledger, A, 0.9)
    show(ledger, long, 0.5)
    show(ledger, B, 0.1)
    retriever = UcbRetriever(
        Library((A, B, long)), statistics=Statistics(ledger), c=0, count_tokens=lambda text: len(text.split())
    )
    assert [one.skill for one in retrieve(retriever)] == [A, long, B]
    assert [one.skill for one in retrieve(retriever, budget=52)] == [A, long]
    assert [one.skill for one in retrieve(retriever, budget=51)] == [A, B]
    assert [one.skill for one in retrieve(retriever, budget=1)] == []
    assert [one.skill for one in retrieve(retriever, 1)] == [A]
    assert retrieve(retriever, 0) == ()


@pytest.mark.parametrize("retriever_class", [UcbRetriever, ThompsonRetriever, HybridRetriever])
def test_showing_nothing_can_compete(ledger: Ledger, retriever_class: type[BanditRetriever]) -> None:
    show(ledger, A, *[0.9] * 2000)
    show(ledger, NO_SKILL, *[0.0] * 2000)
    show(ledger, B, *[-0.9] * 2000)
    statistics = Statistics(ledger)
    assert names(retrieve(retriever_class(Library((A, B)), statistics=statistics))) == "ab"
    assert names(retrieve(retriever_class(Library((A, B)), statistics=statistics, no_skill_arm=True))) == "a"
    assert retrieve(retriever_class(Library((B,)), statistics=statistics, no_skill_arm=True)) == ()


def test_skills_on_trial_only_where_asked_for_and_retired_ones_never(ledger: Ledger) -> None:
    skills = (A, skill("shadow", status="shadow"), skill("retired", status="retired"))
    statistics = Statistics(ledger)
    assert names(retrieve(UcbRetriever(Library(skills), statistics=statistics))) == "a"
    with_shadow = retrieve(UcbRetriever(Library(skills), statistics=statistics, include_shadow=True))
    assert {one.skill.name for one in with_shadow} == {"a", "shadow"}


def test_a_library_is_asked_for_candidates(ledger: Ledger) -> None:
    library = Library(SKILLS)
    by_name = make_retriever("ucb", library, statistics=Statistics(ledger), c=0.5)
    assert isinstance(by_name, UcbRetriever)
    assert (by_name.library, by_name.c) == (library, 0.5)
    assert names(retrieve(by_name, 3)) == names(
        retrieve(UcbRetriever(Library(SKILLS), statistics=Statistics(ledger)), 3)
    )
    with pytest.raises(InvalidOption, match="needs statistics"):
        make_retriever("thompson", library)


def test_news_is_read_before_each_choice_or_when_asked_for(ledger: Ledger) -> None:
    statistics = Statistics(ledger)
    eager = UcbRetriever(Library((A,)), statistics=statistics)
    patient = UcbRetriever(Library((A,)), statistics=statistics, refresh=False)
    show(ledger, A, 0.5)
    assert retrieve(patient)[0].score == math.inf
    assert retrieve(eager)[0].score == 0.5
    assert retrieve(patient)[0].score == 0.5


@pytest.mark.parametrize(
    ("settings", "limits", "match"),
    [
        ({"c": -0.1}, (1, None), "c is -0.1; wanted a number from 0"),
        ({"c": math.inf}, (1, None), "c is inf"),
        ({}, (-1, None), "k is -1; wanted the greatest number of skills"),
        ({}, (1, 10), "the retriever has no token counter: make it with count_tokens="),
        ({"count_tokens": len}, (1, -1), "token_budget is -1"),
    ],
)
def test_refusals(ledger: Ledger, settings: dict[str, object], limits: tuple[int, int | None], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        retrieve(UcbRetriever(Library((A,)), statistics=Statistics(ledger), **settings), *limits)


def test_refusals_of_the_others(ledger: Ledger) -> None:
    statistics = Statistics(ledger)
    for name in ("prior", "noise"):
        with pytest.raises(InvalidOption, match=f"{name} is 0"):
            ThompsonRetriever(Library((A,)), statistics=statistics, **{name: 0})
    with pytest.raises(InvalidOption, match="proposals is 0"):
        HybridRetriever(Library((A,)), statistics=statistics, proposals=0)
    with pytest.raises(CorruptData, match="two skills have the id 'alfworld/a'"):
        UcbRetriever(Library((A, A)), statistics=statistics)


def test_nothing_falls_back_to_general_skills(ledger: Ledger) -> None:
    statistics = Statistics(ledger)
    pict = Task("alfworld/train/0", "sdar/ALFWorld-v0", "train", "pict", "")
    webshop = Task("webshp/train/0", "sdar/WebShop-v0", "train", "pick", "")
    for retriever in (
        UcbRetriever(Library(SKILLS), statistics=statistics),
        HybridRetriever(Library(SKILLS), statistics=statistics),
    ):
        with pytest.raises(UnknownName, match=r"no alfworld skill \(active\) for .* 'pict'.* Did you mean 'pick'\?"):
            retriever.retrieve(pict, 1, None, random.Random(0))
        with pytest.raises(UnknownName, match="no skills for the suite 'webshp'; there are some for alfworld"):
            retriever.retrieve(webshop, 1, None, random.Random(0))


# -- learning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("retriever_class", [UcbRetriever, ThompsonRetriever])
def test_the_better_skill_takes_over(ledger: Ledger, retriever_class: type[BanditRetriever]) -> None:
    chances = {A: 0.8, B: 0.3, C: 0.4}
    retriever = retriever_class(Library(tuple(chances)), statistics=Statistics(ledger))
    rng = random.Random(0)
    shown: Counter[Skill] = Counter()
    for step in range(600):
        (found,) = retriever.retrieve(TASK, 1, None, rng)
        shown[found.skill] += 1
        show(ledger, found.skill, float(rng.random() < chances[found.skill]) - 0.5, step=step)
    assert shown[A] > 450
    assert min(shown.values()) > 2
