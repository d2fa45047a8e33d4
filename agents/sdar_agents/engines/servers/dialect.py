"""Dialects of OpenAI-compatible servers: what a server refuses of a request, and the form that it takes instead.

Servers differ in the names and the settings that they know. `Dialect` learns from their refusals, and `Adaptations`
records what was changed: nothing is changed without a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Adaptations", "Dialect", "Refused"]

_LEFT_OUT: Mapping[str, str] = {
    "seed": "no seed is sent, because the server refuses it: answers do not repeat",
    "stop": "no stop strings are sent, because the server refuses them; answers are read up to the first one",
    "stream_options": "no stream_options are sent, because the server refuses them: tokens may not be counted",
}
# Fewer tokens than this are no room for an answer.
_LEAST_ROOM = 256
_STATUSES = frozenset({400, 413, 422, 500})

_CONTEXT = re.compile(
    r"context[_ ](?:length|window|size)|(?:context|prompt|input|messages?)\b.{0,40}\btoo (?:long|large)|"
    r"maximum (?:model|sequence|input) length|reduce the length|must be <= \d",
    re.IGNORECASE,
)
_CONTEXT_CODE = re.compile(r"context_length_exceeded|exceed_context_size")
_CONTEXT_TOKENS = re.compile(r"(?:context (?:length|window|size) (?:is|of) (?:only )?|must be <= |n_ctx\D{1,4})(\d+)")
_PROMPT_TOKENS = re.compile(
    r"(\d+) (?:tokens )?(?:in the (?:messages|prompt)|(?:from the )?input (?:messages|tokens)|`inputs` tokens|"
    r"prompt tokens)"
)
_MOST_TOKENS = re.compile(
    r"at most (\d+) completion tokens|max_(?:completion_|new_)?tokens\b.{0,80}?"
    r"(?:less than or equal to|at most|<=|up to|\[\d+,)\W{0,3}(\d+)",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"support|permitted|allowed|unknown|unrecogni[sz]ed|unexpected|invalid|extra|must|should|only|cannot|requires?\b",
    re.IGNORECASE,
)


class Adaptations:
    """What a server made a client do, or did without being asked, by kind: said once each and counted."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._times: dict[str, int] = {}

    def add(self, kind: str, text: str) -> None:
        """Count one of a kind, said in the words of the first."""
        self._texts.setdefault(kind, text)
        self._times[kind] = self._times.get(kind, 0) + 1

    def to_json(self) -> list[dict[str, Any]]:
        """Return all of them, `{"kind": ..., "text": ..., "times": ...}`, in the order of their first times."""
        return [{"kind": kind, "text": text, "times": self._times[kind]} for kind, text in self._texts.items()]


@dataclass(frozen=True, slots=True)
class Refused:
    """A response that says that the request is at fault.

    Attributes:
        status: of the response.
        text: its body.
        problem: what is wrong, in a line.
        parameter: the setting at fault, as the server names it; empty if it names none.
    """

    status: int
    text: str
    problem: str
    parameter: str = ""

    @property
    def is_about_context(self) -> bool:
        """Whether prompt and answer are too long for the model."""
        return self.status in _STATUSES and bool(_CONTEXT.search(self.problem) or _CONTEXT_CODE.search(self.text))

    def room(self) -> int | None:
        """Return how many tokens the context leaves to an answer; None if the server does not say, or too few."""
        context, prompt = _CONTEXT_TOKENS.search(self.text), _PROMPT_TOKENS.search(self.text)
        room = int(context[1]) - int(prompt[1]) if context and prompt else 0
        return room if room >= _LEAST_ROOM else None

    def names(self, setting: str) -> bool:
        """Return whether the response says that this setting of the request is at fault."""
        if self.parameter:
            return re.split(r"[.\[]", self.parameter)[0] == setting
        return bool(re.search(rf"(?<![\w-]){re.escape(setting)}(?![\w-])", self.text)) and bool(
            _REFUSES.search(self.text)
        )


class Dialect:
    """The form of requests that a server takes, as far as it is known.

    Args:
        is_streamed: ask for streams.
        fixed: settings of the user's own, which are never left out.

    Attributes:
        adaptations: what was learnt.
    """

    def __init__(self, *, is_streamed: bool = False, fixed: Collection[str] = ()) -> None:
        self.adaptations = Adaptations()
        self._is_streamed = is_streamed
        self._fixed = frozenset(fixed)
        self._left_out: set[str] = set()
        self._has_new_limit = self._folds_system = False
        self._most_tokens: int | None = None

    def write(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request in this dialect."""
        if self._is_streamed:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        written = {name: value for name, value in body.items() if name not in self._left_out}
        if self._most_tokens is not None and written.get("max_tokens", 0) > self._most_tokens:
            written["max_tokens"] = self._most_tokens
        if self._has_new_limit and "max_tokens" in written:
            written["max_completion_tokens"] = written.pop("max_tokens")
        if self._folds_system:
            written["messages"] = _folded(written["messages"])
        return written

    def learn(self, refused: Refused, body: Mapping[str, Any]) -> bool:
        """Learn from the refusal of a request, and return whether to write and send it again.

        Args:
            refused: the response.
            body: the request, as it was sent.
        """
        if refused.status not in _STATUSES or refused.is_about_context:
            return False
        return (
            self._learns_limit(refused, body)
            or self._learns_system(refused, body)
            or self._learns_stream(refused, body)
            or self._learns_to_leave_out(refused, body)
        )

    def _learns_limit(self, refused: Refused, body: Mapping[str, Any]) -> bool:
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        most = _MOST_TOKENS.search(refused.text)
        if most is not None and limit is not None and 0 < int(most[1] or most[2]) < limit:
            self._most_tokens = int(most[1] or most[2])
            self.adaptations.add(
                "token_limit",
                f"the token limit of an answer is lowered from {limit} to {self._most_tokens}, the server's most",
            )
            return True
        if "max_tokens" in body and "max_tokens" not in self._fixed and "max_completion_tokens" in refused.text:
            self._has_new_limit = True
            self.adaptations.add(
                "max_completion_tokens", "the token limit is sent as max_completion_tokens, as the server asks"
            )
            return True
        return False

    def _learns_system(self, refused: Refused, body: Mapping[str, Any]) -> bool:
        has_system = any(message["role"] == "system" for message in body["messages"])
        text = refused.text.lower()
        # Of a developer's instruction speaks a server that knows the system role by its newer name.
        if not has_system or not re.search(r"system|developer", text) or not re.search(r"role|instruction", text):
            return False
        self._folds_system = True
        self.adaptations.add(
            "system_role",
            "the system message stands at the beginning of the first user message, because the model has no system "
            "role",
        )
        return True

    def _learns_stream(self, refused: Refused, body: Mapping[str, Any]) -> bool:
        text = refused.text.lower()
        if "stream" in body or not re.search(r"\bstream", text) or not re.search(r"only|must|requir|enable|true", text):
            return False
        self._is_streamed = True
        self.adaptations.add("stream", "answers are asked for as streams, because the server gives no others")
        return True

    def _learns_to_leave_out(self, refused: Refused, body: Mapping[str, Any]) -> bool:
        for name, text in _LEFT_OUT.items():
            if name in body and name not in self._fixed and refused.names(name):
                self._left_out.add(name)
                self.adaptations.add(f"no_{name}", text)
                return True
        return False


def _folded(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose system messages stand at the beginning of the first user message."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    first = next((message for message in rest if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *rest]
    first["content"] = "\n\n".join([*system, first["content"]])
    return rest
