"""Action parsing: a model's completion to an action.

`parse_completion` accepts any text: it always returns an action, and `is_well_formed` says whether the completion kept
the format. Only the text after the thought is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdar_envs.errors import InvalidOption
from sdar_envs.prompt.style import DEFAULT_STYLE, ParsedCompletion, PromptStyle, block_of
from sdar_envs.tools import ToolCall, calls_in, command_of

__all__ = ["has_cjk", "parse_completion", "render_completion", "thought_of"]

_CJK = re.compile("[\u4e00-\u9fff]")
_QUOTES = frozenset({"``", '""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb"})
# How the history shows earlier turns, which models repeat.
_EARLIER_TURN = re.compile(r"Turn \d+, action: ?\Z")


def parse_completion(
    text: str,
    style: PromptStyle = DEFAULT_STYLE,
    *,
    prefilled: str = "",
    reasoning: str | None = None,
    tool_calls: Sequence[ToolCall] = (),
) -> ParsedCompletion:
    """Parse a model's completion into an action; accepts any string, in time linear in its length.

    The answer is the text after the last `</think>`; all of the text if it has no think tags; nothing if a `<think>`
    follows the last `</think>`, because that thought has not ended. Text before a thought is no answer either.

    The action is the content of the first action block of the answer, stripped: a closing tag and the nearest opening
    one before it. Blocks in quotation marks or backticks, empty ones, and earlier turns that are repeated as the prompt
    shows them (`Turn 2, action: ...`) count only if there is no other block. Without a block the completion is
    malformed and unreadable, and the action is empty.

    In a style whose `action_format` is `json` or `tools` the action is that of the first call: of `tool_calls` (for
    `tools`), else of the JSON objects in the answer (`sdar_envs.tools.calls_in`). A call of no known tool, or with
    malformed arguments, is unreadable too.

    Args:
        text: what the model wrote.
        style: the suite's style. Action tags are matched in any case, think tags as they are.
        prefilled: what the chat template already put at the start of the model's turn, such as `"<think>"`; it is
            read as if the model had written it.
        reasoning: the reasoning, if the server returned it apart from the text; `text` is then read alone, without
            `prefilled`, and the reasoning counts as the thought. None if it did not come apart.
        tool_calls: the tool calls that the server returned apart from the text.
    """
    whole = style.kept(prefilled + text if reasoning is None else text)
    if style.action_format != "tags":
        return _parse_calls(whole, style, reasoning, tool_calls if style.action_format == "tools" else ())
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
        is_well_formed = is_well_formed and _has_thought(whole)
    if style.refuse_cjk:
        is_well_formed = is_well_formed and not has_cjk(whole) and not has_cjk(reasoning or "")
    action = None
    if chosen is not None:
        action = f"{chosen.tag}[{chosen.content}]" if style.tag_is_command else chosen.content
    return _parsed(style, action, is_well_formed, thought_of(whole) if reasoning is None else reasoning)


def _parse_calls(whole: str, style: PromptStyle, reasoning: str | None, given: Sequence[ToolCall]) -> ParsedCompletion:
    calls = given or calls_in(_answer(whole))
    action = command_of(calls[0], style.tools) if calls else None
    is_well_formed = action is not None and (style.allow_repeats or len(calls) == 1)
    if style.require_reasoning and reasoning is None and style.action_format == "json":
        is_well_formed = is_well_formed and _has_thought(whole)
    if style.refuse_cjk:
        is_well_formed = is_well_formed and not any(map(has_cjk, (whole, reasoning or "", action or "")))
    # Text beside a native call is the thought: chat models call tools without think tags.
    thought = thought_of(whole) or (whole if given else "") if reasoning is None else reasoning
    return _parsed(style, action, is_well_formed, thought)


def _parsed(style: PromptStyle, action: str | None, is_well_formed: bool, thought: str) -> ParsedCompletion:
    """Return a completion with this action; None for one that cannot be read."""
    if action is None or (style.tag_is_command and not is_well_formed):
        return ParsedCompletion("", is_well_formed, thought.strip(), is_readable=False)
    return ParsedCompletion(action.lower() if style.lowercase else action, is_well_formed, thought.strip())


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
    text = f"<think>{reasoning}</think>\n{block_of(style, action)}"
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


def has_cjk(text: str) -> bool:
    """Return whether a text holds a CJK ideograph (U+4E00 to U+9FFF)."""
    return _CJK.search(text) is not None


def thought_of(text: str) -> str:
    """Return the text of the first think block, stripped; empty without one."""
    _, opened, rest = text.partition("<think>")
    inside, closed, _ = rest.partition("</think>")
    return inside.strip() if opened and closed else ""


def _has_thought(text: str) -> bool:
    return "<think>" in text and "</think>" in text


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
