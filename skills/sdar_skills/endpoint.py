"""`EndpointProposer`: skills written by a model behind an OpenAI-compatible address (vLLM, SGLang, hosted ones).

What passes by itself (no connection, no answer in time, 429 and 5xx) is tried again, a bounded number of times; what
does not (a wrong key, model or address) is an error at once. The key comes from an environment variable, goes into
the `Authorization` header and nowhere else; redirects, which could carry it to another server, are refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_skills.proposers import ModelProposer, ProposalFailed

__all__ = ["EndpointProposer"]

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0
_SHOWN = 300


class EndpointProposer(ModelProposer):
    """Asks a model behind `<base_url>/chat/completions`.

    Args:
        base_url: the address up to `/v1`.
        model: its name, as the server knows it.
        api_key_env: the environment variable that holds the key; None for servers that want none.
        temperature: of the sampling.
        request_seconds: how long to wait for one answer.
        retries: how often to ask again for what passes by itself.
        backoff_seconds: the first wait; each following one is twice as long.
        settings: `max_skills` and the other numbers of `ModelProposer`.

    Raises:
        InvalidOption: an argument is out of range, or the variable is not set.
        ModuleNotFoundError: the extra `client` is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = "OPENAI_API_KEY",
        temperature: float = 0.0,
        request_seconds: float = 120.0,
        retries: int = 4,
        backoff_seconds: float = 1.0,
        **settings: int,
    ) -> None:
        try:
            import requests  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the endpoint proposer needs requests: pip install 'sdar-envs[client]'", name=error.name
            ) from error
        if not is_integer(retries) or retries < 0:
            raise InvalidOption(f"retries is {retries!r}; wanted a whole number from 0.")
        for name, value in (("request_seconds", request_seconds), ("backoff_seconds", backoff_seconds)):
            if not value > 0:
                raise InvalidOption(f"{name} is {value!r}; wanted seconds above 0.")
        address = _checked(base_url)
        key = "" if api_key_env is None else os.environ.get(api_key_env, "").strip()
        if api_key_env is not None:
            if not key:
                raise InvalidOption(
                    f"the environment variable {api_key_env} is not set: put the key there, or pass api_key_env=None "
                    "for a server that wants none."
                )
            if not key.isascii():
                raise InvalidOption(
                    f"the key in {api_key_env} has characters that no HTTP header can hold: set it again."
                )
        headers = {"Authorization": f"Bearer {key}"} if key else {}

        def chat(messages: Sequence[dict[str, str]]) -> str:
            body = {"model": model, "temperature": temperature, "messages": list(messages)}
            for retry in range(retries + 1):
                asked_for = 0.0
                try:
                    answer = requests.post(
                        address, json=body, headers=headers, timeout=request_seconds, allow_redirects=False
                    )
                except requests.RequestException as error:
                    problem = f"did not answer ({type(error).__name__})"
                else:
                    # A server may repeat the key in what it says; it must not get into a log.
                    said = (answer.text.replace(key, "[key]") if key else answer.text)[:_SHOWN]
                    problem = f"answered {answer.status_code} {said!r}"
                    if answer.status_code == requests.codes.ok:
                        content = _content(answer.text)
                        if content is None:
                            raise ProposalFailed(f"{address} answered no chat completion: {said!r}. Is it the address?")
                        return content
                    if answer.status_code not in _PASSING:
                        break
                    asked_for = _seconds(answer.headers.get("Retry-After", ""))
                if retry < retries:
                    time.sleep(min(max(asked_for, backoff_seconds * 2**retry), _LONGEST_WAIT))
            raise ProposalFailed(f"{address} {problem}. Check address, model and key, or try later.")

        super().__init__(chat, model, **settings)


def _checked(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        # What stands before an @ is a password, perhaps: it is not repeated.
        shown = base_url.rpartition("@")[2]
        raise InvalidOption(f"base_url is {shown!r}; wanted a bare address such as http://127.0.0.1:8000/v1.")
    return f"{base_url.rstrip('/')}/chat/completions"


def _content(body: str) -> str | None:
    """Return what the model says in the body of an answer; None if that is no chat completion."""
    try:
        content: Any = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _seconds(retry_after: str) -> float:
    """Return the seconds that a server asks to wait; 0 if it names none (or a date, which few do)."""
    return float(retry_after) if retry_after.isdecimal() else 0.0
