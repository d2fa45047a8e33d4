"""Declarations of a training method: what holds for it, for `check_algorithm` to test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Declarations"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Declarations(NamedTuple):
    """What a method says of itself; what it leaves out is not tested.

    Attributes:
        off: settings that switch off all that the method adds, such as `{"distill_coef": 0.0}`; empty if there are
            none.
        base: the method that remains then, bit for bit; None without `off`.
        bounds: least and greatest factor by which it multiplies a row's advantage; None if it does otherwise. A least
            factor from 0 on keeps the sign.
    """

    off: Mapping[str, Any] = _NOTHING
    base: type | None = None
    bounds: tuple[float, float] | None = None
