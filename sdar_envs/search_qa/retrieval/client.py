r"""HTTP client of retrieval servers, for both request formats in use (Search-R1's and SDAR's).

    retriever = HttpRetriever("http://127.0.0.1:8000/retrieve")
    retriever.search(["capital of Peru", "highest point of Peru"], 3)

Both kinds answer POST /retrieve, and refuse each other's requests (status 422):

    dialect    request                                                    servers of
    queries    {"queries": ["a", "b"], "topk": 3, "return_scores": true}  Search-R1, verl, FlashRAG, this package
    query      {"query": "a", "topk": 3, "return_scores": true}           SDAR, verl-agent, this package

Both answer `{"result": [[item, ...], ...]}`, one inner list for each query. An item is
`{"document": ..., "score": ...}`, with or without a score, or the bare document; a document has `id` and `contents`, or
`id`, `title` and `text`. Where a document has no id (online search), its id is made of the SHA-256 of its
contents. Of a server that ignores `topk` and sends more, the first `topk` count.

What cannot be repaired by asking again is not asked again. A server that is gone, too slow or overloaded is, until
`retries` or `deadline` is used up. What is not a result (HTML, JSON of another shape, a list too many) raises
`RetrievalFailed` with the address, the status and the beginning of the body: nothing of it ever becomes a passage.

A query of blanks finds nothing and is not sent, because some servers fail on it. Halves of surrogate pairs, which UTF-8
has no bytes for, are sent as U+FFFD.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, did_you_mean
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import Deadline, RetriesExhausted, RetryPolicy
from sdar_envs.http.transport import NoResponse, Response, Transport, exchange_with_retries
from sdar_envs.search_qa.retrieval.engines.engine import check_request
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed
from sdar_envs.secrets import bearer_header, is_secret_name, redact

__all__ = ["Dialect", "HttpRetriever"]

Dialect = Literal["queries", "query"]

_DIALECTS: tuple[Dialect, ...] = ("queries", "query")
_START_HINT = "`sdar serve retriever` starts one"
_PROBE = "water"  # a word: some engines fail on a query without one
_REFUSALS = frozenset({400, 422})
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_MAX_BYTES = 1 << 28
_LARGEST_SCORE = sys.float_info.max  # JSON can hold larger numbers, and Python's reads NaN


class HttpRetriever:
    """Retriever that queries one or several HTTP servers. Threads may share it; it pickles and survives a fork.

    Args:
        url: the server's address, such as `http://127.0.0.1:8000/retrieve` (without a path, `/retrieve` is meant), or
            several of servers with the same corpus, engine and dialect: batches are spread over them, and what one
            fails to answer the next is asked.
        dialect: `queries`, `query`, or `auto`: find out.
        timeout: seconds for one answer, from connecting to its last byte.
        deadline: seconds for one `search`, all retries included.
        retries: how often a request is sent again, at most.
        connections: requests of batches under way at once, at most.
        batch_size: queries in one request, at most; in the dialect `query` it is always one.
        headers: sent with every request.
        token_env: the environment variable with the servers' token, sent as `Authorization: Bearer ...`; None for
            servers that want none.
        seed: of the random share of the pauses between retries; None for any.

    Raises:
        RetrievalFailed: no retrieval server answers there. Each is asked for `/health`, if it has that, and one query.
        InvalidOption: an argument is out of range.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        dialect: Dialect | Literal["auto"] = "auto",
        timeout: float = 60.0,
        deadline: float = 120.0,
        retries: int = 8,
        connections: int = 16,
        batch_size: int = 256,
        headers: Mapping[str, str] | None = None,
        token_env: str | None = None,
        seed: int | None = None,
    ) -> None:
        if dialect not in ("auto", *_DIALECTS):
            raise InvalidOption(
                f"dialect is {dialect!r}; wanted 'auto', 'queries' or 'query'.{did_you_mean(dialect, _DIALECTS)}"
            )
        self._timeout = _seconds("timeout", timeout)
        self._deadline = _seconds("deadline", deadline)
        self._policy = RetryPolicy(
            _count("retries", retries, 0), _FIRST_PAUSE, _LONGEST_PAUSE, longest_retry_after=self._deadline
        )
        self._connections = _count("connections", connections, 1)
        self._batch_size = _count("batch_size", batch_size, 1)
        self._seed = seed
        headers = dict(headers or {}) | ({} if token_env is None else bearer_header(token_env))
        self._servers = [Transport(address, headers=headers, max_bytes=_MAX_BYTES) for address in _addresses(url)]
        self._open()
        self._dialect, self._fingerprint = self._find_out(dialect)

    @property
    def fingerprint(self) -> str:
        """Engine and corpus as the servers report them at `/health`; else the servers' addresses."""
        return self._fingerprint

    @property
    def dialect(self) -> Dialect:
        """The dialect that the servers speak."""
        return self._dialect

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query, best first; see `Retriever`.

        Raises:
            RetrievalFailed: no server could be reached in time, or one answered something else than a result.
            InvalidOption: the queries are not a list of texts, or `k` is not a positive integer.
        """
        check_request(queries, k)
        found: list[tuple[Hit, ...]] = [()] * len(queries)
        parts = self._parts([number for number, query in enumerate(queries) if query.strip()])
        answers = self._ask_all(
            [_Request([queries[number] for number in part], int(k), self._dialect) for part in parts]
        )
        for part, answer in zip(parts, answers, strict=True):
            for number, hits in zip(part, answer, strict=True):
                found[number] = hits
        return found

    def close(self) -> None:
        """Close the connections and end the threads. The retriever can still be used, and opens new ones then."""
        self._pool.shutdown(cancel_futures=True)
        self._open()
        for server in self._servers:
            server.close()

    # -- many requests ------------------------------------------------------------------------

    def _parts(self, numbers: Sequence[int]) -> list[Sequence[int]]:
        """Split a batch into requests of about one size: at least one for each server, if there are so many queries."""
        count = len(numbers)
        if self._dialect == "queries":
            count = max(math.ceil(count / self._batch_size), min(count, len(self._servers)))
        return [numbers[len(numbers) * i // count : len(numbers) * (i + 1) // count] for i in range(count)]

    def _ask_all(self, batch: Sequence[_Request]) -> list[list[tuple[Hit, ...]]]:
        """Send requests, several at once; the first that fails ends all."""
        if self._process != os.getpid():
            self._open()  # a fork takes no threads along, and its pauses must be its own
        search = _Search(self._deadline)
        if len(batch) <= 1:
            return [self._ask(request, self._servers_in_turn(), search) for request in batch]
        futures = [self._pool.submit(self._ask, request, self._servers_in_turn(), search) for request in batch]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        finally:
            search.has_failed.set()
            for future in futures:
                future.cancel()

    def _servers_in_turn(self) -> Iterator[Transport]:
        """Yield the servers again and again, beginning with the one whose turn it is."""
        start = next(self._turns) % len(self._servers)
        return itertools.islice(itertools.cycle(self._servers), start, None)

    def _open(self) -> None:
        """Make what no other process can share."""
        self._pool = ThreadPoolExecutor(self._connections, thread_name_prefix="sdar-retrieval")
        self._turns = itertools.count()
        self._random = random.Random(self._seed)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pool", "_turns", "_random", "_process")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    # -- one request, again and again -----------------------------------------------------------

    def _ask(self, request: _Request, servers: Iterator[Transport], search: _Search) -> list[tuple[Hit, ...]]:
        """Ask one server after the other until there is an answer, and read it."""
        body = request.body()

        def send() -> Response:
            server = next(servers)
            # A deadline that has passed leaves no time at all, not a negative one.
            seconds = max(min(self._timeout, search.deadline.left()), 0.0)
            return server.exchange("POST", server.url, body, seconds=seconds)

        try:
            response = exchange_with_retries(
                send, self._policy.start(search.deadline, self._random.random), search.wait
            )
        except NoResponse as error:
            if error.is_lasting:
                raise RetrievalFailed(f"{error}. Asking again would not help.") from error
            raise RetrievalFailed(
                f"{error}. Is the server running, and fast enough? {_START_HINT}; timeout=, deadline= and retries= say "
                "how long to wait."
            ) from error
        if response.status == 200:
            return _read(response, request)
        if response.status in _REFUSALS:
            raise _Refused(_refusal(response, request))
        raise RetrievalFailed(f"{response.url} {response.describe()}. {_advice(response.status)}")

    # -- finding out --------------------------------------------------------------------------

    def _find_out(self, dialect: Dialect | Literal["auto"]) -> tuple[Dialect, str]:
        """Return what all servers have in common: the dialect, and the fingerprint."""
        engines = [self._engine(server) for server in self._servers]
        dialects = [self._probe(server, dialect) for server in self._servers]
        for what, values in (("dialect", dialects), ("engine or corpus", engines)):
            if len(set(values)) > 1:
                said = ", ".join(f"{server.url}: {value}" for server, value in zip(self._servers, values, strict=True))
                raise RetrievalFailed(f"the servers differ in {what} ({said}): give addresses of equal servers.")
        return dialects[0], engines[0] or " ".join(server.url for server in self._servers)

    def _engine(self, server: Transport) -> str:
        """Return what a server says about engine and corpus at /health; nothing if it says nothing.

        Raises:
            RetrievalFailed: the server cannot be reached. Not retried: a mistyped address should fail at once.
        """
        try:
            health = server.exchange("GET", urljoin(server.url, "health"), seconds=min(self._timeout, self._deadline))
            return redact(str(parse_json(health.body)["engine"])) if health.status == 200 else ""
        except NoResponse as error:
            raise RetrievalFailed(f"{error}. Is a retrieval server running there? {_START_HINT}.") from error
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""  # a server of another make

    def _probe(self, server: Transport, dialect: Dialect | Literal["auto"]) -> Dialect:
        """Send a query in each dialect until the server understands; return that dialect."""
        refusals = []
        for name in _DIALECTS if dialect == "auto" else (dialect,):
            try:
                self._ask(_Request([_PROBE], 1, name), itertools.repeat(server), _Search(self._deadline))
            except _Refused as refused:
                refusals.append(refused)
            else:
                return name
        raise RetrievalFailed(" ".join(str(refused) for refused in refusals)) from refusals[-1]


class _Search:
    """What the requests of one search share: a deadline, and whether one of them has failed."""

    def __init__(self, seconds: float) -> None:
        self.deadline = Deadline(seconds)
        self.has_failed = Event()

    def wait(self, pause: float) -> None:
        if self.has_failed.wait(pause):
            raise RetriesExhausted("another request of the same search has failed")


class _Refused(RetrievalFailed):
    """The server understands the request's form, and not what is in it."""


