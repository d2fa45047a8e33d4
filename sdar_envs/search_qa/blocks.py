"""Information blocks: how found passages are shown, in three forms.

`fixed` is ours. `sdar` is a JSON object, so line breaks, quotes and every character beyond ASCII come escaped.
`search-r1` puts the title into the first line. The latter two equal the originals' in every character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from sdar_envs.search_qa.retrieval.retriever import Hit

__all__ = ["BLOCKS", "fixed_block", "listed", "neutral", "sdar_block", "search_r1_block"]

# Tags by which prompts and transcripts are taken apart. Control tokens of chat templates are left to whoever encodes a
# prompt, see sdar_envs.control_tokens.
_CONTROL_TAG = re.compile(r"<(\s*/?\s*(?:think|search|information|answer|action)\s*)>", re.IGNORECASE)


def neutral(text: str) -> str:
    """Return a passage with its control tags in square brackets, so that no parser reads them."""
    return _CONTROL_TAG.sub(r"[\1]", text)


def fixed_block(hits: Sequence[Hit]) -> str:
    """Return the passages as they are, one to a line, with control tags neutralised."""
    if not hits:
        return "<information>\nNo passage found.\n</information>"
    shown = "\n".join(f"Doc {number}: {neutral(hit.passage.contents.strip())}" for number, hit in enumerate(hits, 1))
    return f"<information>\n{shown}\n</information>"


def listed(contents: Sequence[str]) -> str:
    """Return passages as the reference's search tool lists them."""
    return "".join(f"Doc {number}: {text.strip()}\n" for number, text in enumerate(contents, 1))


def sdar_block(text: str) -> str:
    """Return the output of the reference's search tool as its environment shows it.

    Source: `SearchEnv` of skyrl_gym in SDAR and verl-agent: `json.dumps` with its defaults.
    """
    return f"<information>{json.dumps({'result': text})}</information>"


def search_r1_block(hits: Sequence[Hit]) -> str:
    """Return the passages as Search-R1 shows them: the title with its quotes in the first line.

    Source: `_passages2string` and `execute_predictions` in Search-R1's `generation.py`. The cut at 500 tokens, which
    needs the policy's tokenizer, is left to the trainer.
    """
    shown = ""
    for number, hit in enumerate(hits, 1):
        title, _, text = hit.passage.contents.partition("\n")
        shown += f"Doc {number}(Title: {title}) {text}\n"
    return f"\n\n<information>{shown.strip()}</information>\n\n"


BLOCKS: Mapping[str, Callable[[Sequence[Hit]], str]] = MappingProxyType(
    {
        "fixed": fixed_block,
        "sdar": lambda hits: sdar_block(listed([hit.passage.contents for hit in hits])),
        "search-r1": search_r1_block,
    }
)
"""Renderer of hits by behaviour."""
