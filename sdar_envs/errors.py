"""The exception tree. Every message says what came, what was wanted and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ContractViolation",
    "CorruptData",
    "EndpointError",
    "EpisodeOver",
    "InvalidAction",
    "InvalidOption",
    "MissingData",
    "MissingExtra",
    "RunStopped",
    "SdarError",
    "UnknownName",
    "UnsolvableGame",
    "UnsupportedGame",
    "did_you_mean",
]


class SdarError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidAction(SdarError, TypeError):
    """The action is not text. Text that the environment cannot use is an observation, not an error."""


class InvalidOption(SdarError, ValueError):
    """An argument or a reset option has a value that the environment cannot use."""


class UnknownName(SdarError, LookupError):
    """No environment, split, task, option or agent has that name."""


class EpisodeOver(SdarError, RuntimeError):
    """`step` or `snapshot` was called without a running episode: reset first."""


class MissingData(SdarError, FileNotFoundError):
    """Official data was asked for and is not on this machine."""


class MissingExtra(SdarError, ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that installs it."""


class CorruptData(SdarError, ValueError):
    """A data file exists and cannot be read as what it should be."""


class UnsupportedGame(SdarError, ValueError):
    """A game file is sound, but its domain, grammar or goal is not one that this engine implements."""


class UnsolvableGame(SdarError, ValueError):
    """No plan reaches the goal from the current state."""


class ContractViolation(SdarError, AssertionError):
    """An environment breaks the contract that `check_env` checks."""


class EndpointError(SdarError, ConnectionError):
    """A model's server cannot be reached, or does not answer as it should."""


class RunStopped(SdarError, RuntimeError):
    """An evaluation could not go on. What was finished is in its folder."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string."""
    if not isinstance(name, str):
        return ""
    # difflib is quadratic in the length of the name: a caller's accident must not hang us.
    close = difflib.get_close_matches(name[:200], list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
