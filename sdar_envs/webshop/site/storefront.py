"""HTML pages of the shop, rendered with Jinja2 (autoescape on) from the package's `templates`.

The visible text nodes of a page are those of the text observation, in its order; what else people read is in
`data-text`, which the style sheet shows, or in other attributes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from sdar_envs.core import Task
from sdar_envs.http.templates import open_templates
from sdar_envs.webshop.catalog.products import Product
from sdar_envs.webshop.goals import NO_LIMIT, Goal
from sdar_envs.webshop.pages import options_as_json
from sdar_envs.webshop.reward import Purchase
from sdar_envs.webshop.session import Session, SessionState
from sdar_envs.webshop.site.pictures import chosen_color

__all__ = [
    "OPTION",
    "TASKS_PER_PAGE",
    "Visit",
    "chooser_page",
    "done_page",
    "error_page",
    "index_page",
    "item_page",
    "make_address",
    "results_page",
    "short",
    "sub_page",
]

OPTION = "option."
"""Prefix of the query parameters that hold chosen options: `option.color=red`."""

TASKS_PER_PAGE = 20
"""Tasks that the chooser lists on one page."""

_PATHS = {"index": "/shop", "search_results": "/results", "item_page": "/item", "done": "/done"}
_TEMPLATES = open_templates("sdar_envs.webshop.site")


class Visit:
    """One request to a page of the shop.

    Args:
        task: what the visitor is asked to buy.
        session: the visitor's session; its state is the page.
    """

    longest_query = 2_000
    """Characters that the search bar takes."""

    def __init__(self, task: Task, session: Session) -> None:
        self.task = task
        self.session = session

    @property
    def product(self) -> Product:
        """The product looked at."""
        return self.session.controls.shop.products[self.session.state.product]

    @property
    def first(self) -> SessionState:
        """The state of the first page."""
        return SessionState(draws=self.session.state.draws)

    @property
    def typed(self) -> str:
        """The last query as the search bar shows it: empty if it does not fit in."""
        query = " ".join(self.session.state.keywords)
        return query if len(query) <= self.longest_query else ""

    def after(self, name: str) -> SessionState:
        """Return the state after a click."""
        session = self.session.copy()
        session.act(f"click[{name}]")
        return session.state

    def path(self, state: SessionState) -> str:
        """Return the path of a state's address."""
        return f"/{state.sub_page.lower()}" if state.page_name == "item_sub_page" else _PATHS[state.page_name]

    def fields(self, state: SessionState) -> list[tuple[str, str]]:
        """Return the query parameters of a state's address."""
        fields = [("task", self.task.id)]
        draws = state.draws
        if state.page_name != "index":
            fields += [("query", " ".join(state.keywords)), ("page", str(state.page))]
        if state.page_name == "search_results":
            # A page of results draws again, so it is told how often was drawn before.
            draws -= state.keywords[0] == "<r>"
        elif state.page_name != "index":
            fields.append(("asin", self.session.controls.shop.products[state.product].asin))
            fields += [(OPTION + name, value) for name, value in state.options.items()]
        if draws:
            fields.append(("draws", str(draws)))
        return fields

    def address(self, state: SessionState) -> str:
        """Return the address of a state."""
        return make_address(self.path(state), self.fields(state))


def index_page(visit: Visit) -> str:
    """Return the page with the search bar only."""
    return _render("index", "Search", visit=visit)


def results_page(visit: Visit) -> str:
    """Return a page of search results."""
    state, products = visit.session.state, visit.session.controls.shop.products
    cards = [
        (products[number], visit.address(state._replace(page_name="item_page", product=number, results=())))
        for number in visit.session.listed()
    ]
    following = visit.session.copy()
    following.state = state._replace(page=state.page + 1)
    return _render(
        "results",
        f"Results for {short(' '.join(state.keywords))}",
        visit=visit,
        state=state,
        has_previous="< prev" in visit.session.available_actions()["clickables"],
        has_next=bool(following.listed()),
        advice=_advice(visit, bool(state.results)),
        cards=cards,
    )


def _advice(visit: Visit, is_found: bool) -> str:
    """Return what to do about an empty page of results."""
    if is_found:
        return "There are no more products. Go back a page, or search with other words."
    if len(visit.session.state.keywords) > 3:
        return "No product has these words. Try fewer of them: what it is, and the most important property."
    return "No product has these words. Try others: what it is, in a word or two."


