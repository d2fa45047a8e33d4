"""The pages of the shop and the way from one to the next: what the original renders as HTML and reads back.

A `Session` is one shopper with one goal: a place in the shop (`State`, immutable) and the texts that describe it. What
does not depend on the shopper is rendered once per product and kept in `Pages`, which all sessions share.

Actions are `search[...]` and `click[...]`. As in the original an action splits at the last `[` that a `]` follows, what
comes after the last `]` is ignored, a search is possible on every page, and an action that names nothing on the
page changes nothing. `quirks="fixed"` splits at the first `[` instead, so that values with a bracket in them can be
clicked. Not changed by it: of two options that share a value only the last can be set to it, and a value that is
also the name of a button works as the button.

A page's text is the sequence of the text nodes that a browser would find in the original's HTML: empty ones do not
exist, and one of nothing but blanks is a single blank, or nothing if it has a line break.
"""

from __future__ import annotations

import json
import random
import string
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from sdar_envs.webshop.catalog.catalog import Product
from sdar_envs.webshop.goals import Goal, Goals
from sdar_envs.webshop.reward import Purchase, Quirks, score_purchase
from sdar_envs.webshop.shop import RESULTS, Shop, UnansweredSearch

__all__ = ["SEARCH_TEMPLATE", "OriginalSessions", "Pages", "Session", "State", "parse_action"]

SEARCH_TEMPLATE = "search[<your query>]"
"""Stands for all searches in a list of commands. Sent as it is, it searches for the words inside."""

_SEP = " [SEP] "
_BLANKS = " \t\n\f\r"
_PER_PAGE = 10
_BASE_URL = "http://127.0.0.1:3000"
# A plain dict, because a state must pickle; nobody writes to it.
_NO_OPTIONS: Mapping[str, str] = {}
_SUB_PAGES = {name.lower(): name for name in ("Description", "Features", "Reviews", "Attributes")}
# What a click means before it means an option's value.
_TAKEN_NAMES = frozenset({"search", "back to search", "< prev", "buy now", *_SUB_PAGES})
# The original looks for these names in this order anywhere in the URL: a query that holds one leads astray.
_PAGE_NAMES = ("search_results", "item_page", "item_sub_page", "done")
_HTML_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})


class State(NamedTuple):
    """Where a shopper is.

    Attributes:
        page_name: `index`, `search_results`, `item_page`, `item_sub_page` or `done`.
        keywords: the last search.
        page: of its results, from 1.
        results: the products found, by number.
        product: the number of the product looked at, -1 if none.
        options: the chosen values by option.
        visited: the ASINs of the products seen since the last visit of the index page.
        sub_page: `Description`, `Features`, `Reviews` or `Attributes`.
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


class _Item(NamedTuple):
    """A product's own page, but for the instruction."""

    text: str
    lines: tuple[tuple[str, bool], ...]  # line without brackets, whether it is the label of an option's value
    clickables: tuple[str, ...]
    buttons: frozenset[str]
    option_of: dict[str, str]
    commands: tuple[str, ...]


class _Card(NamedTuple):
    """A product in a list of results."""

    text: str
    rich: str
    rich_visited: str
    clickable: str
    commands: tuple[str, ...]


