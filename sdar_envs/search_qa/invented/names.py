"""Invented names: words of a small grammar, none of them a word of WordNet or a name that people have.

The grammar can make words that exist. Those are listed in `data/refused_words.txt.gz`, which
`data_makers.search_qa_invented.refused_words` makes from WordNet's lemmas and the census' lists of names, and are never
used. No word is made twice in a world.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import resources

from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.rng import Rng

__all__ = ["GRAMMAR", "REFUSED", "SHAPES", "Names", "refused_words"]

_VOWELS = ("a", "e", "i", "o", "u")
_ONSETS = (
    "b", "br", "d", "dr", "f", "g", "gr", "h", "j", "k", "kl", "kr", "l", "m", "n", "p", "pr", "r", "s", "sk", "t",
    "tr", "v", "vl", "y", "z",
)  # fmt: skip
_MIDDLES = (
    "b", "d", "g", "k", "l", "lm", "lv", "m", "n", "nd", "nt", "p", "r", "rd", "rn", "rv", "s", "sk", "t", "v", "z",
)  # fmt: skip

Shape = tuple[tuple[str, ...], ...]

SHAPES: dict[str, Shape] = {
    "female": (_ONSETS, _VOWELS, _MIDDLES, ("ia", "ine", "elle", "ith", "ova", "une")),
    "male": (_ONSETS, _VOWELS, _MIDDLES, ("ek", "us", "or", "im", "ald", "ent")),
    "family": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("lin", "rak", "vik", "nor", "dell", "tz", "ber", "ssen")),
    "town": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("rth", "nne", "sk", "vna", "dor", "gard", "lmo", "ster")),
    "region": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("nia", "via", "land", "reth")),
    "river": (_ONSETS, _VOWELS, _MIDDLES, ("ew", "ave", "oss", "ael", "onne")),
    "mountain": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("kh", "ghorn", "spitz", "zor")),
    "house": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("rion", "thane", "xel", "phos", "quil")),
    "event": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("mund", "shai", "thra", "weld")),
    "paper": (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, ("scope", "graph", "dex", "lume")),
    "pen": (_ONSETS, _VOWELS, _MIDDLES, ("yx", "oth", "ume", "arn", "isk")),
}
"""Shapes of words by what they name: the parts that a word is put together from, one of each tuple."""

GRAMMAR = re.compile("|".join("".join(f"(?:{'|'.join(part)})" for part in shape) for shape in SHAPES.values()))
"""Every word that a shape makes, in lower case."""

REFUSED = resources.files("sdar_envs.search_qa") / "data" / "refused_words.txt.gz"
"""The words of the grammar that exist."""

_MOST_TRIES = 10_000


@lru_cache(maxsize=1)
def refused_words() -> frozenset[str]:
    """Return the words of the grammar that exist, in lower case.

    Raises:
        CorruptData: the file is damaged.
    """
    try:
        return frozenset(gzip.decompress(REFUSED.read_bytes()).decode("ascii").split())
    except (OSError, EOFError, ValueError) as error:
        raise CorruptData(f"{REFUSED} is damaged ({error}); reinstall sdar-envs.") from error


class Names:
    """Maker of words for one world.

    Args:
        rng: draws the parts.
        taken: words in lower case that are not to be made.
    """

    def __init__(self, rng: Rng, taken: Iterable[str] = ()) -> None:
        self._rng = rng
        self._taken = set(taken)

    def word(self, shape: str) -> str:
        """Return a new word with a capital.

        Args:
            shape: one of `SHAPES`.
        """
        return self._new(lambda: tuple(self._rng.choice(part) for part in SHAPES[shape]))[0]

    def words(self, shape: str, count: int, twins: int = 0) -> list[str]:
        """Return new words, some of them one vowel away from an earlier one.

        Args:
            shape: one of `SHAPES`.
            count: how many.
            twins: so many of a hundred are made from an earlier word.
        """
        made: list[tuple[str, ...]] = []
        words: list[str] = []
        while len(words) < count:
            if made and self._rng.per_cent(twins):
                word, parts = self._new(lambda: self._twin(self._rng.choice(made)))
            else:
                word, parts = self._new(lambda: tuple(self._rng.choice(part) for part in SHAPES[shape]))
            made.append(parts)
            words.append(word)
        return words

    def _twin(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        places = [place for place, part in enumerate(parts) if part in _VOWELS]
        place = self._rng.choice(places)
        return (*parts[:place], self._rng.choice(_VOWELS), *parts[place + 1 :])

    def _new(self, make: Callable[[], tuple[str, ...]]) -> tuple[str, tuple[str, ...]]:
        for _ in range(_MOST_TRIES):
            parts = make()
            word = "".join(parts)
            if word not in self._taken and word not in refused_words():
                self._taken.add(word)
                return word.capitalize(), parts
        raise InvalidOption("the world wants more names than the grammar has: ask for fewer entities.")
