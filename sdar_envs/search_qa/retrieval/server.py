"""Retrieval server over HTTP, compatible with the clients of Search-R1, verl, SDAR and verl-agent.

    serve_retriever(retriever, port=8000)

POST /retrieve speaks both dialects of the field (see `sdar_envs.search_qa.retrieval.client`): a body with `queries`
gets a list for each query, any other must have `query` and gets one. GET /health says what is served. Status, result,
and type and place of each error in a 422 body are those of the two original servers, except for these departures:

- Both dialects on one path: each original refuses (422) what the other understands. A body with both keys is
  answered for `queries`; SDAR's server answers it for `query`. A body with neither lacks `query`; Search-R1's server
  says `queries`.
- `return_scores=false`, which is also the default, gives bare documents in both dialects. Search-R1's server fails
  (500), or, for exactly two queries, answers with the documents of the first alone.
- There are limits, with an answer that names them: bytes of a body, passages in an answer (413), queries in a request,
  passages for a query (422). The originals have none, and fail on a negative `topk`.
- A body whose type is not given is no JSON: a page of a foreign site could send it from a visitor's browser. 422 bodies
  do not repeat the input. A failure is JSON too.

Searches run in one thread outside the event loop. Requests that arrive while a search runs are batched into the next
one, so that a thousand clients with one query each cost a few calls of the engine; at rest a request waits for nothing.
Long answers are encoded outside the event loop too, a query at a time, so that /health always answers.
"""

from __future__ import annotations

import asyncio
import json
import platform
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.serving import serve
from sdar_envs.importing import extra_imports
from sdar_envs.search_qa.retrieval.retriever import Hit, RetrievalFailed, Retriever

with extra_imports("server", purpose="the retrieval server"):
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["create_app", "serve_retriever"]

_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})
_INTEGER = re.compile(r"([+-]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?")
_LONGEST_INTEGER = 4_300
_MAX_PASSAGES = 1 << 18  # more than the 256 queries with 1,000 passages each that our client sends at most
_ENCODED_AT_ONCE = 1_000  # passages: some milliseconds


def create_app(
    retriever: Retriever,
    *,
    default_topk: int = 3,
    max_topk: int = 1_000,
    max_queries: int = 10_000,
    max_bytes: int = 1 << 23,
    max_passages: int = _MAX_PASSAGES,
    passages: int | None = None,
) -> Starlette:
    """Return the server as a Starlette application.

    Args:
        retriever: the search engine.
        default_topk: passages for a query where the request does not say.
        max_topk: passages for a query, at most.
        max_queries: queries in one request, at most.
        max_bytes: of a request's body.
        max_passages: in one answer, that is queries times passages for a query; also in one call of the engine, unless
            a single request asks for more.
        passages: in the corpus, only told at /health; by default the retriever's `passage_count`, if it has one.

    Raises:
        InvalidOption: a limit is not a positive integer, or contradicts another.
    """
    limits = {
        "default_topk": default_topk,
        "max_topk": max_topk,
        "max_queries": max_queries,
        "max_bytes": max_bytes,
        "max_passages": max_passages,
    }
    for name, value in limits.items():
        if not is_integer(value) or value < 1:
            raise InvalidOption(f"{name} is {value!r}; wanted an integer of at least 1.")
    if default_topk > max_topk:
        raise InvalidOption(f"default_topk is {default_topk}, more than max_topk={max_topk}: lower it or raise that.")
    if max_topk > max_passages:
        raise InvalidOption(f"max_topk is {max_topk}, more than max_passages={max_passages}: lower it or raise that.")
    batcher = _Batcher(retriever, max_passages)
    health = {
        "status": "ok",
        "engine": retriever.fingerprint,
        "passages": getattr(retriever, "passage_count", None) if passages is None else passages,
        "topk": default_topk,
        "dialects": ["queries", "query"],
        "versions": {"sdar-envs": version("sdar-envs"), "python": platform.python_version()},
    }

    async def answer_health(_: Request) -> Response:
        return _json(health)

    async def retrieve(request: Request) -> Response:
        content = _parse(await _body(request, max_bytes), request.headers.get("content-type"))
        asked = _read(content, max_topk, max_queries)
        k = asked.k or default_topk
        _check_size(len(asked.queries), k, max_passages)
        found = await batcher.search(asked.queries, k)
        if sum(map(len, found)) <= _ENCODED_AT_ONCE:
            return _encoded(found, asked.with_scores)
        return await asyncio.to_thread(_encoded, found, asked.with_scores)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            batcher.close()

    return Starlette(
        routes=[Route("/retrieve", retrieve, methods=["POST"]), Route("/health", answer_health)],
        exception_handlers={
            _Unprocessable: _answer_unprocessable,
            RetrievalFailed: _answer_unavailable,
            HTTPException: _answer_refusal,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_failure,
        },
        lifespan=lifespan,
    )


