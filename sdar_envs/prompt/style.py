"""Prompt styles: how a suite is presented to a model, and how its completions are read.

`STYLES` has those of this package; `sdar_envs.prompt.resolve_style` finds your own by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from sdar_envs.errors import InvalidOption, check_choice
from sdar_envs.prompt.templates import PromptTemplates
from sdar_envs.tools import ACT, ANSWER, CLICK, FIND, SEARCH, ActionFormat, Tool

if TYPE_CHECKING:
    import gymnasium as gym

    from sdar_envs.core import Task

__all__ = [
    "DEFAULT_STYLE",
    "STYLES",
    "UNREADABLE",
    "ParsedCompletion",
    "PromptStyle",
    "Turn",
    "block_of",
    "shown_action",
    "style_for",
    "style_of",
    "terse",
    "with_action_format",
]

UNREADABLE = "(no readable action)"
"""What the history shows in place of the action of a completion that has none."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One past step of an episode: an observation and the action taken on it.

    Attributes:
        observation: what the environment showed.
        action: the command; `UNREADABLE` if the completion had none.
        completion: what the model wrote, up to the style's stop string; empty if it is not kept. Only templates show
            it.
    """

    observation: str
    action: str
    completion: str = ""


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """Prompt style of a suite: how its turns are presented to a model and how completions are parsed.

    Attributes:
        role: first paragraph of the prompt: where the agent is and what it can do; empty for none.
        action_tags: tags that hold an action; a completion has to use one of them.
        lowercase: lower-case the action.
        hidden_commands: admissible commands that the prompt does not list; they are accepted nevertheless.
        list_commands: list the admissible commands in the prompt.
        tag_is_command: the tag names the command: `<search>query</search>` is the action `search[query]`. A malformed
            completion then gives an empty action, so that nothing of it is carried out.
        allow_repeats: accept several action blocks, of which the first counts. Otherwise a completion with more than
            one opening action tag behind its thought is malformed.
        require_reasoning: a completion without `<think>` and `</think>` is malformed, unless the server has returned
            its reasoning apart.
        refuse_cjk: a completion with CJK ideographs (U+4E00 to U+9FFF) is malformed.
        max_characters: length from which a user message leaves the history out; None is no limit.
        states_format: end the prompt with the answer format.
        instruction_frames: texts around `{instruction}` with which observations repeat the task; prompts leave them out
            of the observations, past ones too, and say the task once.
        parse: a function that parses completions instead of these rules.
        tools: the kinds of commands, for the action formats `tools` and `json`.
        action_format: how actions are given: in tags (or as `parse` has it), as tool calls, or as JSON objects. The
            rules above hold for all three, except that a tool call needs no `<think>`.
        templates: templates that the prompts are made of, instead of `role` and the rest.
        history_length: how many of the latest turns a prompt shows, for players that are not told; None for 2.
        stop: strings that end a completion. It is read up to the first one that occurs in it, in the order given.

    Raises:
        InvalidOption: `action_tags` is not a tuple of at least one tag, `parse` is no function, or another value is out
            of range.
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
    instruction_frames: tuple[str, ...] = ()
    parse: Callable[[str], ParsedCompletion] | None = None
    tools: tuple[Tool, ...] = (ACT,)
    action_format: ActionFormat = "tags"
    templates: PromptTemplates | None = None
    history_length: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.action_tags, tuple) or not self.action_tags:
            raise InvalidOption(f"action_tags is {self.action_tags!r}; wanted a tuple of tags, such as ('action',).")
        for tag in self.action_tags:
            if not isinstance(tag, str) or not re.fullmatch(r"[^<>/\s]+", tag):
                raise InvalidOption(
                    f"action_tags holds {tag!r}; wanted names without blanks and <, > and /, such as 'action'."
                )
        if self.max_characters is not None and self.max_characters < 1:
            raise InvalidOption(f"max_characters is {self.max_characters}; wanted 1 or more, or None for no limit.")
        if self.parse is not None and not callable(self.parse):
            raise InvalidOption(f"parse is {self.parse!r:.80}; wanted a function that parses completions, or None.")
        if not self.tools:
            raise InvalidOption("tools is empty; wanted at least one, such as sdar_envs.tools.ACT.")
        check_choice("action_format", self.action_format, get_args(ActionFormat))
        if self.history_length is not None and self.history_length < 0:
            raise InvalidOption(f"history_length is {self.history_length}; wanted 0 or more turns, or None.")
        if "" in self.stop:
            raise InvalidOption("stop holds an empty string; wanted strings that end a completion.")

    def kept(self, completion: str) -> str:
        """Return a completion up to its stop string, which stays."""
        for text in self.stop:
            before, found, _ = completion.partition(text)
            if found:
                return before + found
        return completion


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """Action and reasoning parsed from a completion.

    Attributes:
        action: the command for the environment; never None, so that a malformed completion costs a step too.
        is_well_formed: whether the completion kept to the format. Whether the command is admissible is
            another question, which the environment answers with `info["is_action_valid"]`.
        reasoning: the reasoning that came apart, else the text of the first think block, or an empty string.
        is_readable: whether the completion has an action at all; without one, the history shows `UNREADABLE`. A parse
            function that leaves it True has its action shown in any case.
    """

    action: str
    is_well_formed: bool
    reasoning: str
    is_readable: bool = True

    def turn(self, observation: str, completion: str = "") -> Turn:
        """Return the turn as the history of later prompts shows it.

        Args:
            observation: what the completion answered.
            completion: what was parsed, for templates that show it.
        """
        return Turn(observation, self.action if self.is_readable else UNREADABLE, completion)


