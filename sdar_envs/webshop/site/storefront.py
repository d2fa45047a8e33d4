"""The shop's pages in HTML.

Visible text nodes are those of the text observation, in its order; what else people read stands in `data-text`, which
the style sheet shows, or in other attributes. All that a shopper or a catalogue brings is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from urllib.parse import urlencode

from sdar_envs.core import Task
from sdar_envs.webshop.catalog.catalog import Product
from sdar_envs.webshop.goals import NO_LIMIT, Goal
from sdar_envs.webshop.pages import Session, State
from sdar_envs.webshop.reward import Purchase

__all__ = [
    "OPTION",
    "SUB_PAGES",
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
"""What the parameters begin with that hold chosen options: `option.color=red`."""

SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
"""The pages of a product beside its own; the last is off by default."""

TASKS_PER_PAGE = 20
"""How many tasks the chooser lists at once."""

_LONGEST_TYPED_QUERY = 2_000
_PATHS = {"index": "/shop", "search_results": "/results", "item_page": "/item", "done": "/done"}
# As the original's templates write JSON into a page.
_JSON_IN_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})


class Visit:
    """One request to a page of the shop."""

    def __init__(self, task: Task, session: Session) -> None:
        self.task = task
        self.session = session

    @property
    def product(self) -> Product:
        """The product looked at."""
        return self.session.pages.shop.products[self.session.state.product]

    def after(self, name: str) -> Session:
        """Return the session as it is after a click."""
        session = self.session.copy()
        session.act(f"click[{name}]")
        return session

    def fields(self, state: State) -> list[tuple[str, str]]:
        """Return the parameters that lead to a state."""
        fields = [("task", self.task.id)]
        draws = state.draws
        if state.page_name != "index":
            fields += [("query", " ".join(state.keywords)), ("page", str(state.page))]
        if state.page_name == "search_results":
            # A page of results draws again, so it is told how often was drawn before.
            draws -= state.keywords[0] == "<r>"
        elif state.page_name != "index":
            fields.append(("asin", self.session.pages.shop.products[state.product].asin))
            fields += [(OPTION + name, value) for name, value in state.options.items()]
        if draws:
            fields.append(("draws", str(draws)))
        return fields

    def address(self, state: State) -> str:
        """Return the address of a state."""
        return make_address(_path(state), self.fields(state))


def index_page(visit: Visit) -> str:
    """Return the page with the search bar only."""
    body = [
        '<header class="top">',
        "<h1>WebShop</h1>",
        _link("/", "Tasks", "tool"),
        "</header>",
        _instruction(visit.task.instruction),
        "<main>",
        _search_form(visit, is_index=True),
        "</main>",
    ]
    return _page("Search", "index", body)


def results_page(visit: Visit) -> str:
    """Return a page of results."""
    state = visit.session.state
    clickables = visit.session.available_actions()["clickables"]
    body = [
        *_head(visit),
        "<main>",
        '<nav class="bar" aria-label="Results">',
        _button(visit, "Back to Search"),
        f"<p>Page {state.page} (Total results: {len(state.results)})</p>",
        *([_button(visit, "< Prev")] if "< prev" in clickables else []),
        _button(visit, "Next >"),
        "</nav>",
        '<ol class="cards">',
    ]
    # Clipped nowhere, as in the core: its page 0 is empty.
    listed = state.results[(state.page - 1) * 10 : state.page * 10]
    for place, number in enumerate(listed):
        product = visit.session.pages.shop.products[number]
        address = visit.address(state._replace(page_name="item_page", product=number, results=()))
        body += [
            "<li>",
            f'<a class="product-link" href="{escape(address)}" aria-describedby="title-{place}">'
            f"{escape(product.asin)}</a>",
            f'<img src="{escape(_picture(product))}" alt="" width="240" height="240">',
            f'<h2 class="product-title" id="title-{place}">{escape(product.title)}</h2>',
            f'<p class="product-price">{escape(product.price_tag)}</p>',
            "</li>",
        ]
    body += ["</ol>", *([] if listed else [_said("p", "Nothing here.", "empty")]), "</main>"]
    return _page(f"Results for {short(' '.join(state.keywords))}", "results", body)


def _way_back(visit: Visit) -> list[str]:
    return [
        '<nav class="bar" aria-label="Way back">',
        _button(visit, "Back to Search"),
        _button(visit, "< Prev"),
        "</nav>",
    ]


def item_page(visit: Visit) -> str:
    """Return a product's own page: a form, in which the radio buttons are the options."""
    product, state = visit.product, visit.session.state
    body = [
        *_head(visit),
        "<main>",
        *_way_back(visit),
        '<form class="item" action="/done">',
        # The chosen options are added by the radio buttons of this form.
        _hidden(visit.fields(state._replace(options={}))),
        f'<img src="{escape(_picture(product))}" alt="" width="480" height="480">',
        '<div class="choices">',
    ]
    for group, (name, values) in enumerate(product.options):
        body += ["<fieldset>", f"<legend>{escape(name)}</legend>"]
        unseen = state.options.get(name)
        for place, value in enumerate(values):
            checked = ""
            if value == unseen:
                checked, unseen = " checked", None
            address = visit.address(visit.after(value).state)
            body.append(
                f'<input type="radio" id="radio-{group}-{place}" name="{escape(OPTION + name)}" '
                f'value="{escape(value)}" data-url="{escape(address)}"{checked}>'
                f'<label for="radio-{group}-{place}">{escape(value)}</label>'
            )
        body.append("</fieldset>")
    names = [*SUB_PAGES[:3], *([SUB_PAGES[3]] if visit.session.pages.show_attributes else [])]
    body += [
        "</div>",
        '<div class="about">',
        f'<h1 class="product-title">{escape(product.title)}</h1>',
        f'<p class="product-price">Price: {escape(product.price_tag)}</p>',
        '<p class="product-rating">Rating: N.A.</p>',
        "</div>",
        '<div class="bar more">',
        *(f'<button class="btn" formaction="/{name.lower()}">{name}</button>' for name in names),
        "</div>",
        '<div class="buy">',
        '<button class="btn main">Buy Now</button>',
        "</div>",
        "</form>",
        "</main>",
    ]
    return _page(product.title, "item", body)


