"""Turns -> chat messages, completion -> action: the two text formats between an environment and a language model.

The prompt of a turn is rebuilt from scratch: one user message with the task, the last few turns, the
observation and the commands. The model's reasoning is never fed back: a `Turn` holds only the action that
was taken. What a suite says in its own way is one `PromptStyle` in `STYLES`.

It refuses chat templates, tokens and memory: those belong to whoever runs the model. `parse_completion` refuses
nothing: any text gives an action, and `is_well_formed` says whether the format was kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sdar_envs.errors import InvalidOption

if TYPE_CHECKING:
    import gymnasium as gym

__all__ = [
    "DEFAULT_STYLE",
    "STYLES",
    "ParsedCompletion",
    "PromptParts",
    "PromptStyle",
    "Turn",
    "parse_completion",
    "prompt_parts",
    "render_completion",
    "render_messages",
    "style_for",
    "style_of",
    "terse",
]

_FALLBACK_LENGTH = 200
_CJK = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Turn:
    """A past exchange: what was seen, then done."""

    observation: str
    action: str


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How one suite is put to a model, and how its answers are read.

    Attributes:
        role: a paragraph that says where the agent is and what it can do; empty for none.
        action_tags: the tags that hold an action; one of them is wanted in each completion.
        lowercase: lower-case the action.
        hidden_commands: admissible commands that the prompt does not list; they still work.
        list_commands: list the admissible commands at all.
        tag_is_command: the tag names the command: `<search>query</search>` is the action `search[query]`. A completion
            that is not valid gives an empty action then, so that nothing of it is carried out.
        allow_repeats: accept several action blocks, of which the first counts. Otherwise a completion with
            more than one opening action tag, wherever it stands, is invalid.
        require_reasoning: accept only completions that hold `<think>` and `</think>`.
        refuse_cjk: accept only completions without CJK ideographs (U+4E00 to U+9FFF).
        max_characters: leave the history out of user messages that would be longer; None is no limit.
        states_format: say how to answer.
        parse: reads completions in a way of its own, instead of by these rules.
    """

    role: str
    action_tags: tuple[str, ...] = ("action",)
    lowercase: bool = False
    hidden_commands: frozenset[str] = frozenset()
    list_commands: bool = True
    tag_is_command: bool = False
    allow_repeats: bool = True
    require_reasoning: bool = True
    refuse_cjk: bool = True
    max_characters: int | None = None
    states_format: bool = True
    parse: Callable[[str], ParsedCompletion] | None = None


@dataclass(frozen=True, slots=True)
class PromptParts:
    """One turn's prompt before its paragraphs are joined, so that something can be put between them.

    Attributes:
        before: the role and the task.
        past: all past turns of the episode, oldest first, with each action as the model wrote it.
        history_length: how many of the latest turns are shown.
        after: the observation, the commands and the answer format.
        system: text of a system message; None for none.
    """

    before: tuple[str, ...]
    past: tuple[Turn, ...]
    history_length: int
    after: tuple[str, ...]
    system: str | None = None

    @property
    def shown_turns(self) -> int:
        """How many past turns the prompt shows."""
        return min(self.history_length, len(self.past))

    def messages(self, inserted: Sequence[str] = ()) -> list[dict[str, str]]:
        """Return the chat messages: a user message, after a system message if there is one.

        Args:
            inserted: paragraphs to put between the task and the past.
        """
        paragraphs = (*self.before, *inserted, *_history(self.past, self.history_length), *self.after)
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*messages, {"role": "user", "content": "\n\n".join(paragraphs)}]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """What a completion says.

    Attributes:
        action: the command for the environment; never None, so that an invalid completion costs a step too.
        is_well_formed: whether the completion kept to the format. Whether the command is admissible is
            another question, which the environment answers with `info["is_action_valid"]`.
        reasoning: the text of the first think block, or an empty string.
    """

    action: str
    is_well_formed: bool
    reasoning: str


