"""Base class of contexts that remember nothing from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["Stateless"]


class Stateless:
    """Context without a state: `state_dict` is empty."""

    least_group: ClassVar[int] = 1
    needs_both_prompts: ClassVar[bool] = False
    is_of_task: ClassVar[bool] = False

    @property
    def view_count(self) -> int:
        """Views of a turn."""
        return 1

    def state_dict(self) -> Mapping[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""
