"""Search tool of Search-QA environments: opens the engine that `retriever=` names, searches, handles failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast, get_args
from weakref import WeakValueDictionary

from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_named, is_import_path
from sdar_envs.search_qa.embedded import embedded_retriever
from sdar_envs.search_qa.retrieval.caching import CachingRetriever
from sdar_envs.search_qa.retrieval.index import open_index
from sdar_envs.search_qa.retrieval.retriever import RetrievalFailed, Retriever
from sdar_envs.search_qa.session import Behaviour, Finding
from sdar_envs.storage import given_path

if TYPE_CHECKING:
    from sdar_envs.search_qa.retrieval.reference_tool import ReferenceTool

__all__ = ["ON_ERROR", "NoSearch", "OnError", "RetrieverTool", "SearchTool", "ServerTool", "open_tool"]

OnError = Literal["raise", "observe", "truncate"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)

_MOST_THREADS = 256  # as the reference has


class SearchTool(Protocol):
    """Protocol of the search tool of an environment."""

    @property
    def fingerprint(self) -> str:
        """Identifies corpus and engine, as far as they are known."""
        ...

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Return the result of the search for each query.

        Raises:
            RetrievalFailed: the search failed, and failures are not to be shown.
        """
        ...


class RetrieverTool:
    """Search tool over a retriever: one call for all queries.

    Args:
        retriever: the search engine.
        topk: passages for a search.
        shows_failures: return failures as findings instead of raising them.
    """

    def __init__(self, retriever: Retriever, topk: int, *, shows_failures: bool) -> None:
        self.retriever = retriever
        self._topk = topk
        self._shows_failures = shows_failures

    @property
    def fingerprint(self) -> str:
        """The retriever's fingerprint."""
        return self.retriever.fingerprint

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Return the hits of each query; see `SearchTool.find`."""
        try:
            return [Finding(hits) for hits in self.retriever.search(queries, self._topk)]
        except RetrievalFailed as error:
            if not self._shows_failures:
                raise
            return [Finding(failure=str(error))] * len(queries)


class ServerTool:
    """Search tool of the reference over a server: one request per query, those of a batch at once.

    Args:
        tool: the reference's tool.
        shows_failures: return failures as findings, which the model reads as in the reference, instead of raising.
    """

    def __init__(self, tool: ReferenceTool, *, shows_failures: bool) -> None:
        self._tool = tool
        self._shows_failures = shows_failures

    @property
    def fingerprint(self) -> str:
        """The server's address: the reference asks it for nothing else."""
        return self._tool.url

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Return the server's text for each query; see `SearchTool.find`."""
        if len(queries) <= 1:
            return [self._find(query) for query in queries]
        with ThreadPoolExecutor(min(len(queries), _MOST_THREADS), thread_name_prefix="sdar-search") as pool:
            futures = [pool.submit(self._find, query) for query in queries]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def _find(self, query: str) -> Finding:
        said, has_failed = self._tool.say(query)
        if has_failed and not self._shows_failures:
            raise RetrievalFailed(
                f"{self._tool.url}: {said}. on_error='observe' shows this to the model, as the reference does."
            )
        return Finding(said=said, failure=said if has_failed else "")


