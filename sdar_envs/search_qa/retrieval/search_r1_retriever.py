"""Retriever of Search-R1, for `compat="search-r1"` with a server.

One POST asks for all queries of a turn, empty ones included. Whatever the server gives is shown, also more passages
than were asked for, and its status is never looked at. It is not asked again. Where Search-R1 ends with an exception of
Python (an answer that is no JSON, has no `result`, a list too many or a passage without text), this raises
`RetrievalFailed`. Use `sdar_envs.search_qa.retrieval.client` for anything else.

Source: `batch_search` and `_passages2string` in Search-R1's `generation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdar_envs.importing import extra_imports
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed

with extra_imports("client", purpose="a retrieval server"):
    import requests

__all__ = ["SearchR1Retriever"]

_SHOWN = 200


class SearchR1Retriever:
    """Retriever of Search-R1: asks a server of the `queries` dialect once for all queries of a turn.

    Args:
        url: the full address of the server's search, such as `http://127.0.0.1:8000/retrieve`.
        timeout: seconds for the answer. Search-R1 waits for ever.
    """

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        self.url = url
        self._timeout = timeout

    @property
    def fingerprint(self) -> str:
        """The server's address: it is asked for nothing else."""
        return self.url

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return what the server gives for each query.

        Raises:
            RetrievalFailed: it cannot be reached, or answers what Search-R1 fails on.
        """
        body = {"queries": list(queries), "topk": k, "return_scores": True}
        try:
            response = requests.post(self.url, json=body, timeout=self._timeout)
        except requests.exceptions.RequestException as error:
            raise RetrievalFailed(f"{self.url} cannot be asked ({error}). Is the server running?") from error
        try:
            found = response.json()["result"]
            if len(found) != len(queries):
                raise ValueError(f"{len(found)} lists for {len(queries)} queries")
            return [tuple(map(_hit, items)) for items in found]
        except (ValueError, LookupError, TypeError) as error:
            raise RetrievalFailed(
                f"{self.url} answered with status {response.status_code} and {response.text[:_SHOWN]!r}, which "
                f"Search-R1 cannot read either ({type(error).__name__}: {error}). Does it speak the dialect `queries`?"
            ) from error


def _hit(item: Any) -> Hit:
    document = item["document"]
    contents = document["contents"]
    if not isinstance(contents, str):
        raise TypeError(f"contents is {contents!r:.80}, no text")
    return Hit(Passage(str(document.get("id", "")), contents), item.get("score"))
