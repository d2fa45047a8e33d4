"""The viewer: a run's episodes in the browser, `sdar view RUN`.

    app = create_app(RunIndex(Path("runs/first")))

A list with filters, a page per episode with all its turns, a page per long prompt. Pages are made on request from the
index and the one trajectory that is shown; reloading shows what a running evaluation has added. Everything works
without the script, which only adds keys.

It shows what is in the run folder and nothing else: addresses are looked up, never used as paths. It refuses, with a
page that says why: episodes and turns that do not exist (404), addresses that make no sense (400), trajectories that
cannot be read (500); and, unless it is told to listen elsewhere, names of the host other than this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from importlib import resources

from sdar_benchmarks.records.trajectories import EpisodeEntry, EpisodeId, RunIndex
from sdar_benchmarks.reports.episode_html import (
    TOKEN_LEGEND,
    episode_address,
    make_address,
    outcome_tag,
    prompt_html,
    turns_html,
)
from sdar_benchmarks.reports.markup import Html, element, page, short, stylesheet, table
from sdar_benchmarks.reports.plot import number
from sdar_envs.errors import CorruptData, MissingData

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the viewer needs starlette and uvicorn: pip install 'sdar-envs[server]'", name=error.name
    ) from error

__all__ = ["LOCAL_HOSTS", "create_app"]

LOCAL_HOSTS = ("127.0.0.1", "localhost")
"""The names by which this machine may be addressed: a foreign page must not read runs through a name of its own."""

_PER_PAGE = 100
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HEAD = '<link rel="stylesheet" href="/view.css">\n<script src="/view.js" defer></script>'
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1d5c9e"/>'
    '<path d="M3 12L7 6L10 9L13 4" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)
_OUTCOMES = ("won", "lost", "error")


def create_app(index: RunIndex, *, hosts: Sequence[str] = LOCAL_HOSTS) -> Starlette:
    """Make the viewer of a run.

    Args:
        index: the run.
        hosts: the names of this machine that visitors may use; `("*",)` for any.
    """
    viewer = _Viewer(index)
    script = resources.files("sdar_benchmarks.reports").joinpath("view.js").read_text(encoding="utf-8")
    routes = [
        Route("/", viewer.episodes),
        Route("/episode", viewer.episode),
        Route("/turn", viewer.turn),
        Route("/view.css", lambda _: _respond(stylesheet(), "text/css")),
        Route("/view.js", lambda _: _respond(script, "text/javascript")),
        Route("/favicon.ico", lambda _: _respond(_ICON, "image/svg+xml")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: _refusal, Exception: _failure},
    )


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which episodes are listed; empty for all."""

    suite: str = ""
    type: str = ""
    outcome: str = ""
    with_seed: str = ""
    text: str = ""

    @classmethod
    def read(cls, request: Request) -> _Filter:
        return cls(**{field.name: request.query_params.get(field.name, "").strip() for field in fields(cls)})

    def chosen(self) -> list[tuple[str, str]]:
        return [(field.name, value) for field in fields(self) if (value := getattr(self, field.name))]

    def keep(self, entries: Iterable[EpisodeEntry]) -> list[EpisodeEntry]:
        text = self.text.casefold()
        return [
            entry
            for entry in entries
            if self.suite in ("", entry.id.env_id)
            and self.type in ("", entry.task_type)
            and self.outcome in ("", entry.outcome)
            and self.with_seed in ("", str(entry.id.seed))
            and (not text or text in f"{entry.id.task_id}\n{entry.instruction}\n{entry.stop_reason}".casefold())
        ]


