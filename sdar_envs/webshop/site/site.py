"""WebShop as a web site (Starlette), with the behaviour of `sdar/WebShop-v0`.

    app = create_app(open_shop("embedded"), WebShopEnv().source)

A page's visible text nodes, joined by ` [SEP] `, are the text observation; all other text for people (the search bar
on every page, the parts of the score, "Next task") is in attributes and is shown by the style sheet. Where a
button leads is what the core does on that click, so the site and the environment cannot drift apart.

The server is stateless: an address holds the task, the search, the product and the options. Addresses are data that
is looked up, never evaluated and never a path. There are no scripts, no cookies and no requests to other servers.

Errors are pages that say what is wrong: tasks, products, options and page numbers that do not exist (400, 404),
searches that the environment ignores (400), addresses of more than four million characters (414). The goal is shown
only with the score, but the address of the score page can be guessed: the site does not hide goals from people.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any

from sdar_envs.core import Task
from sdar_envs.errors import UnknownName
from sdar_envs.importing import extra_imports
from sdar_envs.webshop.catalog.loading import Product
from sdar_envs.webshop.goals import GoalTasks
from sdar_envs.webshop.reward import Quirks, TheFuzz
from sdar_envs.webshop.session import SUB_PAGES, Controls, Session, SessionState
from sdar_envs.webshop.shop import Shop, UnansweredSearch
from sdar_envs.webshop.site import MARK
from sdar_envs.webshop.site.pictures import favicon, picture
from sdar_envs.webshop.site.storefront import (
    OPTION,
    TASKS_PER_PAGE,
    Visit,
    chooser_page,
    done_page,
    error_page,
    index_page,
    item_page,
    make_address,
    results_page,
    short,
    sub_page,
)

with extra_imports("server", purpose="the web site of the shop"):
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route

__all__ = ["LONGEST_HEAD", "create_app"]

_LONGEST_ADDRESS = 4_000_000
LONGEST_HEAD = 2 * _LONGEST_ADDRESS
"""`longest_head` for `sdar_envs.http.serving.serve`: longer addresses still get an error page."""

_INTEGER = re.compile(r"-?[0-9]{1,6}")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGES = {
    "index": index_page,
    "search_results": results_page,
    "item_page": item_page,
    "item_sub_page": sub_page,
}
_FOR_A_DAY = {"Cache-Control": "public, max-age=86400"}


def create_app(
    shop: Shop,
    tasks: GoalTasks,
    *,
    quirks: Quirks = "original",
    thefuzz: TheFuzz = "0.22",
    show_attributes: bool = False,
) -> Starlette:
    """Return the site as a Starlette application.

    Args:
        shop: the shop.
        tasks: what visitors are asked to buy; of the same shop. An environment's are its `source`.
        quirks: as for `sdar_envs.webshop.env.WebShopEnv`.
        thefuzz: likewise.
        show_attributes: likewise.
    """
    site = _Site(tasks, Controls(shop, quirks, thefuzz=thefuzz, show_attributes=show_attributes))
    css = resources.files("sdar_envs.webshop.site").joinpath("site.css").read_text(encoding="utf-8")
    routes = [
        Route("/", site.chooser),
        Route("/start", site.start),
        Route("/shop", site.index),
        Route("/results", site.results),
        Route("/item", site.item),
        *(Route(f"/{name.lower()}", site.sub_page) for name in SUB_PAGES),
        Route("/done", site.done),
        Route("/picture.svg", site.picture),
        Route("/api/tasks", site.api_tasks),
        Route("/api/task", site.api_task),
        Route("/site.css", lambda _: _respond(css, "text/css", headers=_FOR_A_DAY)),
        Route("/favicon.svg", lambda _: _respond(favicon(), "image/svg+xml", headers=_FOR_A_DAY)),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: site.refusal, Exception: site.failure})


class _Site:
    def __init__(self, tasks: GoalTasks, controls: Controls) -> None:
        self._shop = controls.shop
        self._tasks = tasks
        self._controls = controls
        self._numbers = {product.asin: product.number for product in controls.shop.products}

    # -- the pages of the shop --------------------------------------------------------------

    def index(self, request: Request) -> Response:
        visit = self._visit(request)
        visit.session.state = SessionState(draws=_integer(request, "draws", 0))
        return self._answer(visit)

    def results(self, request: Request) -> Response:
        visit = self._visit(request)
        query = request.query_params.get("query", "")
        if not query:
            return RedirectResponse(visit.address(SessionState(draws=_integer(request, "draws", 0))), status_code=303)
        keywords, draws = _keywords(query), _integer(request, "draws", 0)
        try:
            found = self._shop.search(keywords, lambda _: _random_products(visit.session, draws))
        except UnansweredSearch as error:
            raise HTTPException(400, f"This shop has no answer to the search {short(query)}: {error}.") from error
        draws += keywords[0] == "<r>"
        visit.session.state = SessionState("search_results", keywords, _integer(request, "page", 1), found, draws=draws)
        return self._answer(visit)

    def item(self, request: Request) -> Response:
        return self._answer(self._visit_item(request))

    def sub_page(self, request: Request) -> Response:
        visit = self._visit_item(request)
        visit.session.act(f"click[{request.url.path.removeprefix('/')}]")
        if visit.session.state.page_name != "item_sub_page":
            raise HTTPException(404, "This shop does not show the attributes of its products.")
        return self._answer(visit)

    def done(self, request: Request) -> Response:
        visit = self._visit_item(request)
        visit.session.act("click[buy now]")
        return self._answer(visit)

    def picture(self, request: Request) -> Response:
        product = self._shop.products[self._number(request)]
        return _respond(picture(product, request.query_params.get("color")), "image/svg+xml", headers=_FOR_A_DAY)

    def refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._error(request, error.status_code, error.detail)

    def failure(self, request: Request, error: Exception) -> Response:
        return self._error(request, 500, "Something went wrong in the shop; the operator's terminal says what.")

    def _error(self, request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            return _json({"error": message}, status)
        task = None
        if status != 500 and len(request.url.query) <= _LONGEST_ADDRESS:
            with suppress(UnknownName):
                task = self._tasks.find(request.query_params.get("task", ""))
        return _html(error_page(status, message, task), status)

    def _visit(self, request: Request) -> Visit:
        task = self._task(request)
        goal = self._tasks.goal(task)
        return Visit(task, Session(self._controls, self._tasks.goals, goal, str(goal.index)))

    def _visit_item(self, request: Request) -> Visit:
        visit = self._visit(request)
        number = self._number(request)
        visit.session.state = SessionState(
            "item_page",
            _keywords(request.query_params.get("query", "")),
            _integer(request, "page", 1),
            product=number,
            options=_options(self._shop.products[number], request.query_params.multi_items()),
            draws=_integer(request, "draws", 0),
        )
        return visit

    def _task(self, request: Request) -> Task:
        if len(request.url.query) > _LONGEST_ADDRESS:
            raise HTTPException(414, f"The address has more than {_LONGEST_ADDRESS:,} characters.")
        task_id = request.query_params.get("task")
        if task_id is None:
            raise HTTPException(400, "The address names no task: choose one.")
        try:
            return self._tasks.find(task_id)
        except UnknownName as error:
            raise HTTPException(404, f"There is {error}") from error

    def _number(self, request: Request) -> int:
        asin = request.query_params.get("asin")
        if asin is None:
            raise HTTPException(400, "The address names no product.")
        if asin not in self._numbers:
            raise HTTPException(404, f"This shop has no product {short(asin)}.")
        return self._numbers[asin]

    def _answer(self, visit: Visit) -> Response:
        if visit.session.state.page_name == "done":
            task = visit.task
            number = int(task.id[len(task.id.rstrip("0123456789")) :])
            following = self._tasks.task(task.split, (number + 1) % self._size(task.split))
            return _html(done_page(visit, following))
        return _html(_PAGES[visit.session.state.page_name](visit))

    # -- the tasks --------------------------------------------------------------------------

    def chooser(self, request: Request) -> Response:
        splits = self._tasks.splits
        split = request.query_params.get("split", next(iter(sorted(splits))))
        if split not in splits:
            raise HTTPException(404, f"There is no split {short(split)}; the splits are {', '.join(splits)}.")
        size = self._size(split)
        start = _integer(request, "start", 0)
        if not 0 <= start < size:
            raise HTTPException(404, f"There is no task {start} in {split}: it has {size:,}, from 0.")
        shown = range(start, min(start + TASKS_PER_PAGE, size))
        sizes = {name: self._size(name) for name in splits}
        return _html(chooser_page(sizes, split, [self._tasks.task(split, number) for number in shown], start))

    def start(self, request: Request) -> Response:
        split = request.query_params.get("split", "")
        if split not in self._tasks.splits:
            raise HTTPException(404, f"There is no split {short(split)}.")
        size = self._size(split)
        number = random.randrange(size)
        if request.query_params.get("number"):
            number = _integer(request, "number", 0)
        if not 0 <= number < size:
            raise HTTPException(404, f"There is no task {number} in {split}: it has {size:,}, from 0.")
        task = self._tasks.task(split, number)
        return RedirectResponse(make_address("/shop", [("task", task.id)]), status_code=303)

    def api_tasks(self, request: Request) -> Response:
        return _json(
            {
                "site": MARK,
                "splits": dict(self._tasks.splits),
                "quirks": self._controls.quirks,
                "title_score_exact": self._shop.nouns.is_exact,
            }
        )

    def api_task(self, request: Request) -> Response:
        try:
            if "id" in request.query_params:
                task = self._tasks.find(request.query_params["id"])
            else:
                split = request.query_params.get("split", "")
                task = self._tasks.task(split, _integer(request, "index", 0))
        except UnknownName as error:
            return _json({"error": str(error)}, 404)
        # Without `data`, which holds the number of the goal.
        return _json({name: getattr(task, name) for name in ("id", "split", "task_type", "instruction")})

    def _size(self, split: str) -> int:
        return self._tasks.splits[split] or 0


# -- reading addresses ----------------------------------------------------------------------


def _keywords(query: str) -> tuple[str, ...]:
    return tuple(query.lower().split(" "))


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # int() would also take "1_0" and digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise HTTPException(400, f"{name} is {short(text)}; wanted a whole number of at most six digits.")
    return int(text)


def _options(product: Product, parameters: Iterable[tuple[str, str]]) -> dict[str, str]:
    known = dict(product.options)
    chosen = {}
    for parameter, text in parameters:
        if not parameter.startswith(OPTION):
            continue
        # Browsers submit a line break as two characters.
        name, value = (part.replace("\r\n", "\n") for part in (parameter.removeprefix(OPTION), text))
        if value not in known.get(name, ()):
            raise HTTPException(400, f"{product.asin} cannot be had with {short(name)}: {short(value)}.")
        chosen[name] = value
    return chosen


def _random_products(session: Session, draws: int) -> Sequence[int]:
    probe = session.copy()
    probe.state = SessionState(draws=draws)
    probe.act("search[<r>]")
    return probe.state.results


# -- answering ------------------------------------------------------------------------------


def _respond(content: str, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # A catalogue can hold halves of surrogate pairs, which UTF-8 has no bytes for.
    return Response(
        content.encode("utf-8", "replace"), status, {**_HEADERS, **(headers or {})}, f"{media_type}; charset=utf-8"
    )


def _html(content: str, status: int = 200) -> Response:
    return _respond(content, "text/html", status)


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return _respond(json.dumps(content), "application/json", status)
