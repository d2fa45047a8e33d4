"""Task types of each suite: the values of `Task.task_type` that a skill file may name.

A suite that is not listed, such as a user's own, may name its task types freely.
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
        # The departments of the embedded and the official catalogue; a site of the original's kind does not name them.
        "webshop": ("beauty", "electronics", "fashion", "garden", "grocery", "shopping"),
        "search_qa": (*QUESTION_TYPES, UNCLASSIFIED),
    }
)
"""Task types by suite."""
