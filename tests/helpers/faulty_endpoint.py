r"""A chat server that behaves in the ways of servers that are faulty, busy, strict, or of another dialect.

    PYTHONPATH=tests python -m helpers.faulty_endpoint              # all ways in turn, at http://127.0.0.1:8765/v1
    PYTHONPATH=tests python -m helpers.faulty_endpoint no_system    # one of them

    sdar eval sdar/ALFWorld-v0 --agent openai --model small-chat --base-url http://127.0.0.1:8765/v1 --limit 4 \
        --max-steps 12 --concurrency 1 --agent-set system="Be brief." --agent-set history=appended --out runs/faults

Each way is a function from the body of a request to a reply. `FAULTS` names them; those of `WHOLE` break no answer, so
that a run through them ends, and `Every` puts them all before the same run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

from helpers.endpoints import Endpoint, Reply

Respond = Callable[[dict[str, Any]], Reply]

MODEL = "small-chat"
# The context of the server with a short one, in words.
CONTEXT = 60
_LONGER_CONTEXT = 400

ANSWER = "<think>Up it is.</think><action>up</action>"


def answer(
    content: Any = ANSWER, *, finish_reason: str = "stop", cached: int | None = None, **message: Any
) -> dict[str, Any]:
    """Return a chat completion."""
    usage: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    whole = {"role": "assistant", "content": content, **message}
    return {"id": "x", "choices": [{"index": 0, "message": whole, "finish_reason": finish_reason}], "usage": usage}


def refuse(message: str, status: int = 400, **error: Any) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error", **error}}, status)


def stream(text: str = ANSWER, *, is_whole: bool = True) -> Reply:
    """Return a completion as a stream of events, with comments that keep the connection open."""
    parts = [text[i : i + 7] for i in range(0, len(text), 7)]
    events = [{"choices": [{"index": 0, "delta": {"content": part}, "finish_reason": None}]} for part in parts]
    lines = [": wait", *(f"data: {json.dumps(event)}" for event in events)]
    if is_whole:
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 8}}
        lines += [f"data: {json.dumps(end)}", f"data: {json.dumps(usage)}", "data: [DONE]"]
    return Reply("".join(f"{line}\n\n" for line in lines), headers={"Content-Type": "text/event-stream"})


def once_in(count: int, failure: Callable[[], Reply], then: Respond = lambda body: Reply(answer())) -> Respond:
    """Return a server of which each request but every `count`th one fails."""
    numbers = itertools.count(1)
    return lambda body: then(body) if next(numbers) % count == 0 else failure()


def words_in(body: Mapping[str, Any]) -> int:
    return sum(len(message["content"].split()) for message in body["messages"])


# -- refused for good -------------------------------------------------------------------------


def wrong_model(body: dict[str, Any]) -> Reply:
    return Reply(answer()) if body["model"] == MODEL else refuse(f"The model `{body['model']}` does not exist.", 404)


def wrong_key(body: dict[str, Any]) -> Reply:
    return refuse("Incorrect API key provided.", 401)


def no_temperature(body: dict[str, Any]) -> Reply:
    if "temperature" not in body:
        return Reply(answer())
    return refuse("Unsupported value: 'temperature' does not support 0.4 with this model.", param="temperature")


def no_tools(body: dict[str, Any]) -> Reply:
    return refuse('"auto" tool choice requires --enable-auto-tool-choice') if "tools" in body else Reply(answer())


# -- for a time -------------------------------------------------------------------------------


def too_many_requests() -> Reply:
    return Reply({"error": {"message": "Too many requests."}}, 429, {"Retry-After": "0.01"})


def until_a_date() -> Reply:
    return Reply(
        {"error": {"message": "Come back later."}}, 429, {"Retry-After": formatdate(time.time() + 0.5, usegmt=True)}
    )


def busy() -> Reply:
    return Reply({"error": {"message": "Loading model"}}, 503)


def broken_off() -> Reply:
    return Reply(answer(), is_cut=True)


def broken_stream() -> Reply:
    return stream(is_whole=False)


# -- in another form --------------------------------------------------------------------------


def needs_stream(body: dict[str, Any]) -> Reply:
    return stream() if body.get("stream") else refuse("This model only supports stream mode: set stream to true.")


def content_parts(body: dict[str, Any]) -> Reply:
    return Reply(answer([{"type": "text", "text": ANSWER[:20]}, {"type": "text", "text": ANSWER[20:]}]))


def thinking_parts(body: dict[str, Any]) -> Reply:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Up it is."}]}
    return Reply(answer([thought, {"type": "text", "text": "<action>up</action>"}]))


def reasoning_content(body: dict[str, Any]) -> Reply:
    return Reply(answer("<action>up</action>", reasoning_content="Up it is."))


def reasoning(body: dict[str, Any]) -> Reply:
    return Reply(answer("<action>up</action>", reasoning="Up it is."))


def inline_thought_cut(body: dict[str, Any]) -> Reply:
    return Reply(answer("<think>Let me see. If I go up, then", finish_reason="length"))


def refusal(body: dict[str, Any]) -> Reply:
    return Reply(answer(None, refusal="I can't help with numbers."))


def tool_calls(body: dict[str, Any]) -> Reply:
    if "tools" not in body:
        return Reply(answer())
    [tool] = body["tools"]
    function = {"name": tool["function"]["name"], "arguments": json.dumps({"command": "up"})}
    call = {"id": "call_7", "type": "function", "function": function}
    return Reply(answer(None, finish_reason="tool_calls", tool_calls=[call]))


def cached(body: dict[str, Any]) -> Reply:
    return Reply(answer(cached=32))


# -- strict -----------------------------------------------------------------------------------


def no_system(body: dict[str, Any]) -> Reply:
    has_system = any(message["role"] == "system" for message in body["messages"])
    return refuse("System role not supported") if has_system else Reply(answer())


def new_limit(body: dict[str, Any]) -> Reply:
    if "max_tokens" in body:
        problem = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return refuse(problem, param="max_tokens", code="unsupported_parameter")
    return Reply(answer())


def low_limit(body: dict[str, Any]) -> Reply:
    if body.get("max_tokens", 0) > 1024:
        return refuse("max_tokens is too large: this model supports at most 1024 completion tokens.")
    return Reply(answer())


def little_room(body: dict[str, Any]) -> Reply:
    if body.get("max_tokens", 0) > 1748:
        return refuse(
            f"This model's maximum context length is 2048 tokens. However, you requested {300 + body['max_tokens']} "
            f"tokens (300 in the messages, {body['max_tokens']} in the completion). Please reduce the length."
        )
    return Reply(answer())


def short_context(body: dict[str, Any], words: int = CONTEXT) -> Reply:
    if words_in(body) > words:
        return refuse("The request exceeds the available context size.", type="exceed_context_size_error")
    return Reply(answer())


def no_seed(body: dict[str, Any]) -> Reply:
    if "seed" in body:
        return Reply({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}, 422)
    return Reply(answer())


FAULTS: Mapping[str, Callable[[], Respond]] = {
    "wrong_model": lambda: wrong_model,
    "wrong_key": lambda: wrong_key,
    "no_temperature": lambda: no_temperature,
    "no_tools": lambda: no_tools,
    "too_many_requests": lambda: once_in(3, too_many_requests),
    "until_a_date": lambda: once_in(4, until_a_date),
    "busy": lambda: once_in(2, busy),
    "broken_off": lambda: once_in(2, broken_off),
    "broken_stream": lambda: once_in(2, broken_stream),
    "stream": lambda: lambda body: stream(),
    "needs_stream": lambda: needs_stream,
    "content_parts": lambda: content_parts,
    "thinking_parts": lambda: thinking_parts,
    "reasoning_content": lambda: reasoning_content,
    "reasoning": lambda: reasoning,
    "inline_thought_cut": lambda: inline_thought_cut,
    "refusal": lambda: refusal,
    "tool_calls": lambda: tool_calls,
    "cached": lambda: cached,
    "no_system": lambda: no_system,
    "new_limit": lambda: new_limit,
    "low_limit": lambda: low_limit,
    "little_room": lambda: little_room,
    "short_context": lambda: short_context,
    "no_seed": lambda: no_seed,
}
"""The ways by name; each makes a server of its own."""


class Every:
    """All ways before one run: strict about each request, and then faulty in turn."""

    def __init__(self, context: int = CONTEXT) -> None:
        self._context = context
        self._failures = itertools.cycle(
            [
                too_many_requests,
                until_a_date,
                busy,
                broken_off,
                broken_stream,
                stream,
                *(
                    lambda way=way: way({})
                    for way in (
                        content_parts,
                        thinking_parts,
                        reasoning_content,
                        reasoning,
                        inline_thought_cut,
                        refusal,
                    )
                ),
                lambda: refuse("Incorrect API key provided.", 401),
                lambda: refuse("The model was unloaded.", 404),
                lambda: Reply(answer(cached=32)),
            ]
        )
        self._answers = 0

    def __call__(self, body: dict[str, Any]) -> Reply:
        for strict in (wrong_model, no_temperature, no_system, new_limit, no_seed):
            reply = strict(body)
            if reply.status != 200:
                return reply
        if (reply := short_context(body, self._context)).status != 200:
            return reply
        self._answers += 1
        # The first request has to succeed, else there is no run.
        return Reply(answer()) if self._answers == 1 else next(self._failures)()


def models(request_line: str) -> Reply:
    """Answer other paths than the chat's."""
    if request_line.startswith("GET /v1/models "):
        return Reply({"data": [{"id": MODEL}, {"id": "large-chat"}]})
    return Reply("<!doctype html>\n<title>404</title>\n<h1>Not found</h1>", 404)


def main() -> None:
    """Serve one way, or all, until it is interrupted."""
    respond = FAULTS[sys.argv[1]]() if len(sys.argv) > 1 else Every(_LONGER_CONTEXT)

    async def serve() -> None:
        server = await asyncio.start_server(Endpoint(respond, models)._serve, "127.0.0.1", 8765)
        print("http://127.0.0.1:8765/v1", flush=True)
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
