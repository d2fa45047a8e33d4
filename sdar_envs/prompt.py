"""Prompt templates and action parsing: episode turns to chat messages, model completions to actions.

The prompt of a turn is built from scratch: one user message with the task, the last few turns, the observation and
the admissible commands. Past reasoning is not part of it: a `Turn` holds only the action. How a suite is presented is
one `PromptStyle`; `STYLES` has those of this package, and `resolve_style` finds your own by name.

Chat templates, tokenisation and memory are the caller's. `parse_completion` accepts any text: it always
returns an action, and `is_well_formed` says whether the completion kept the format. Only the text after the thought
is the answer; a completion without a readable action gives an empty one, and the history then says so (`UNREADABLE`).

The styles of `PARITY_STYLES` have the same prompts and read completions exactly as verl-agent and SDAR do, thoughts
included.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path, names_from

if TYPE_CHECKING:
    import gymnasium as gym

    from sdar_envs.core import Task

__all__ = [
    "DEFAULT_STYLE",
    "PARITY_STYLES",
    "STYLES",
    "UNREADABLE",
    "ParsedCompletion",
    "PromptParts",
    "PromptStyle",
    "Turn",
    "parse_completion",
    "prompt_parts",
    "render_completion",
    "render_messages",
    "resolve_style",
    "style_for",
    "style_of",
    "terse",
]

UNREADABLE = "(no readable action)"
"""What the history shows in place of the action of a completion that has none."""

_CJK = re.compile("[\u4e00-\u9fff]")
_QUOTES = frozenset({"``", '""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb"})
# How the history shows earlier turns, which models repeat.
_EARLIER_TURN = re.compile(r"Turn \d+, action: ?\Z")


@dataclass(frozen=True, slots=True)
class Turn:
    """One past step of an episode: an observation and the action taken on it."""

    observation: str
    action: str


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

    Raises:
        InvalidOption: `action_tags` is not a tuple of at least one tag.
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

    def __post_init__(self) -> None:
        if not isinstance(self.action_tags, tuple) or not self.action_tags:
            raise InvalidOption(f"action_tags is {self.action_tags!r}; wanted a tuple of tags, such as ('action',).")


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Prompt of one turn in parts, so that skills or other context can be inserted between task and history.

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

    def turn(self, observation: str) -> Turn:
        """Return the turn as the history of later prompts shows it.

        Args:
            observation: what the completion answered.
        """
        return Turn(observation, self.action if self.is_readable else UNREADABLE)


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


def _verl_agent_parse(text: str, kept: int) -> ParsedCompletion:
    """Parse as `projection.py` of verl-agent's ALFWorld and WebShop; `kept` characters stand in for a missing block."""
    lower = text.lower()
    start, end = lower.find("<action>"), lower.find("</action>")
    if start == -1 or end == -1:
        return ParsedCompletion(lower[-kept:], False, _reasoning(text))
    is_well_formed = "<think>" in text and "</think>" in text and not _CJK.search(text)
    return ParsedCompletion(lower[start + len("<action>") : end].strip(), is_well_formed, _reasoning(text))


def _verl_agent_alfworld(text: str) -> ParsedCompletion:
    return _verl_agent_parse(text, 30)


def _verl_agent_webshop(text: str) -> ParsedCompletion:
    return _verl_agent_parse(text, 20)


PARITY_STYLES: Mapping[str, PromptStyle] = MappingProxyType(
    {
        "verl-agent/alfworld": replace(STYLES["alfworld"], parse=_verl_agent_alfworld),
        "verl-agent/webshop": replace(STYLES["webshop"], parse=_verl_agent_webshop),
    }
)
"""Styles that read completions as verl-agent and SDAR do: the first `<action>` up to the first `</action>` of the
lower-cased text, thoughts included; without them the last 30 characters (ALFWorld) or 20 (WebShop) are the action, and
stand in the history. The projection of Search-QA is the style of `compat="sdar"`, by name
`sdar_envs.search_qa.reference:STYLE`."""