def serve_retriever(
    retriever: Retriever,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], object] = print,
    topk: int = 3,
    passages: int | None = None,
    token_env: str | None = None,
) -> None:
    """Serve a retriever until the process is interrupted.

    Args:
        retriever: the search engine.
        host: the address to listen on.
        port: 0 for any free one.
        ready: called with the address to post to as soon as it answers.
        topk: passages for a query where the request does not say.
        passages: in the corpus, only told at /health; by default the retriever's `passage_count`, if it has one.
        token_env: the environment variable with a token that each request must send, as `Authorization: Bearer ...`;
            None for no access control.

    Raises:
        InvalidOption: nothing can listen there, `topk` is out of range, or the variable holds no token.
        KeyboardInterrupt: the process was interrupted; the server has been closed.
    """
    app = create_app(retriever, default_topk=topk, passages=passages)
    serve(app, host=host, port=port, token_env=token_env, ready=lambda address: ready(f"{address}retrieve"))


# -- searching outside the event loop ----------------------------------------------------------------


class _Waiting:
    """A request's queries, and later its hits or what went wrong."""

    def __init__(self, queries: Sequence[str], k: int) -> None:
        self.queries = queries
        self.k = k
        self.done = asyncio.get_running_loop().create_future()
        self.outcome: list[tuple[Hit, ...]] | Exception = RetrievalFailed("the server is being stopped")


class _Batcher:
    """Gathers what is asked while a search runs into the next search, up to a number of passages."""

    def __init__(self, retriever: Retriever, max_passages: int = _MAX_PASSAGES) -> None:
        self._retriever = retriever
        self._max_passages = max_passages
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sdar-search")
        self._queue: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        waiting = _Waiting(queries, k)
        self._queue.append(waiting)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        await waiting.done
        if isinstance(waiting.outcome, Exception):
            raise waiting.outcome
        return waiting.outcome

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch = self._next_batch()
                try:
                    await loop.run_in_executor(self._thread, self._search_all, batch)
                finally:
                    for waiting in batch:
                        if not waiting.done.done():  # its client may have gone
                            waiting.done.set_result(None)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        passages = 0
        while self._queue:
            passages += len(self._queue[0].queries) * self._queue[0].k
            if batch and passages > self._max_passages:
                break
            batch.append(self._queue.popleft())
        return batch

    def _search_all(self, batch: Sequence[_Waiting]) -> None:
        # Not one search for the largest k: an engine that approximates may rank the first few differently for it.
        for k in dict.fromkeys(waiting.k for waiting in batch):
            self._search([waiting for waiting in batch if waiting.k == k], k)

    def _search(self, batch: Sequence[_Waiting], k: int) -> None:
        try:
            queries = list(dict.fromkeys(query for waiting in batch for query in waiting.queries))
            found = dict(zip(queries, self._retriever.search(queries, k) if queries else [], strict=True))
            for waiting in batch:
                waiting.outcome = [found[query] for query in waiting.queries]
        except RetrievalFailed as error:
            for waiting in batch:
                waiting.outcome = error
        except Exception as error:
            if len(batch) == 1:
                batch[0].outcome = error
                return
            # A query that breaks the engine must not break the searches of others.
            for waiting in batch:
                self._search([waiting], k)


# -- reading requests -----------------------------------------------------------------------------


class _Asked(NamedTuple):
    queries: Sequence[str]
    k: int
    with_scores: bool


class _Problem(NamedTuple):
    """One entry of a 422 body."""

    type: str
    loc: tuple[str | int, ...]
    msg: str


class _Unprocessable(Exception):
    def __init__(self, *problems: _Problem) -> None:
        super().__init__(problems)
        self.problems = problems


async def _body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: it is too long. That is answered at once, before it is read; the server goes on to receive and
            drop what comes of it, for a client that cannot finish sending would not see the answer.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
        raise _too_long(f"{int(declared):,}", max_bytes)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise _too_long(f"more than {max_bytes:,}", max_bytes)
    return bytes(body)


