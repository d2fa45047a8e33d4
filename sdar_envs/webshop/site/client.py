"""WebShop environment over HTTP: plays on a web site by reading its pages and submitting its forms.

    env = WebShopClientEnv("http://127.0.0.1:3000")

It reads pages as the original does: the visible text nodes, `.btn`, `.product-link`, radio buttons, `#reward`. On the
site of this package observations, actions and rewards equal those of `sdar/WebShop-v0`, character by character. On
the original's Flask site they are what its pages say, with the differences of that site: its done page prints the goal
and what was bought (blanked here, as in the original's text environment), it has no address for searches with a
slash, and newer versions of it name some buttons differently.

A site that does not answer in time, or answers with an error that is not a page of the shop, raises `SiteError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from sdar_envs.core import Outcome, Task, TextEnv
from sdar_envs.errors import InvalidOption, SdarError, UnknownName
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import RetryPolicy
from sdar_envs.http.transport import NoResponse, Response, Transport, exchange_with_retries
from sdar_envs.importing import extra_imports
from sdar_envs.secrets import bearer_header, redact
from sdar_envs.webshop.actions import SEARCH_TEMPLATE, parse_action
from sdar_envs.webshop.nouns import noun_flags
from sdar_envs.webshop.reward import Quirks
from sdar_envs.webshop.site import MARK

with extra_imports("client", purpose="the client of a WebShop site"):
    from bs4 import BeautifulSoup, Tag
    from bs4.element import NavigableString

__all__ = ["SiteError", "WebShopClientEnv"]

_ID = "sdar/WebShopClient-v0"
_SEP = " [SEP] "
_UNSEEN = frozenset({"style", "script", "head", "title", "meta", "[document]"})
_ORIGINAL_TASK = re.compile(r"webshop/fixed/([0-9]{4,})")


class SiteError(SdarError, ConnectionError):
    """The site cannot be reached, is too slow, or answers with something that is not a page of the shop."""


class Page(NamedTuple):
    """Fetched page. Immutable, so that a snapshot needs no second request."""

    url: str
    html: str


class WebShopClientEnv(TextEnv[Page]):
    """WebShop on a web site, with the observations, actions and rewards of `sdar/WebShop-v0`.

    **Observation, action, reward, info**: as in `sdar_envs.webshop.env.WebShopEnv` with `observation="text"`. On the
    original's site `reward_info` is empty, there is one endless split, `fixed`, whose task `webshop/fixed/0007` is
    the original's session `fixed_7`, and `task_type` is `shopping`, because the site does not say more.

    Args:
        url: the site's address.
        split: as the site has them.
        max_steps: step limit.
        reward_scale: factor on the reward.
        timeout: seconds for one page, from connecting to its last byte.
        retries: how often a request is repeated when the connection fails or the server is overloaded.
        token_env: the environment variable with the site's token (`sdar serve webshop --token-env`); None for a site
            that wants none.
        render_mode: None, `ansi` or `human`.

    Raises:
        SiteError: nothing there answers.
        InvalidOption: an argument is out of range.
    """

    blocks_on_io = True

    suite = "webshop"

    def __init__(
        self,
        url: str = "http://127.0.0.1:3000",
        *,
        split: str | None = None,
        max_steps: int = 15,
        reward_scale: float = 1.0,
        timeout: float = 30.0,
        retries: int = 3,
        token_env: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._browser = _Browser(url, timeout, retries, token_env)
        source = _find_tasks(self._browser)
        super().__init__(
            source,
            split=split or ("train" if "train" in source.splits else next(iter(source.splits))),
            max_steps=max_steps,
            reward_scale=reward_scale,
            render_mode=render_mode,
        )
        self.source: _SiteTasks | _OriginalTasks
        self._show(_Reader(Page("", "")))

    def close(self) -> None:
        """Close the connection."""
        self._browser.close()
        super().close()

    def _begin(self, task: Task) -> str:
        self._show(_Reader(self._browser.get(self.source.address(task))))
        return self._reader.text()

    def _act(self, action: str) -> Outcome:
        parsed = parse_action(action, self.source.quirks)
        page = None
        if parsed is not None:
            name, argument = parsed
            argument = argument.lower()
            if name == "search":
                page = self._search(argument)
            elif name == "click" and argument != "search":
                page = self._click(argument)
        if page is None:
            return Outcome(self._observation, 0.0, False, False, False)
        self._show(_Reader(page))
        score = self._reader.score()
        text = self._reader.text()
        return Outcome(text, score or 0.0, score is not None, score == 1.0, True)

    def _search(self, query: str) -> Page | None:
        form = self._reader.search_form()
        reader = self._reader
        if form is None:
            # The original's site has a search bar on its first page only.
            reader = _Reader(self._browser.get(self.source.address(self.task)))
            form = reader.search_form()
        if form is None:
            raise SiteError(f"{reader.page.url} has no search bar; wanted a form with #search_input or role=search.")
        bar = form.select_one("#search_input, input[type=search]")
        name = str(bar["name"]) if bar is not None else "search_query"
        return self._browser.submit(reader.page.url, form, None, {name: query}, refusable=True)

    def _click(self, name: str) -> Page | None:
        clickable = self._reader.clickables.get(name)
        if clickable is None:
            return None
        here = self._reader.page.url
        if clickable.name == "a":
            return self._browser.get(urljoin(here, str(clickable["href"])))
        if clickable.name == "input":
            return self._browser.get(urljoin(here, str(clickable["data-url"])))
        form = clickable.find_parent("form")
        if form is None:
            raise SiteError(f"the button {name!r} on {here[:200]} belongs to no form.")
        return self._browser.submit(here, form, clickable, {})

    def _commands(self) -> list[str]:
        reader = self._reader
        if reader.has_search_bar:
            return [SEARCH_TEMPLATE]
        clicks = [(name, f"click[{name}]") for name in reader.clickables if name != "search"]
        quirks = self.source.quirks
        return [command for name, command in clicks if parse_action(command, quirks) == ("click", name)]

    def _save(self) -> Page:
        return self._reader.page

    def _load(self, task: Task, state: Page) -> None:
        self._show(_Reader(state))

    def _data_flags(self) -> dict[str, str]:
        return noun_flags(self.source.title_score_exact)

    def _env_id(self) -> str:
        return _ID

    def _reward(self, outcome: Outcome) -> float:
        return outcome.score

    def _extra_info(self) -> dict[str, Any]:
        reader = self._reader
        return {
            "available_actions": {"has_search_bar": reader.has_search_bar, "clickables": list(reader.clickables)},
            "reward_info": reader.breakdown(),
            "title_score_exact": self.source.title_score_exact,
        }

    def _show(self, reader: _Reader) -> None:
        self._reader = reader


class _Reader:
    """Parsed page: text, score, clickable elements and search form."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # Not lxml: it drops control characters, and the blanks of the text nodes count.
        self._soup = BeautifulSoup(page.html, "html.parser")
        self.has_search_bar = self._soup.find(id="search_input") is not None
        self.clickables = self._find_clickables()

    def search_form(self) -> Tag | None:
        bar = self._soup.select_one("#search_input, form[role=search] input[type=search]")
        return None if bar is None else bar.find_parent("form")

    def text(self) -> str:
        if self.score() is not None:
            self._blank_goal()
        nodes = self._soup.find_all(string=True)
        seen = (str(node) for node in nodes if type(node) is NavigableString and _is_seen(node.parent))
        return _SEP.join(text.strip() for text in seen if text != "\n")

    def score(self) -> float | None:
        """Return the score, None before the purchase."""
        shown = self._soup.select_one("#reward pre")
        if shown is None:
            return None
        try:
            return float(shown.get_text())
        except ValueError as error:
            raise SiteError(
                f"the score on {self.page.url[:200]} is {shown.get_text()[:80]!r}; wanted a number."
            ) from error

    def breakdown(self) -> dict[str, Any]:
        place = self._soup.find(id="reward")
        text = place.get("data-breakdown") if place is not None else None
        if not isinstance(text, str):
            return {}
        found: dict[str, Any] = parse_json(text)
        return found

    def _find_clickables(self) -> dict[str, Tag]:
        found: dict[str, Tag] = {}
        for tag in self._soup.select(".btn, .product-link"):
            # A button works before a product or an option of the same name, and the first of two products.
            found.setdefault(tag.get_text().lower(), tag)
        options = {str(tag["value"]): tag for tag in self._soup.select("input[type=radio][value]")}
        return {**found, **{value: tag for value, tag in options.items() if value not in found}}

    def _blank_goal(self) -> None:
        """Write `None` where the original's site says what the text environment does not know."""
        for place in self._soup.find_all("pre"):
            owner = place.find_parent(id=True)
            owner_id = "" if owner is None else str(owner["id"])
            if owner_id.startswith("goal-"):
                place.clear()
            elif owner_id not in ("asin", "options", "reward"):
                place.string = "None"


