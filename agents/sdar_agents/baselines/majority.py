"""WebShop agent that always does the same: the sequence of actions that is most frequent in demonstrations.

Of 217 episodes that the rule-based agent won among 300 of the training split, 137 were: search for the instruction,
open a product (the first result in 190), look at its features, go back, choose two options, buy. This agent opens the
first result and chooses the first value of the first two options, whatever the instruction says: a floor for agents
that have learnt the form of an episode and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sdar_agents.baselines.rule_shopper import BUTTONS, page_texts, search_words

__all__ = ["MajorityShopper"]

_PRODUCT = re.compile(r"b[a-z0-9]{9}")


class MajorityShopper:
    """Script that buys the first result with the first values of its first two options."""

    def reset(self, observation: str, info: Mapping[str, Any]) -> None:
        """Begin an episode.

        Args:
            observation: the page.
            info: the environment's info; only `instruction` and `available_actions` are read.
        """
        self._query = search_words(info["instruction"])
        self._is_read = False
        self._chosen = 0

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """Return the next action."""
        clicks: list[str] = info["available_actions"]["clickables"]
        if "buy now" in clicks:
            if not self._is_read and "features" in clicks:
                self._is_read = True
                return "click[features]"
            values = _first_values(page_texts(observation), frozenset(clicks))[:2]
            if self._chosen < len(values):
                self._chosen += 1
                return f"click[{values[self._chosen - 1]}]"
            return "click[buy now]"
        product = next((name for name in clicks if _PRODUCT.fullmatch(name)), None)
        if product is not None:
            return f"click[{product}]"
        return "click[< prev]" if self._is_read and "< prev" in clicks else f"search[{self._query}]"


def _first_values(page: list[str], clicks: frozenset[str]) -> list[str]:
    """Return the first value of each option of a product's page."""
    found: list[str] = []
    is_named = False
    for text in page:
        name = text.lower()
        if name not in clicks:
            is_named = True
        elif name not in BUTTONS:
            if is_named:
                found.append(name)
            is_named = False
    return found
