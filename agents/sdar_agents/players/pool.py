"""Agent pool: agents for many episodes at once, made when they are needed and used again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from sdar_agents.players.agent import AsyncAgent

__all__ = ["AgentPool"]


class AgentPool:
    """The agents of one evaluation: as many equal ones as there are episodes in flight.

    Args:
        name: as it was asked for.
        make: makes an agent. One is made at once, so that what is wrong with its settings is an error now.
        settings: all settings of the agent, as JSON values; no secrets.
        defaults: of settings, which a run has that was begun when the agent did not have them yet.
        concurrency: how many episodes should be in flight unless the user says otherwise.
        close: awaited by `close`, such as that of a policy which the agents share.
        adaptations: returns what was done otherwise than asked so far, as JSON values (`Adaptations.to_json`).
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], AsyncAgent],
        *,
        settings: Mapping[str, Any] = MappingProxyType({}),
        defaults: Mapping[str, Any] = MappingProxyType({}),
        concurrency: int = 1,
        close: Callable[[], Awaitable[None]] | None = None,
        adaptations: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.name = name
        self.settings = settings
        self.defaults = defaults
        self.concurrency = concurrency
        self.adaptations = adaptations
        self._make = make
        self._close = close
        self._idle = [make()]

    def take(self) -> AsyncAgent:
        """Return an agent for one episode."""
        return self._idle.pop() if self._idle else self._make()

    def give_back(self, agent: AsyncAgent) -> None:
        """Keep an agent for another episode. One that raised, or still runs in its thread, is not to be given back."""
        self._idle.append(agent)

    async def check(self) -> None:
        """Have an agent that has begun an episode make a first request, where its class has `check`.

        Raises:
            SdarError: it cannot play; the message says why.
        """
        agent = self.take()
        check = getattr(agent, "check", None)
        if check is not None:
            await check()
        self.give_back(agent)

    async def close(self) -> None:
        """Close the agents that have been given back, where their class has `close`, and what they share."""
        for agent in self._idle:
            close = getattr(agent, "close", None)
            if close is not None:
                await close()
        self._idle.clear()
        if self._close is not None:
            await self._close()
