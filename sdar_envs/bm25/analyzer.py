"""Text analyzer: tokens, stop words and stems, identical to Lucene 8.11's `EnglishAnalyzer`.

`analyze` runs its five stages: the tokenizer of Unicode's annex 29 (with Lucene's additions for
emoji, ideographs and the scripts of south-east Asia, and its cut of tokens at 255 UTF-16 units), the English
possessive, lower case code point by code point, 33 stop words, and Porter's stemmer. Ranking is
identical to the original's only because the terms are, so this module refuses every improvement:
`color:black` stays one term and `wi-fi` stays two.

What the tokenizer tells apart is in `data/token_classes.txt`, read when the first non-ASCII text comes.
Lone surrogates, which Lucene never saw, separate words.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from importlib import resources
from itertools import accumulate
from typing import NamedTuple

__all__ = ["MAX_TOKEN_UNITS", "TOKENS_OF_A_BUILD", "Terms", "analyze", "stem", "term", "tokenize"]

MAX_TOKEN_UNITS = 255
"""Longest token in UTF-16 units; a longer one is split."""

TOKENS_OF_A_BUILD = 2_000_000
"""So many tokens are cached while an index is built: stemming one anew costs ten times as much as splitting it off."""

_STOP_WORD_LIST = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
    "this to was will with"
)
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())

# Runs of letters, digits and underscores; ":" "." "'" hold letters together, "," ";" "." "'" digits.
# Runs of underscores alone match too (they are no tokens): skipping them one by one would be quadratic.
_ASCII_TOKEN = re.compile(
    r"[A-Za-z0-9_]+(?:(?:(?<=[A-Za-z])[:.'](?=[A-Za-z])|(?<=[0-9])[,;.'](?=[0-9]))[A-Za-z0-9_]+)*+"
)
# Text between two spaces that is not all ASCII: no token reaches across a space.
_FOREIGN = re.compile(r"(?<![^ ])[\x00-\x1f\x21-\x7f]*+[^\x00-\x7f][^ ]*+")
_UNDERSCORES = re.compile("_+")


def analyze(text: str, terms: Terms | None = None) -> list[str]:
    """Return the search terms of a text, in order, with repetitions.

    Args:
        text: any text.
        terms: the cache to use; by default one for queries, of 200,000 tokens.
    """
    known = _terms if terms is None else terms
    return [word for word in map(known.__getitem__, tokenize(text)) if word]


def tokenize(text: str) -> list[str]:
    """Return the tokens before any filter.

    Of ASCII text it may also return runs of underscores, which are no tokens: `term` drops them.
    """
    if text.isascii():
        return _tokenize_ascii(text)
    tokens: list[str] = []
    done = 0
    for match in _FOREIGN.finditer(text):
        tokens += _tokenize_ascii(text[done : match.start()])
        tokens += _tokenize_unicode(match.group())
        done = match.end()
    tokens += _tokenize_ascii(text[done:])
    return tokens


def term(token: str) -> str:
    """Return the search term of a token, or an empty string if it has none (a stop word)."""
    if token[-1:] in ("s", "S") and token[-2:-1] in ("'", "\u2019", "\uff07"):
        token = token[:-2]
    # Java lower-cases each code point for itself, Python looks at the word's end and makes "i" and a dot of U+0130.
    token = token.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()
    if token in _STOP_WORDS or not token.strip("_"):
        return ""
    if not token.isascii() and max(token) > "\uffff":
        # The stemmer counts UTF-16 units; it only ever changes the letters at the end.
        units = token.encode("utf-16-le")
        stemmed = stem("".join(chr(units[i] | units[i + 1] << 8) for i in range(0, len(units), 2)))
        return stemmed.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return stem(token)


class Terms(dict[str, str]):
    """Cache of terms by token; it is emptied when it is full.

    Args:
        limit: so many tokens at most, of about 200 bytes each.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, token: str) -> str:
        word = term(token)
        if len(self) >= self._limit:
            self.clear()
        self[token] = word
        return word


_terms = Terms(200_000)


# -- the tokenizer ------------------------------------------------------------------------------


