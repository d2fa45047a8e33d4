"""Your own search engine for Search-QA: named as `module:Class`, in Python and on the command line.

    sdar eval sdar/SearchQA-v0 --set corpus=facts --set retriever=own_retriever:WordOverlap --limit 100

A retriever has two members: `search`, which answers many queries at once, and `fingerprint`, which tells engine and
corpus from any other: results are cached under it. This one ranks the embedded facts by the words that a passage shares
with the query; put your own index, service or database in its place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from sdar_envs import make_text_env
from sdar_envs.search_qa import embedded
from sdar_envs.search_qa.retrieval.retriever import Hit


class WordOverlap:
    """Passages by the words they share with a query, rare words counting more."""

    fingerprint = f"word-overlap:{embedded.FINGERPRINT}"

    def __init__(self) -> None:
        self._passages = list(embedded.passages())
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        for place, passage in enumerate(self._passages):
            for word in set(re.findall(r"\w+", passage.contents.lower())):
                self._places[word].append(place)

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query, best first."""
        return [self._best(query, k) for query in queries]

    def _best(self, query: str, k: int) -> tuple[Hit, ...]:
        scores: defaultdict[int, float] = defaultdict(float)
        for word in re.findall(r"\w+", query.lower()):
            for place in self._places.get(word, ()):
                scores[place] += 1 / len(self._places[word])
        # Equal scores in the order of the corpus: a retriever has to be deterministic.
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]
        return tuple(Hit(self._passages[place], score) for place, score in best)


def main() -> None:
    """Play the first test question with the oracle's queries."""
    env = make_text_env("sdar/SearchQA-v0", corpus="facts", split="test", retriever="own_retriever:WordOverlap")
    observation, _ = env.reset(options={"task_id": "search_qa/facts/test/0000"})
    print(observation)
    for action in env.oracle_plan():
        observation, reward, *_ = env.step(action)
        print(f"> {action}\n{observation}")
    print(f"reward {reward}")


if __name__ == "__main__":
    main()
