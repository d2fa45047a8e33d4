"""Scored episodes: what every adapter needs besides the classes of its framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from sdar_envs.chat import ChatEpisode, ChatStep, Messages
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.core import Task, task_id_of
from sdar_envs.errors import InvalidOption
from sdar_envs.files.json_text import parse_json
from sdar_envs.registry import open_split
from sdar_envs.tools import ToolCall

__all__ = ["METRICS", "ScoredEpisode", "call", "plain_messages"]

METRICS = ("won", "score", "turns", "malformed", "invalid")
"""Keys of `ScoredEpisode.metrics`."""


class ScoredEpisode(ChatEpisode):
    """`ChatEpisode` that sums up rewards and counts turns, for trainers that want one number for an episode.

    Attributes:
        episode_return: sum of the rewards since the reset.
        turns: steps since the reset.
        malformed: of these, those whose completion did not keep the format.
        invalid: of these, those whose command the environment did not accept.
        last: what the last reset or step returned; None before.
    """

    last: ChatStep | None = None
    episode_return = 0.0
    turns = malformed = invalid = 0

    @classmethod
    def from_row(
        cls,
        row: Mapping[str, Any],
        *,
        env_id: str | None = None,
        env_arguments: Mapping[str, Any] | None = None,
        **chat: Any,
    ) -> Self:
        """Make the environment that a row of a data set names; `reset(task=row)` then plays its task.

        Args:
            row: as `sdar_envs.task_rows` and `to_parquet` make them, or a trainer's own without `env_id`.
            env_id: the environment of rows that name none.
            env_arguments: arguments of the environment, which go before those of the row.
            **chat: arguments of `ChatEpisode`: `mode`, `history_length`, `style`, ...

        Raises:
            InvalidOption: there is no environment, or its arguments are no JSON object.
            UnknownName: there is no such environment, split or argument.
        """
        named = row.get("env_id") or env_id
        if not isinstance(named, str):
            raise InvalidOption(
                f"the environment is {named!r:.80}; wanted its id, such as 'sdar/ALFWorld-v0', as the row's 'env_id' "
                "or as env_id in the configuration."
            )
        split = row.get("split")
        if split is None and isinstance(extra := row.get("extra_info"), Mapping):
            split = extra.get("split")
        arguments = {**_arguments(row.get("env_arguments")), **(env_arguments or {})}
        # Rows of other trainers have splits of their own, and need no task of ours.
        env, _ = open_split(named, arguments, split if task_id_of(row) is not None else None)
        return cls(env, **chat)

    def reset(
        self, *, task_id: str | None = None, seed: int | None = None, task: Task | Mapping[str, Any] | None = None
    ) -> ChatStep:
        """Start an episode, as `ChatEpisode.reset` does."""
        self.last = super().reset(task_id=task_id, seed=seed, task=task)
        self.episode_return = 0.0
        self.turns = self.malformed = self.invalid = 0
        return self.last

    def step(self, completion: str, *, reasoning: str | None = None, tool_calls: Sequence[ToolCall] = ()) -> ChatStep:
        """Take a turn with what the model wrote, as `ChatEpisode.step` does."""
        return self._counted(super().step(completion, reasoning=reasoning, tool_calls=tool_calls))

    def act(self, command: str) -> ChatStep:
        """Take a turn with a command, as `ChatEpisode.act` does."""
        return self._counted(super().act(command))

    def metrics(self) -> dict[str, float]:
        """Return the numbers of `METRICS`: of the state now, and counts since the reset."""
        info: Mapping[str, Any] = {} if self.last is None else self.last.info
        return {
            "won": float(info.get("won", False)),
            "score": float(info.get("score", 0.0)),
            "turns": float(self.turns),
            "malformed": float(self.malformed),
            "invalid": float(self.invalid),
        }

    def _counted(self, step: ChatStep) -> ChatStep:
        self.last = step
        self.episode_return += step.reward
        self.turns += 1
        self.malformed += step.is_well_formed is False
        self.invalid += not step.is_action_valid
        return step


def plain_messages(messages: Messages) -> Messages:
    """Return messages in which control tokens of chat templates are text; what the model wrote stays as it is."""
    return [
        message if message["role"] == "assistant" else {**message, "content": break_control_tokens(message["content"])}
        for message in messages
    ]


async def call(episode: ChatEpisode, function: Callable[..., ChatStep], *args: Any, **kwargs: Any) -> ChatStep:
    """Call a method of an episode from an event loop: in a thread if the environment may wait for a server or a disk.

    Args:
        episode: whose method it is.
        function: the method, such as `episode.step`.
        *args: its arguments.
        **kwargs: its keyword arguments.
    """
    if episode.env.blocks_on_io:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _arguments(given: object) -> Mapping[str, Any]:
    """Return the environment's arguments that a row holds, as JSON or as a mapping."""
    if given is None or given == "":
        return {}
    try:
        arguments = parse_json(given) if isinstance(given, str) else given
    except ValueError as error:
        raise InvalidOption(f"the row's env_arguments are {given!r:.80}, which is no JSON ({error}).") from error
    if not isinstance(arguments, Mapping):
        raise InvalidOption(f"the row's env_arguments are {given!r:.80}; wanted a JSON object such as '{{}}'.")
    return arguments
