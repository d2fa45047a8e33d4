"""State machine of a shopping session: which page a shopper is on, and what an action does there.

A `Session` is one shopper with one goal and an immutable `SessionState`. What can be clicked in a shop depends on no
shopper: `Controls` has it, cached per product and shared by all sessions. `sdar_envs.webshop.pages` renders a session
as text.

As in the original, a search is possible on every page, and an action that names nothing on the page changes nothing. Of
two options that share a value only the last can be set to it, and a value that is also the name of a button works as
the button, with both `quirks`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sdar_envs.webshop.actions import SEARCH_TEMPLATE, parse_action
from sdar_envs.webshop.goals import Goal, Goals
from sdar_envs.webshop.reward import Purchase, Quirks, TheFuzz, score_purchase
from sdar_envs.webshop.shop import RESULTS, Shop

__all__ = ["SUB_PAGES", "Controls", "Session", "SessionState"]

SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
"""Sub-pages of a product. The last is off by default."""

_PER_PAGE = 10
_BASE_URL = "http://127.0.0.1:3000"
# A plain dict, because a state must pickle; never written to.
_NO_OPTIONS: Mapping[str, str] = {}
_SUB_PAGE_OF = {name.lower(): name for name in SUB_PAGES}
# What a click means before it means an option's value.
_TAKEN_NAMES = frozenset({"search", "back to search", "< prev", "buy now", *_SUB_PAGE_OF})
# The original looks for these names in this order anywhere in the URL: a query that holds one leads astray.
_PAGE_NAMES = ("search_results", "item_page", "item_sub_page", "done")


class SessionState(NamedTuple):
    """Position of a shopper in the shop.

    Attributes:
        page_name: `index`, `search_results`, `item_page`, `item_sub_page` or `done`.
        keywords: the last search.
        page: the page of its results, from 1.
        results: the numbers of the products found.
        product: the number of the product looked at, -1 if none.
        options: the chosen value by option name.
        visited: the ASINs of the products seen since the last visit of the index page.
        sub_page: one of `SUB_PAGES`.
        purchase: the last purchase.
        draws: random searches made.
    """

    page_name: str = "index"
    keywords: tuple[str, ...] = ()
    page: int = 0
    results: Sequence[int] = ()
    product: int = -1
    options: Mapping[str, str] = _NO_OPTIONS
    visited: frozenset[str] = frozenset()
    sub_page: str = ""
    purchase: Purchase | None = None
    draws: int = 0


class _ItemControls(NamedTuple):
    """What can be clicked on a product's own page."""

    buttons: frozenset[str]
    option_of: dict[str, str]
    clickables: tuple[str, ...]
    commands: tuple[str, ...]


class _LinkControls(NamedTuple):
    """The link to a product in a list of results."""

    clickable: str
    commands: tuple[str, ...]


class Controls:
    """Clickable elements of a shop's pages, cached per product.

    Args:
        shop: the shop.
        quirks: how actions are parsed and purchases scored.
        thefuzz: the version of thefuzz by which texts are compared: see `sdar_envs.webshop.reward`.
        show_attributes: whether products have a button to the page of their attributes.
    """

    def __init__(
        self, shop: Shop, quirks: Quirks = "original", *, thefuzz: TheFuzz = "0.22", show_attributes: bool = False
    ) -> None:
        self.shop = shop
        self.quirks: Quirks = quirks
        self.thefuzz: TheFuzz = thefuzz
        self.sub_pages = SUB_PAGES if show_attributes else SUB_PAGES[:-1]
        self.item = lru_cache(maxsize=4096)(self._item)
        self.link = lru_cache(maxsize=1 << 14)(self._link)

    def parse(self, action: str) -> tuple[str, str] | None:
        """Return the name and the argument of an action; None if it has no such form."""
        return parse_action(action, self.quirks)

    def choices(self, number: int) -> dict[str, str]:
        """Return the option values of a product that a click on its page sets, each with its option's name.

        A value is missing if a later option has it too, if it is the name of a button, which the click then presses,
        or if no action can name it.
        """
        item = self.item(number)
        valid = frozenset(item.commands)
        return {
            value: name
            for value, name in item.option_of.items()
            if value not in _TAKEN_NAMES and f"click[{value}]" in valid
        }

    def _item(self, number: int) -> _ItemControls:
        product = self.shop.products[number]
        buttons = dict.fromkeys(("back to search", "< prev", *map(str.lower, self.sub_pages), "buy now"))
        option_of = {value: name for name, values in product.options for value in values}
        clickables = tuple(buttons | option_of)
        return _ItemControls(frozenset(buttons), option_of, clickables, self._commands(clickables))

    def _link(self, number: int) -> _LinkControls:
        clickable = self.shop.products[number].asin.lower()
        command = f"click[{clickable}]"
        does_something = clickable != "search" and self.parse(command) == ("click", clickable)
        return _LinkControls(clickable, (command,) if does_something else ())

    def _commands(self, clickables: Sequence[str]) -> tuple[str, ...]:
        """Return the clicks, in the page's order, that parse to what they click and do something."""
        clicks = ((name, f"click[{name}]") for name in clickables if name != "search")
        return tuple(command for name, command in clicks if self.parse(command) == ("click", name))


