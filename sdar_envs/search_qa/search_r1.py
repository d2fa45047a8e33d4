"""Completion parsing, invalid-action text and scoring of Search-R1, for `compat="search-r1"`.

Everything here is a defect on purpose: tags inside thoughts act, and the last answer block of prompt and transcript is
scored, whoever wrote it. Use `sdar_envs.prompt` and the behaviour `fixed` for anything else.

The environment's action is the completion itself, cut after its block: thoughts count for the reward. `search[query]`
and `answer[text]`, as scripted players write them, stand for a completion that is nothing but the block. A completion
that reads like one of these is written `completion[...]`.

What needs the policy's tokenizer is left to the trainer: the cut of observations at 500 tokens (`max_obs_length`) and
of the transcript at 4,096 (`max_prompt_length`), and decoding without special tokens.

Source: `generation.py`, `qa_em.py` and `qa_em_format.py` of PeterGriffinJin/Search-R1 at commit a14dc3a (Apache License
2.0), from which `INVALID_ACTION` is quoted, because parity needs what the model was shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from sdar_envs.prompt import STYLES, ParsedCompletion, PromptStyle, parse_completion
from sdar_envs.search_qa.scoring import answer_blocks, is_well_formed, shows_answer

__all__ = ["INVALID_ACTION", "PROMPT_TAGS", "STYLE", "Reading", "action_of", "block", "cut", "read", "written"]

INVALID_ACTION = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)
"""What Search-R1 appends to a completion without a search or answer block."""

PROMPT_TAGS = (
    "<think> and </think> <search> query </search> <information> and </information> <answer> and </answer> "
    "<answer> Beijing </answer>"
)
"""The tag blocks of Search-R1's prompt, which its rewards read together with the transcript."""

_TAGS = ("search", "answer")


def cut(completion: str) -> str:
    """Return the completion up to its first `</search>`; without one, up to its first `</answer>`, else whole."""
    for end in ("</search>", "</answer>"):
        before, found, _ = completion.partition(end)
        if found:
            return before + found
    return completion


def block(completion: str) -> tuple[str, str] | None:
    """Parse a completion; return `search` or `answer` and the stripped text of the block that acts, None for no block.

    Of the cut completion, the first opening tag counts that has a closing tag of its own kind after it.
    """
    text = cut(completion)
    found = []
    for tag in _TAGS:
        # Not one pattern for both tags: on a text that only opens them it would take quadratic time.
        _, opened, rest = text.partition(f"<{tag}>")
        inside, closed, _ = rest.partition(f"</{tag}>")
        if opened and closed:
            found.append((len(rest), tag, inside.strip()))
    return max(found)[1:] if found else None


def action_of(completion: str) -> str:
    """Return the environment's action for a completion."""
    text = cut(completion)
    return f"completion[{text}]" if _is_written_otherwise(text) else text


def written(action: str) -> str:
    """Return the cut completion that an action is made of."""
    if not _is_written_otherwise(action):
        return cut(action)
    name, _, rest = action.partition("[")
    text = rest[:-1]
    return cut(text) if name == "completion" else f"<{name}>{text}</{name}>"


def _is_written_otherwise(text: str) -> bool:
    return text.endswith("]") and text.startswith(("search[", "answer[", "completion["))


def _parse(completion: str) -> ParsedCompletion:
    reasoning = parse_completion(completion, STYLES["search_qa"]).reasoning
    return ParsedCompletion(action_of(completion), block(completion) is not None, reasoning)


STYLE: PromptStyle = dataclasses.replace(STYLES["search_qa"], parse=_parse)
"""Prompt style whose completions are parsed as Search-R1 does."""


class Reading(NamedTuple):
    """What Search-R1's rewards read in an episode.

    Attributes:
        answer: the answer that is scored; None if there are fewer than two answer blocks.
        well_formed: the transcript keeps to the format.
        shows: an information block holds a golden answer.
    """

    answer: str | None
    well_formed: bool
    shows: bool


def read(transcript: str, answers: Sequence[str], *, prompt: str = PROMPT_TAGS, is_text: bool = False) -> Reading:
    """Read a transcript as Search-R1's reward functions do.

    Args:
        transcript: all completions and observations.
        answers: golden answers.
        prompt: the text before the transcript; its blocks count.
        is_text: the golden answers came as one text, not as a list: then each of its letters counts as an answer that
            an information block may hold.
    """
    blocks = answer_blocks(prompt + transcript)
    letters_or_answers = tuple(answers[0]) if is_text and answers else answers
    return Reading(
        blocks[-1].strip() if len(blocks) > 1 else None,
        is_well_formed(transcript),
        shows_answer(prompt + transcript, letters_or_answers),
    )
