"""The cache: never another answer than the retriever's, and as few questions as possible."""

import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.caching import CacheStatistics, CachingRetriever
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed


class Counting:
    """Finds as many passages as a query has letters, and remembers what it was asked."""

    fingerprint = "counting"

    def __init__(self):
        self.asked = []
        self.fails = False

    def search(self, queries, k):
        self.asked.append((tuple(queries), k))
        if self.fails:
            raise RetrievalFailed("the line is dead")
        return [
            tuple(Hit(Passage(f"{query}{i}", "x"), 1.0 / (i + 1)) for i in range(min(k, len(query))))
            for query in queries
        ]


@pytest.fixture
def inner():
    return Counting()


def test_a_batch_is_asked_once_without_repetitions(inner):
    cached = CachingRetriever(inner)
    found = cached.search(["abc", "de", "abc", "", "de"], 2)
    assert found == Counting().search(["abc", "de", "abc", "", "de"], 2)
    assert cached.search(["", "abc", "new", "new"], 2) == Counting().search(["", "abc", "new", "new"], 2)
    assert inner.asked == [(("abc", "de", ""), 2), (("new",), 2)]
    assert cached.search([], 2) == []
    assert cached.search(["abc"], 2)[0][0].passage.id == "abc0"
    assert len(inner.asked) == 2
    assert cached.statistics == CacheStatistics(hits=6, misses=4, queries=4)
    assert cached.fingerprint == "counting"


def test_more_serves_fewer_and_not_the_other_way(inner):
    cached = CachingRetriever(inner)
    cached.search(["abcdef"], 3)
    assert cached.search(["abcdef"], 2) == Counting().search(["abcdef"], 2)
    assert cached.search(["abcdef"], 5) == Counting().search(["abcdef"], 5)
    assert cached.search(["abcdef"], 3) == Counting().search(["abcdef"], 3)
    assert inner.asked == [(("abcdef",), 3), (("abcdef",), 5)]
    assert cached.statistics.queries == 1


def test_the_least_recently_used_is_forgotten(inner):
    cached = CachingRetriever(inner, max_queries=2)
    cached.search(["a"], 1)
    cached.search(["b"], 1)
    cached.search(["a"], 1)
    cached.search(["c"], 1)
    inner.asked.clear()
    cached.search(["a", "c"], 1)
    assert inner.asked == []
    cached.search(["b"], 1)
    assert inner.asked == [(("b",), 1)]
    assert cached.search(list("vwxyz"), 1) == Counting().search(list("vwxyz"), 1)
    assert cached.statistics.queries == 2


def test_failures_are_not_kept(inner):
    cached = CachingRetriever(inner)
    cached.search(["a"], 1)
    inner.fails = True
    with pytest.raises(RetrievalFailed, match="the line is dead"):
        cached.search(["a", "b"], 1)
    assert cached.search(["a"], 1) == Counting().search(["a"], 1)
    inner.fails = False
    assert cached.search(["b"], 1) == Counting().search(["b"], 1)
    assert cached.statistics == CacheStatistics(hits=1, misses=2, queries=2)


def test_another_corpus_is_another_key(inner):
    cached = CachingRetriever(inner)
    cached.search(["a"], 1)
    inner.fingerprint = "another"
    cached.search(["a"], 1)
    assert len(inner.asked) == 2


def test_very_long_queries_are_not_kept(inner):
    cached = CachingRetriever(inner)
    for _ in range(2):
        cached.search(["x" * 1001, "x" * 1000], 1)
    assert inner.asked == [(("x" * 1001, "x" * 1000), 1), (("x" * 1001,), 1)]


def test_what_is_refused(inner):
    for max_queries in (0, -1, 1.5, None):
        with pytest.raises(InvalidOption, match="max_queries is"):
            CachingRetriever(inner, max_queries)
    cached = CachingRetriever(inner)
    with pytest.raises(InvalidOption, match="k is 0"):
        cached.search(["a"], 0)
    with pytest.raises(InvalidOption, match="wanted a list of texts"):
        cached.search("a", 1)
    inner.search = lambda queries, k: [()]
    with pytest.raises(RetrievalFailed, match="1 answers to 2 queries"):
        cached.search(["a", "b"], 1)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.lists(st.sampled_from(["", "a", "bb", "ccc", "dddd"]), max_size=5), st.integers(1, 5))),
)
def test_never_another_answer(max_queries, requests):
    inner, model, hits = Counting(), OrderedDict(), 0
    cached = CachingRetriever(inner, max_queries)
    for queries, k in requests:
        assert cached.search(queries, k) == Counting().search(queries, k)
        # The same cache, written down once more as plainly as possible.
        different = list(dict.fromkeys(queries))
        missing = [query for query in different if model.get(query, 0) < k]
        hits += len(queries) - len(missing)
        for query in [query for query in different if query not in missing] + missing:
            model[query] = max(model.pop(query, 0), k)
            if len(model) > max_queries:
                model.popitem(last=False)
        assert inner.asked[-1:] == ([(tuple(missing), k)] if missing else inner.asked[-1:])
    assert cached.statistics == CacheStatistics(hits, sum(len(queries) for queries, _ in inner.asked), len(model))


def test_threads(inner):
    cached = CachingRetriever(inner, max_queries=50)
    wrong = []

    def work(seed):
        for i in range(300):
            queries = ["q" * ((seed * 31 + i * j) % 97) for j in range(5)]
            if cached.search(queries, 1 + i % 4) != Counting().search(queries, 1 + i % 4):
                wrong.append(queries)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = cached.statistics
    assert wrong == []
    assert statistics.hits + statistics.misses == 4 * 300 * 5
    assert statistics.queries == 50


class Generous:
    """Finds one passage more than it was asked for."""

    fingerprint = "generous"

    def search(self, queries, k):
        return [tuple(Hit(Passage(f"{query}{i}", "x"), None) for i in range(k + 1)) for query in queries]


def test_a_retriever_that_gives_more_than_k_gives_the_same_when_asked_again():
    cached = CachingRetriever(Generous())
    assert cached.search(["a"], 2) == cached.search(["a"], 2) == Generous().search(["a"], 2)