DEFAULT_STYLE = PromptStyle(
    role="You are in an interactive text environment. Each turn you read an observation and give one command.",
    refuse_cjk=False,
)
"""The style of environments that bring none of their own, named `default`."""

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
            refuse_cjk=False,  # official products have options such as 红色, which must be clicked
            max_characters=13_000,
            instruction_frames=(
                "Instruction: [SEP] {instruction} [SEP] ",
                "Instruction:\n{instruction}\n",
                "Instruction: \n{instruction}\n",
            ),
            tools=(FIND, CLICK),
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
            tools=(SEARCH, ANSWER),
        ),
    }
)
"""The styles of the suites, by suite name."""


def style_for(suite: str) -> PromptStyle:
    """Return the style of a suite, such as `alfworld`; `DEFAULT_STYLE` for suites that this package does not know.

    Raises:
        InvalidOption: the name is a task id.
    """
    if "/" in suite:
        raise InvalidOption(f"the suite is {suite[:200]!r}; wanted a suite's name, not a task id: pass task.suite.")
    return STYLES.get(suite, DEFAULT_STYLE)


def style_of(env: gym.Env[Any, Any], task: Task) -> PromptStyle:
    """Return the environment's own style, its attribute `prompt_style`, else the style of the task's suite.

    Raises:
        InvalidOption: `prompt_style` is no `PromptStyle`.
    """
    own = getattr(env.unwrapped, "prompt_style", None)
    if own is None:
        return style_for(task.suite)
    if not isinstance(own, PromptStyle):
        raise InvalidOption(
            f"{type(env.unwrapped).__name__}.prompt_style is {own!r:.80}; wanted a sdar_envs.PromptStyle."
        )
    return own


def terse(style: PromptStyle) -> PromptStyle:
    """Return the style without role and answer format, for models trained on prompts without them.

    Raises:
        InvalidOption: the style has templates, which hold both.
    """
    if style.templates is not None:
        raise InvalidOption(
            "a terse prompt leaves out role and answer format, which are words of this style's templates: leave out "
            "terse, or take them out of the templates."
        )
    return replace(style, role="", states_format=False)


def with_action_format(style: PromptStyle, action_format: ActionFormat | None) -> PromptStyle:
    """Return the style with another action format, which its prompts ask for.

    Args:
        style: asks for tags.
        action_format: None for the style's own.

    Raises:
        InvalidOption: there is no such format, or the style's prompts say theirs in words of their own.
    """
    if action_format is None or action_format == style.action_format:
        return style
    check_choice("action_format", action_format, get_args(ActionFormat))
    if style.templates is not None or not style.states_format:
        raise InvalidOption(
            f"action_format is {action_format!r}, but the prompt style asks for actions in words of its own: leave "
            "action_format out, or choose a style with states_format and without templates."
        )
    return replace(style, action_format=action_format)


def shown_action(style: PromptStyle, action: str) -> str:
    """Return an action as the history shows it: as the model wrote it, where that is more than the command."""
    return block_of(style, action) if style.tag_is_command else action


def block_of(style: PromptStyle, action: str) -> str:
    """Return the tag block or JSON object that `parse_completion` reads as this action; the action if there is none."""
    if style.action_format != "tags":
        for tool in style.tools:
            argument = tool.argument(action)
            if argument is not None:
                return tool.call(argument)
        return action
    if not style.tag_is_command:
        return f"<{style.action_tags[0]}>{action}</{style.action_tags[0]}>"
    tag, bracket, rest = action.partition("[")
    is_command = bracket and rest.endswith("]") and tag in style.action_tags
    return f"<{tag}>{rest[:-1].strip()}</{tag}>" if is_command else action
