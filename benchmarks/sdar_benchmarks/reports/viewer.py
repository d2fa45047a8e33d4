"""Web viewer of the episodes of an evaluation or a training run, `sdar view RUN`.

    serve_viewer(Path("runs/first"), port=3030)
    serve_viewer(Path("runs/first"), Path("runs/second"))           # with its episodes beside those of another run

A list with filters, a page per episode with all its turns, a page per long prompt, and one per pair of episodes. Pages
are made on request from the index and the trajectories that are shown; reloading shows what a running evaluation has
added. Everything works without the script, which only adds keyboard shortcuts. The server is `http.server`'s: no extra
is needed.

Addresses are looked up in the index and never used as paths, so only the run folder can be read. Errors are pages too:
episodes and turns that do not exist (404), malformed addresses (400), trajectories that cannot be read (500). Requests
whose Host header is not one of this machine's names are refused (400), unless others can reach the server
(`sdar_envs.http.hosts`).
"""

from __future__ import annotations

import io
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from sdar_benchmarks.analysis.turns import turn_facts
from sdar_benchmarks.records.schema import NUMBER
from sdar_benchmarks.records.trajectories import EpisodeEntry, EpisodeId, RunIndex
from sdar_benchmarks.reports.differences import Counterparts, ShownPair, aligned
from sdar_benchmarks.reports.episode_html import (
    episode_address,
    has_tokens,
    make_address,
    outcome_tag,
    prompt_of,
    sections_of,
)
from sdar_benchmarks.reports.markup import Cell, Link, Table, render, short, stylesheet
from sdar_benchmarks.reports.plot import number
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.http.hosts import hosts_of, is_served, listen, refusal_of, shown_address
from sdar_envs.printing import say

__all__ = ["ViewerServer", "serve_viewer"]

_PER_PAGE = 100
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_HEAD_SECONDS = 30.0  # for a request to arrive, since the connection or the answer before
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1d5c9e"/>'
    '<path d="M3 12L7 6L10 9L13 4" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)
_OUTCOMES = ("won", "lost", "error")

Query = Mapping[str, str]


def serve_viewer(
    folder: Path,
    other: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 3030,
    ready: Callable[[str], object] = print,
    progress: Callable[[int, int], object] | None = None,
    warn: Callable[[str], object] = lambda sentence: None,
) -> None:
    """Serve the episodes of a run until the process is interrupted.

    Args:
        folder: a run folder; the run may still be going on.
        other: folder of a run whose episodes are shown beside those of the same tasks.
        host: address to listen on.
        port: 0 for any free port.
        ready: called with the server's address as soon as it answers requests.
        progress: called with the bytes of trajectories read so far, and with all of them, while the index is built.
        warn: called with each sentence about what is left out, before `ready`.

    Raises:
        MissingData: the folder is no run.
        InvalidOption: nothing can listen there.
        KeyboardInterrupt: the process was interrupted; the server has been closed.
    """
    index, beside = RunIndex(folder), None if other is None else RunIndex(other)
    with ViewerServer(index, beside, host=host, port=port) as server:
        size = index.size
        index.refresh(None if progress is None else lambda done: progress(done, size))
        for sentence in index.notes:
            warn(sentence)
        if beside is not None:
            beside.refresh()
            for sentence in beside.notes:
                warn(f"{other}: {sentence}")
        ready(server.address)
        server.serve_forever()


