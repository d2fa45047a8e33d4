"""Rule-based WebShop agent that reads only the instruction and the pages.

It searches for the instruction, prefers results whose titles share words with it and whose price is within the limit,
opens the best few, reads their features, chooses the option values that the instruction names, and buys the product
that covers most of it. (The rule baseline of the WebShop paper buys the first result and chooses no options.) It needs
the observation mode `text` or `text_rich`; `url` does not show enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUTTONS", "EMPTY_WORDS", "RuleShopper", "page_texts", "search_words"]

# The default step limit of an episode.
_STEPS = 15
_LIMIT = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_NAMED_OPTION = re.compile(r"(?: with|, and) [a-z ]+: ")
_MARK = re.compile(r"\[(?:clicked )?button(?:_)?\]|\[clicked button_\]")
_RESULTS = re.compile(r"Page \d+ \(Total results: \d+\)")
_ASIN = re.compile(r"[A-Z0-9]{10}")
_AMOUNT = re.compile(r"\$(\d+(?:\.\d+)?)")
# Stop words of instructions.
EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a am an and are as at be buy by can choose come could do find for from get good have hello help i in "
        "is it its like looking me must my need of old on one or please should show so some something that "
        "the then these this to want was will with would you your",
    )
)


@dataclass(slots=True)
class _Candidate:
    """A product of the result pages, and what is known about it.

    Attributes:
        asin: its product code, which is clicked to open it.
        title: as in the results.
        price: the lowest price shown; None if there is none.
        place: rank among the results, from 0.
        texts: all text about it that was read.
        choices: option values to click; None until its page is opened.
        missing: number of the instruction's options that it does not have.
        is_read: whether its features were read.
    """

    asin: str
    title: str
    price: float | None
    place: int
    texts: str
    choices: list[str] | None = None
    missing: int = 0
    is_read: bool = False


@dataclass(slots=True)
class _Wish:
    """A parsed instruction: the words to search for, the price limit, and the text that names option values."""

    text: str
    words: frozenset[str] = field(init=False)
    limit: float | None = field(init=False)
    query: str = field(init=False)
    options: int = field(init=False)

    def __post_init__(self) -> None:
        found = _LIMIT.search(self.text)
        self.limit = float(found[1]) if found else None
        self.text = _LIMIT.sub("", self.text).lower().strip()
        named = _NAMED_OPTION.search(self.text)
        self.options = len(_NAMED_OPTION.findall(self.text))
        self.words = _stems(self.text[: named.start()] if named else self.text)
        self.query = search_words(self.text)

    def choose(self, name: str, values: Iterable[str]) -> str | None:
        """Return the value of an option that the instruction names; None if it names none of them."""
        asked = re.search(rf"\b{re.escape(name)}: (.+?)(?=, and [a-z ]+: |$)", self.text)
        text = asked[1] if asked else self.text
        words = _stems(text)
        best: tuple[float, int, str] | None = None
        for value in values:
            if value == text:
                return value
            stems = _stems(value) or {value}
            share = len(stems & words) / len(stems)
            if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                share = 2.0
            if share >= 0.5 and (best is None or (share, len(value)) > best[:2]):
                best = (share, len(value), value)
        return best[2] if best else None


class RuleShopper:
    """Script that searches, compares and buys by rules; see the module."""

    def reset(self, observation: str, info: Mapping[str, Any]) -> None:
        """Begin an episode, or take one over, with a new search.

        Args:
            observation: the page.
            info: the environment's info; only `instruction` and `available_actions` are read.
        """
        self._wish = _Wish(info["instruction"])
        self._candidates: dict[str, _Candidate] = {}
        self._open: _Candidate | None = None
        self._bought: _Candidate | None = None
        self._chosen: list[str] = []
        # Whether every page so far was one that an action of this script led to.
        self._is_led = True
        self._left = _STEPS
        self._shortened = 1
        self._before = self._plan()

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next action."""
        page = page_texts(observation)
        clicks: list[str] = info["available_actions"]["clickables"]
        self._before = self._plan()
        action = self._decide(page, clicks)
        self._left -= 1
        return action

    def overruled(self) -> None:
        """Forget the latest action: another one was taken, of which only the next page tells."""
        self._open, self._bought, self._chosen, self._shortened = self._before
        self._is_led = False

    def _plan(self) -> tuple[_Candidate | None, _Candidate | None, list[str], int]:
        return self._open, self._bought, list(self._chosen), self._shortened

    # -- decisions --------------------------------------------------------------------------

    def _decide(self, page: list[str], clicks: list[str]) -> str:
        if not self._candidates and not any(map(_RESULTS.fullmatch, page)):
            return self._search()
        if any(map(_RESULTS.fullmatch, page)):
            return self._on_results(page, clicks)
        if not self._is_led and "buy now" in clicks and (self._open is None or self._open.title not in page):
            self._open = next((known for known in self._candidates.values() if known.title in page), None)
            self._chosen = []
            if self._open is None:
                return "click[back to search]"
        if self._open is None:
            return self._search()
        if "buy now" in clicks:
            return self._on_item(self._open, page, clicks)
        if "< prev" not in clicks:
            return self._search()
        self._open.texts += " " + " ".join(page)
        self._open.is_read = True
        return "click[< prev]"

    def _search(self) -> str:
        words = self._wish.query.split()
        return f"search[{' '.join(words[: max(1, len(words) // self._shortened)])}]"

    def _on_results(self, page: list[str], clicks: list[str]) -> str:
        self._open = None
        self._learn_results(page)
        here = [candidate for candidate in self._candidates.values() if candidate.asin.lower() in clicks]
        if not here:
            self._shortened += 1
            return self._search()
        best = self._bought or self._best()
        if not self._is_led and best is not None and best not in here and self._left >= 4 + len(best.choices or ()):
            return self._search()
        fresh = [candidate for candidate in here if candidate.choices is None]
        if best is None or (self._bought is None and fresh and self._left >= 6 + len(best.choices or ())):
            self._open = max(fresh or here, key=self._promise)
        else:
            self._open = self._bought = best if best in here else max(here, key=self._promise)
        self._chosen = []
        return f"click[{self._open.asin.lower()}]"

    def _on_item(self, item: _Candidate, page: list[str], clicks: list[str]) -> str:
        self._learn_item(item, page, clicks)
        choices = item.choices or []
        if self._bought is None:
            if self._left <= len(choices) + 1:
                self._bought = item
            elif not item.is_read and "features" in clicks and (item.missing == 0 or self._best() in (None, item)):
                return "click[features]"
            elif item.missing == 0 and self._coverage(item) == 1.0:
                self._bought = item
            else:
                best = self._best() or item
                more = any(other.choices is None for other in self._candidates.values())
                # The steps of a visit: back, open, features, back, back, open again, options, buy.
                if more and self._left >= 7 + len(best.choices or ()):
                    return "click[< prev]"
                self._bought = best
        if self._bought is not item and self._left >= 3 + len(self._bought.choices or ()):
            return "click[< prev]"
        self._bought = item
        for value in choices:
            if value not in self._chosen and self._left > 1:
                self._chosen.append(value)
                return f"click[{value}]"
        return "click[buy now]"

    # -- judgement --------------------------------------------------------------------------

    def _best(self) -> _Candidate | None:
        """Return the best product whose page has been opened."""
        seen = [candidate for candidate in self._candidates.values() if candidate.choices is not None]
        return max(seen, key=self._value, default=None)

    def _value(self, candidate: _Candidate) -> float:
        """Estimate the score of buying the candidate."""
        words = len(self._wish.words) or 1
        options = len(candidate.choices or ()) / max(1, len(candidate.choices or ()) + candidate.missing)
        return (
            self._coverage(candidate) * words + 2 * options + 2 * self._is_in_budget(candidate) - candidate.place / 50
        )

    def _promise(self, candidate: _Candidate) -> float:
        """Estimate the value of a candidate before its page is opened, from its title and price."""
        return self._coverage(candidate) * 3 + 2 * self._is_in_budget(candidate) - candidate.place / 8

    def _coverage(self, candidate: _Candidate) -> float:
        if not self._wish.words:
            return 1.0
        return len(self._wish.words & _stems(candidate.texts)) / len(self._wish.words)

    def _is_in_budget(self, candidate: _Candidate) -> bool:
        return self._wish.limit is None or candidate.price is None or candidate.price <= self._wish.limit

    # -- reading ----------------------------------------------------------------------------

    def _learn_results(self, page: list[str]) -> None:
        for position, text in enumerate(page[:-1]):
            if _ASIN.fullmatch(text) and text not in self._candidates:
                title = page[position + 1]
                amount = _AMOUNT.search(page[position + 2]) if position + 2 < len(page) else None
                place = len(self._candidates)
                self._candidates[text] = _Candidate(text, title, float(amount[1]) if amount else None, place, title)

    def _learn_item(self, item: _Candidate, page: list[str], clicks: list[str]) -> None:
        if item.choices is not None:
            return
        item.choices = []
        values = set(clicks)
        name = ""
        options: dict[str, list[str]] = {}
        for text in page[: page.index(item.title) if item.title in page else len(page)]:
            if text.lower() not in values:
                name = text.lower()
            elif name:
                options.setdefault(name, []).append(text.lower())
        for name, choices in options.items():
            chosen = self._wish.choose(name, [choice for choice in choices if choice not in BUTTONS])
            if chosen is not None:
                item.choices.append(chosen)
        item.missing = max(0, self._wish.options - len(item.choices))


BUTTONS = frozenset({"back to search", "< prev", "next >", "description", "features", "reviews", "buy now"})


def search_words(instruction: str) -> str:
    """Return an instruction as a query, without its price limit."""
    text = _LIMIT.sub("", instruction).lower()
    # Brackets would end the action early.
    return " ".join(re.sub(r"[\[\]\n]", " ", text).split()) or "anything"


def page_texts(observation: str) -> list[str]:
    """Return the visible text nodes of a page."""
    if " [SEP] " in observation:
        return [text.strip() for text in observation.split(" [SEP] ")]
    lines = (_MARK.sub("", line).strip() for line in observation.split("\n"))
    return [line for line in lines if line and not line.startswith("You have clicked ")]


def _stems(text: str) -> frozenset[str]:
    words = re.findall(r"[a-z0-9.]+", text.lower())
    return frozenset(word.rstrip(".s") for word in words if word not in EMPTY_WORDS and word.rstrip(".s"))