def _tokenize_ascii(text: str) -> list[str]:
    tokens: list[str] = _ASCII_TOKEN.findall(text)
    if len(text) > MAX_TOKEN_UNITS and len(max(tokens, key=len, default="")) > MAX_TOKEN_UNITS:
        return _tokenize_unicode(text)
    return tokens


def _tokenize_unicode(text: str) -> list[str]:
    """Split any text: each code point becomes the sign of its class, and the patterns read the signs."""
    classes, first_sign, token, emoji = _grammar()
    signs = text.translate(classes)
    # A token ends within a window, so that each position costs a bounded time whatever the text. The window is
    # counted in UTF-16 units: `units[i]` of them precede code point i.
    units = None
    if max(text, default="") > "\uffff":
        units = list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
    tokens = []
    position = 0
    while start := first_sign.search(signs, position):
        position = start.start()
        limit = position + MAX_TOKEN_UNITS
        if units is not None:
            limit = bisect_right(units, units[position] + MAX_TOKEN_UNITS) - 1
        match = token.match(signs, position, limit)
        if signs[position] in "iz" and (other := emoji.match(signs, position, limit)):
            # A letter that is an emoji too: the longer reading counts.
            match = other if match is None or other.end() > match.end() else match
        if match is None:
            # Of a long run of underscores only the end can belong to a token.
            underscores = _UNDERSCORES.match(signs, position)
            position = max(position + 1, underscores.end() - MAX_TOKEN_UNITS if underscores else 0)
        else:
            tokens.append(text[position : match.end()])
            position = match.end()
    return tokens


class _Grammar(NamedTuple):
    """Compiled token grammar.

    Attributes:
        classes: the sign of each code point's class.
        first_sign: a pattern over signs: what a token can begin with.
        token: a whole token.
        emoji: an emoji, for those that are letters too.
    """

    classes: bytes
    first_sign: re.Pattern[str]
    token: re.Pattern[str]
    emoji: re.Pattern[str]


@lru_cache(maxsize=1)
def _grammar() -> _Grammar:
    classes = bytearray(b"o" * 0x110000)
    table = resources.files("sdar_envs.bm25").joinpath("data/token_classes.txt").read_text("ascii")
    for line in table.splitlines():
        sign, *ranges = line.split(" ")
        if sign == "#":
            continue
        for text in ranges:
            first, _, last = text.partition("-")
            low, high = int(first, 16), int(last or first, 16)
            classes[low : high + 1] = sign.encode() * (high + 1 - low)

    x = "[xzvtks]*+"  # marks that belong to the character before them
    letter, digit, katakana, joiner = f"[AHi]{x}", f"D{x}", f"K{x}", f"_{x}"
    # A Hebrew letter keeps an apostrophe, and joins the next over a double quote. A letter that was reached over
    # a mark within a word does neither, nor does the second of such a pair: Lucene's grammar, not Unicode's.
    letters = f"(?:H{x}d{x}H{x}|H{x}q{x}|{letter}(?:[mpq]{x}{letter})*+|{digit}(?:[cpq]{x}{digit})*+)++"
    part = f"(?:{letters}|(?:{katakana})++)"
    word = f"(?:{joiner})*+{part}(?:(?:{joiner})++{part})*(?:{joiner})*+"
    # An emoji: a person or hand with a skin tone; any with the sign that asks for a picture; any; a skin tone alone.
    y = "[xzsk]*+"
    toned = f"b{y}M{y}"
    plain = f"[ebi]{y}(?:v(?:z(?=z*[ebiM]))?)?"
    unit = f"(?:{toned}|{plain}|M{y})"
    emoji = f"(?:z++(?=[ebi]))?{unit}(?:(?<=z){unit})*"
    keycap = f"g[xzsk]*v?k{y}"
    flag = f"R{x}R{x}"
    token = f"{word}|{emoji}|{keycap}|{flag}|[Ss][Ssxzvtk]*+|[hr]{x}"
    return _Grammar(bytes(classes), re.compile("[AHiDK_SsheMbrzgR]"), re.compile(token), re.compile(emoji))


# -- Porter's stemmer ---------------------------------------------------------------------------