def sub_page(visit: Visit) -> str:
    """Return the description, features, reviews or attributes of a product."""
    product, name = visit.product, visit.session.state.sub_page
    body = [
        *_head(visit),
        "<main>",
        *_way_back(visit),
        '<article class="sub">',
        f'<img src="{escape(_picture(product))}" alt="" width="120" height="120">',
        _said("h1", product.title, "product-title"),
        _said("h2", name),
    ]
    if name == "Description":
        body.append(f'<p class="long">{escape(product.description)}</p>')
        is_empty = not product.description.strip()
    elif name == "Reviews":
        is_empty = True
    else:
        listed = product.bullets if name == "Features" else product.attributes
        # The blank belongs to the text nodes, so that an empty feature is one too.
        body += ["<ul>", *(f"<li> {escape(text)}</li>" for text in listed), "</ul>"]
        is_empty = not listed
        if name == "Attributes":
            body += [f"<p>{escape(text)}</p>" for text in (product.category, product.query, product.product_category)]
    body += [*([_said("p", f"No {name.lower()}.", "empty")] if is_empty else []), "</article>", "</main>"]
    return _page(f"{name} of {product.title}", "sub", body)


def done_page(visit: Visit, following: Task) -> str:
    """Return the page with the score; `following` is the task that comes next."""
    product, goal, state = visit.product, visit.session.goal, visit.session.state
    purchase = state.purchase
    assert purchase is not None
    wanted = goal.product
    bought = "; ".join(f"{name}: {value}" for name, value in state.options.items())
    options = json.dumps(dict(state.options), sort_keys=True).translate(_JSON_IN_HTML)
    limit = "none" if goal.price_upper == NO_LIMIT else f"${goal.price_upper:.2f}"
    body = [
        *_head(visit, says_instruction=False),
        "<main>",
        "<h1>Thank you for shopping with us!</h1>",
        # What only the original's workers needed is in the text and not on the screen.
        '<p class="unseen">Your code: <b>None</b> (Paste it in your MTurk interface.)</p>',
        '<section class="bill">',
        "<h2>Purchased</h2>",
        "<dl>",
        _entry("asin", product.asin, f"{product.asin}, {product.title}", "asin"),
        _entry("options", options, bought or "none", "options"),
        _entry("attrs", "None", "; ".join(product.attributes), "purchased_attrs"),
        _entry("category", "None", product.category, "purchased-category"),
        _entry("query", "None", product.query, "purchased-query"),
        _entry("product category", "None", product.product_category, "purchased-pc"),
        "</dl>",
        "</section>",
        '<section class="bill">',
        "<h2>Target</h2>",
        "<dl>",
        _entry("asin", "", f"{wanted.asin}, {wanted.title}", "goal-asin"),
        _entry("options", "", _wanted_options(goal) or "none", "goal-options"),
        _entry("attrs", "", "; ".join(goal.attributes), "goal-attrs"),
        _entry("price upper", "", limit, "goal-price"),
        _entry("instuction text", "", goal.instruction, "goal-instruction-text"),
        _entry("category", "", wanted.category, "goal-category"),
        _entry("product category", "", wanted.product_category, "goal-pc"),
        _entry("query", "", wanted.query, "goal-query"),
        "</dl>",
        '<p class="unseen">Goal <b>None</b></p>',
        "</section>",
        f'<section class="score" id="reward" data-breakdown="{escape(json.dumps(dict(purchase.breakdown)))}">',
        "<h2>Reward</h2>",
        "<p>Your score (min 0.0, max 1.0)</p>",
        f"<pre>{purchase.score}</pre>",
        "<ul>",
        *_parts(purchase, goal),
        "</ul>",
        '<p class="unseen">Reward Details <b>None</b></p>',
        "</section>",
        '<nav class="bar" aria-label="Tasks">',
        _link(make_address("/shop", [("task", following.id)]), "Next task", "tool main"),
        _link(make_address("/shop", [("task", visit.task.id)]), "This task again", "tool"),
        "</nav>",
        "</main>",
    ]
    return _page(f"Score {purchase.score:.2f}", "done", body)