def _too_long(size: str, max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The body has {size} bytes; this server takes {max_bytes:,}: send fewer queries.")


def _check_size(queries: int, k: int, max_passages: int = _MAX_PASSAGES) -> None:
    """Refuse a request whose answer would be too long.

    Raises:
        HTTPException: it would.
    """
    if queries * k > max_passages:
        raise HTTPException(
            413,
            f"{queries:,} queries with {k:,} passages each are {queries * k:,} passages; this server gives "
            f"{max_passages:,} in an answer: send fewer queries, or a smaller topk.",
        )


def _parse(body: bytes, content_type: str | None) -> Any:
    if not body:
        raise _Unprocessable(_Problem("missing", ("body",), "Wanted a JSON object."))
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        message = "Wanted a JSON object, with the header Content-Type: application/json."
        raise _Unprocessable(_Problem("model_attributes_type", ("body",), message))
    try:
        return parse_json(body)
    except json.JSONDecodeError as error:
        raise _Unprocessable(_Problem("json_invalid", ("body", error.pos), f"This is not JSON: {error}.")) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body cannot be read as JSON in UTF-8.") from error


def _read(content: Any, max_topk: int, max_queries: int) -> _Asked:
    """Read a request, with the leniency of the original servers.

    Raises:
        _Unprocessable: something is missing or of a wrong type; all that is wrong is told at once.
    """
    if not isinstance(content, dict):
        raise _Unprocessable(_Problem("model_attributes_type", ("body",), "Wanted a JSON object."))
    problems: list[_Problem] = []
    queries = _queries(content, max_queries, problems)
    k = _topk(content.get("topk"), max_topk, problems)
    with_scores = _flag(content.get("return_scores", False), problems)
    if problems:
        raise _Unprocessable(*problems)
    return _Asked(queries, k, with_scores)


def _queries(content: dict[str, Any], max_queries: int, problems: list[_Problem]) -> list[str]:
    if "queries" not in content:
        if "query" not in content:
            problems.append(_Problem("missing", ("body", "query"), "Wanted `queries`, or `query`."))
        elif not isinstance(content["query"], str):
            problems.append(_Problem("string_type", ("body", "query"), "Wanted a string."))
        return [content.get("query", "")]
    queries: Any = content["queries"]
    place = ("body", "queries")
    if not isinstance(queries, list):
        problems.append(_Problem("list_type", place, "Wanted a list of strings; `query` takes a single one."))
        return []
    if len(queries) > max_queries:
        message = f"{len(queries):,} queries; this server takes {max_queries:,} in a request: send several."
        problems.append(_Problem("too_long", place, message))
        return []
    for number, query in enumerate(queries):
        if not isinstance(query, str):
            problems.append(_Problem("string_type", (*place, number), "Wanted a string."))
    return queries


def _topk(value: Any, max_topk: int, problems: list[_Problem]) -> int:
    """Return the number of passages; 0 for the default."""
    place = ("body", "topk")
    wanted = f"Wanted an integer from 1 to {max_topk:,}, or null or 0 for the default."
    if value is None:
        return 0
    if isinstance(value, str):
        match = _INTEGER.fullmatch(value.strip())
        if match is None or len(value) > _LONGEST_INTEGER:
            problems.append(_Problem("int_parsing", place, wanted))
            return 0
        value = int(match[1])
    if isinstance(value, float) and not value.is_integer():
        problems.append(_Problem("int_from_float", place, wanted))
    elif not isinstance(value, (int, float)):
        problems.append(_Problem("int_type", place, wanted))
    elif value < 0:
        problems.append(_Problem("greater_than_equal", place, wanted))
    elif value > max_topk:
        problems.append(_Problem("less_than_equal", place, wanted))
    else:
        return int(value)
    return 0


def _flag(value: Any, problems: list[_Problem]) -> bool:
    """Read true or false from what the original servers take for it."""
    place = ("body", "return_scores")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(int(value)) if isinstance(value, int) else value
    if not isinstance(text, str):
        problems.append(_Problem("bool_type", place, "Wanted true or false."))
    elif text.lower() in _TRUE:
        return True
    elif text.lower() not in _FALSE:
        problems.append(_Problem("bool_parsing", place, "Wanted true or false."))
    return False


# -- answering ------------------------------------------------------------------------------------


def _item(hit: Hit, with_score: bool) -> dict[str, Any]:
    document = {"id": hit.passage.id, "contents": hit.passage.contents}
    if not with_score:
        return document
    return {"document": document} if hit.score is None else {"document": document, "score": hit.score}


def _encoded(found: Sequence[Sequence[Hit]], with_scores: bool) -> Response:
    # One query at a time: the encoder of the standard library lets no other thread run.
    lists = (_dumps([_item(hit, with_scores) for hit in hits]) for hits in found)
    text = f'{{"result":[{",".join(lists)}]}}'
    return Response(text.encode("ascii"), media_type="application/json")


def _json(content: Any, status: int = 200) -> Response:
    return Response(_dumps(content).encode("ascii"), status, media_type="application/json")


def _dumps(content: Any) -> str:
    # ASCII: a passage can hold halves of surrogate pairs, which UTF-8 has no bytes for.
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _answer_unprocessable(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Unprocessable)
    return _json({"detail": [problem._asdict() for problem in error.problems]}, 422)


def _answer_unavailable(_: Request, error: Exception) -> Response:
    return _json({"detail": f"The engine of this server failed: {error}"}, 503)


def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json({"detail": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _answer_nobody(_: Request, error: Exception) -> Response:
    return _json({"detail": "The client has gone."}, 400)


def _answer_failure(_: Request, error: Exception) -> Response:
    return _json({"detail": "The search failed; the operator's terminal says why."}, 500)
