"""Prompts and action parsing: episode turns to chat messages, model completions to actions.

How a suite is presented is one `PromptStyle`; `STYLES` has those of this package, and `resolve_style` finds your own by
name, as an object or a file. `prompt_parts` builds the prompt of a turn, `parse_completion` reads what a model wrote.
`sdar_envs.chat` does both for a whole episode. Chat templates, tokenisation and memory are the caller's.

The styles of `PARITY_STYLES` have the same prompts and read completions exactly as verl-agent and SDAR do, thoughts
included. `sdar_envs.prompt.originals` reads the prompts of other projects into a file.
"""

from sdar_envs.prompt.files import resolve_style
from sdar_envs.prompt.parity import PARITY_STYLES
from sdar_envs.prompt.parsing import parse_completion, render_completion
from sdar_envs.prompt.parts import Place, PromptParts, later_message, prompt_parts, render_messages
from sdar_envs.prompt.style import (
    DEFAULT_STYLE,
    STYLES,
    UNREADABLE,
    ParsedCompletion,
    PromptStyle,
    Turn,
    style_for,
    style_of,
    terse,
    with_action_format,
)
from sdar_envs.prompt.templates import PromptTemplates

__all__ = [
    "DEFAULT_STYLE",
    "PARITY_STYLES",
    "STYLES",
    "UNREADABLE",
    "ParsedCompletion",
    "Place",
    "PromptParts",
    "PromptStyle",
    "PromptTemplates",
    "Turn",
    "later_message",
    "parse_completion",
    "prompt_parts",
    "render_completion",
    "render_messages",
    "resolve_style",
    "style_for",
    "style_of",
    "terse",
    "with_action_format",
]