def resolve_style(name: str) -> PromptStyle:
    """Return the prompt style of that name: a built-in one, an object of your own or a file.

    Args:
        name: a suite (`alfworld`, `webshop`, `search_qa`) or `default`; one of `PARITY_STYLES`; `module:STYLE` (see
            `sdar_envs.importing.import_named`); or a file that ends in `.yaml`, `.yml` or `.json` and holds fields of
            `PromptStyle`, where `parse` is a function's `module:name`.

    Raises:
        UnknownName: there is no such style, module or object, or the file has a key that is no field.
        InvalidOption: the object is no `PromptStyle`, or a field of the file has a value of the wrong type.
        MissingData: there is no such file.
        CorruptData: the file is not YAML or JSON of a mapping.
    """
    known = {"default": DEFAULT_STYLE, **STYLES, **PARITY_STYLES}
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml", ".json")):
        return _style_from_file(Path(name).expanduser())
    if not is_import_path(name):
        raise UnknownName(
            f"no prompt style {name!r}; wanted one of {', '.join(known)}, your own as module:STYLE, or a .yaml or "
            f".json file with fields of PromptStyle.{did_you_mean(name, known)}"
        )
    style = import_named(name, what="a prompt style")
    if not isinstance(style, PromptStyle):
        raise InvalidOption(f"{name} is {style!r:.80} ({type(style).__name__}); wanted a sdar_envs.PromptStyle.")
    return style


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
    """Return the style without role and answer format, for models trained on prompts without them."""
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
    past = tuple(
        Turn(_without_instruction(style, instruction, turn.observation), _shown(style, turn.action)) for turn in history
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
    commands = [command for command in admissible_commands if command not in style.hidden_commands]
    if style.list_commands and commands:
        after.append("Commands you can give now:\n" + "\n".join(commands))
    if style.states_format:
        after.append(_answer_format(style))
    parts = PromptParts(tuple(before), past, history_length, tuple(after), system)
    if style.max_characters is not None and len(parts.messages()[-1]["content"]) > style.max_characters:
        return replace(parts, history_length=0)
    return parts


def parse_completion(
    text: str, style: PromptStyle = DEFAULT_STYLE, *, prefilled: str = "", reasoning: str | None = None
) -> ParsedCompletion:
    """Parse a model's completion into an action; accepts any string, in time linear in its length.

    The answer is the text after the last `</think>`; all of the text if it has no think tags; nothing if a `<think>`
    follows the last `</think>`, because that thought has not ended. Text before a thought is no answer either.

    The action is the content of the first action block of the answer, stripped: a closing tag and the nearest opening
    one before it. Blocks in quotation marks or backticks, empty ones, and earlier turns that are repeated as the prompt
    shows them (`Turn 2, action: ...`) count only if there is no other block. Without a block the completion is
    malformed and unreadable, and the action is empty.

    Args:
        text: what the model wrote.
        style: the suite's style. Action tags are matched in any case, think tags as they are.
        prefilled: what the chat template already put at the start of the model's turn, such as `"<think>"`; it is
            read as if the model had written it.
        reasoning: the reasoning, if the server returned it apart from the text; `text` is then read alone, without
            `prefilled`, and the reasoning counts as the thought. None if it did not come apart.
    """
    whole = prefilled + text if reasoning is None else text
    if style.parse is not None:
        parsed = style.parse(whole)
        return parsed if reasoning is None or parsed.reasoning else replace(parsed, reasoning=reasoning.strip())
    found, openings = _find_blocks(_answer(whole), style.action_tags)
    chosen = next((block for block in found if not block.is_mention and block.content), None)
    chosen = chosen or next((block for block in found if not block.is_mention), found[0] if found else None)
    is_well_formed = chosen is not None
    if not style.allow_repeats:
        mentions = sum(block.is_mention for block in found)
        is_well_formed = is_well_formed and openings - (mentions if mentions < len(found) else 0) == 1
    if style.require_reasoning and reasoning is None:
        is_well_formed = is_well_formed and "<think>" in whole and "</think>" in whole
    if style.refuse_cjk:
        is_well_formed = is_well_formed and not _CJK.search(whole) and not _CJK.search(reasoning or "")
    action = ""
    if chosen is not None and (is_well_formed or not style.tag_is_command):
        action = f"{chosen.tag}[{chosen.content}]" if style.tag_is_command else chosen.content
    return ParsedCompletion(
        action.lower() if style.lowercase else action,
        is_well_formed,
        _reasoning(whole) if reasoning is None else reasoning.strip(),
        is_readable=chosen is not None and (is_well_formed or not style.tag_is_command),
    )


def render_completion(style: PromptStyle, action: str, reasoning: str) -> str:
    """Return the completion that `parse_completion` parses into this action; for demonstrations and scripted policies.

    Args:
        style: the suite's style.
        action: a command.
        reasoning: what to think before.

    Raises:
        InvalidOption: no well-formed completion of this style holds this action and this reasoning.
    """
    action = action.strip().lower() if style.lowercase else action.strip()
    text = f"<think>{reasoning}</think>\n{_block(style, action)}"
    # The action of some styles is the completion itself.
    wanted = [ParsedCompletion(parsed, True, reasoning.strip()) for parsed in (action, text)]
    if parse_completion(text, style) not in wanted:
        raise InvalidOption(
            f"the action {action!r:.80} with the reasoning {reasoning!r:.80} does not survive the format: wanted "
            f"text without the tags think and {', '.join(style.action_tags)}"
            f"{' inside and without CJK characters' if style.refuse_cjk else ' inside'}"
            f"{', and a command named like a tag' if style.tag_is_command else ''}."
        )
    return text


def _style_from_file(path: Path) -> PromptStyle:
    import yaml  # noqa: PLC0415  # `import sdar_envs` stays light

    try:
        text = path.read_text(encoding="utf-8")
        given = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        raise MissingData(f"no prompt style file {str(path)!r}; the working directory is {os.getcwd()}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CorruptData(f"the prompt style {path} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise CorruptData(f"the prompt style {path} holds {given!r:.50}; wanted a mapping of PromptStyle's fields.")
    kinds = {field.name: str(field.type) for field in fields(PromptStyle)}
    required = [field.name for field in fields(PromptStyle) if field.default is MISSING]
    for name in given:
        if name not in kinds:
            raise UnknownName(
                f"{path} has a key {name!r}; the fields of a prompt style are {', '.join(kinds)}."
                f"{did_you_mean(name, kinds)}"
            )
    for name in required:
        if name not in given:
            raise InvalidOption(f"{path} has no {name!r}; a prompt style needs it, an empty text for none.")
    names_from(given, path)
    return PromptStyle(**{name: _field_value(path, name, kinds[name], value) for name, value in given.items()})


def _field_value(path: Path, name: str, kind: str, value: Any) -> Any:
    """Return a field's value as `PromptStyle` wants it, from the value in a file."""
    wanted = "true or false"
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "str":
        wanted = "text"
        if isinstance(value, str):
            return value
    elif kind == "int | None":
        wanted = "a number of characters, or null for no limit"
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
    elif kind.startswith("Callable"):
        wanted = "the module:name of a function"
        if value is None or isinstance(value, str):
            return None if value is None else import_named(value, what="a parse function")
    else:
        wanted = "a list of texts"
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value) if kind.startswith("tuple") else frozenset(value)
    raise InvalidOption(f"{name} in {path} is {value!r:.80}; wanted {wanted}.")


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


def _answer(text: str) -> str:
    """Return the text after the thought; nothing if the thought has not ended."""
    end = text.rfind("</think>")
    answer = text if end < 0 else text[end + len("</think>") :]
    return "" if "<think>" in answer else answer


@dataclass(frozen=True, slots=True)
class _Block:
    """An action block; `is_mention` if it is quoted, or repeats an earlier turn."""

    tag: str
    content: str
    is_mention: bool


def _find_blocks(text: str, tags: Sequence[str]) -> tuple[list[_Block], int]:
    """Return the action blocks of an answer in order, and the number of opening tags."""
    names = {tag.lower(): tag for tag in tags}
    # ASCII: otherwise IGNORECASE also takes U+017F, the long s, for the s of <search>.
    pattern = re.compile(f"<(/?)({'|'.join(map(re.escape, tags))})>", re.IGNORECASE | re.ASCII)
    blocks: list[_Block] = []
    opening: re.Match[str] | None = None
    openings = 0
    for match in pattern.finditer(text):
        if not match[1]:
            opening = match
            openings += 1
        elif opening is not None and opening[2].lower() == match[2].lower():
            before = text[max(0, opening.start() - 40) : opening.start()]
            is_mention = before[-1:] + text[match.end() : match.end() + 1] in _QUOTES or bool(
                _EARLIER_TURN.search(before)
            )
            content = text[opening.end() : match.start()].strip()
            blocks.append(_Block(names[match[2].lower()], content, is_mention))
            opening = None
    return blocks, openings


def _without_instruction(style: PromptStyle, instruction: str, observation: str) -> str:
    task = instruction.strip()
    for frame in style.instruction_frames if task else ():
        observation = observation.replace(frame.replace("{instruction}", task), "", 1)
    return observation


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