class ViewerServer(ThreadingHTTPServer):
    """HTTP server of one run. A context manager; `serve_forever` answers requests until `shutdown`.

    Args:
        index: the run.
        other: a run whose episodes are shown beside those of the same tasks.
        host: address to listen on; if others than this machine can reach it, requests may name any host.
        port: 0 for any free port.

    Attributes:
        address: such as `http://127.0.0.1:3030/`.

    Raises:
        InvalidOption: nothing can listen there.
    """

    def __init__(
        self, index: RunIndex, other: RunIndex | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        listener = listen(host, port)
        # It would bind a socket of its own, and ask the DNS for this machine's name, which may take long.
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()
        self.pages = _Viewer(index, other)
        self.hosts = hosts_of(host, listener)
        self.address = shown_address(host, listener)


@dataclass(frozen=True, slots=True)
class _Answer:
    content: str
    media_type: str = "text/html"
    status: int = 200


class _Refusal(Exception):
    """A request that is answered with an error page."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"
    timeout = _HEAD_SECONDS
    # One write per answer: head and body would otherwise wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._input = _TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._input)

    def handle_one_request(self) -> None:
        self._input.restart()
        super().handle_one_request()

    def do_GET(self) -> None:
        hosts, names = self.server.hosts, self.headers.get_all("Host", [])
        name = names[0] if len(names) == 1 else ""
        try:
            if hosts is not None and not is_served(name, hosts):
                raise _Refusal(400, refusal_of(name, hosts))
            answer = self.server.pages.answer(self.path)
        except _Refusal as refusal:
            answer = _refusal(refusal)
        except Exception:
            say(traceback.format_exc(), error=True)
            answer = _refusal(_Refusal(500, "Something went wrong in the viewer; its terminal says what."))
        self._send(answer)

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._send(_refusal(_Refusal(code, message or HTTPStatus(code).phrase)))

    def _send(self, answer: _Answer) -> None:
        content = answer.content.encode()
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{answer.media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        return "sdar"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal free for errors."""


class _TimedReader(io.RawIOBase):
    """Input of a socket whose reads may take limited time together: each alone could take its time for ever."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.restart()

    def restart(self) -> None:
        self._deadline = time.monotonic() + _HEAD_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self._connection.settimeout(_HEAD_SECONDS)
        return count


@dataclass(frozen=True, slots=True)
class _Filter:
    """Filter of the list; empty values match all episodes."""

    environment: str = ""
    type: str = ""
    outcome: str = ""
    with_seed: str = ""
    step: str = ""
    group: str = ""
    text: str = ""

    @classmethod
    def read(cls, query: Query) -> _Filter:
        return cls(**{field.name: query.get(field.name, "").strip() for field in fields(cls)})

    def chosen(self) -> list[tuple[str, str]]:
        return [(field.name, value) for field in fields(self) if (value := getattr(self, field.name))]

    def keep(self, entries: Iterable[EpisodeEntry]) -> list[EpisodeEntry]:
        text = self.text.casefold()
        return [
            entry
            for entry in entries
            if self.environment in ("", entry.id.env_id)
            and self.type in ("", entry.task_type)
            and self.outcome in ("", entry.outcome)
            and self.with_seed in ("", str(entry.id.seed))
            and self.step in ("", str(entry.step))
            and self.group in ("", entry.group_id)
            and (not text or text in f"{entry.id.task_id}\n{entry.instruction}\n{entry.stop_reason}".casefold())
        ]


class _Viewer:
    def __init__(self, index: RunIndex, other: RunIndex | None = None) -> None:
        self._index = index
        self._other = other
        self._pages = {"/": self.episodes, "/episode": self.episode, "/turn": self.turn}
        if other is not None:
            self._pages["/difference"] = self.difference
        script = resources.files("sdar_benchmarks.reports").joinpath("view.js").read_text(encoding="utf-8")
        self._files = {
            "/view.css": _Answer(stylesheet(), "text/css"),
            "/view.js": _Answer(script, "text/javascript"),
            "/favicon.ico": _Answer(_ICON, "image/svg+xml"),
        }

    def answer(self, target: str) -> _Answer:
        """Return what a request for a path with a query gets.

        Raises:
            _Refusal: there is no such page, episode or turn, or it cannot be read.
        """
        try:
            address = urlsplit(target)
        except ValueError as error:
            raise _Refusal(400, f"The address is malformed: {error}.") from error
        if address.path in self._files:
            return self._files[address.path]
        if address.path not in self._pages:
            raise _Refusal(404, f"Not Found: there is no page {short(address.path)!r}.")
        return self._pages[address.path](dict(parse_qsl(address.query, keep_blank_values=True)))

    # -- pages ------------------------------------------------------------------------------

    def episodes(self, query: Query) -> _Answer:
        wanted, start = _Filter.read(query), _integer(query, "start", 0)
        entries = self._index.refresh()
        kept = wanted.keep(entries)
        start = max(0, min(start, len(kept) - 1)) // _PER_PAGE * _PER_PAGE
        shown = kept[start : start + _PER_PAGE]
        table = _episode_table(shown, wanted)
        if self._other is not None:
            others = Counterparts(self._other.refresh())
            links = [_difference_link(entry, others.of(entry), wanted) for entry in shown]
            table = _with_column(table, f"in {_name(self._other)}", links)
        won = sum(entry.outcome == "won" for entry in kept)
        counted = f"{len(kept):,} of {len(entries):,} episodes" if wanted.chosen() else f"{len(entries):,} episodes"
        return _page(
            "list.html",
            title=f"Run {self._index.folder.resolve().name}",
            counted=f"{counted}, {won:,} won",
            notes=self._index.notes,
            choices=_choices(wanted, entries),
            text=wanted.text,
            is_filtered=bool(wanted.chosen()),
            episodes=table,
            nothing=_nothing(entries),
            pages=_page_links(wanted, start, len(kept)),
            range=f"{start + 1:,} to {min(start + _PER_PAGE, len(kept)):,} of {len(kept):,}",
        )

    def episode(self, query: Query) -> _Answer:
        wanted = _Filter.read(query)
        entries = self._index.refresh()
        entry = _find(query, entries)
        kept = wanted.keep(entries)
        place = next((i for i, other in enumerate(kept) if other.id == entry.id), None)
        notes = []
        trajectory: Mapping[str, Any] = {"turns": []}
        try:
            trajectory = self._index.trajectory(entry)
        except CorruptData as error:
            raise _Refusal(500, str(error)) from error
        except MissingData as error:
            notes.append(_sentence(error))
        failure = entry.facts.get("error")
        if isinstance(failure, dict):
            notes.insert(0, f"{failure.get('type', 'error')}: {failure.get('message', '')}")
        prompts = episode_address(entry.id, path="/turn", more=wanted.chosen()) + "&turn="
        first = next((i for i, turn in enumerate(turn_facts(trajectory["turns"]), 1) if turn.is_failing), None)
        counterpart = None if self._other is None else Counterparts(self._other.refresh()).of(entry)
        return _page(
            "episode.html",
            title=entry.id.task_id,
            links=_neighbours(kept, place, wanted),
            place="" if place is None else f"{place + 1:,} of {len(kept):,}",
            heading=short(entry.instruction, 300) or entry.id.task_id,
            outcome=outcome_tag(entry.outcome),
            facts=_facts(entry, trajectory),
            identity=_identity(entry),
            group=_group_link(entry, entries),
            jump=None if first is None else Link(f"First failing turn: {first}", f"#t{first}"),
            diff=None
            if self._other is None or counterpart is None
            else Link(f"Beside the one of {_name(self._other)}", _difference_address(entry, wanted)),
            notes=notes,
            has_tokens=has_tokens(trajectory),
            sections=sections_of(trajectory, prompt_address=prompts),
        )

    def turn(self, query: Query) -> _Answer:
        entry = _find(query, self._index.refresh())
        wanted, i = _Filter.read(query), _integer(query, "turn", 0)
        try:
            turns = self._index.trajectory(entry)["turns"]
        except CorruptData as error:
            raise _Refusal(500, str(error)) from error
        except MissingData as error:
            raise _Refusal(404, _sentence(error)) from error
        if not 1 <= i <= len(turns) or not isinstance(turns[i - 1], dict):
            raise _Refusal(404, f"There is no turn {i} in this episode: it has {len(turns)}, from 1.")
        return _page(
            "turn.html",
            title=f"Prompt {i}, {entry.id.task_id}",
            back=episode_address(entry.id, more=wanted.chosen()) + f"#t{i}",
            turn=i,
            task_id=entry.id.task_id,
            prompt=prompt_of(turns[i - 1]),
        )

    def difference(self, query: Query) -> _Answer:
        assert self._other is not None
        entry, wanted = _find(query, self._index.refresh()), _Filter.read(query)
        counterpart = Counterparts(self._other.refresh()).of(entry)
        if counterpart is None:
            raise _Refusal(404, f"{_name(self._other)} has no episode of the task {short(entry.id.task_id)!r}.")
        both = ((self._index, entry), (self._other, counterpart))
        try:
            left, right = (index.trajectory(each) for index, each in both)
        except CorruptData as error:
            raise _Refusal(500, str(error)) from error
        except MissingData as error:
            raise _Refusal(404, _sentence(error)) from error
        pairs = aligned(left["turns"], right["turns"])
        first = next((i for i, pair in enumerate(pairs, 1) if not pair.is_same), None)
        alike = "All actions are the same." if first is None else f"The first {first - 1} actions are the same."
        is_same_seed = counterpart.id.seed == entry.id.seed
        return _page(
            "difference.html",
            title=f"{entry.id.task_id}, two runs",
            back=Link("Back to the episode", episode_address(entry.id, more=wanted.chosen()), "up"),
            heading=short(entry.instruction, 300) or entry.id.task_id,
            identity=_identity(entry),
            notes=[] if is_same_seed else [f"The other run played this task with the seed {counterpart.id.seed}."],
            summary=alike if first != 1 else "They differ from the first action on.",
            jump=None if first is None else Link("First difference", f"#d{first}"),
            sides=[
                (_name(index), outcome_tag(each.outcome), _facts(each, trajectory))
                for (index, each), trajectory in zip(both, (left, right), strict=True)
            ],
            pairs=[ShownPair.of(pair) for pair in pairs],
        )


# -- two runs -------------------------------------------------------------------------------


def _name(index: RunIndex) -> str:
    return index.folder.resolve().name


def _difference_address(entry: EpisodeEntry, wanted: _Filter) -> str:
    return episode_address(entry.id, path="/difference", more=wanted.chosen())


def _difference_link(entry: EpisodeEntry, counterpart: EpisodeEntry | None, wanted: _Filter) -> Cell:
    return "–" if counterpart is None else Link(counterpart.outcome, _difference_address(entry, wanted))


def _with_column(table: Table, head: str, cells: Sequence[Cell]) -> Table:
    """Return a table with one more column, after the outcome."""
    rows = [(*row[:2], cell, *row[2:]) for row, cell in zip(table.rows, cells, strict=True)]
    return replace(table, head=(*table.head[:2], head, *table.head[2:]), rows=rows, words=table.words + 1)


# -- parts of pages -------------------------------------------------------------------------


class _Choice(NamedTuple):
    """A field of the filter form; the first option, which is not listed, is all."""

    name: str
    label: str
    options: Sequence[str]
    chosen: str


def _choices(wanted: _Filter, entries: Sequence[EpisodeEntry]) -> list[_Choice]:
    fields = [
        ("environment", "Environment", sorted({entry.id.env_id for entry in entries})),
        ("type", "Task type", sorted({e.task_type for e in entries if wanted.environment in ("", e.id.env_id)})),
        ("outcome", "Outcome", list(_OUTCOMES)),
        ("with_seed", "Seed", [str(seed) for seed in sorted({entry.id.seed for entry in entries})]),
    ]
    if any(entry.step is not None for entry in entries):
        # Seeds of a training run tell nothing: each episode has its own.
        steps = sorted({entry.step for entry in entries if entry.step is not None})
        fields[-1] = ("step", "Step", [str(step) for step in steps])
        fields.append(("group", "Group", list(dict.fromkeys(entry.group_id for entry in entries if entry.group_id))))
    choices = []
    for name, label, options in fields:
        chosen = getattr(wanted, name)
        # A value that no episode has any more stays listed, or the filter would be invisible.
        choices.append(_Choice(name, label, [*options, *([chosen] if chosen not in ("", *options) else [])], chosen))
    return choices


def _episode_table(entries: Sequence[EpisodeEntry], wanted: _Filter) -> Table:
    is_training = any(entry.step is not None for entry in entries)
    has_advantages = any(entry.advantage is not None for entry in entries)
    rows: list[Sequence[Cell]] = []
    for entry in entries:
        facts = entry.facts
        tokens = [facts[name] for name in ("prompt_tokens", "completion_tokens") if _is_number(facts.get(name))]
        row: list[Cell] = [
            _episode_link(entry, wanted, entry.id.task_id),
            outcome_tag(entry.outcome),
            short(entry.instruction, 90),
            entry.task_type,
            entry.stop_reason,
        ]
        if is_training:
            row += [short(entry.group_id, 40), f"{entry.score:.3f}", _cell(entry.step, ",.0f")]
            row += [_cell(entry.advantage, "+.3f")] if has_advantages else []
        else:
            row += [f"{entry.score:.3f}", _cell(facts.get("steps"), ",.0f")]
            row += [_cell(facts.get(name), ",.0f") for name in ("malformed_answers", "invalid_actions")]
            row += [_cell(sum(tokens) if tokens else None, ",.0f"), _cell(facts.get("seconds"), ",.2f")]
        rows.append([*row, str(entry.id.seed)])
    common = ("task", "outcome", "instruction", "type", "end")
    training = ("group", "score", "step", *(["advantage"] if has_advantages else []), "seed")
    evaluation = ("score", "steps", "malformed", "invalid", "tokens", "seconds", "seed")
    return Table(
        (*common, *(training if is_training else evaluation)),
        rows,
        caption="Episodes in order of completion",
        words=6 if is_training else 5,
        class_="list",
    )


def _facts(entry: EpisodeEntry, trajectory: Mapping[str, Any]) -> list[str]:
    counted = [
        f"{label} {number(entry.facts[name])}"
        for name, label in (
            ("steps", "steps"),
            ("malformed_answers", "malformed"),
            ("invalid_actions", "invalid"),
            ("unusable_turns", "malformed or invalid"),
            ("prompt_tokens", "prompt tokens"),
            ("completion_tokens", "completion tokens"),
            ("cost", "cost"),
            ("seconds", "seconds"),
        )
        if _is_number(entry.facts.get(name))
    ]
    if entry.step is not None:
        rewards = [turn["reward"] for turn in trajectory["turns"] if isinstance(turn, dict) and "reward" in turn]
        counted.append(f"return {number(sum(filter(_is_number, rewards)))}")
    if entry.advantage is not None:
        counted.append(f"advantage {entry.advantage:+.3f}")
    return [f"score {entry.score:.3f}", entry.stop_reason, *counted]


def _identity(entry: EpisodeEntry) -> str:
    parts = [entry.id.env_id, entry.id.task_id, entry.task_type, f"seed {entry.id.seed}"]
    parts += [f"attempt {entry.id.attempt}"] if entry.id.attempt > 1 else []
    parts += [f"copy {entry.id.copy}"] if entry.id.copy else []
    parts += [f"step {entry.step}"] if entry.step is not None else []
    return " · ".join(parts)


def _group_link(entry: EpisodeEntry, entries: Sequence[EpisodeEntry]) -> Link | None:
    """Return a link to the list of the episode's group; None outside of training runs."""
    if not entry.group_id:
        return None
    members = [other for other in entries if other.group_id == entry.group_id]
    won = sum(other.outcome == "won" for other in members)
    text = f"Group {entry.group_id}: {len(members)} episodes, {won} won"
    return Link(text, make_address("/", [("group", entry.group_id)]))


def _neighbours(kept: Sequence[EpisodeEntry], place: int | None, wanted: _Filter) -> list[Link]:
    links = [Link("All episodes", make_address("/", wanted.chosen()), "up")]
    if place:
        links.append(_episode_link(kept[place - 1], wanted, "← Previous", "prev"))
    if place is not None and place + 1 < len(kept):
        links.append(_episode_link(kept[place + 1], wanted, "Next →", "next"))
    return links


def _episode_link(entry: EpisodeEntry, wanted: _Filter, label: str, rel: str | None = None) -> Link:
    return Link(label, episode_address(entry.id, more=wanted.chosen()), rel)


def _page_links(wanted: _Filter, start: int, count: int) -> list[Link]:
    links = []
    for text, there, rel in (
        ("← Previous page", start - _PER_PAGE, "prev"),
        ("Next page →", start + _PER_PAGE, "next"),
    ):
        if 0 <= there < count:
            links.append(Link(text, make_address("/", [*wanted.chosen(), ("start", str(there))]), rel))
    return links


def _nothing(entries: Sequence[EpisodeEntry]) -> str:
    if entries:
        return "No episode is like that: choose less, or show all."
    return "No episode is finished yet: reload the page later."


# -- reading addresses ----------------------------------------------------------------------


def _find(query: Query, entries: Sequence[EpisodeEntry]) -> EpisodeEntry:
    wanted = EpisodeId(
        query.get("env", ""),
        query.get("task", ""),
        _integer(query, "seed", 0),
        _integer(query, "attempt", 1),
        _integer(query, "copy", 0),
    )
    for entry in entries:
        if entry.id == wanted:
            return entry
    raise _Refusal(
        404,
        f"This run has no episode of the task {short(wanted.task_id)!r} of {short(wanted.env_id)!r} with seed "
        f"{wanted.seed}, attempt {wanted.attempt}, so far.",
    )


def _integer(query: Query, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    # int() would also take "1_0" and digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise _Refusal(400, f"{name} is {short(text)!r}; wanted a whole number.")
    return int(text)


# -- answering ------------------------------------------------------------------------------


def _page(template: str, *, status: int = 200, **values: Any) -> _Answer:
    return _Answer(render(template, **values), status=status)


def _refusal(refusal: _Refusal) -> _Answer:
    return _page("refusal.html", status=refusal.status, title=str(refusal.status), reason=str(refusal))


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _is_number(value: object) -> bool:
    return NUMBER.accepts(value)


def _cell(value: object, form: str) -> str:
    return format(value, form) if _is_number(value) else ""