class _Browser:
    """Fetches pages and submits forms as a browser without scripts does."""

    def __init__(self, url: str, timeout: float, retries: int, token_env: str | None) -> None:
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidOption(f"url is {url!r}; wanted the address of a site, such as 'http://127.0.0.1:3000'.")
        if not timeout > 0:
            raise InvalidOption(f"timeout is {timeout!r}; wanted seconds, more than 0.")
        self.root = url.rstrip("/") + "/"
        self._timeout = timeout
        self._policy = RetryPolicy(retries, backoff_seconds=0.2, longest_backoff_seconds=5.0)
        self._transport = Transport(self.root, headers=None if token_env is None else bearer_header(token_env))

    def close(self) -> None:
        self._transport.close()

    def ask(self, method: str, url: str, form: str | None = None) -> Response:
        # Asking twice is harmless, forms of the original's site included: its addresses hold the whole state.
        def send() -> Response:
            return self._transport.exchange(
                method,
                url,
                None if form is None else form.encode("ascii"),
                seconds=self._timeout,
                content_type="application/x-www-form-urlencoded",
            )

        try:
            answer = exchange_with_retries(send, self._policy.start())
        except NoResponse as error:
            raise SiteError(f"{error}. Is the site running? `sdar serve webshop` starts one.") from error
        if answer.status == 401:
            raise SiteError(
                f"{answer.url[:200]} {answer.describe()}. token_env= names the environment variable with its token."
            )
        # Pages become observations, which are recorded.
        text = answer.body.decode("utf-8", "surrogateescape")
        return answer._replace(body=redact(text).encode("utf-8", "surrogateescape"))

    def get(self, url: str) -> Page:
        return self._page(self.ask("GET", urljoin(self.root, url)))

    def submit(
        self, here: str, form: Tag, button: Tag | None, typed: Mapping[str, str], *, refusable: bool = False
    ) -> Page | None:
        """Submit a form.

        Args:
            here: the address of the form's page.
            form: the form.
            button: what was pressed, if anything.
            typed: values that replace those of the form.
            refusable: return None if the site answers that the request makes no sense (400).
        """
        action = form.get("action")
        if button is not None:
            action = button.get("formaction", action)
        fields = [
            (str(field["name"]), str(field.get("value", "on")))
            for field in form.select("input[name]")
            if field["name"] not in typed
            and (field.get("type") not in ("radio", "checkbox") or field.has_attr("checked"))
        ]
        if button is not None and button.get("name"):
            fields.append((str(button["name"]), str(button.get("value", ""))))
        encoded = urlencode([*fields, *typed.items()], errors="replace")
        url = urljoin(here, str(action or ""))
        if str(form.get("method", "get")).lower() == "post":
            answer = self.ask("POST", url, encoded)
        else:
            answer = self.ask("GET", urlunsplit(urlsplit(url)._replace(query=encoded, fragment="")))
        return None if refusable and answer.status == 400 else self._page(answer)

    def _page(self, answer: Response) -> Page:
        if answer.status != 200:
            heading = BeautifulSoup(answer.body[:20_000], "html.parser").get_text(" ", strip=True)
            raise SiteError(f"{answer.url[:200]} answers {answer.status} {answer.reason}: {heading[:300]}")
        return Page(answer.url, answer.body.decode("utf-8", "replace"))


