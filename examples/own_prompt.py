"""A prompt style of your own: `own_prompt:BRIEF`, or the same as a file (`own_prompt.yaml`).

A style says how a turn is presented and how a completion is parsed. This one asks for ALFWorld commands in brackets.
"""

import re
from dataclasses import replace

from sdar_envs.prompt import STYLES, ParsedCompletion

_COMMAND = re.compile(r"\[([^\[\]]*)\]")


def parse_brackets(completion: str) -> ParsedCompletion:
    """Return the last command in square brackets; the text before it is the reasoning."""
    found = list(_COMMAND.finditer(completion))
    if not found:
        return ParsedCompletion(action=completion.strip()[-200:], is_well_formed=False, reasoning="")
    command = found[-1]
    return ParsedCompletion(command[1].strip().lower(), is_well_formed=True, reasoning=completion[: command.start()])


BRIEF = replace(
    STYLES["alfworld"],
    role="You are a robot in a house. Reason in a line, then give one command in square brackets, such as [look].",
    states_format=False,
    parse=parse_brackets,
)