class _Viewer:
    def __init__(self, index: RunIndex) -> None:
        self._index = index

    # -- pages ------------------------------------------------------------------------------

    def episodes(self, request: Request) -> Response:
        wanted, start = _Filter.read(request), _integer(request, "start", 0)
        entries = self._index.refresh()
        kept = wanted.keep(entries)
        start = max(0, min(start, len(kept) - 1)) // _PER_PAGE * _PER_PAGE
        shown = kept[start : start + _PER_PAGE]
        won = sum(entry.outcome == "won" for entry in kept)
        counted = f"{len(kept):,} of {len(entries):,} episodes" if wanted.chosen() else f"{len(entries):,} episodes"
        body = [
            element("h1", f"Run {self._index.folder.resolve().name}"),
            element("p", f"{counted}, {won:,} won", class_="quiet"),
            *self._notes(),
            _filter_form(wanted, entries),
            element("main", _episode_table(shown, wanted) if shown else element("p", _nothing(entries))),
            _pages(wanted, start, len(kept)),
            _keys("list"),
        ]
        return _html(f"Run {self._index.folder.resolve().name}", body)

    def episode(self, request: Request) -> Response:
        wanted = _Filter.read(request)
        entries = self._index.refresh()
        entry = _find(request, entries)
        kept = wanted.keep(entries)
        place = next((i for i, other in enumerate(kept) if other.id == entry.id), None)
        before = kept[place - 1] if place else None
        after = kept[place + 1] if place is not None and place + 1 < len(kept) else None
        trajectory = None
        try:
            trajectory = self._index.trajectory(entry)
        except CorruptData as error:
            raise HTTPException(500, str(error)) from error
        except MissingData as error:
            turns = element("p", _sentence(error), class_="note")
        else:
            prompts = episode_address(entry.id, path="/turn", more=wanted.chosen()) + "&turn="
            turns = turns_html(trajectory, prompt_address=prompts)
        links = [
            element("a", "All episodes", href=make_address("/", wanted.chosen()), rel="up"),
            *([_episode_link(before, wanted, "← Previous", rel="prev")] if before else []),
            *([_episode_link(after, wanted, "Next →", rel="next")] if after else []),
        ]
        counted = "" if place is None else element("span", f"{place + 1:,} of {len(kept):,}", class_="quiet push")
        has_tokens = trajectory is not None and any(
            isinstance(turn, dict) and turn.get("tokens") for turn in trajectory["turns"]
        )
        body = [
            element("nav", *links, counted, class_="bar", aria_label="Episodes"),
            element("h1", short(entry.instruction, 300) or entry.id.task_id),
            _facts(entry),
            *([TOKEN_LEGEND] if has_tokens else []),
            element("main", turns),
            element("nav", *links, class_="bar", aria_label="Episodes, again"),
            _keys("episode"),
        ]
        return _html(entry.id.task_id, body)

    def turn(self, request: Request) -> Response:
        entry = _find(request, self._index.refresh())
        wanted, i = _Filter.read(request), _integer(request, "turn", 0)
        try:
            turns = self._index.trajectory(entry)["turns"]
        except CorruptData as error:
            raise HTTPException(500, str(error)) from error
        except MissingData as error:
            raise HTTPException(404, _sentence(error)) from error
        if not 1 <= i <= len(turns) or not isinstance(turns[i - 1], dict):
            raise HTTPException(404, f"There is no turn {i} in this episode: it has {len(turns)}, from 1.")
        back = episode_address(entry.id, more=wanted.chosen()) + f"#t{i}"
        body = [
            element(
                "nav", element("a", "Back to the episode", href=back, rel="up"), class_="bar", aria_label="Way back"
            ),
            element("h1", f"Prompt of turn {i}"),
            element("p", entry.id.task_id, class_="quiet"),
            element("main", prompt_html(turns[i - 1].get("messages") or "There is none.")),
        ]
        return _html(f"Prompt {i}, {entry.id.task_id}", body)

    def _notes(self) -> list[Html]:
        return [element("p", note, class_="note") for note in self._index.notes]


# -- parts of pages -------------------------------------------------------------------------


def _filter_form(wanted: _Filter, entries: Sequence[EpisodeEntry]) -> Html:
    suites = sorted({entry.id.env_id for entry in entries})
    types = sorted({entry.task_type for entry in entries if wanted.suite in ("", entry.id.env_id)})
    seeds = [str(seed) for seed in sorted({entry.id.seed for entry in entries})]
    text = Html(
        f'<input type="search" name="text" id="text" value="{escape(wanted.text)}" '
        'placeholder="task, instruction, end" size="24">'
    )
    return element(
        "form",
        _select("suite", "Suite", suites, wanted.suite),
        _select("type", "Task type", types, wanted.type),
        _select("outcome", "Outcome", _OUTCOMES, wanted.outcome),
        _select("with_seed", "Seed", seeds, wanted.with_seed),
        element("label", "Text", text),
        element("button", "Filter"),
        *([element("a", "Show all", href="/")] if wanted.chosen() else []),
        class_="bar",
        method="get",
        action="/",
        role="search",
    )


def _select(name: str, label: str, choices: Sequence[str], chosen: str) -> Html:
    # A choice that nothing has any more stays visible, or the list would be filtered by something unseen.
    listed = [*choices, *([chosen] if chosen and chosen not in choices else [])]
    options = [element("option", "all", value="")]
    options += [element("option", c, value=c, selected="selected" if c == chosen else None) for c in listed]
    return element("label", label, element("select", *options, name=name))


def _episode_table(entries: Sequence[EpisodeEntry], wanted: _Filter) -> Html:
    rows = []
    for entry in entries:
        facts = entry.facts
        tokens = [facts[name] for name in ("prompt_tokens", "completion_tokens") if _is_number(facts.get(name))]
        rows.append(
            (
                _episode_link(entry, wanted, entry.id.task_id),
                outcome_tag(entry.outcome),
                short(entry.instruction, 90),
                entry.task_type,
                entry.stop_reason,
                f"{entry.score:.3f}",
                _cell(facts.get("steps"), ",.0f"),
                _cell(facts.get("invalid_actions"), ",.0f"),
                _cell(sum(tokens) if tokens else None, ",.0f"),
                _cell(facts.get("seconds"), ",.2f"),
                str(entry.id.seed),
            )
        )
    head = ("task", "outcome", "instruction", "type", "end", "score", "steps", "invalid", "tokens", "seconds", "seed")
    return table(head, rows, words=5, caption="Episodes in order of completion", class_="list")


