"""Orders of a split's tasks: samples that represent it, and walks that repeat nothing."""

import itertools
import math
import pickle
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import InvalidOption
from sdar_envs.orders import Walk, spread
from sdar_envs.registry import sample_indices, sample_tasks

# Splits as official data sorts them: by the type of task (ALFWorld), by data set (Search-QA).
SORTED = {
    "alfworld valid_unseen": {"look": 18, "place": 24, "clean": 31, "cool": 21, "heat": 23, "two": 17},
    "alfworld train": {"look": 308, "place": 790, "clean": 650, "cool": 533, "heat": 459, "two": 813},
    "search_qa test": {
        "nq": 3610,
        "triviaqa": 11313,
        "popqa": 14267,
        "hotpotqa": 7405,
        "2wiki": 12576,
        "musique": 2417,
        "bamboogle": 125,
    },
}


def listing(counts):
    return [type_ for type_, count in counts.items() for _ in range(count)]


@given(st.integers(1, 3000))
def test_a_spread_order_has_each_index_once(size):
    order = spread(size)
    assert sorted(order) == list(range(size))
    assert order[0] == 0
    assert spread(size, size // 2) == order[: size // 2]
    assert spread(size, size + 5) == order


def test_the_spread_order_is_the_same_for_ever():
    assert spread(134, 8) == [0, 83, 32, 115, 64, 13, 96, 45]
    assert spread(3553, 4) == [0, 2196, 839, 3035]
    assert spread(0) == []


@pytest.mark.parametrize("counts", SORTED.values(), ids=SORTED)
def test_every_prefix_of_a_split_sorted_by_type_holds_all_types_in_proportion(counts):
    types = listing(counts)
    seen = Counter()
    for place, index in enumerate(spread(len(types), 2000), 1):
        seen[types[index]] += 1
        for type_, count in counts.items():
            expected = place * count / len(types)
            assert abs(seen[type_] - expected) < 2 + place / 200, (place, type_)


@pytest.mark.parametrize("size", [134, 140, 500, 2500, 3553])
@pytest.mark.parametrize("period", [2, 3, 5, 6, 7, 10])
def test_a_listing_that_alternates_is_represented_too(size, period):
    seen = Counter(index % period for index in spread(size, 100))
    assert all(abs(seen[rest] - 100 / period) < 6 for rest in range(period))


def test_a_sample_is_a_prefix_and_a_window_shares_nothing_with_it():
    source = SimpleNamespace(splits={"sorted": 134, "endless": None}, task=lambda split, index: (split, index))
    assert sample_indices(source, "sorted", 20) == spread(134)[:20]
    assert sample_indices(source, "sorted", 100)[:20] == sample_indices(source, "sorted", 20)
    windows = [sample_indices(source, "sorted", first + 67, first=first) for first in (0, 67)]
    assert sorted(itertools.chain(*windows)) == list(range(134))
    assert sample_tasks(source, "sorted", 2) == (("sorted", 0), ("sorted", 83))
    for limit in (None, 134, 9999):
        assert list(sample_indices(source, "sorted", limit)) == list(range(134)), "a whole split keeps its order"
    assert list(sample_indices(source, "endless", 5, first=2)) == [2, 3, 4], "random by generation"
    with pytest.raises(InvalidOption, match="without end"):
        sample_indices(source, "endless")
    with pytest.raises(InvalidOption, match="limit is -1"):
        sample_indices(source, "sorted", -1)


@given(st.integers(1, 400), st.integers(0, 2**63), st.data())
def test_a_walk_visits_each_index_once_in_a_pass(size, seed, data):
    first = data.draw(st.integers(0, size - 1))
    walk = Walk(size, first, seed)
    passes = [[next(walk) for _ in range(size)] for _ in range(3)]
    assert all(sorted(of) == list(range(size)) for of in passes)
    assert passes[0][0] == first
    again = Walk(size, first, seed)
    assert [next(again) for _ in range(size)] == passes[0]


def test_passes_and_seeds_have_orders_of_their_own():
    walk = Walk(134, 0, 7)
    passes = [tuple(next(walk) for _ in range(134)) for _ in range(20)]
    others = [tuple(next(walk) for _ in range(134)) for walk in (Walk(134, 0, seed) for seed in range(8, 28))]
    assert len({*passes, *others}) == 40
    # Where a task comes in a pass is uniform: the mean rank of each within four standard deviations.
    ranks = Counter()
    walk = Walk(134, 0, 1)
    for _ in range(400):
        for rank in range(134):
            ranks[next(walk)] += rank
    deviation = math.sqrt((134**2 - 1) / 12 / 400)
    assert all(abs(total / 400 - 66.5) < 4.2 * deviation for total in ranks.values())


def test_a_walk_is_the_same_for_ever_and_small():
    walk = Walk(134, 67, 3)
    assert [next(walk) for _ in range(8)] == [67, 95, 58, 102, 85, 9, 43, 1]
    big = Walk(169_615, 5, 1)
    assert next(big) == 5
    assert len(pickle.dumps(big)) < 20_000
    copy = pickle.loads(pickle.dumps(big))
    assert [next(copy) for _ in range(50)] == [next(big) for _ in range(50)]