# Suffixes of a step by the last letter but one (the last letter, in step 3): the first that fits decides.
_STEP_2 = {
    "a": (("ational", "ate"), ("tional", "tion")),
    "c": (("enci", "ence"), ("anci", "ance")),
    "e": (("izer", "ize"),),
    "g": (("logi", "log"),),
    "l": (("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous")),
    "o": (("ization", "ize"), ("ation", "ate"), ("ator", "ate")),
    "s": (("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous")),
    "t": (("aliti", "al"), ("iviti", "ive"), ("biliti", "ble")),
}
_STEP_3 = {
    "e": (("icate", "ic"), ("ative", ""), ("alize", "al")),
    "i": (("iciti", "ic"),),
    "l": (("ical", "ic"), ("ful", "")),
    "s": (("ness", ""),),
}
_STEP_4 = {
    "a": ("al",),
    "c": ("ance", "ence"),
    "e": ("er",),
    "i": ("ic",),
    "l": ("able", "ible"),
    "n": ("ant", "ement", "ment", "ent"),
    "o": ("ion", "ou"),
    "s": ("ism",),
    "t": ("ate", "iti"),
    "u": ("ous",),
    "v": ("ive",),
    "z": ("ize",),
}


def stem(word: str) -> str:
    """Return the stem of a lower-case word: Martin Porter's algorithm in his Java version.

    That version differs from the paper in `bli` to `ble`, `logi` to `log` and in leaving words of two letters alone.
    """
    if len(word) < 3:
        return word
    word = _plural_and_past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    if len(word) > 1:
        word = _replace(word, _STEP_2.get(word[-2], ()))
    word = _replace(word, _STEP_3.get(word[-1], ()))
    if len(word) > 1:
        word = _strip(word)
    return _final_e(word)


def _plural_and_past(word: str) -> str:
    if word.endswith("s"):
        if word.endswith(("sses", "ies")):
            word = word[:-2]
        elif word[-2] != "s":
            word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    if word.endswith("ed"):
        root = word[:-2]
    elif word.endswith("ing"):
        root = word[:-3]
    else:
        return word
    if not _has_vowel(root):
        return word
    if root.endswith(("at", "bl", "iz")):
        return root + "e"
    if _ends_double(root):
        return root if root[-1] in "lsz" else root[:-1]
    if _measure(root) == 1 and _ends_cvc(root):
        return root + "e"
    return root


def _replace(word: str, suffixes: tuple[tuple[str, str], ...]) -> str:
    for suffix, replacement in suffixes:
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            return root + replacement if _measure(root) > 0 else word
    return word


def _strip(word: str) -> str:
    for suffix in _STEP_4.get(word[-2], ()):
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            if suffix == "ion" and root[-1:] not in ("s", "t"):
                continue
            return root if _measure(root) > 1 else word
    return word


def _final_e(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word)
        if measure > 1 or (measure == 1 and not _ends_cvc(word[:-1])):
            word = word[:-1]
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _is_consonant(word: str, index: int) -> bool:
    letter = word[index]
    if letter == "y":
        # A run of y alternates: the first of a word is a consonant, one after a vowel too.
        first = index
        while first > 0 and word[first - 1] == "y":
            first -= 1
        after_consonant = first > 0 and word[first - 1] not in "aeiou"
        return (index - first) % 2 == (1 if after_consonant else 0)
    return letter not in "aeiou"


def _measure(root: str) -> int:
    """Return how often a consonant follows a vowel."""
    count = 0
    consonant = True
    for index, letter in enumerate(root):
        before = consonant if index else False
        # "y" is a consonant at the start and after a vowel.
        consonant = not before if letter == "y" else letter not in "aeiou"
        if index and consonant and not before:
            count += 1
    return count


def _has_vowel(root: str) -> bool:
    consonant = False
    for letter in root:
        consonant = not consonant if letter == "y" else letter not in "aeiou"
        if not consonant:
            return True
    return False


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _is_consonant(word, len(word) - 1)


def _ends_cvc(word: str) -> bool:
    last = len(word) - 1
    return (
        last > 1
        and word[last] not in "wxy"
        and _is_consonant(word, last)
        and not _is_consonant(word, last - 1)
        and _is_consonant(word, last - 2)
    )
