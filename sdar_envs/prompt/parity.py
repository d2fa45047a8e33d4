"""Styles that read completions exactly as verl-agent and SDAR do, thoughts included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from sdar_envs.prompt.parsing import has_cjk, thought_of
from sdar_envs.prompt.style import STYLES, ParsedCompletion, PromptStyle

__all__ = ["PARITY_STYLES"]


def _verl_agent_parse(text: str, kept: int) -> ParsedCompletion:
    """Parse as `projection.py` of verl-agent's ALFWorld and WebShop; `kept` characters stand in for a missing block."""
    lower = text.lower()
    start, end = lower.find("<action>"), lower.find("</action>")
    if start == -1 or end == -1:
        return ParsedCompletion(lower[-kept:], False, thought_of(text))
    is_well_formed = "<think>" in text and "</think>" in text and not has_cjk(text)
    return ParsedCompletion(lower[start + len("<action>") : end].strip(), is_well_formed, thought_of(text))


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