DEFAULT_STYLE = PromptStyle(
    role="You are in an interactive text environment. Each turn you read an observation and give one command.",
    refuse_cjk=False,
)
"""For environments that have no style of their own."""

STYLES: Mapping[str, PromptStyle] = MappingProxyType(
    {
        "alfworld": PromptStyle(
            role=(
                "You are a robot in a house that is described to you in words. You can walk to furniture and "
                "appliances, open and close them, look at what they hold, carry one object at a time, and "
                "heat, cool, clean or slice it with the right tool. Each turn you read an observation and give one "
                "command."
            ),
            lowercase=True,
            hidden_commands=frozenset({"help"}),
        ),
        "webshop": PromptStyle(
            role=(
                "You are shopping in an online store for someone who tells you what to buy. search[words] looks for "
                "products and shows ten to a page; click[name] follows a link or presses a button: a product's code "
                "opens its page, where you can read about it and choose among its options by their values. Buy the "
                "product that fits the instruction best, options and price included: click[buy now] ends the task, so "
                "choose the options first. Each turn you read a page, whose parts are separated by [SEP], and give one "
                "command."
            ),
            lowercase=True,
            max_characters=13_000,
        ),
        "search_qa": PromptStyle(
            role=(
                "You answer a question with the help of a search engine. A search shows a few passages of an "
                "encyclopedia: ask for one fact at a time, in the words that its title would have, and use what you "
                "read to ask for the next. You have few turns, so answer as soon as you know: the answer ends the "
                "task. It is compared word by word, so give the bare name, number or date and no sentence."
            ),
            action_tags=("search", "answer"),
            list_commands=False,
            tag_is_command=True,
            allow_repeats=False,
            require_reasoning=False,
            refuse_cjk=False,
        ),
    }
)
"""The styles of the suites, by suite name."""


def style_for(task_id: str) -> PromptStyle:
    """Return the style of a task's suite, such as `alfworld/train/0017`; `DEFAULT_STYLE` if it has none."""
    return STYLES.get(task_id.split("/", 1)[0], DEFAULT_STYLE)


def style_of(env: gym.Env[str, str], task_id: str) -> PromptStyle:
    """Return the style that an environment asks for by its attribute `prompt_style`, else that of the task's suite."""
    own = getattr(env.unwrapped, "prompt_style", None)
    return own if isinstance(own, PromptStyle) else style_for(task_id)


def terse(style: PromptStyle) -> PromptStyle:
    """Return the style without its role and without the answer format, for models that were trained to need neither."""
    return replace(style, role="", states_format=False)


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
    """Return the chat messages of one turn: the joined `prompt_parts` of the same arguments.

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
    """Return the parts of one turn's prompt.

    The task is said once: its line is left out while the observation itself contains the instruction (case and
    spacing aside), as the first observation of ALFWorld does. At later turns it is always there, also while
    the history still shows the first observation, because history may be cut.

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
    before = [style.role] if style.role else []
    if _squeezed(instruction) not in _squeezed(observation):
        before.append(f"Your task: {instruction}")
    after = []
    if history:
        after.append(f"Observation now, at turn {len(history) + 1}:\n{observation}")
    else:
        after.append(f"Observation:\n{observation}")
    commands = [command for command in admissible_commands if command not in style.hidden_commands]
    if style.list_commands and commands:
        after.append("Commands you can give now:\n" + "\n".join(commands))
    if style.states_format:
        after.append(_answer_format(style))
    past = tuple(Turn(turn.observation, _shown(style, turn.action)) for turn in history)
    parts = PromptParts(tuple(before), past, history_length, tuple(after), system)
    if style.max_characters is not None and len(parts.messages()[-1]["content"]) > style.max_characters:
        return replace(parts, history_length=0)
    return parts