class NoSearch:
    """Search tool that finds nothing and says so, for playing closed-book."""

    fingerprint = "off"

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Return a note for each query; see `SearchTool.find`."""
        return [Finding(failure="searching is off, answer from memory")] * len(queries)


class _Place(NamedTuple):
    """Where an environment searches.

    Attributes:
        key: equal for the same index, the same addresses, the same object.
        addresses: of the servers; none if it is something else.
        open: opens it, given the seconds for one search by a server.
    """

    key: Hashable
    addresses: tuple[str, ...]
    open: Callable[[float], Retriever]


# Weak: an engine lives as long as an environment searches with it.
_tools: WeakValueDictionary[Hashable, SearchTool] = WeakValueDictionary()
_retrievers: WeakValueDictionary[Hashable, CachingRetriever] = WeakValueDictionary()


def open_tool(
    where: object,
    topk: int,
    seconds: float,
    *,
    behaviour: Behaviour = "fixed",
    shows_failures: bool,
    token_env: str | None = None,
) -> SearchTool:
    """Return the search tool over an engine.

    Environments of a process that search in the same place share the tool and, whatever their `topk`, the engine and
    what it has found. The same place is the same index (unless it was rebuilt), address, or object.

    Args:
        where: `embedded` (the corpus `facts`), `off`, the folder of an index, one address or several of a retrieval
            server, `module:name` of a retriever or of what makes one, or a retriever.
        topk: passages for a search.
        seconds: for one search by a server, retries included; as the reference does it, for one attempt.
        behaviour: ask a server as the reference (`sdar`) or Search-R1 does, or as this package does (`fixed`).
        shows_failures: return failed searches as findings instead of raising.
        token_env: the environment variable with the servers' token; None if they want none.

    Raises:
        RetrievalFailed: the server cannot be reached.
        MissingData: there is no such index.
        CorruptData: the index is damaged.
        InvalidOption: `where` is none of these, one of the originals is to ask several servers, or a token is given for
            what is no server, or for one that an original asks.
        UnknownName: `module:name` names nothing.
        MissingExtra: what the engine needs is not installed.
    """
    if isinstance(where, str) and where == "off":
        if token_env is not None:
            raise InvalidOption("token_env is for retrieval servers, and retriever is 'off': leave it out.")
        return _tools.setdefault("off", NoSearch())
    place = _place(where)
    if token_env is not None:
        if not place.addresses or behaviour != "fixed":
            raise InvalidOption(
                "token_env is for retrieval servers (retriever='http://...') and compat='fixed'; the originals send no "
                "token: leave it out."
            )
        place = _Place((place.key, token_env), place.addresses, partial(_open_servers, place.addresses, token_env))
    as_original = behaviour != "fixed" and place.addresses != ()
    if as_original and len(place.addresses) > 1:
        raise InvalidOption(
            f"retriever is {list(place.addresses)!r}, but with compat={behaviour!r} an environment asks one server: "
            "give each its own address, as the reference does."
        )
    # Another thread may make the same meanwhile: the first that is done counts.
    key = (place.key, topk, seconds, behaviour if as_original else "fixed", shows_failures)
    tool = _tools.get(key)
    if tool is None:
        if as_original and behaviour == "search-r1":
            # Needs the extra `client`, which no other search does.
            from sdar_envs.search_qa.retrieval.search_r1_retriever import SearchR1Retriever  # noqa: PLC0415

            server = SearchR1Retriever(place.addresses[0], timeout=seconds)
            tool = _tools.setdefault(key, RetrieverTool(server, topk, shows_failures=shows_failures))
        elif as_original:
            # Needs the extra `client`, which no other search does.
            from sdar_envs.search_qa.retrieval.reference_tool import ReferenceTool  # noqa: PLC0415

            reference = ReferenceTool(place.addresses[0], topk, timeout=seconds)
            tool = _tools.setdefault(key, ServerTool(reference, shows_failures=shows_failures))
        else:
            retriever = _retriever(place, seconds)
            tool = _tools.setdefault(key, RetrieverTool(retriever, topk, shows_failures=shows_failures))
    return tool


def _retriever(place: _Place, seconds: float) -> CachingRetriever:
    """Return the engine of a place behind a cache."""
    retriever = _retrievers.get((place.key, seconds))
    if retriever is None:
        opened = place.open(seconds)
        cached = opened if isinstance(opened, CachingRetriever) else CachingRetriever(opened)
        retriever = _retrievers.setdefault((place.key, seconds), cached)
    return retriever


def _place(where: object) -> _Place:
    if isinstance(where, str) and not _is_address(where):
        return _named_place(where)
    if isinstance(where, str | list | tuple):
        addresses = (where,) if isinstance(where, str) else tuple(where)
        if not addresses or not all(map(_is_address, addresses)):
            raise InvalidOption(f"retriever is {where!r}; wanted addresses that begin with http:// or https://.")
        return _Place(addresses, addresses, partial(_open_servers, addresses, None))
    if _is_retriever(where):
        # The tool under this key holds the object, so no other object can have its id.
        return _Place(id(where), (), lambda _: cast("Retriever", where))
    raise InvalidOption(
        f"retriever is {where!r:.200}; wanted 'embedded', the folder of an index, the address of a server or "
        "module:name as str, a list of addresses, or an object with `fingerprint` and `search`."
    )


def _named_place(name: str) -> _Place:
    if name == "embedded":
        return _Place(name, (), lambda _: embedded_retriever())
    path = given_path(name)
    try:
        # The folder may hold another index than before.
        state = (path / "index.json").stat()
    except OSError:
        if re.fullmatch(r"[\w.-]+:\d+(/.*)?", name):
            raise InvalidOption(
                f"retriever is {name!r}; if it is a server's address, wanted 'http://{name}'."
            ) from None
        if is_import_path(name) and not re.search(r"[/\\]", name):
            return _Place(("module", name), (), partial(_import_retriever, name))
        return _Place(path, (), lambda _: open_index(path))  # opening it says what is wrong
    return _Place((path, state.st_ino, state.st_mtime_ns, state.st_size), (), lambda _: open_index(path))


def _is_address(text: object) -> bool:
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def _is_retriever(found: object) -> bool:
    return (
        not isinstance(found, type)
        and isinstance(getattr(found, "fingerprint", None), str)
        and callable(getattr(found, "search", None))
    )


def _import_retriever(name: str, _: float) -> Retriever:
    """Return the retriever that `module:name` is, or that it returns when it is called."""
    found = import_named(name, what="a retriever")
    if not _is_retriever(found) and callable(found):
        found = found()
    if not _is_retriever(found):
        raise InvalidOption(
            f"retriever is {name!r}, which gives {found!r:.200}; wanted an object with `fingerprint` and `search`, or "
            "a class or function that returns one when it is called without arguments."
        )
    return cast("Retriever", found)


def _open_servers(addresses: tuple[str, ...], token_env: str | None, seconds: float) -> Retriever:
    # Needs the extra `client`, which no other search does.
    from sdar_envs.search_qa.retrieval.client import HttpRetriever  # noqa: PLC0415

    return HttpRetriever(addresses, deadline=seconds, token_env=token_env)