class Pages:
    """What can be rendered of a shop without knowing the shopper.

    Args:
        shop: the shop.
        quirks: how actions are read and purchases scored.
        show_attributes: whether products have a button to the page of their attributes.
    """

    def __init__(self, shop: Shop, quirks: Quirks = "original", *, show_attributes: bool = False) -> None:
        self.shop = shop
        self.quirks: Quirks = quirks
        self.show_attributes = show_attributes
        # 4096 items take about 20 MB, 16384 cards about as much.
        self.item = lru_cache(maxsize=4096)(self._item)
        self.card = lru_cache(maxsize=1 << 14)(self._card)

    def parse(self, action: str) -> tuple[str, str] | None:
        """Return the name and the argument of an action, None if it is none."""
        return parse_action(action, self.quirks)

    def commands(self, clickables: Sequence[str]) -> tuple[str, ...]:
        """Return those clicks, sorted, that are read as what they click and do something."""
        clicks = ((name, f"click[{name}]") for name in clickables if name != "search")
        return tuple(sorted(command for name, command in clicks if self.parse(command) == ("click", name)))

    def choices(self, number: int) -> dict[str, str]:
        """Return the option values of a product that a click on its page chooses, each with its option's name.

        Not among them: a value that another option has too, further down; one that is the name of a button, and
        works as the button; one that no action can name.
        """
        item = self.item(number)
        valid = frozenset(item.commands)
        return {
            value: name
            for value, name in item.option_of.items()
            if value not in _TAKEN_NAMES and f"click[{value}]" in valid
        }

    def _item(self, number: int) -> _Item:
        product = self.shop.products[number]
        lines: list[tuple[str, bool]] = [
            ("[button] Back to Search [button_]", False),
            ("[button] < Prev [button_]", False),
        ]
        segments = ["Back to Search", "< Prev"]

        def show(text: str, is_label: bool = False) -> None:
            node = _node(text)
            if node is not None:
                segments.append(node.strip())
                lines.append((node, is_label))

        for name, values in product.options:
            show(name)
            for value in values:
                show(value, True)
        for text in (product.title, f"Price: {product.price_tag}", "Rating: N.A."):
            show(text)
        names = ["Description", "Features", "Reviews", *(["Attributes"] if self.show_attributes else []), "Buy Now"]
        segments += names
        lines += [(f"[button] {name} [button_]", False) for name in names]
        buttons = dict.fromkeys(("back to search", "< prev", *map(str.lower, names)))
        option_of = {value: name for name, values in product.options for value in values}
        clickables = tuple(buttons | option_of)
        return _Item(
            _SEP + _SEP.join(segments),
            tuple(lines),
            clickables,
            frozenset(buttons),
            option_of,
            self.commands(clickables),
        )

    def _card(self, number: int) -> _Card:
        product = self.shop.products[number]
        nodes = [node for node in map(_node, (product.title, product.price_tag)) if node is not None]
        tail = "".join(f"{node}\n" for node in nodes)
        clickable = product.asin.lower()
        return _Card(
            _SEP + _SEP.join([product.asin.strip(), *(node.strip() for node in nodes)]),
            f"\n[button] {product.asin} [button_]\n{tail}",
            f"\n[clicked button] {product.asin} [clicked button_]\n{tail}",
            clickable,
            self.commands([clickable]),
        )