class Session:
    """Shopping session: one shopper, one goal.

    Args:
        controls: what can be clicked in the shop.
        goals: the source of the goal, which holds the hidden prices.
        goal: what to buy.
        session_id: part of the URLs.
        draw: called with the number of random searches so far and the number of products; returns the products that
            the search `<r>` finds. None for a draw that depends on the goal.
    """

    __slots__ = ("_draw", "_given_draw", "_goals", "controls", "goal", "id", "state")

    def __init__(
        self,
        controls: Controls,
        goals: Goals,
        goal: Goal,
        session_id: str,
        draw: Callable[[int, int], Sequence[int]] | None = None,
    ) -> None:
        self.controls = controls
        self.goal = goal
        self.id = session_id
        self.state = SessionState()
        self._goals = goals
        self._given_draw = draw
        self._draw = draw or self._draw_by_goal

    def copy(self) -> Session:
        """Return an independent session in the same state."""
        other = Session(self.controls, self._goals, self.goal, self.id, self._given_draw)
        other.state = self.state
        return other

    # -- actions ----------------------------------------------------------------------------

    def act(self, action: str) -> bool:
        """Carry out an action; return whether it did anything.

        Raises:
            UnansweredSearch: see `Shop.search`. Nothing has changed then.
        """
        parsed = self.controls.parse(action)
        if parsed is None:
            return False
        name, argument = parsed
        argument = argument.lower()
        if name == "search":
            self._search(tuple(argument.split(" ")), 1)
            return True
        if name != "click" or argument == "search":
            return False
        return self._click(argument)

    def _search(self, keywords: tuple[str, ...], page: int) -> None:
        state = self.state
        results = self.controls.shop.search(keywords, lambda count: self._draw(state.draws, count))
        draws = state.draws + (keywords[0] == "<r>")
        self.state = SessionState(
            "search_results", keywords, page, results, -1, _NO_OPTIONS, state.visited, draws=draws
        )

    def _click(self, name: str) -> bool:
        state = self.state
        if state.page_name == "item_page":
            item = self.controls.item(state.product)
            if name not in item.buttons and name not in item.option_of:
                return False
        elif state.page_name == "item_sub_page":
            if name not in ("back to search", "< prev"):
                return False
        elif state.page_name == "search_results":
            if not (name in ("back to search", "next >") or (name == "< prev" and state.page > 1)):
                return self._visit(name)
        else:
            return False
        if name == "buy now":
            self._buy()
        elif name == "back to search":
            self.state = SessionState(draws=state.draws)
        elif name == "next >" and self._page_name() == "search_results":
            self._search(state.keywords, state.page + 1)
        elif name == "< prev":
            page_name = self._page_name()
            if page_name == "item_sub_page":
                self.state = state._replace(page_name="item_page", sub_page="")
            else:
                self._search(state.keywords, state.page - 1 if page_name == "search_results" else state.page)
        elif name in _SUB_PAGE_OF:
            self.state = state._replace(page_name="item_sub_page", sub_page=_SUB_PAGE_OF[name])
        else:
            self.state = state._replace(options={**state.options, item.option_of[name]: name})
        return True

    def _visit(self, name: str) -> bool:
        state = self.state
        for number in self.listed():
            if self.controls.link(number).clickable == name:
                visited = state.visited | {self.controls.shop.products[number].asin}
                self.state = state._replace(page_name="item_page", product=number, visited=visited)
                return True
        return False

    def _buy(self) -> None:
        state = self.state
        purchase = score_purchase(
            self.controls.shop.products[state.product],
            state.options,
            self._goals.prices[state.product],
            self.goal,
            self.controls.shop.nouns,
            quirks=self.controls.quirks,
            thefuzz=self.controls.thefuzz,
        )
        self.state = state._replace(page_name="done", purchase=purchase)

    def _page_name(self) -> str:
        """Return the page's name as the original reads it off the URL."""
        url = self.url()
        return next((name for name in _PAGE_NAMES if name in url), "")

    def _draw_by_goal(self, draws: int, count: int) -> Sequence[int]:
        return random.Random(f"{self.goal.index}/{draws}").sample(range(count), min(RESULTS, count))

    # -- what the page offers ---------------------------------------------------------------

    def listed(self) -> Sequence[int]:
        """Return the numbers of the products on the current page of results."""
        # Not clipped: page 0 is empty and page -1 is one from the end, as Python slices are.
        page = self.state.page
        return self.state.results[(page - 1) * _PER_PAGE : page * _PER_PAGE]

    def commands(self) -> list[str]:
        """Return the admissible clicks in the page's order, `SEARCH_TEMPLATE` on a page with a search bar."""
        state = self.state
        if state.page_name == "item_page":
            return list(self.controls.item(state.product).commands)
        if state.page_name == "index":
            return [SEARCH_TEMPLATE]
        if state.page_name == "item_sub_page":
            return ["click[back to search]", "click[< prev]"]
        if state.page_name == "done":
            return []
        link = self.controls.link
        commands = [f"click[{name}]" for name in self._result_buttons()]
        for number in self.listed():
            commands += link(number).commands
        return commands

    def available_actions(self) -> dict[str, Any]:
        """Return the original's `{"has_search_bar": bool, "clickables": list}`, its useless `search` included."""
        return {"has_search_bar": self.state.page_name == "index", "clickables": self._clickables()}

    def _clickables(self) -> list[str]:
        state = self.state
        if state.page_name == "item_page":
            return list(self.controls.item(state.product).clickables)
        if state.page_name == "index":
            return ["search"]
        if state.page_name == "item_sub_page":
            return ["back to search", "< prev"]
        if state.page_name == "done":
            return []
        link = self.controls.link
        return [*self._result_buttons(), *(link(number).clickable for number in self.listed())]

    def _result_buttons(self) -> tuple[str, ...]:
        return ("back to search", "< prev", "next >") if self.state.page > 1 else ("back to search", "next >")

    def url(self) -> str:
        """Return the page's address on the original's site. Two of its buttons depend on it: see `_page_name`."""
        state = self.state
        if state.page_name == "index":
            return f"{_BASE_URL}/{self.id}"
        keywords = "+".join(state.keywords)
        if state.page_name == "search_results":
            return f"{_BASE_URL}/search_results/{self.id}/{keywords}/{state.page}"
        asin, options = self.controls.shop.products[state.product].asin, dict(state.options)
        if state.page_name == "item_page":
            return f"{_BASE_URL}/item_page/{self.id}/{asin}/{keywords}/{state.page}/{json.dumps(options)}"
        if state.page_name == "done":
            return f"{_BASE_URL}/done/{self.id}/{asin}/{options}"
        return f"{_BASE_URL}/item_sub_page/{self.id}/{asin}/{keywords}/{state.page}/{state.sub_page}/{options}"