def _facts(entry: EpisodeEntry) -> Html:
    facts = entry.facts
    counted = [
        f"{label} {number(facts[name])}"
        for name, label in (
            ("steps", "steps"),
            ("invalid_actions", "invalid"),
            ("prompt_tokens", "prompt tokens"),
            ("completion_tokens", "completion tokens"),
            ("cost", "cost"),
            ("seconds", "seconds"),
        )
        if _is_number(facts.get(name))
    ]
    attempt = f", attempt {entry.id.attempt}" if entry.id.attempt > 1 else ""
    copy = f", copy {entry.id.copy}" if entry.id.copy else ""
    lines = [
        element(
            "p",
            outcome_tag(entry.outcome),
            f" score {entry.score:.3f} · {entry.stop_reason}",
            *(f" · {count}" for count in counted),
        ),
        element(
            "p",
            f"{entry.id.env_id} · {entry.id.task_id} · {entry.task_type} · seed {entry.id.seed}{attempt}{copy}",
            class_="quiet",
        ),
    ]
    error = facts.get("error")
    if isinstance(error, dict):
        lines.append(element("p", f"{error.get('type', 'error')}: {error.get('message', '')}", class_="note"))
    return Html("".join(lines))


def _episode_link(entry: EpisodeEntry, wanted: _Filter, label: str, rel: str | None = None) -> Html:
    return element("a", label, href=episode_address(entry.id, more=wanted.chosen()), rel=rel)


def _pages(wanted: _Filter, start: int, count: int) -> Html:
    if count <= _PER_PAGE:
        return Html()
    chosen = wanted.chosen()
    links: list[str] = []
    if start:
        there = [*chosen, ("start", str(start - _PER_PAGE))]
        links.append(element("a", "← Previous page", href=make_address("/", there), rel="prev"))
    if start + _PER_PAGE < count:
        there = [*chosen, ("start", str(start + _PER_PAGE))]
        links.append(element("a", "Next page →", href=make_address("/", there), rel="next"))
    shown = f"{start + 1:,} to {min(start + _PER_PAGE, count):,} of {count:,}"
    return element("nav", *links, element("span", shown, class_="quiet push"), class_="bar", aria_label="Pages")


def _keys(place: str) -> Html:
    keys = {
        "list": (("j", "k", "next, previous episode in the list"), ("→", "←", "next, previous page")),
        "episode": (("j", "k", "next, previous turn"), ("→", "←", "next, previous episode")),
    }[place]
    parts = [part for a, b, what in keys for part in (element("kbd", a), " ", element("kbd", b), f" {what}; ")]
    more = (
        (element("kbd", "Enter"), " open the episode; ", element("kbd", "/"), " search; ")
        if place == "list"
        else (element("kbd", "p"), " unfold prompts; ", element("kbd", "u"), " all episodes; ")
    )
    return element("p", "Keys: ", *parts, *more, element("kbd", "r"), " reload.", class_="keys")


def _nothing(entries: Sequence[EpisodeEntry]) -> str:
    if entries:
        return "No episode is like that: choose less, or show all."
    return "No episode is finished yet: reload the page later."


# -- reading addresses ----------------------------------------------------------------------


def _find(request: Request, entries: Sequence[EpisodeEntry]) -> EpisodeEntry:
    wanted = EpisodeId(
        request.query_params.get("env", ""),
        request.query_params.get("task", ""),
        _integer(request, "seed", 0),
        _integer(request, "attempt", 1),
        _integer(request, "copy", 0),
    )
    for entry in entries:
        if entry.id == wanted:
            return entry
    raise HTTPException(
        404,
        f"This run has no episode of the task {short(wanted.task_id)!r} of {short(wanted.env_id)!r} with seed "
        f"{wanted.seed}, attempt {wanted.attempt}, so far.",
    )


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # int() would also take "1_0" and digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise HTTPException(400, f"{name} is {short(text)!r}; wanted a whole number.")
    return int(text)


# -- answering ------------------------------------------------------------------------------


def _html(title: str, body: Iterable[str], status: int = 200) -> Response:
    return _respond(page(title, *body, head=_HEAD), "text/html", status)


def _respond(content: str, media_type: str, status: int = 200) -> Response:
    return Response(content.encode(), status, _HEADERS, f"{media_type}; charset=utf-8")


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = [
        element("nav", element("a", "All episodes", href="/", rel="up"), class_="bar", aria_label="Way back"),
        element("h1", "This cannot be shown"),
        element("p", error.detail),
    ]
    return _html(f"{error.status_code}", body, error.status_code)


def _failure(request: Request, error: Exception) -> Response:
    return _refusal(request, HTTPException(500, "Something went wrong in the viewer; its terminal says what."))


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: object, form: str) -> str:
    return format(value, form) if _is_number(value) else ""