# -- what is sent and what comes back ---------------------------------------------------------------


class _Request(NamedTuple):
    """Some queries in one request."""

    queries: Sequence[str]
    k: int
    dialect: Dialect

    def body(self) -> bytes:
        texts = [_sendable(query) for query in self.queries]
        asked: dict[str, object] = {"queries": texts} if self.dialect == "queries" else {"query": texts[0]}
        return json.dumps({**asked, "topk": self.k, "return_scores": True}, ensure_ascii=False).encode()


def _sendable(text: str) -> str:
    """Return the text with halves of surrogate pairs joined or replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _read(response: Response, request: _Request) -> list[tuple[Hit, ...]]:
    """Return the hits for each query of the request."""
    try:
        return _hits(parse_json(response.body), len(request.queries), request.k)
    except (ValueError, RecursionError) as error:
        problem = "it is not JSON" if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) else str(error)
        raise RetrievalFailed(
            f"{response.url} {response.describe()}. That is not a search result: {problem}. Is it a retrieval "
            "server, and is the address right?"
        ) from error


def _hits(content: Any, count: int, k: int) -> list[tuple[Hit, ...]]:
    if not isinstance(content, dict) or not isinstance(content.get("result"), list):
        raise ValueError('wanted {"result": [[...], ...]}')
    lists = content["result"]
    if len(lists) != count:
        raise ValueError(f"{len(lists)} lists for {count} queries")
    for found in lists:
        if not isinstance(found, list):
            raise ValueError(f"wanted a list for each query, one is {_brief(found)}")
    return [tuple(_hit(item) for item in found[:k]) for found in lists]


def _hit(item: Any) -> Hit:
    """Read an item: a document with a score, without one, or bare."""
    document = item.get("document", item) if isinstance(item, dict) else item
    if not isinstance(document, dict):
        raise ValueError(f"wanted documents, one is {_brief(document)}")
    contents = document.get("contents")
    if contents is None and isinstance(document.get("title"), str) and isinstance(document.get("text"), str):
        contents = f'"{document["title"].strip().strip(chr(34))}"\n{document["text"]}'
    if not isinstance(contents, str):
        raise ValueError(f"wanted documents with contents, or title and text, one is {_brief(document)}")
    passage_id = document.get("id")
    if passage_id is None:
        passage_id = f"sha256-{hashlib.sha256(contents.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    if not isinstance(passage_id, str) and not is_integer(passage_id):
        raise ValueError(f"the id of a document is {_brief(passage_id)}")
    score = item.get("score")
    if score is not None and (isinstance(score, (bool, str, list, dict)) or not abs(score) <= _LARGEST_SCORE):
        raise ValueError(f"a score is {_brief(score)}")
    return Hit(Passage(redact(str(passage_id)), redact(contents)), None if score is None else float(score))


# -- what errors say ------------------------------------------------------------------------------


def _refusal(response: Response, request: _Request) -> str:
    return (
        f"{response.url} refuses a request in the dialect {request.dialect!r}: it {response.describe()}. "
        "dialect='auto' finds out which one the server speaks."
    )


def _advice(status: int) -> str:
    return {
        401: "token_env= names the environment variable with the server's token.",
        403: "token_env= names the environment variable with the server's token.",
        413: "A smaller batch_size= makes smaller requests.",
    }.get(status, "Is the address right? Retrieval servers answer to POST, most at /retrieve.")


def _brief(value: object) -> str:
    return redact(repr(value)[:8_000])[:80]


# -- arguments ------------------------------------------------------------------------------------


def _addresses(url: object) -> list[str]:
    urls = [url] if isinstance(url, str) else list(url) if isinstance(url, Sequence) else []
    if not urls:
        raise InvalidOption(f"url is {url!r}; wanted an address such as 'http://127.0.0.1:8000/retrieve', or several.")
    return [_address(each) for each in urls]


def _address(url: object) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        # A host that has no such form would fail at the first request, with an error of another kind.
        is_good = parts.scheme in ("http", "https") and bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise InvalidOption(f"url is {url!r}; wanted an address such as 'http://127.0.0.1:8000/retrieve'.")
    if parts.username is not None or parts.password is not None:
        raise InvalidOption(
            f"the url of {parts.hostname} holds a user's name: it would be shown in every error. Put it into headers=."
        )
    if any(is_secret_name(name) for name, _ in parse_qsl(parts.query)):
        raise InvalidOption(
            f"the url of {parts.hostname} holds a key: it would be shown in every error. Put it into an environment "
            "variable, and give the variable's name as token_env=."
        )
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/retrieve", fragment=""))


def _seconds(name: str, value: float) -> float:
    if isinstance(value, (bool, str)) or not (math.isfinite(value) and value > 0):
        raise InvalidOption(f"{name} is {value!r}; wanted seconds, more than 0.")
    return float(value)


def _count(name: str, value: int, least: int) -> int:
    if not is_integer(value) or value < least:
        raise InvalidOption(f"{name} is {value!r}; wanted an integer of at least {least}.")
    return int(value)
