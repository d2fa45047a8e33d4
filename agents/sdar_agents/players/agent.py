"""The `AsyncAgent` protocol, which evaluation plays by, and the adapter that makes one of a plain `Agent`.

An agent plays one episode at a time: `reset` when it begins, then `act` for every turn. It has two forms with the same
two methods:

- `sdar_agents.Agent`: plain methods; `act` returns a command. The simplest way to write an agent of one's own.
- `AsyncAgent`: coroutines; `act` returns a `Decision`. While one waits for its model, others play on.

Neither steps the environment; the caller does. `sdar_agents.players.pool` keeps agents for many episodes at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import gymnasium as gym

from sdar_agents.baselines.scripted import Agent
from sdar_agents.types import StopReason
from sdar_envs.tools import ToolCall
from sdar_skills.library.skill import Arm

__all__ = ["AsyncAdapter", "AsyncAgent", "Decision", "in_thread"]

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Decision:
    """An agent's command in one turn, with the model's prompt and completion that led to it.

    Attributes:
        action: the command for the environment.
        is_well_formed: whether the completion kept the format; whether the command is valid, the environment says.
        messages: the prompt; None if no model was asked.
        response: the completion's text.
        reasoning: the part of it before the action.
        prompt_tokens: length of the prompt; None if it is not known.
        completion_tokens: length of the completion; None if it is not known.
        cost: of both; None without prices.
        cached_tokens: the part of the prompt that a server had in its cache; None if it is not known.
        finish_reason: why the completion ended (`sdar_agents.types.StopReason`), `length` if the token limit cut it;
            None if no model was asked.
        refusal: what the model said instead of answering; None if it did not refuse.
        tool_calls: the tool calls, as they came.
        skills: those in the prompt, best first, by id, version and hash; None if the agent reads none.
        dropped_skills: those that were chosen and did not fit the prompt.
    """

    action: str
    is_well_formed: bool = True
    messages: Sequence[Mapping[str, str]] | None = None
    response: str | None = None
    reasoning: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    cached_tokens: int | None = None
    finish_reason: StopReason | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    skills: Sequence[Arm] | None = None
    dropped_skills: Sequence[Arm] = ()


class AsyncAgent(Protocol):
    """Protocol of an agent in coroutines: `reset` begins an episode, `act` chooses the command of each turn.

    A class may have `async def close(self)` too, which is awaited when no more episodes follow.
    """

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode.

        Args:
            env: the environment, already reset; not to be stepped.
            observation: the first observation.
            info: the info that came with it.
            seed: of everything that is sampled in this episode.
        """
        ...

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Return the next command."""
        ...


class AsyncAdapter:
    """An `AsyncAgent` that calls a plain `Agent`.

    Args:
        agent: the agent.
        in_threads: call it in threads, so that one which waits (for a model, for a person) does not hold up other
            episodes; otherwise it is called in the event loop, for agents that decide in microseconds.
    """

    def __init__(self, agent: Agent, *, in_threads: bool) -> None:
        self._agent = agent
        self._in_threads = in_threads

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Reset the agent."""
        await self._call(self._agent.reset, env, observation, info, seed)

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Return the agent's command."""
        return Decision(await self._call(self._agent.act, observation, info))

    async def _call(self, method: Callable[..., ResultT], *arguments: Any) -> ResultT:
        return await in_thread(method, *arguments) if self._in_threads else method(*arguments)


async def in_thread(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Call a function in a new daemon thread and await its result.

    Not `asyncio.to_thread`: its few threads are shared, and the interpreter waits for all of them before it ends,
    so one agent that hangs would keep a whole evaluation from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(set_result: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_result(value)

    def run() -> None:
        settled: tuple[Callable[[Any], None], Any]
        try:
            settled = future.set_result, function(*arguments)
        except BaseException as error:
            # A future takes no StopIteration, and an exit is for the caller's thread to decide.
            is_plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            settled = future.set_exception, error if is_plain else RuntimeError(repr(error))
        with suppress(RuntimeError):  # the loop may have been closed meanwhile
            loop.call_soon_threadsafe(settle, *settled)

    threading.Thread(target=run, daemon=True).start()
    return await future