def error_page(status: int, message: str) -> str:
    """Return the page that says why there is no other."""
    title = {404: "Not found", 405: "Not possible"}.get(status, "Sorry")
    body = [
        '<header class="top">',
        "<h1>WebShop</h1>",
        "</header>",
        "<main>",
        f"<h2>{title}</h2>",
        f"<p>{escape(message)}</p>",
        '<p><a class="tool main" href="/">Choose a task</a></p>',
        "</main>",
    ]
    return _page(title, "error", body)


def _wanted_options(goal: Goal) -> str:
    return "; ".join(option if isinstance(option, str) else ": ".join(option) for option in goal.options)


def _parts(purchase: Purchase, goal: Goal) -> list[str]:
    """Say what the score is made of: the kind of product, times the sum of the rest."""
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
    return [
        f'<li>{_said("b", name)}<meter value="{value:.4f}" aria-label="{name}"></meter>{_said("span", text)}</li>'
        for name, value, text in rows
    ]


def _share(share: float, count: int, weight: float) -> str:
    return f"{round(share * count)} of {count}; counts {weight:.0%}"


def chooser_page(sizes: Mapping[str, int], split: str, tasks: Sequence[Task], start: int) -> str:
    """Return the page on which one chooses a task.

    Args:
        sizes: number of tasks in each split.
        split: the one shown.
        tasks: those of it that are listed.
        start: number of the first of them.
    """
    size = sizes[split]
    body = [
        '<header class="top">',
        "<h1>WebShop</h1>",
        "</header>",
        "<main>",
        "<p>Each task is something to buy: find it, choose its options, buy it. Then you see the score.</p>",
        '<nav class="bar" aria-label="Splits">',
    ]
    for name, number in sizes.items():
        address = make_address("/", [("split", name)])
        current = ' aria-current="page"' if name == split else ""
        body.append(f'<a class="tool" href="{escape(address)}"{current}>{escape(name)} ({number:,})</a>')
    body += [
        "</nav>",
        '<form class="bar" action="/start">',
        _hidden([("split", split)]),
        f'<label for="number">Task</label><input id="number" name="number" type="number" min="0" max="{size - 1}" '
        'placeholder="any" inputmode="numeric">',
        '<button class="tool main">Start</button>',
        "</form>",
        f'<ol class="tasks" start="{start}">',
    ]
    for number, task in enumerate(tasks, start):
        address = make_address("/shop", [("task", task.id)])
        body.append(f'<li value="{number}"><a href="{escape(address)}">{escape(task.instruction)}</a></li>')
    body += ["</ol>", '<nav class="bar" aria-label="More tasks">']
    for label, first in (("Earlier", start - TASKS_PER_PAGE), ("Later", start + len(tasks))):
        if -TASKS_PER_PAGE < first < size:
            address = make_address("/", [("split", split), ("start", str(max(first, 0)))])
            body.append(f'<a class="tool" href="{escape(address)}">{label}</a>')
    body += ["</nav>", "</main>"]
    return _page("Choose a task", "chooser", body)


