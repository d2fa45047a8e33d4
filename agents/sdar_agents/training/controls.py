"""Negative controls of a training run by name: the same run without the thing that a method is said to gain from.

    sdar train --config NAME --method sdar --control wrong-skills

A control is one setting of the run (`control`), so it is in `config.yaml` and `run.json`, and a comparison names it.
That a coefficient of 0 is GRPO, bit for bit, is a test and needs no run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

__all__ = ["CONTEXT_CONTROLS", "CONTROLS", "EXTRA_STEPS", "LOSS_CONTROLS", "Control", "parse_control"]

CONTEXT_CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        "wrong-skills": "the teacher reads the context of another task (skills of another task type, or false ones)",
        "empty-skills": "the teacher reads the words around the context, and no context",
        "neutral-text": "the teacher reads a text on something else, as many tokens long",
    }
)
"""Controls of what the teacher reads."""

LOSS_CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        "permuted-weights": "the teacher's numbers are permuted among the tokens of a response",
        "no-sign": "the size of the teacher's gap counts, and its sign does not",
        "teacher-is-student": "the teacher reads what the student reads",
    }
)
"""Controls of what the loss makes of the teacher."""

EXTRA_STEPS = "extra-steps"

CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        **CONTEXT_CONTROLS,
        **LOSS_CONTROLS,
        EXTRA_STEPS: "more steps, as a share of them (extra-steps=0.5): a teacher's compute spent on more training",
    }
)
"""All controls: what each does."""


class Control(NamedTuple):
    """A control: its name, and its value if it takes one."""

    name: str
    value: float = 0.0


def parse_control(text: str) -> Control:
    """Parse `NAME` or `extra-steps=SHARE`.

    Raises:
        UnknownName: there is no such control.
        InvalidOption: a value is missing, out of range, or given to a control that takes none.
    """
    name, equals, value = text.partition("=")
    if name not in CONTROLS:
        raise UnknownName(
            f"control is {name!r}; wanted one of {', '.join(CONTROLS)}=SHARE.{did_you_mean(name, CONTROLS)}"
        )
    if name != EXTRA_STEPS:
        if equals:
            raise InvalidOption(f"control is {text!r}; wanted {name} without a value.")
        return Control(name)
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 < share < math.inf:
        raise InvalidOption(f"control is {text!r}; wanted a share above 0, such as extra-steps=0.5.")
    return Control(name, share)