class _SiteTasks:
    """The tasks of a site of this package, asked for one by one."""

    def __init__(self, browser: _Browser, described: Mapping[str, Any]) -> None:
        self._browser = browser
        self.splits: Mapping[str, int | None] = dict(described["splits"])
        self.quirks: Quirks = described["quirks"]
        self.title_score_exact = bool(described["title_score_exact"])

    def task(self, split: str, index: int) -> Task:
        return self._ask({"split": split, "index": str(index)})

    def find(self, task_id: str) -> Task:
        return self._ask({"id": task_id})

    def address(self, task: Task) -> str:
        return f"shop?{urlencode({'task': task.id})}"

    def _ask(self, query: Mapping[str, str]) -> Task:
        answer = self._browser.ask("GET", f"{self._browser.root}api/task?{urlencode(query, errors='replace')}")
        try:
            fields = parse_json(answer.body)
            if answer.status == 200:
                return Task(env=_ID, suite="webshop", **fields)
            message = fields["error"]
        except (ValueError, KeyError, TypeError) as error:
            raise SiteError(f"{answer.url[:200]} answers {answer.status}, but not with a task.") from error
        raise UnknownName(message)


class _OriginalTasks:
    """The numbered sessions of the original's site. It does not say how many there are."""

    splits: Mapping[str, int | None] = {"fixed": None}
    quirks: Quirks = "original"
    title_score_exact = True

    def __init__(self, browser: _Browser) -> None:
        self._browser = browser

    def task(self, split: str, index: int) -> Task:
        return self.find(f"webshop/{split}/{index:04d}")

    def find(self, task_id: str) -> Task:
        match = _ORIGINAL_TASK.fullmatch(task_id)
        if match is None or task_id != f"webshop/fixed/{int(match[1]):04d}":
            raise UnknownName(f"no task {task_id[:200]!r}; on this site they look like 'webshop/fixed/0007'.")
        number = int(match[1])
        text = _Reader(self._browser.get(f"fixed_{number}")).text()
        _, _, rest = text.partition(f"Instruction:{_SEP}")
        instruction = rest.partition(f"{_SEP}Search")[0]
        return Task(task_id, _ID, "fixed", "shopping", instruction, {"goal": number}, suite="webshop")

    def address(self, task: Task) -> str:
        return f"fixed_{task.data['goal']}"


def _find_tasks(browser: _Browser) -> _SiteTasks | _OriginalTasks:
    answer = browser.ask("GET", f"{browser.root}api/tasks")
    if answer.status == 404:
        return _OriginalTasks(browser)
    try:
        described = parse_json(answer.body)
        if described["site"] == MARK:
            return _SiteTasks(browser, described)
    except (ValueError, KeyError, TypeError):
        pass
    raise SiteError(f"{browser.root} answers, but is neither a site of sdar-envs nor the original's WebShop.")


def _is_seen(parent: Tag | None) -> bool:
    return parent is not None and parent.name not in _UNSEEN