def item_page(visit: Visit) -> str:
    """Return a product's own page: a form whose radio buttons are the options."""
    product, state = visit.product, visit.session.state
    options = []
    for name, values in product.options:
        unseen = state.options.get(name)
        buttons = []
        for value in values:
            # Of equal values the first is checked.
            buttons.append((value, visit.address(visit.after(value)), value == unseen))
            if value == unseen:
                unseen = None
        options.append((name, buttons))
    return _render(
        "item",
        product.title,
        visit=visit,
        product=product,
        fields=visit.fields(state._replace(options={})),
        options=options,
        color=chosen_color(state.options),
        prefix=OPTION,
        sub_pages=visit.session.controls.sub_pages,
    )


def sub_page(visit: Visit) -> str:
    """Return the description, features, reviews or attributes of a product."""
    product, name = visit.product, visit.session.state.sub_page
    return _render("sub_page", f"{name} of {product.title}", "sub", visit=visit, product=product, name=name)


def done_page(visit: Visit, following: Task) -> str:
    """Return the page with the score.

    Args:
        visit: a visit that has bought something.
        following: the next task, for a link.
    """
    goal, state = visit.session.goal, visit.session.state
    purchase = state.purchase
    assert purchase is not None
    return _render(
        "done",
        f"Score {purchase.score:.2f}",
        visit=visit,
        product=visit.product,
        goal=goal,
        bought="; ".join(f"{name}: {value}" for name, value in state.options.items()),
        options=options_as_json(state.options),
        wanted="; ".join(option if isinstance(option, str) else ": ".join(option) for option in goal.options),
        limit="none" if goal.price_upper == NO_LIMIT else f"${goal.price_upper:.2f}",
        breakdown=json.dumps(dict(purchase.breakdown)),
        score=purchase.score,
        parts=_parts(purchase, goal),
        next_task=make_address("/shop", [("task", following.id)]),
        this_task=make_address("/shop", [("task", visit.task.id)]),
    )


def _parts(purchase: Purchase, goal: Goal) -> list[tuple[str, float, str]]:
    """Return the factors of the score, the kind of product first: name, value from 0 to 1, explanation."""
    part = purchase.breakdown
    kinds = [
        f"found by {'the same' if part['query_match'] else 'another'} query",
        f"{'the same' if part['category_match'] else 'another'} category",
        f"{part['title_score']:.0%} of the wanted title's nouns",
    ]
    rows = [
        ("Kind of product", part["r_type"], f"{part['r_type']:.0%} of the rest counts: {', '.join(kinds)}"),
        ("Attributes", part["r_att"], _share(part["r_att"], len(goal.attributes), part["w_att"])),
    ]
    if "r_option" in part:
        rows.append(("Options", part["r_option"], _share(part["r_option"], len(goal.options), part["w_option"])))
    in_budget = "within" if part["r_price"] else "above"
    rows.append(("Price", float(part["r_price"]), f"{in_budget} the limit; counts {part['w_price']:.0%}"))
    return rows


def _share(share: float, count: int, weight: float) -> str:
    return f"{round(share * count)} of {count}; counts {weight:.0%}"


def error_page(status: int, message: str, task: Task | None = None) -> str:
    """Return the page of an HTTP error.

    Args:
        status: of the answer.
        message: what is wrong.
        task: what the visitor is asked to buy, if the address names it: the page leads back to it.
    """
    return _render(
        "error",
        {404: "Not found", 405: "Not possible"}.get(status, "Sorry"),
        message=message,
        task=task,
        this_task=None if task is None else make_address("/shop", [("task", task.id)]),
    )


def chooser_page(sizes: Mapping[str, int], split: str, tasks: Sequence[Task], start: int) -> str:
    """Return the page on which a visitor chooses a task.

    Args:
        sizes: number of tasks in each split.
        split: the split shown.
        tasks: the tasks of it that are listed.
        start: number of the first of them.
    """
    more = [("Earlier", start - TASKS_PER_PAGE), ("Later", start + len(tasks))]
    return _render(
        "chooser",
        "Choose a task",
        splits=[(name, size, make_address("/", [("split", name)])) for name, size in sizes.items()],
        split=split,
        last=sizes[split] - 1,
        start=start,
        tasks=[
            (number, make_address("/shop", [("task", task.id)]), task.instruction)
            for number, task in enumerate(tasks, start)
        ],
        more=[
            (label, make_address("/", [("split", split), ("start", str(max(first, 0)))]))
            for label, first in more
            if -TASKS_PER_PAGE < first < sizes[split]
        ],
    )


def _render(template: str, title: str, css: str = "", **context: Any) -> str:
    return _TEMPLATES.get_template(f"{template}.html").render(
        title=title, css=css or template, picture=_picture, **context
    )


def make_address(path: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return a path with query parameters."""
    return f"{path}?{urlencode(fields, errors='replace')}"


def _picture(product: Product, color: str | None = None) -> str:
    return make_address("/picture.svg", [("asin", product.asin), *([("color", color)] if color else [])])


def short(text: str) -> str:
    """Return a text in quotes, cut after 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
