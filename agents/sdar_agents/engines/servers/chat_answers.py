"""Answers of OpenAI-compatible servers: JSON bodies and event streams, read into a `Completion`.

Content may be text or a list of parts; a thought may come apart as `reasoning_content`, as `reasoning` or as a part;
refusals and tool calls are kept as they came. A server that streams is read as if it had answered at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sdar_agents.types import Completion, StopReason
from sdar_envs.core import is_integer
from sdar_envs.files.json_text import parse_json
from sdar_envs.secrets import redact, redact_all
from sdar_envs.tools import ToolCall

__all__ = ["is_stream", "problem_of", "read_answer"]

_SHOWN = 300
_CUT = frozenset({"length", "max_tokens", "model_length"})
_FILTERED = "content_filter"


def read_answer(text: str, max_tokens: int | None) -> Completion:
    """Read the body of a response, in which known secrets are replaced.

    Args:
        text: JSON, or the events of a stream.
        max_tokens: the limit that was sent, for servers that do not say why an answer ended; None if there was none.

    Raises:
        ValueError: it is no chat completion; the message says what it is, as a clause.
    """
    answer = _joined(text) if is_stream(text) else _parsed(text)
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, thought, refused = _parts(message.get("content"))
        usage = answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        counts = (
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            details.get("cached_tokens", usage.get("prompt_cache_hit_tokens")),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {problem_of(text)!r}") from error
    reasoning = _parts(message.get("reasoning_content") or message.get("reasoning"))[0] or thought
    finish_reason = choice.get("finish_reason")
    refusal = message.get("refusal") or refused
    if finish_reason == _FILTERED:
        refusal = refusal or f"finish_reason is {_FILTERED}"
    prompt_tokens, completion_tokens, cached_tokens = (count if is_integer(count) else None for count in counts)
    content = redact(content)
    stop_reason: StopReason = "eos"
    if finish_reason is None and max_tokens is not None and completion_tokens is not None:
        stop_reason = "length" if completion_tokens >= max_tokens else "eos"
    elif finish_reason in _CUT:
        stop_reason = "length"
    elif isinstance(choice.get("stop_reason"), str):  # vLLM's field: the stop string that was met
        stop_reason = "stop"
        # Servers leave it out, and an answer without its closing tag is none.
        met = redact(choice["stop_reason"])
        content = content.removesuffix(met) + met
    cost = usage.get("cost")
    return Completion(
        (),
        None,
        content,
        stop_reason,
        redact(reasoning) if reasoning else None,
        prompt_tokens,
        completion_tokens,
        _tool_calls(redact_all(message.get("tool_calls"))),
        refusal=redact(str(refusal)) if refusal else None,
        cached_tokens=cached_tokens,
        cost=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else None,
    )


def problem_of(text: str) -> str:
    """Return what a server's answer says is wrong, on one line, without known secrets: its error message if it has one.

    It is cut after secrets are replaced: half of one would not be found.
    """
    shown = text
    try:
        answer = parse_json(text)
    except ValueError:
        answer = None
    found = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail")
    if isinstance(found, str) and found:
        shown = found
    return redact(" ".join(shown[: 100 * _SHOWN].split()))[:_SHOWN]


def is_stream(text: str) -> bool:
    """Return whether the body of a response is a stream of events."""
    return text.lstrip()[:6].startswith(("data:", "event:", ":"))


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"no JSON: {problem_of(text)!r}") from error


def _joined(text: str) -> dict[str, Any]:
    """Return the chat completion that a stream of events adds up to.

    Raises:
        ValueError: the stream breaks off, or holds an error.
    """
    message: dict[str, list[str]] = {}
    calls: dict[Any, dict[str, Any]] = {}
    choice: dict[str, Any] = {}
    usage: Any = None
    is_whole = False
    for event in _events(text):
        if event == "[DONE]":
            is_whole = True
            break
        chunk = _parsed(event)
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise ValueError(f"an error within a stream: {problem_of(event)!r}")
        usage = chunk.get("usage") or usage
        for part in chunk.get("choices") or ():
            if part.get("index", 0) == 0:
                _add_delta(part.get("delta") or part.get("message") or {}, message, calls)
                choice |= {name: value for name, value in part.items() if value is not None}
    if not is_whole and "finish_reason" not in choice:
        raise ValueError(f"a stream that breaks off: {sum(map(len, message.get('content', ())))} characters came")
    whole: dict[str, Any] = {name: "".join(parts) for name, parts in message.items()}
    if calls:
        whole["tool_calls"] = list(calls.values())
    return {"choices": [{**choice, "message": whole}], "usage": usage}


def _events(text: str) -> list[str]:
    r"""Return the data of each event. Lines end at `\\n` alone: JSON may hold the other characters that end lines."""
    events: list[str] = []
    data: list[str] = []
    for line in (*text.split("\n"), ""):
        line = line.rstrip("\r")  # noqa: PLW2901
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            events.append("\n".join(data))
            data = []
    return events


def _add_delta(delta: Mapping[str, Any], message: dict[str, list[str]], calls: dict[Any, dict[str, Any]]) -> None:
    content, thought, refusal = _parts(delta.get("content"))
    texts = {
        "content": content,
        "reasoning_content": _parts(delta.get("reasoning_content") or delta.get("reasoning"))[0] or thought,
        "refusal": delta.get("refusal") or refusal,
    }
    for name, text in texts.items():
        if text:
            message.setdefault(name, []).append(str(text))
    for number, call in enumerate(delta.get("tool_calls") or ()):
        known = calls.setdefault(call.get("index", number), {"id": "", "function": {"name": "", "arguments": ""}})
        known["id"] = call.get("id") or known["id"]
        function = call.get("function") or {}
        known["function"]["name"] += function.get("name") or ""
        known["function"]["arguments"] += function.get("arguments") or ""


def _parts(content: Any) -> tuple[str, str, str]:
    """Return the text, the thought and the refusal of a message's content: text, null, or a list of parts.

    Raises:
        ValueError: it has another form.
    """
    if content is None or isinstance(content, str):
        return content or "", "", ""
    found: dict[str, list[str]] = {"text": [], "thought": [], "refusal": []}
    parts: list[Any] = content if isinstance(content, list) else [{}]
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "output_text") and isinstance(part["text"], str):
            found["text"].append(part["text"])
        elif kind in ("thinking", "reasoning"):
            # Parts of its own, or text.
            inner = next((part[name] for name in ("thinking", "reasoning", "text") if part.get(name)), "")
            found["thought"].append(_parts(inner)[0])
        elif kind == "refusal" and isinstance(part["refusal"], str):
            found["refusal"].append(part["refusal"])
        else:
            raise ValueError(f"no text: {redact(repr(content)[: 100 * _SHOWN])[:_SHOWN]}")
    text, thought, refusal = ("".join(texts) for texts in found.values())
    return text, thought, refusal


def _tool_calls(given: object) -> tuple[ToolCall, ...]:
    """Read the tool calls of a message, whose arguments some servers give as an object.

    Raises:
        ValueError: they have another form.
    """
    try:
        calls = [(call["function"], call.get("id")) for call in given or ()]  # type: ignore[attr-defined]
        return tuple(
            ToolCall(
                str(function["name"]),
                arguments if isinstance(arguments := function.get("arguments", ""), str) else json.dumps(arguments),
                str(call_id or ""),
            )
            for function, call_id in calls
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("no tool calls") from error
