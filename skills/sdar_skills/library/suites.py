"""The suites that this library has skills for, and the kinds of task in each: what a skill file may name.

Environments tell the kind of a task in `Task.task_type`; these are the values that ours give. A suite that is not
listed here may name its kinds as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sdar_envs.alfworld.problem import TASK_TYPES as ALFWORLD_TYPES
from sdar_envs.search_qa.questions import QUESTION_TYPES, UNCLASSIFIED

__all__ = ["TASK_TYPES"]

TASK_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alfworld": ALFWORLD_TYPES,
        # The departments of the catalogue, embedded and official; a site of the original's kind does not tell them.
        "webshop": ("beauty", "electronics", "fashion", "garden", "grocery", "shopping"),
        "search_qa": (*QUESTION_TYPES, UNCLASSIFIED),
    }
)
"""The kinds of task of each suite."""
