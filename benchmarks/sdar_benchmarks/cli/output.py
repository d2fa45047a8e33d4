"""Output of all verbs: lines without control characters. Tables are printed by `analysis.terminal`."""

from __future__ import annotations

__all__ = ["say"]


def say(*parts: object, error: bool = False, end: str = "\n") -> None:
    """Print on standard output, or on standard error, with control characters as their numbers.

    Args:
        *parts: put between blanks.
        error: print on standard error.
        end: printed after them.
    """
    from sdar_envs.printing import say  # --help does not wait for this package

    say(*parts, error=error, end=end)