def parse_completion(text: str, style: PromptStyle = DEFAULT_STYLE, *, prefilled: str = "") -> ParsedCompletion:
    """Read a model's completion. Any string is answered, in time linear in its length.

    The action is what stands between the first opening action tag and the first closing one after it, stripped.
    Without such a block the completion is invalid, and its last non-empty line (at most its
    last 200 characters) is the action, so that the environment can answer it.

    Args:
        text: what the model wrote.
        style: the suite's style. Action tags are matched in any case, think tags as they are.
        prefilled: what the chat template already put at the start of the model's turn, such as `"<think>"`; it is
            read as if the model had written it.
    """
    whole = prefilled + text
    if style.parse is not None:
        return style.parse(whole)
    block = None
    for tag in style.action_tags:
        opening = _tag(tag).search(whole)
        closing = _tag(f"/{tag}").search(whole, opening.end()) if opening else None
        if opening and closing:
            inner = whole[opening.end() : closing.start()].strip()
            block = f"{tag}[{inner}]" if style.tag_is_command else inner
            break
    is_well_formed = block is not None
    if not style.allow_repeats:
        is_well_formed = is_well_formed and sum(len(_tag(tag).findall(whole)) for tag in style.action_tags) == 1
    if style.require_reasoning:
        is_well_formed = is_well_formed and "<think>" in whole and "</think>" in whole
    if style.refuse_cjk:
        is_well_formed = is_well_formed and not _CJK.search(whole)
    if style.tag_is_command and not is_well_formed:
        block = ""
    action = _last_line(text) if block is None else block
    return ParsedCompletion(action.lower() if style.lowercase else action, is_well_formed, _reasoning(whole))


def render_completion(style: PromptStyle, action: str, reasoning: str) -> str:
    """Return the completion that `parse_completion` reads as this action: for demonstrations and scripted policies.

    Args:
        style: the suite's style.
        action: a command.
        reasoning: what to think before.

    Raises:
        InvalidOption: no completion of this style is valid and holds this action and this reasoning.
    """
    action = action.strip().lower() if style.lowercase else action.strip()
    text = f"<think>{reasoning}</think>\n{_block(style, action)}"
    if parse_completion(text, style) != ParsedCompletion(action, True, reasoning.strip()):
        raise InvalidOption(
            f"the action {action!r:.80} with the reasoning {reasoning!r:.80} does not survive the format: wanted "
            f"text without the tags think and {', '.join(style.action_tags)}"
            f"{' inside and without CJK characters' if style.refuse_cjk else ' inside'}"
            f"{', and a command named like a tag' if style.tag_is_command else ''}."
        )
    return text


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


def _shown(style: PromptStyle, action: str) -> str:
    """Return an action as the model wrote it."""
    return _block(style, action) if style.tag_is_command else action


def _block(style: PromptStyle, action: str) -> str:
    """Return the block that `parse_completion` reads as this action; the action itself if there is none."""
    if not style.tag_is_command:
        return f"<{style.action_tags[0]}>{action}</{style.action_tags[0]}>"
    tag, bracket, rest = action.partition("[")
    is_command = bracket and rest.endswith("]") and tag in style.action_tags
    return f"<{tag}>{rest[:-1].strip()}</{tag}>" if is_command else action


def _answer_format(style: PromptStyle) -> str:
    blocks = [f"<{tag}>...</{tag}>" for tag in style.action_tags]
    think = "First reason step by step inside <think>...</think>. "
    if len(blocks) == 1:
        return f"{think}Then give exactly one command inside {blocks[0]}."
    return f"{think}Then give exactly one of {' or '.join(blocks)}, once."


def _reasoning(text: str) -> str:
    _, opened, rest = text.partition("<think>")
    inside, closed, _ = rest.partition("</think>")
    return inside.strip() if opened and closed else ""


def _last_line(text: str) -> str:
    # rstrip, then one search from the right: splitting a megabyte of newlines into lines would be a waste.
    text = text.rstrip()
    return text[max(text.rfind("\n"), text.rfind("\r")) + 1 :][-_FALLBACK_LENGTH:].strip()


def _tag(name: str) -> re.Pattern[str]:
    # ASCII: otherwise IGNORECASE also takes U+017F, the long s, for the s of <search>.
    return re.compile(re.escape(f"<{name}>"), re.IGNORECASE | re.ASCII)


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