class Session:
    """One shopper with one goal.

    Args:
        pages: the shop's pages.
        goals: where the goal is from; they hold the hidden prices.
        goal: what to buy.
        session_id: part of the URLs.
        draw: called with the number of random searches so far and the number of products, returns the products
            that the search `<r>` finds; None for a draw that depends on the goal.
    """

    __slots__ = ("_draw", "_given_draw", "_goals", "_head", "_rich_head", "goal", "id", "pages", "state")

    def __init__(
        self,
        pages: Pages,
        goals: Goals,
        goal: Goal,
        session_id: str,
        draw: Callable[[int, int], Sequence[int]] | None = None,
    ) -> None:
        self.pages = pages
        self.goal = goal
        self.id = session_id
        self.state = State()
        self._goals = goals
        self._given_draw = draw
        self._draw = draw or self._own_draw
        node = _node(goal.instruction)
        self._head = "Instruction:" if node is None else f"Instruction:{_SEP}{node.strip()}"
        self._rich_head = "" if node is None else f"{node}\n"

    def copy(self) -> Session:
        """Return a shopper at the same place who goes on alone."""
        other = Session(self.pages, self._goals, self.goal, self.id, self._given_draw)
        other.state = self.state
        return other

    # -- acting -----------------------------------------------------------------------------

    def act(self, action: str) -> bool:
        """Do what an action says; return whether it did anything.

        Raises:
            UnansweredSearch: see `Shop.search`. Nothing has changed then.
        """
        parsed = self.pages.parse(action)
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
        results = self.pages.shop.search(keywords, lambda count: self._draw(state.draws, count))
        draws = state.draws + (keywords[0] == "<r>")
        self.state = State("search_results", keywords, page, results, -1, _NO_OPTIONS, state.visited, draws=draws)

    def _click(self, name: str) -> bool:
        state = self.state
        if state.page_name == "item_page":
            item = self.pages.item(state.product)
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
            self.state = State(draws=state.draws)
        elif name == "next >" and self._page_name() == "search_results":
            self._search(state.keywords, state.page + 1)
        elif name == "< prev":
            page_name = self._page_name()
            if page_name == "item_sub_page":
                self.state = state._replace(page_name="item_page", sub_page="")
            else:
                self._search(state.keywords, state.page - 1 if page_name == "search_results" else state.page)
        elif name in _SUB_PAGES:
            self.state = state._replace(page_name="item_sub_page", sub_page=_SUB_PAGES[name])
        else:
            self.state = state._replace(options={**state.options, item.option_of[name]: name})
        return True

    def _visit(self, name: str) -> bool:
        state = self.state
        for number in self._listed():
            if self.pages.card(number).clickable == name:
                visited = state.visited | {self.pages.shop.products[number].asin}
                self.state = state._replace(page_name="item_page", product=number, visited=visited)
                return True
        return False

    def _buy(self) -> None:
        state = self.state
        purchase = score_purchase(
            self.pages.shop.products[state.product],
            state.options,
            self._goals.prices[state.product],
            self.goal,
            self.pages.shop.nouns,
            quirks=self.pages.quirks,
        )
        self.state = state._replace(page_name="done", purchase=purchase)

    def _listed(self) -> Sequence[int]:
        # Not clipped: page 0 is empty and page -1 is one from the end, as Python slices are.
        page = self.state.page
        return self.state.results[(page - 1) * _PER_PAGE : page * _PER_PAGE]

    def _page_name(self) -> str:
        """Return the page's name as the original reads it off the URL."""
        url = self.url()
        return next((name for name in _PAGE_NAMES if name in url), "")

    def _own_draw(self, draws: int, count: int) -> Sequence[int]:
        return random.Random(f"{self.goal.index}/{draws}").sample(range(count), min(RESULTS, count))

    # -- describing -------------------------------------------------------------------------

    def text(self) -> str:
        """Return the page as one line."""
        state = self.state
        if state.page_name == "item_page":
            return self._head + self.pages.item(state.product).text
        if state.page_name == "search_results":
            count = f"Page {state.page} (Total results: {len(state.results)})"
            previous = f"< Prev{_SEP}" if state.page > 1 else ""
            card = self.pages.card
            cards = "".join([card(number).text for number in self._listed()])
            return f"{self._head}{_SEP}Back to Search{_SEP}{count}{_SEP}{previous}Next >{cards}"
        if state.page_name == "index":
            return f"WebShop{_SEP}{self._head}{_SEP}Search"
        if state.page_name == "item_sub_page":
            return _SEP.join([self._head, "Back to Search", "< Prev", *(node.strip() for node in self._sub_page())])
        return _SEP.join(node.strip() for node in self._done())

    def text_rich(self) -> str:
        """Return the page in lines, with its buttons marked."""
        state = self.state
        if state.page_name == "index":
            return f"WebShop\nInstruction: \n{self._rich_head}[button] Search [button_]\n"
        if state.page_name == "done":
            return "".join(f"{node}\n" for node in self._done())
        head = f"Instruction:\n{self._rich_head}"
        if state.page_name == "item_page":
            url = self.url()
            clicked, lines = [], []
            for line, is_label in self.pages.item(state.product).lines:
                if not is_label:
                    lines.append(f"{line}\n")
                elif f'"{line}"' in url:
                    clicked.append(f"You have clicked {line}.\n")
                    lines.append(f"  [clicked button] {line} [clicked button_]\n")
                else:
                    lines.append(f"  [button] {line} [button_]\n")
            return "".join([*reversed(clicked), head, *lines])
        head += "[button] Back to Search [button_]\n"
        if state.page_name == "item_sub_page":
            return "".join([head, "[button] < Prev [button_]\n", *(f"{node}\n" for node in self._sub_page())])
        count = f"Page {state.page} (Total results: {len(state.results)})\n"
        previous = "[button] < Prev [button_]\n" if state.page > 1 else ""
        cards = []
        for number in self._listed():
            card = self.pages.card(number)
            seen = self.pages.shop.products[number].asin in state.visited
            cards.append(card.rich_visited if seen else card.rich)
        return f"{head}{count}{previous}[button] Next > [button_]\n{''.join(cards)}"

    def url(self) -> str:
        """Return the page's address on the original's site."""
        state = self.state
        if state.page_name == "index":
            return f"{_BASE_URL}/{self.id}"
        keywords = "+".join(state.keywords)
        if state.page_name == "search_results":
            return f"{_BASE_URL}/search_results/{self.id}/{keywords}/{state.page}"
        asin, options = self.pages.shop.products[state.product].asin, dict(state.options)
        if state.page_name == "item_page":
            return f"{_BASE_URL}/item_page/{self.id}/{asin}/{keywords}/{state.page}/{json.dumps(options)}"
        if state.page_name == "done":
            return f"{_BASE_URL}/done/{self.id}/{asin}/{options}"
        return f"{_BASE_URL}/item_sub_page/{self.id}/{asin}/{keywords}/{state.page}/{state.sub_page}/{options}"

    def available_actions(self) -> dict[str, Any]:
        """Return `{"has_search_bar": bool, "clickables": list}` as the original does, the useless `search` included."""
        return {"has_search_bar": self.state.page_name == "index", "clickables": self._clickables()}

    def commands(self) -> list[str]:
        """Return the clicks that do something here, sorted, and `SEARCH_TEMPLATE` where there is a search bar."""
        state = self.state
        if state.page_name == "item_page":
            return list(self.pages.item(state.product).commands)
        if state.page_name == "index":
            return [SEARCH_TEMPLATE]
        if state.page_name == "item_sub_page":
            return ["click[< prev]", "click[back to search]"]
        if state.page_name == "done":
            return []
        card = self.pages.card
        commands = ["click[back to search]", "click[next >]"]
        if state.page > 1:
            commands.append("click[< prev]")
        for number in self._listed():
            commands += card(number).commands
        commands.sort()
        return commands

    def _clickables(self) -> list[str]:
        state = self.state
        if state.page_name == "item_page":
            return list(self.pages.item(state.product).clickables)
        if state.page_name == "index":
            return ["search"]
        if state.page_name == "item_sub_page":
            return ["back to search", "< prev"]
        if state.page_name == "done":
            return []
        names = ["back to search", "< prev", "next >"] if state.page > 1 else ["back to search", "next >"]
        card = self.pages.card
        return names + [card(number).clickable for number in self._listed()]

    def _sub_page(self) -> list[str]:
        product = self.pages.shop.products[self.state.product]
        return [node for text in _sub_page_texts(product, self.state.sub_page) if (node := _node(text)) is not None]

    def _done(self) -> list[str]:
        state = self.state
        assert state.purchase is not None
        options = json.dumps(dict(state.options), sort_keys=True).translate(_HTML_SAFE)
        return [
            *("Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"),
            *("Purchased", "asin", self.pages.shop.products[state.product].asin, "options", options, "attrs", "None"),
            *("category", "None", "query", "None", "product category", "None"),
            *("Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category"),
            *("query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)", str(state.purchase.score)),
            *("Reward Details ", "None"),
        ]


