"""Single-search Search-QA baseline: the question is the query, and regular expressions find the answer.

It measures what one search without reading comprehension achieves. The answer is a name or number of the passages that
is not in the question: a year for questions with "when" or "year", a number for "how many" or "how high", else a name
or a code. Passages whose titles share most words with the question come first; of a passage's first sentence, the last
match is taken. There are no follow-up searches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdar_envs.files.json_text import parse_json

__all__ = ["QuestionAsQuery", "answer_from"]

_INFORMATION = re.compile(r"<information>\s*(.*?)\s*</information>", re.DOTALL)
_PASSAGE = re.compile(r'Doc \d+(?:: |\(Title: )"(.*?)"(?:\n|\) )(.*?)(?=\nDoc \d+(?:: |\(Title: )"|\Z)', re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_YEAR = re.compile(r"\b[12]\d{3}\b")
# Capitalised words in a row, with the small words of names ("of", "the") between them.
_NAME = re.compile(
    r"[^\W\d_a-z][\w.'’-]*(?:(?: (?:of|the|and|de|da|do|la|el|al|y))? (?:[dl]['’])?[^\W\d_a-z][\w.'’-]*)*"
)
_WANTS_YEAR = re.compile(r"\b(?:when|year|date)\b", re.IGNORECASE)
_WANTS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|high|large|big|long|far)|number|elevation|population)\b", re.IGNORECASE
)
_ALTERNATIVES = re.compile(r"(?:[,:]|\bthan\b|\bis\b)\s*([^,:]+?),? or ([^,?]+)\??\s*$")
_WORD = re.compile(r"\w+")
# Not after one letter or digit: the stop in "J. Smith" ends no sentence.
_SENTENCE = re.compile(r"(?<=[\w\")]{2}[.!?]) +(?=[A-Z])")


class _Passage(NamedTuple):
    title: str
    text: str


class QuestionAsQuery:
    """Script that searches for the question once and answers by pattern matching; see the module."""

    def __init__(self) -> None:
        self._question = ""
        self._has_searched = False

    def reset(self, observation: str, info: Mapping[str, Any]) -> None:
        """Begin an episode, or take one over."""
        self._question = info["instruction"]
        self._has_searched = False

    def overruled(self) -> None:
        """Search again: the latest action was not taken, and what the page shows may belong to another search."""
        self._has_searched = False

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the search, then the answer."""
        if not self._has_searched:
            self._has_searched = True
            return f"search[{self._question}]"
        return f"answer[{answer_from(self._question, observation)}]"


def answer_from(question: str, observation: str) -> str:
    """Return the answer that pattern matching finds in the passages of an observation."""
    return _answer(question, _passages(observation))


def _passages(observation: str) -> list[_Passage]:
    """Return the passages of an observation, in each of the formats in which they can be shown."""
    block = _INFORMATION.search(observation)
    if block is None:
        return []
    text = block.group(1)
    if text.startswith("{"):
        text = parse_json(text)["result"]
    return [_Passage(*found) for found in _PASSAGE.findall(text)]


def _answer(question: str, passages: list[_Passage]) -> str:
    asked = set(_WORD.findall(question.lower()))
    ranked = sorted(passages, key=lambda passage: -_share(passage.title, asked))
    choice = _ALTERNATIVES.search(question)
    if choice is not None:
        return _chosen(choice.groups(), ranked)
    for pattern in _patterns(question):
        for passage in ranked:
            sentence = _SENTENCE.split(passage.text, maxsplit=1)[0]
            found = [text for text in pattern.findall(sentence) if _share(text, asked) < 1.0]
            if found:
                return str(found[-1]).rstrip(".")
    return ranked[0].title if ranked else "unknown"


def _patterns(question: str) -> list[re.Pattern[str]]:
    """Return patterns of the answer, the likeliest first."""
    if _WANTS_YEAR.search(question):
        return [_YEAR, _NUMBER, _NAME]
    if _WANTS_NUMBER.search(question):
        return [_NUMBER, _NAME]
    return [_NAME, _NUMBER]


def _chosen(names: tuple[str, ...], passages: list[_Passage]) -> str:
    """Return the alternative that the first matching passage is about, else the first one."""
    for passage in passages:
        for name in names:
            if name.lower() in passage.title.lower():
                return name
    return names[0]


def _share(text: str, words: set[str]) -> float:
    """Return the share of a text's words that are among `words`."""
    of = _WORD.findall(text.lower())
    return sum(word in words for word in of) / len(of) if of else 1.0
