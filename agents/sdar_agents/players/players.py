"""Agents that play many episodes at once, and how an agent that plays one at a time becomes one.

An `AsyncAgent` is asked to `begin` an episode and returns a `Player`, which decides turn by turn; so one slow model
call never holds up another episode. `OneAtATime` lifts an `Agent` to that: it keeps as many of them as there
are episodes in flight. Neither side steps the environment: whoever runs the episode does.
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

__all__ = ["AsyncAgent", "Decision", "OneAtATime", "Player", "in_thread"]

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Decision:
    """What an agent does in a turn, and what led to it.

    Attributes:
        action: the command for the environment.
        is_well_formed: whether the completion kept the format; whether the command is valid, the environment says.
        messages: the prompt; None if no model was asked.
        response: what the model wrote.
        reasoning: the part of it before the action.
        prompt_tokens: that the model read; None if nobody counts.
        completion_tokens: that the model wrote; None if nobody counts.
        cost: of both; None without prices.
    """

    action: str
    is_well_formed: bool = True
    messages: Sequence[Mapping[str, str]] | None = None
    response: str | None = None
    reasoning: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


class Player(Protocol):
    """Plays one episode."""

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Return the next command."""
        ...

    def end(self) -> None:
        """Say that the episode is over, or that its last `act` will not be waited for."""
        ...


class AsyncAgent(Protocol):
    """Plays any number of episodes at once, in one event loop."""

    async def begin(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> Player:
        """Begin an episode.

        Args:
            env: the environment, already reset; not to be stepped.
            observation: the first observation.
            info: the info that came with it.
            seed: of everything that is drawn in this episode.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and memory."""
        ...


class OneAtATime:
    """Makes an `AsyncAgent` of agents that play one episode at a time.

    Args:
        make: makes such an agent; called when all that were made are playing.
        in_threads: call them in threads, so that one which waits (for a model, for a person) does not hold up
            the others. Without, they are called right here: for agents that decide in microseconds.
    """

    def __init__(self, make: Callable[[], Agent], *, in_threads: bool) -> None:
        self._make = make
        self._in_threads = in_threads
        self._idle: list[Agent] = []

    async def begin(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> Player:
        """Give the episode to an agent that has none."""
        player = _OnePlayer(self._idle.pop() if self._idle else self._make(), self._in_threads, self._idle.append)
        await player.call(player.agent.reset, env, observation, info, seed)
        return player

    async def close(self) -> None:
        """Let the agents go."""
        self._idle.clear()


class _OnePlayer:
    """An agent in an episode."""

    def __init__(self, agent: Agent, in_threads: bool, release: Callable[[Agent], None]) -> None:
        self.agent = agent
        self._in_threads = in_threads
        self._release = release
        self._is_busy = False

    async def call(self, method: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call a method of the agent."""
        self._is_busy = True
        result = await in_thread(method, *arguments) if self._in_threads else method(*arguments)
        self._is_busy = False
        return result

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Return the agent's command."""
        return Decision(await self.call(self.agent.act, observation, info))

    def end(self) -> None:
        """Set the agent free; one that raised, or still thinks in its thread, is not used again."""
        if not self._is_busy:
            self._release(self.agent)


async def in_thread(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Call a function in a thread of its own.

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
