"""Search tool of the reference implementation (SDAR, verl-agent), for `compat="sdar"`.

It knows one dialect, tries ten times with pauses of 1 to 9 s, and gives every failure to the model as if it were a
passage. That is kept on purpose, so this is the one HTTP client here without `sdar_envs.http.retries`. Use
`sdar_envs.search_qa.retrieval.client` for anything else.

Source: the search tool of `skyrl_gym` in SDAR and verl-agent.
"""

from __future__ import annotations

import time
import uuid
from functools import lru_cache
from typing import Any

from sdar_envs.importing import extra_imports
from sdar_envs.search_qa.blocks import listed

with extra_imports("client", purpose="a retrieval server"):
    import requests

__all__ = ["ReferenceTool"]

_ATTEMPTS = 10
_PASSING = frozenset({500, 502, 503, 504})


class ReferenceTool:
    """Search tool of the reference: asks a server of the `query` dialect; a failure is a text for the model.

    Args:
        url: the full address of the server's search, such as `http://127.0.0.1:8000/retrieve`.
        topk: passages for a search.
        timeout: seconds for one attempt.
        pause: seconds after the first failed attempt; after the n-th, n times as long.
    """

    def __init__(self, url: str, topk: int = 3, *, timeout: float = 60.0, pause: float = 1.0) -> None:
        self.url = url
        self.topk = topk
        self._timeout = timeout
        self._pause = pause
        self._session = _session(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.url, self.topk, self._timeout, self._pause)

    def say(self, query: str) -> tuple[str, bool]:
        """Search for a query.

        Returns:
            The text for the model, and whether it is a failure.
        """
        response, failure = self._ask(query)
        if failure is not None:
            return f"Search error: {failure}", True
        if not response:
            return "Unknown API state (no response and no error message).", True
        # The text of any exception below is shown to the model, so the code has to fail as the reference's does.
        try:
            found = response.get("result", [])
            if not found:
                return "No search results found.", False
            parts = [listed([item["document"]["contents"] for item in items]) for items in found]
            return "\n---\n".join(parts), False
        except Exception as error:
            return f"Error processing search results: {error}", True

    def _ask(self, query: str) -> tuple[Any, str | None]:
        """Return the server's JSON, or what the reference says went wrong."""
        mark = f"[Search Request ID: {uuid.uuid4()}] "
        body = {"query": query, "topk": self.topk, "return_scores": True}
        failure = ""
        for attempt in range(1, _ATTEMPTS + 1):
            if attempt > 1:
                time.sleep(self._pause * (attempt - 1))
            try:
                response = self._session.post(self.url, json=body, timeout=self._timeout)
                if response.status_code in _PASSING:
                    failure = (
                        f"API Request Error: Server Error ({response.status_code}) on attempt {attempt}/{_ATTEMPTS}"
                    )
                    continue
                response.raise_for_status()
                return response.json(), None
            except requests.exceptions.ConnectionError as error:
                failure = f"Connection Error: {error}"
            except requests.exceptions.Timeout as error:
                failure = f"Timeout Error: {error}"
            except requests.exceptions.RequestException as error:
                return None, f"{mark}API Request Error: {error}"
        return None, mark + failure


def _rebuild(url: str, topk: int, timeout: float, pause: float) -> ReferenceTool:
    return ReferenceTool(url, topk, timeout=timeout, pause=pause)


@lru_cache(maxsize=64)
def _session(url: str) -> requests.Session:
    """Return the connections of an address, shared by all environments of the process."""
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=64, pool_maxsize=512)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
