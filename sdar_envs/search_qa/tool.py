"""The search tool of an environment: a retriever, and what to do when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Protocol, get_args

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.caching import CachingRetriever
from sdar_envs.search_qa.episode import Finding
from sdar_envs.search_qa.reference import ReferenceTool
from sdar_envs.search_qa.retrieval import RetrievalFailed, Retriever
from sdar_envs.storage import given_path

__all__ = ["ON_ERROR", "OnError", "RetrieverTool", "SearchTool", "ServerTool", "open_tool"]

_SCHEMES = ("http://", "https://")

OnError = Literal["raise", "observe", "truncate"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)


class SearchTool(Protocol):
    """Searches for an environment."""

    @property
    def engine(self) -> str:
        """What is searched, and by what."""
        ...

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Return what the search for each query gave.

        Raises:
            RetrievalFailed: the search failed, and failures are not to be shown.
        """
        ...


class RetrieverTool:
    """Asks a retriever, for all queries at once.

    Args:
        retriever: the search engine.
        topk: passages for a search.
        shows_failures: a failure is a finding and not an exception.
    """

    def __init__(self, retriever: Retriever, topk: int, *, shows_failures: bool) -> None:
        self.retriever = retriever
        self._topk = topk
        self._shows_failures = shows_failures

    @property
    def engine(self) -> str:
        """The retriever's fingerprint."""
        return self.retriever.fingerprint

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Search."""
        try:
            return [Finding(hits) for hits in self.retriever.search(queries, self._topk)]
        except RetrievalFailed as error:
            if not self._shows_failures:
                raise
            return [Finding(failure=str(error))] * len(queries)


class ServerTool:
    """Asks a server as the reference does, one query after the other.

    Args:
        tool: the reference's tool.
        shows_failures: a failure is what the model reads, as in the reference, and not an exception.
    """

    def __init__(self, tool: ReferenceTool, *, shows_failures: bool) -> None:
        self._tool = tool
        self._shows_failures = shows_failures

    @property
    def engine(self) -> str:
        """The address: the reference's tool asks for nothing else."""
        return self._tool.url

    def find(self, queries: Sequence[str]) -> list[Finding]:
        """Search."""
        findings = []
        for query in queries:
            said, has_failed = self._tool.say(query)
            if has_failed and not self._shows_failures:
                raise RetrievalFailed(
                    f"{self._tool.url}: {said}. on_error='observe' shows this to the model, as the reference does."
                )
            findings.append(Finding(said=said, failure=said if has_failed else ""))
        return findings


@lru_cache(maxsize=64)
def open_tool(
    where: str | tuple[str, ...] | Retriever, topk: int, seconds: float, *, as_reference: bool, shows_failures: bool
) -> SearchTool:
    """Return the search tool over an engine; equal arguments give the same object within a process.

    Args:
        where: `embedded`, the folder of an index, one address or several of a retrieval server, or a retriever.
        topk: passages for a search.
        seconds: for one search by a server, retries included; as the reference does it, for one attempt.
        as_reference: ask a server as the reference does.
        shows_failures: a failed search is a finding and not an exception.

    Raises:
        RetrievalFailed: the server cannot be reached.
        MissingData: there is no such index.
        CorruptData: the index is damaged.
        InvalidOption: several addresses, and one is none.
        ModuleNotFoundError: what the engine needs is not installed.
    """
    if as_reference and isinstance(where, str) and where.startswith(_SCHEMES):
        return ServerTool(ReferenceTool(where, topk, timeout=seconds), shows_failures=shows_failures)
    return RetrieverTool(_cached(where, seconds), topk, shows_failures=shows_failures)


@lru_cache(maxsize=16)
def _cached(where: str | tuple[str, ...] | Retriever, seconds: float) -> CachingRetriever:
    """Return an engine with a cache before it, whatever `topk` asks it."""
    opened = _open(where, seconds) if isinstance(where, (str, tuple)) else where
    return opened if isinstance(opened, CachingRetriever) else CachingRetriever(opened)


def _open(where: str | tuple[str, ...], seconds: float) -> Retriever:
    # Imported where they are used: an index needs no HTTP, and the other way round.
    if where == "embedded":
        from sdar_envs.search_qa.embedded import embedded_retriever  # noqa: PLC0415

        return embedded_retriever()
    addresses = (where,) if isinstance(where, str) else where
    if addresses and all(address.startswith(_SCHEMES) for address in addresses):
        from sdar_envs.search_qa.client import HttpRetriever  # noqa: PLC0415

        return HttpRetriever(addresses, deadline=seconds)
    if len(addresses) != 1:
        raise InvalidOption(f"retriever is {list(addresses)!r}; wanted addresses that begin with http:// or https://.")
    from sdar_envs.search_qa.index import open_index  # noqa: PLC0415

    return open_index(given_path(addresses[0]))