def _head(visit: Visit, *, says_instruction: bool = True) -> list[str]:
    """Return what stands on top of every page but the first: search bar and instruction."""
    index = visit.address(State(draws=visit.session.state.draws))
    box = _instruction(visit.task.instruction) if says_instruction else _quoted_instruction(visit.task.instruction)
    return [
        '<header class="top">',
        _link(index, "WebShop", "brand"),
        _search_form(visit, is_index=False),
        _link("/", "Tasks", "tool"),
        "</header>",
        box,
    ]


def _instruction(text: str) -> str:
    return f'<section id="instruction-text">\n<h2>Instruction:</h2>\n<p>{escape(text)}</p>\n</section>'


def _quoted_instruction(text: str) -> str:
    return f'<section id="instruction-text">\n{_said("h2", "Instruction:")}\n{_said("p", text)}\n</section>'


def _search_form(visit: Visit, *, is_index: bool) -> str:
    state = visit.session.state
    # Readers of the original take this id for the sign of the first page.
    name = "search_input" if is_index else "search_again"
    query = " ".join(state.keywords)
    typed = query if len(query) <= _LONGEST_TYPED_QUERY else ""
    button = '<button class="btn main">Search</button>' if is_index else _said("button", "Search", "tool")
    return (
        f'<form role="search" action="/results">{_hidden(visit.fields(State(draws=state.draws)))}'
        f'<input type="search" id="{name}" name="query" value="{escape(typed)}" required '
        f'maxlength="{_LONGEST_TYPED_QUERY}" aria-label="What are you looking for?" '
        f'placeholder="What are you looking for?" autocomplete="off"{" autofocus" if is_index else ""}>{button}</form>'
    )


def _button(visit: Visit, label: str) -> str:
    """Return a button that leads where the core goes when it is clicked."""
    state = visit.after(label).state
    hidden = _hidden(visit.fields(state))
    return f'<form action="{_path(state)}">{hidden}<button class="btn">{escape(label)}</button></form>'


def _link(address: str, text: str, css: str) -> str:
    return f'<a class="{css}" href="{escape(address)}" data-text="{escape(text)}" aria-label="{escape(text)}"></a>'


def _said(tag: str, text: str, css: str = "") -> str:
    """Return an element whose text is for people only: shown by the style sheet, no text node."""
    named = f' class="{css}"' if css else ""
    label = f' aria-label="{escape(text)}"' if tag == "button" else ""
    return f'<{tag}{named} data-text="{escape(text)}"{label}></{tag}>'


def _entry(name: str, text: str, meaning: str, entry_id: str) -> str:
    return f'<div><dt>{name}</dt><dd id="{entry_id}" data-text="{escape(meaning)}">{escape(text)}</dd></div>'


def _hidden(fields: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields)


def _path(state: State) -> str:
    return f"/{state.sub_page.lower()}" if state.page_name == "item_sub_page" else _PATHS[state.page_name]


def make_address(path: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return a path with parameters."""
    return f"{path}?{urlencode(fields, errors='replace')}"


def _picture(product: Product) -> str:
    return make_address("/picture.svg", [("asin", product.asin)])


def _page(title: str, css: str, body: Iterable[str]) -> str:
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - WebShop</title>\n"
        '<link rel="stylesheet" href="/site.css">\n<link rel="icon" href="/favicon.svg">\n</head>\n'
    )
    content = "\n".join(body)
    return f'{head}<body class="{css}">\n{content}\n</body>\n</html>\n'


def short(text: str) -> str:
    """Return a text quoted, its beginning if it is long."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