class OriginalSessions:
    """The original's environment as it is called: session ids that live for ever, goals drawn from one generator.

    For comparisons with the original; `sdar_envs.webshop.env.WebShopEnv` is the environment to use.

    Args:
        pages: the shop's pages. With `quirks="fixed"` every goal is drawn with its weight; the original never draws
            goal 0 and draws the last one twice as often, by an index that is off by one.
        goals: the goals.
        rng: the original's is the global generator.
    """

    def __init__(self, pages: Pages, goals: Goals, rng: random.Random) -> None:
        self.rng = rng
        self.session: Session
        self._pages = pages
        self._goals = goals
        self._cumulative = [0.0, *accumulate(goals.weights())]
        self._goal_of: dict[str, int] = {}

    def reset(self, session: Any = None) -> str:
        """Start an episode and return its first page.

        Args:
            session: an integer is the index of the goal and the session's id; any other value, NumPy's integers
                included, is only an id, whose goal is drawn. None draws an id too. An id seen before keeps its goal.
        """
        session_id = "".join(self.rng.choices(string.ascii_lowercase, k=10)) if session is None else str(session)
        if session_id not in self._goal_of:
            index = session if isinstance(session, int) else self._random_index()
            self._goal_of[session_id] = index
        goal = self._goals[self._goal_of[session_id]]
        self.session = Session(self._pages, self._goals, goal, session_id, self._sample)
        return self.session.text()

    def step(self, action: str) -> tuple[str, float, bool, dict[str, Any] | None]:
        """Act and return the page, the reward (the integer 0 for an ignored action), done, and the score's breakdown.

        Raises:
            TypeError: a search for `<a>`, as in the original.
            IndexError: a search for `<c>` alone.
            ValueError: a search for `<r>` among fewer than 50 products.
        """
        try:
            acted = self.session.act(action)
        except UnansweredSearch as error:
            raise error.original from error
        purchase = self.session.state.purchase
        if not acted or purchase is None:
            return self.session.text(), 0.0 if acted else 0, False, None
        return self.session.text(), purchase.score, True, dict(purchase.breakdown)

    def _sample(self, _draws: int, count: int) -> Sequence[int]:
        return self.rng.sample(range(count), RESULTS)

    def _random_index(self) -> int:
        position = bisect_right(self._cumulative, self.rng.uniform(0, self._cumulative[-1]))
        if self._pages.quirks == "fixed":
            position -= 1
        return min(position, len(self._cumulative) - 2)


def parse_action(action: str, quirks: Quirks = "original") -> tuple[str, str] | None:
    """Return the name and the argument of an action such as `search[red shoes]`; None if it has no such form.

    Args:
        action: any text. Only its first line counts.
        quirks: `original` splits at the last `[` that has something and a `]` behind it, `fixed` at the first.
    """
    line = action.split("\n", 1)[0]
    end = line.rfind("]")
    start = line.find("[") if quirks == "fixed" else line.rfind("[", 1, max(end - 1, 0))
    if start < 1 or end < start + 2:
        return None
    return line[:start], line[start + 1 : end]


def _node(text: str) -> str | None:
    """Return the text node that a text becomes between two tags, None if it does not show."""
    if text.strip(_BLANKS):
        return text
    return None if not text or "\n" in text else " "


def _sub_page_texts(product: Product, name: str) -> list[str]:
    if name == "Description":
        return [product.description]
    if name == "Features":
        return [f" {bullet}" for bullet in product.bullets]
    if name == "Reviews":
        return []
    attributes = [f" {attribute}" for attribute in product.attributes]
    return [*attributes, product.category, product.query, product.product_category]
