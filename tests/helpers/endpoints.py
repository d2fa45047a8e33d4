"""A chat endpoint on this machine, for tests: HTTP as servers speak it, and the ways in which they fail."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

FIRST = "Are you ready?"
"""What an evaluation asks before it begins."""


@dataclass
class Reply:
    """What to answer: after `seconds`, or never if `is_dropped`, or only half of it if `is_cut`."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    is_dropped: bool = False
    is_cut: bool = False


def chat(text: str | None, *, reasoning: str | None = None, tokens: tuple[int, int] | None = (7, 3)) -> Reply:
    """Return a completion; `tokens` are the prompt's and its own."""
    message = {"role": "assistant", "content": text}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    body: dict[str, Any] = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Reply(body)


def act(command: str, thought: str = "Well.") -> Reply:
    return chat(f"<think>{thought}</think><action>{command}</action>")


class Endpoint:
    """The server. `requests` are headers and bodies, in order of arrival; `others` answers all other paths.

    The first request of an evaluation is answered here, and neither counted nor seen by `respond`, unless `others` is
    given: then the server is one of a test about first requests.
    """

    def __init__(
        self, respond: Callable[[dict[str, Any]], Reply], others: Callable[[str], Reply] | None = None
    ) -> None:
        self.respond = respond
        self.others = others
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.in_flight = self.most_in_flight = 0
        self.url = ""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if lines[0] == "POST /v1/chat/completions HTTP/1.1":
            body = json.loads(content)
            if self.others is None and body["messages"][-1]["content"] == FIRST:
                return await self._send(writer, chat("Yes."))
            self.requests.append((headers, body))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                reply = self.respond(body)
                await asyncio.sleep(reply.seconds)
            finally:
                self.in_flight -= 1
        elif self.others is not None:
            reply = self.others(lines[0])
        else:
            reply = Reply("<html>Not here</html>", 404)
        return False if reply.is_dropped else await self._send(writer, reply)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        content = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        given = {"Content-Type": "application/json", "Content-Length": str(len(content)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        sent = content[: len(content) // 2] if reply.is_cut else content
        writer.write(f"HTTP/1.1 {reply.status} Reason\r\n{head}\r\n".encode() + sent)
        await writer.drain()
        return not reply.is_cut


@contextmanager
def serving(
    respond: Callable[[dict[str, Any]], Reply], others: Callable[[str], Reply] | None = None
) -> Iterator[Endpoint]:
    """Run an endpoint in a thread."""
    endpoint = Endpoint(respond, others)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(endpoint.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield endpoint
    finally:

        async def stop() -> None:
            server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def heavy_tail(seed: int, scale: float) -> float:
    """Return the seconds that the request with this seed takes: Pareto, so that a few take ten times the median."""
    return min(scale * random.Random(seed).paretovariate(1.5), 20 * scale)


def main() -> None:
    """Answer `up` after `heavy_tail` seconds until standard input ends; print the address."""
    scale = float(sys.argv[1])

    async def serve() -> None:
        text = f"<think>{'hm ' * 1000}</think><action>up</action>"
        endpoint = Endpoint(lambda body: Reply(chat(text).body, seconds=heavy_tail(body["seed"], scale)))
        server = await endpoint.start()
        print(endpoint.url, flush=True)
        async with server:
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
