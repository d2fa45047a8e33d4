"""Exceptions of all packages. Every message says what came, what was wanted and what to do."""

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
    "PromptTooLong",
    "RunStopped",
    "SdarError",
    "UnknownName",
    "UnsolvableGame",
    "UnsupportedGame",
    "check_choice",
    "did_you_mean",
]


class SdarError(Exception):
    """Base class of the exceptions that this package raises on purpose."""


class InvalidAction(SdarError, TypeError):
    """The action is not a str. Text that the environment does not accept is no error: the observation says so."""


class InvalidOption(SdarError, ValueError):
    """An argument or option has an unusable value."""


class UnknownName(SdarError, LookupError):
    """No environment, split, task, option, agent or other object has that name."""


class EpisodeOver(SdarError, RuntimeError):
    """`step` or `snapshot` was called without a running episode: reset first."""


class MissingData(SdarError, FileNotFoundError):
    """Data that was asked for is not on this machine."""


class MissingExtra(SdarError, ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that installs it."""


class CorruptData(SdarError, ValueError):
    """A file exists and its content is damaged or of another format."""


class UnsupportedGame(SdarError, ValueError):
    """A game file is valid, but its domain, grammar or goal is not implemented by this engine."""


class UnsolvableGame(SdarError, ValueError):
    """No plan reaches the goal from the current state."""


class ContractViolation(SdarError, AssertionError):
    """An environment breaks the contract that `check_env` checks."""


class EndpointError(SdarError, ConnectionError):
    """A server cannot be reached or gives an unusable response."""


class PromptTooLong(InvalidOption):
    """A prompt has more tokens than the model reads."""


class RunStopped(SdarError, RuntimeError):
    """An evaluation or training run stopped early. What was finished is in its folder."""


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse a value of an argument that is not one of the allowed ones.

    Args:
        name: the argument, for the message.
        value: what was given.
        allowed: what may be given.

    Raises:
        InvalidOption: the value is something else; the message lists the allowed ones.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise InvalidOption(f"{name} is {value!r}; wanted one of {', '.join(allowed)}.{did_you_mean(value, allowed)}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string."""
    if not isinstance(name, str):
        return ""
    # difflib is quadratic in the length of the name: a caller's accident must not hang us.
    close = difflib.get_close_matches(name[:200], list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
