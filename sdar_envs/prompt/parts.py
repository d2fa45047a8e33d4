"""Prompts of a turn: an episode's turns to chat messages.

The prompt is built from scratch: one user message with the task, the last few turns, the observation and the
admissible commands. Past reasoning is not part of it. How a suite is presented is one `PromptStyle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sdar_envs.errors import InvalidOption, check_choice
from sdar_envs.prompt.style import PromptStyle, Turn, shown_action, terse
from sdar_envs.prompt.templates import PromptTemplates

__all__ = ["FilledTemplates", "Place", "PromptParts", "later_message", "prompt_parts", "render_messages"]

Place = Literal["task", "history"]
"""What inserted paragraphs follow: the task, or the past turns, so that they stand before the latest observation."""


@dataclass(frozen=True, slots=True)
class FilledTemplates:
    """Templates of a turn with what fills them, but for the history.

    Attributes:
        templates: of the prompt style.
        task: the instruction.
        observation: what the environment shows now, as it came.
        commands: the commands to list.
    """

    templates: PromptTemplates
    task: str
    observation: str
    commands: tuple[str, ...]

    def messages(self, past: Sequence[Turn], shown: int, inserted: Sequence[str], after: Place) -> list[dict[str, str]]:
        """Return the user message, and the beginning of the model's own if that is what shows the history."""
        slots = self._slots(past, shown)
        if after == "history" and self.templates.shows_history(slots):
            slots["history"] = "\n\n".join([str(slots["history"]), *inserted])
            inserted = ()
        message = {"role": "user", "content": self.templates.user_message(slots, inserted)}
        if not (self.templates.is_transcript and shown):
            return [message]
        return [message, {"role": "assistant", "content": str(slots["history"])}]

    def appended(self, past: Sequence[Turn]) -> str:
        """Return the user message of a later turn of a growing chat."""
        return self.templates.appended_message(self._slots(past, 0))

    def _slots(self, past: Sequence[Turn], shown: int) -> dict[str, object]:
        write = self.templates.write_observation
        observations = [turn.observation for turn in past] + [self.observation]
        first = len(past) - shown
        written = [write(text, self.task, step) for step, text in enumerate(observations[first:], first + 1)]
        items = [
            {
                "step": first + number + 1,
                "observation": written[number],
                "action": turn.action,
                "result": written[number + 1],
                "completion": turn.completion,
                "task": self.task,
            }
            for number, turn in enumerate(past[first:])
        ]
        return {
            "task": self.task,
            "history": self.templates.write_history(items),
            "observation": written[-1],
            "commands": self.templates.write_commands(self.commands),
            "step": len(past) + 1,
            "steps_taken": len(past),
            "steps_shown": shown,
        }


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Prompt of one turn in parts, so that skills or other context can be inserted between task and history.

    Attributes:
        before: the role and the task.
        past: all past turns of the episode, oldest first, with each action as the model wrote it.
        history_length: how many of the latest turns are shown.
        after: the observation, the commands and the answer format.
        system: text of a system message; None for none.
        filled: the templates of a style that has some; `before` and `after` are empty then.
    """

    before: tuple[str, ...]
    past: tuple[Turn, ...]
    history_length: int
    after: tuple[str, ...]
    system: str | None = None
    filled: FilledTemplates | None = None

    @property
    def shown_turns(self) -> int:
        """How many past turns the prompt shows."""
        return min(self.history_length, len(self.past))

    def messages(self, inserted: Sequence[str] = (), after: Place = "task") -> list[dict[str, str]]:
        """Return the chat messages: a user message, after a system message if there is one.

        Args:
            inserted: paragraphs to insert.
            after: what they follow. Templates have them in their slot `skills`; those that are to follow the history
                stand at the end of the slot `history`, if the user message shows it.

        Raises:
            InvalidOption: there is no such place.
        """
        check_choice("after", after, get_args(Place))
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        if self.filled is not None:
            return [*messages, *self.filled.messages(self.past, self.shown_turns, inserted, after)]
        history = _history(self.past, self.history_length)
        middle = (*inserted, *history) if after == "task" else (*history, *inserted)
        paragraphs = (*self.before, *middle, *self.after)
        return [*messages, {"role": "user", "content": "\n\n".join(paragraphs)}]


def render_messages(
    style: PromptStyle,
    instruction: str,
    history: Sequence[Turn],
    observation: str,
    admissible_commands: Sequence[str],
    *,
    history_length: int = 2,
    system: str | None = None,
) -> list[dict[str, str]]:
    """Return the chat messages of one turn; the joined form of `prompt_parts` with the same arguments.

    Returns:
        `{"role": ..., "content": ...}` for each message. Equal arguments give equal messages.

    Raises:
        InvalidOption: `history_length` is negative.
    """
    return prompt_parts(
        style, instruction, history, observation, admissible_commands, history_length=history_length, system=system
    ).messages()


def prompt_parts(
    style: PromptStyle,
    instruction: str,
    history: Sequence[Turn],
    observation: str,
    admissible_commands: Sequence[str],
    *,
    history_length: int = 2,
    system: str | None = None,
) -> PromptParts:
    """Build the prompt of one turn, in parts.

    The task is said once. What `style.instruction_frames` names is cut out of observations, and the task's line is left
    out while the observation itself contains the instruction (case and spacing aside), as the first observation of
    ALFWorld does. At later turns it is always there, also while the history still shows the first observation, because
    history may be cut.

    Args:
        style: the suite's style, from `STYLES` or your own.
        instruction: the goal, `info["instruction"]`.
        history: all past turns of the episode, oldest first. Their number is the number of steps taken.
        observation: what the environment shows now.
        admissible_commands: `info["admissible_commands"]`; listed one per line in this order.
        history_length: how many of the latest turns to show.
        system: text for a system message.

    Raises:
        InvalidOption: `history_length` is negative.
    """
    if history_length < 0:
        raise InvalidOption(f"history_length is {history_length}; wanted 0 or more turns.")
    commands = tuple(command for command in admissible_commands if command not in style.hidden_commands)
    listed = commands if style.list_commands else ()
    if style.templates is not None:
        past = tuple(replace(turn, action=shown_action(style, turn.action)) for turn in history)
        filled = FilledTemplates(style.templates, instruction, observation, listed)
        parts = PromptParts((), past, history_length, (), system, filled)
    else:
        before, past, after = _paragraphs(style, instruction, history, observation, listed)
        parts = PromptParts(before, past, history_length, after, system)
    if style.max_characters is not None and len(parts.messages()[-1]["content"]) > style.max_characters:
        return replace(parts, history_length=0)
    return parts


def later_message(
    style: PromptStyle,
    instruction: str,
    history: Sequence[Turn],
    observation: str,
    admissible_commands: Sequence[str],
) -> str:
    """Return the user message of a later turn where the episode is one growing chat: only what is new.

    Args:
        style: as in `prompt_parts`, and so are the others.
        instruction: the goal.
        history: all past turns.
        observation: what the environment shows now.
        admissible_commands: listed if the style lists them.
    """
    if style.templates is None:
        style = terse(style)
    parts = prompt_parts(style, instruction, history, observation, admissible_commands, history_length=0)
    return "\n\n".join(parts.after) if parts.filled is None else parts.filled.appended(history)


def _paragraphs(
    style: PromptStyle,
    instruction: str,
    history: Sequence[Turn],
    observation: str,
    commands: Sequence[str],
) -> tuple[tuple[str, ...], tuple[Turn, ...], tuple[str, ...]]:
    """Return what stands before the history, the turns, and what stands after, in a style without templates."""
    past = tuple(
        Turn(_without_instruction(style, instruction, turn.observation), shown_action(style, turn.action))
        for turn in history
    )
    page = _without_instruction(style, instruction, observation)
    before = [style.role] if style.role else []
    if page != observation or _squeezed(instruction) not in _squeezed(observation):
        before.append(f"Your task: {instruction}")
    after = []
    if history:
        after.append(f"Observation now, at turn {len(history) + 1}:\n{page}")
    else:
        after.append(f"Observation:\n{page}")
    if commands:
        after.append("Commands you can give now:\n" + "\n".join(commands))
    if style.states_format:
        after.append(_answer_format(style))
    return tuple(before), past, tuple(after)


def _history(history: Sequence[Turn], length: int) -> list[str]:
    """Return the paragraphs on the past: none at the first turn."""
    if not history:
        return []
    start = max(0, len(history) - length)
    shown = [
        f"Turn {number}, observation: {turn.observation}\nTurn {number}, action: {turn.action}"
        for number, turn in enumerate(history[start:], start + 1)
    ]
    taken = f"Steps taken so far: {len(history)}."
    if shown and start:
        taken += f" The last {len(shown)}:" if len(shown) > 1 else " The last one:"
    return ["\n".join([taken, *shown])]


def _answer_format(style: PromptStyle) -> str:
    think = "First reason step by step inside <think>...</think>. "
    if style.action_format == "tools":
        return f"First reason step by step. Then call exactly one tool, once.{_tool_words(style)}"
    if style.action_format == "json":
        return f"{think}Then give exactly one {_calls(style)}"
    blocks = [f"<{tag}>...</{tag}>" for tag in style.action_tags]
    if len(blocks) == 1:
        return f"{think}Then give exactly one command inside {blocks[0]}."
    return f"{think}Then give exactly one of {' or '.join(blocks)}, once."


def _calls(style: PromptStyle) -> str:
    """Return how each command is written as a JSON object."""
    if len(style.tools) == 1:
        return f"JSON object that holds the command: {style.tools[0].call('...')}"
    if style.tag_is_command:
        return "\n".join(["of these JSON objects, once:", *(tool.call("...") for tool in style.tools)])
    lines = [f"{tool.command('...')} is written {tool.call('...')}" for tool in style.tools]
    return "\n".join(["command as a JSON object:", *lines])


def _tool_words(style: PromptStyle) -> str:
    """Return which tool gives which command, where the prompt names commands."""
    named = [f"{tool.command('...')} is the tool {tool.name}" for tool in style.tools if tool.before]
    return "" if style.tag_is_command or not named else f" {', '.join(named)}."


def _without_instruction(style: PromptStyle, instruction: str, observation: str) -> str:
    task = instruction.strip()
    for frame in style.instruction_frames if task else ():
        observation = observation.replace(frame.replace("{instruction}", task), "", 1)
    return observation


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
