"""Episodes as chat: an environment, its prompts and its parser in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from sdar_envs.chat.conversation import ChatMode, Conversation, Messages
from sdar_envs.core import INFO_TYPES, Task, TextEnv, text_env
from sdar_envs.errors import EpisodeOver, InvalidOption
from sdar_envs.prompt import ParsedCompletion, PromptParts, PromptStyle, resolve_style, style_of, with_action_format
from sdar_envs.prompt.style import block_of
from sdar_envs.registry import make_text_env
from sdar_envs.tools import ActionFormat, Tool, ToolCall

__all__ = ["ChatEpisode", "ChatStep"]


@dataclass(frozen=True, slots=True)
class ChatStep:
    """What a reset or a step of a `ChatEpisode` returns.

    Attributes:
        messages: the whole prompt of the next completion; empty when the episode is over.
        new_messages: in an appended chat what follows the last completion, the next user message; else as `messages`.
        observation: what the environment said.
        action: the command that it got; empty at the reset.
        reward: of this step.
        ended: the task's end was reached.
        truncated: the step limit was reached.
        is_well_formed: whether the completion kept the format; None where there was none.
        is_action_valid: whether the environment accepted the command; None at the reset.
        info: the keys of `sdar_envs.INFO_TYPES`, which a model may see. What else the environment tells, golden answers
            among it, is in `ChatEpisode.env_info`.
    """

    messages: Messages
    new_messages: Messages
    observation: str
    action: str
    reward: float
    ended: bool
    truncated: bool
    is_well_formed: bool | None
    is_action_valid: bool | None
    info: Mapping[str, Any]

    @property
    def is_over(self) -> bool:
        """Whether the episode takes no further step."""
        return self.ended or self.truncated


class ChatEpisode:
    """One episode as chat; further ones after each `reset`.

        episode = ChatEpisode("sdar/ALFWorld-v0", split="valid_unseen")
        step = episode.reset(seed=0)
        while not step.is_over:
            step = episode.step(model(step.messages))

    It calls the environment directly. Those that wait for a server or a disk say so (`episode.env.blocks_on_io`); an
    event loop should step them in threads.

    Args:
        env: the id of a registered environment (`module:id` imports the module first), or an environment.
        mode: `windowed` builds each prompt anew from the last turns; `appended` is one growing chat, whose assistant
            messages are the completions as the model wrote them, for training on one sequence and for prefix caches.
        history_length: how many of the latest turns a windowed prompt shows; None for what the style says, else 2.
        style: a prompt style or its name (`sdar_envs.prompt.resolve_style`); None for that of the environment or its
            suite.
        system: text of a system message; None for none.
        action_format: `tags`, `json` or `tools`; None for the style's.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`.
        **env_kwargs: arguments of the environment, if `env` is an id.

    Attributes:
        env: the environment, without wrappers.
        env_info: the environment's last info, whole.

    Raises:
        UnknownName: there is no such environment, argument or style.
        InvalidOption: an argument is out of range.
    """

    def __init__(
        self,
        env: str | gym.Env[str, str],
        *,
        mode: ChatMode = "windowed",
        history_length: int | None = None,
        style: str | PromptStyle | None = None,
        system: str | None = None,
        action_format: ActionFormat | None = None,
        prefilled: str = "",
        **env_kwargs: Any,
    ) -> None:
        if not isinstance(env, str) and env_kwargs:
            raise InvalidOption(
                f"{next(iter(env_kwargs))!r} is an argument of an environment, and one was given ready-made: make it "
                "with this argument, or give its id."
            )
        self._stepped: gym.Env[str, str] = make_text_env(env, **env_kwargs) if isinstance(env, str) else env
        self.env: TextEnv[Any] = text_env(self._stepped)
        self.env_info: Mapping[str, Any] = {}
        self._own_style = resolve_style(style) if isinstance(style, str) else style
        self._action_format = action_format
        self._settings: dict[str, Any] = {"mode": mode, "history_length": history_length, "system": system}
        self._prefilled = prefilled
        self._conversation: Conversation | None = None
        self._is_over = True
        if self._own_style is not None:
            self._converse(self._own_style)  # so that a wrong argument is an error now

    @property
    def conversation(self) -> Conversation:
        """The chat of the current episode.

        Raises:
            EpisodeOver: nothing was reset yet.
        """
        if self._conversation is None:
            raise EpisodeOver("there is no episode before the first reset(): call reset() first.")
        return self._conversation

    @property
    def style(self) -> PromptStyle:
        """The prompt style of the current episode."""
        return self.conversation.style

    @property
    def parts(self) -> PromptParts:
        """The next windowed prompt in parts, to insert skills or to cut it to a number of tokens."""
        return self.conversation.parts()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model may call natively; none in another action format than `tools`."""
        return self.conversation.tools

    def reset(
        self, *, task_id: str | None = None, seed: int | None = None, task: Task | Mapping[str, Any] | None = None
    ) -> ChatStep:
        """Start an episode: of a task, of the one that a seed maps to, or of the next one.

        Args:
            task_id: plays that task.
            seed: see `TextEnv.reset`.
            task: plays that task, or the one that a row of a data set names or holds (see `TextEnv.reset`).

        Raises:
            InvalidOption: both `task_id` and `task` are given, or the environment cannot play that task.
            UnknownName: there is no such task.
        """
        if task is not None and task_id is not None:
            raise InvalidOption("both task and task_id were given; wanted one of them.")
        self._is_over = True
        options = {"task_id": task_id, "task": task}
        options = {name: value for name, value in options.items() if value is not None}
        observation, self.env_info = self._stepped.reset(seed=seed, options=options or None)
        self._conversation = self._converse(self._own_style or style_of(self.env, self.env.task))
        self._conversation.observe(observation, self.env_info)
        self._is_over = False
        return self._result("", 0.0, False, False, None)

    def step(self, completion: str, *, reasoning: str | None = None, tool_calls: Sequence[ToolCall] = ()) -> ChatStep:
        """Take a turn with what the model wrote; any text is allowed.

        Args:
            completion: the model's text.
            reasoning: its reasoning, if the server returned it apart.
            tool_calls: its tool calls, if the server returned them apart.

        Raises:
            EpisodeOver: the episode is over, or none was begun.
        """
        parsed = self._running().read(completion, prefilled=self._prefilled, reasoning=reasoning, tool_calls=tool_calls)
        return self._take(parsed, completion, parsed.is_well_formed, tool_calls)

    def act(self, command: str) -> ChatStep:
        """Take a turn with a command, as a script or a caller's own parser gives it.

        The chat then shows the command in the answer format.

        Raises:
            EpisodeOver: the episode is over, or none was begun.
        """
        style = self._running().style
        return self._take(ParsedCompletion(command, True, ""), block_of(style, command), None)

    def close(self) -> None:
        """Close the environment."""
        self._stepped.close()

    def _converse(self, style: PromptStyle) -> Conversation:
        return Conversation(with_action_format(style, self._action_format), **self._settings)

    def _running(self) -> Conversation:
        if self._is_over:
            raise EpisodeOver("the episode is over, or none was begun: call reset() first.")
        return self.conversation

    def _take(
        self,
        parsed: ParsedCompletion,
        completion: str,
        is_well_formed: bool | None,
        tool_calls: Sequence[ToolCall] = (),
    ) -> ChatStep:
        conversation = self._running()
        # First the environment: a step that raises can be tried again.
        observation, reward, ended, truncated, self.env_info = self._stepped.step(parsed.action)
        conversation.answer(parsed, completion, tool_calls)
        self._is_over = ended or truncated
        conversation.observe(observation, self.env_info)
        return self._result(parsed.action, float(reward), ended, truncated, is_well_formed)

    def _result(
        self, action: str, reward: float, ended: bool, truncated: bool, is_well_formed: bool | None
    ) -> ChatStep:
        info, conversation = self.env_info, self.conversation
        messages = [] if self._is_over else conversation.messages()
        return ChatStep(
            messages=messages,
            new_messages=messages[conversation.answered_messages :],
            observation=conversation.observation,
            action=action,
            reward=reward,
            ended=ended,
            truncated=truncated,
            is_well_formed=is_well_formed,
            is_action_valid=bool(info["is_action_valid"]) if conversation.past else None,
            info={name: info[name] for name in INFO_TYPES},
        )
