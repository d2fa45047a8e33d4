"""The reference's habits, kept where `compat="sdar"` needs them: how it reads completions and asks its server.

Everything here is a defect on purpose. `project` takes a search that stands beside an answer, or inside a thought.
`ReferenceTool` knows one dialect, tries ten times with pauses of 1 to 9 s, and gives every failure to the model as if
it were a passage. Use `sdar_envs.prompt` and `sdar_envs.search_qa.retrieval.client` for anything else.

Source: `projection.py` and `skyrl_gym`'s search tool in SDAR and verl-agent.
"""

from __future__ import annotations

import dataclasses
import re
import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sdar_envs.prompt import STYLES, ParsedCompletion, PromptStyle, parse_completion
from sdar_envs.search_qa.blocks import listed

if TYPE_CHECKING:
    import requests

__all__ = ["STYLE", "ReferenceTool", "project", "tagged"]

_TAGS = ("search", "answer")
_OPENINGS = {tag: re.compile(f"<{tag}>", re.IGNORECASE) for tag in _TAGS}
_CLOSINGS = {tag: re.compile(f"</{tag}>", re.IGNORECASE) for tag in _TAGS}

_ATTEMPTS = 10
_PASSING = frozenset({500, 502, 503, 504})


def project(completion: str) -> ParsedCompletion:
    """Return the command that the reference reads from a completion; an empty one if it finds none.

    The text is cut after the first `</search>`, else after the first `</answer>` (in lower case only). Then the first
    search block counts, else the first answer block, in any case. The action is invalid, and carried out
    all the same, if the whole text has both tags or one of them twice.
    """
    cut = completion
    for end in ("</search>", "</answer>"):
        before, found, _ = completion.partition(end)
        if found:
            cut = before + found
            break
    action = ""
    for tag in _TAGS:
        # Not one pattern for both tags: on a text that only opens them it would take quadratic time.
        opening = _OPENINGS[tag].search(cut)
        closing = _CLOSINGS[tag].search(cut, opening.end()) if opening else None
        if opening and closing:
            action = f"{tag}[{cut[opening.end() : closing.start()].strip()}]"
            break
    openings = [len(pattern.findall(completion)) for pattern in _OPENINGS.values()]
    reasoning = parse_completion(completion, STYLES["search_qa"]).reasoning
    return ParsedCompletion(action, bool(action) and sum(openings) == 1, reasoning)


STYLE: PromptStyle = dataclasses.replace(STYLES["search_qa"], parse=project)
"""How completions are read where the reference is to be repeated."""


def tagged(command: str) -> str:
    """Return a command as the reference writes it: `<search>query</search>`; an empty text if it is none."""
    for tag in _TAGS:
        if command.startswith(f"{tag}[") and command.endswith("]"):
            return f"<{tag}>{command[len(tag) + 1 : -1]}</{tag}>"
    return ""


class ReferenceTool:
    """The reference's search tool: asks a server of the `query` dialect and says something in any case.

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
        # Found out now: a missing package is no failure of the server.
        self._session = _session(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.url, self.topk, self._timeout, self._pause)

    def say(self, query: str) -> tuple[str, bool]:
        """Search.

        Returns:
            What the model is shown, and whether that is a failure.
        """
        response, failure = self._ask(query)
        if failure is not None:
            return f"Search error: {failure}", True
        if not response:
            return "Unknown API state (no response and no error message).", True
        # Whatever goes wrong below is shown in Python's own words, so it goes wrong here just as it did there.
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
        import requests  # noqa: PLC0415

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
    try:
        import requests  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a retrieval server needs requests: pip install 'sdar-envs[client]'", name=error.name
        ) from error
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=64, pool_maxsize=512)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
