"""Completion parsing of the reference implementation (SDAR, verl-agent), for `compat="sdar"`.

Everything here is a defect on purpose: a search next to an answer or inside a thought is carried out. Use
`sdar_envs.prompt` for anything else.

Source: `projection.py` in SDAR and verl-agent.
"""

from __future__ import annotations

import dataclasses
import re

from sdar_envs.prompt import STYLES, ParsedCompletion, PromptStyle, parse_completion

__all__ = ["STYLE", "project", "tagged"]

_TAGS = ("search", "answer")
_OPENINGS = {tag: re.compile(f"<{tag}>", re.IGNORECASE) for tag in _TAGS}
_CLOSINGS = {tag: re.compile(f"</{tag}>", re.IGNORECASE) for tag in _TAGS}


def project(completion: str) -> ParsedCompletion:
    """Parse a completion as the reference does; the action is empty if it finds none.

    The text is cut after the first `</search>`, else after the first `</answer>` (in lower case only). Then the first
    search block counts, else the first answer block, in any case. If the whole text has both tags, or one of them
    twice, the action is carried out although it is not well-formed.
    """
    cut = completion
    for end in ("</search>", "</answer>"):
        before, found, _ = completion.partition(end)
        if found:
            cut = before + found
            break
    action = ""
    for tag in _TAGS:
        # Not one pattern for both tags: on a text that only opens them it would take quadratic time.
        opening = _OPENINGS[tag].search(cut)
        closing = _CLOSINGS[tag].search(cut, opening.end()) if opening else None
        if opening and closing:
            action = f"{tag}[{cut[opening.end() : closing.start()].strip()}]"
            break
    openings = [len(pattern.findall(completion)) for pattern in _OPENINGS.values()]
    reasoning = parse_completion(completion, STYLES["search_qa"]).reasoning
    return ParsedCompletion(action, bool(action) and sum(openings) == 1, reasoning)


STYLE: PromptStyle = dataclasses.replace(STYLES["search_qa"], parse=project)
"""Prompt style whose completions are parsed as the reference does."""


def tagged(command: str) -> str:
    """Return a command in the reference's tags, `<search>query</search>`; an empty text for anything else."""
    for tag in _TAGS:
        if command.startswith(f"{tag}[") and command.endswith("]"):
            return f"<{tag}>{command[len(tag) + 1 : -1]}</{tag}>"
    return ""
