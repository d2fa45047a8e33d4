"""HTTP retry policy: exponential backoff with jitter, `Retry-After`, retryable statuses and one deadline.

It decides and computes; it sends nothing, sleeps nowhere and imports no HTTP library, so that synchronous and
asynchronous clients share it:

    attempts = RetryPolicy(retries=8).start(Deadline(120.0))
    while True:
        response = send(timeout=attempts.left())
        if not is_retryable(response.status):
            break
        time.sleep(attempts.pause(response.headers.get("Retry-After")))  # or RetriesExhausted
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, SdarError

__all__ = ["Attempts", "Deadline", "RetriesExhausted", "RetryPolicy", "is_retryable", "retry_after_seconds"]

_RETRYABLE = frozenset({408, 409, 425, 429})
# Not Implemented and HTTP Version Not Supported: the same request fails again.
_LASTING = frozenset({501, 505})
_SECONDS = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


class RetriesExhausted(SdarError, TimeoutError):
    """No further attempt is allowed; the message says which limit is reached, as a clause without a full stop."""


def is_retryable(status: int) -> bool:
    """Return whether a request with this response status may succeed when it is repeated.

    True for 408, 409, 425, 429 and every 5xx but 501 and 505.
    """
    return status in _RETRYABLE or (500 <= status < 600 and status not in _LASTING)


def retry_after_seconds(value: str | None) -> float:
    """Return the seconds that a `Retry-After` header asks to wait, from now.

    Args:
        value: the header: seconds, whole or with a fraction (`120`, `1.5`), or an HTTP date; None if there is none.

    Returns:
        0 or more; 0 if the header is missing, cannot be read, or names a date in the past.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    # HTTP dates are in GMT; the parser leaves a date that does not say so without a zone.
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


class Deadline:
    """A point in time by which some work must be done. Requests of the same work share one.

    Args:
        seconds: from now; None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._ends_at = math.inf if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left: infinite without a limit, negative after the deadline."""
        return self._ends_at - time.monotonic()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed request is repeated, and after which pauses.

    The pause after failure `n` (from 1) is `b / 2 + u`, with `b = min(backoff_seconds * 2**(n - 1),
    longest_backoff_seconds)` and `u` uniform in `[0, b / 2]` ("equal jitter"), so that clients that were turned away
    together do not come back together. If `Retry-After` asks for more than `b / 2`, that takes its place.

    Attributes:
        retries: how often a request is repeated at most.
        backoff_seconds: the first backoff `b`.
        longest_backoff_seconds: the largest `b`.
        longest_retry_after: the longest wait, in seconds, that a server may ask for; if it asks for more, the request
            is not repeated.

    Raises:
        InvalidOption: a value is out of range.
    """

    retries: int = 6
    backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 30.0
    longest_retry_after: float = 300.0

    def __post_init__(self) -> None:
        if not is_integer(self.retries) or self.retries < 0:
            raise InvalidOption(f"retries is {self.retries!r}; wanted a number from 0.")
        for name in ("backoff_seconds", "longest_backoff_seconds", "longest_retry_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InvalidOption(f"{name} is {value!r}; wanted seconds above 0.")

    def start(self, deadline: Deadline | None = None, draw: Callable[[], float] = random.random) -> Attempts:
        """Return the state of one request that is about to be sent for the first time.

        Args:
            deadline: for all attempts and pauses together; None for no limit.
            draw: uniform numbers from 0 to below 1, for the jitter.
        """
        return Attempts(self, deadline or Deadline(), draw)


class Attempts:
    """The retry state of one request; made by `RetryPolicy.start`.

    Attributes:
        failures: the attempts that have failed so far.
    """

    def __init__(self, policy: RetryPolicy, deadline: Deadline, draw: Callable[[], float]) -> None:
        self.failures = 0
        self._policy = policy
        self._deadline = deadline
        self._draw = draw

    def left(self) -> float:
        """Return the seconds that are left until the deadline: the longest useful timeout of the next attempt."""
        return self._deadline.left()

    def pause(self, retry_after: str | None = None) -> float:
        """Count a failed attempt and return the seconds to wait before the next one.

        Args:
            retry_after: the response's `Retry-After` header, if any.

        Raises:
            RetriesExhausted: there is no next attempt: the retries are used up, the deadline would pass first, or the
                server asks for too long a wait.
        """
        self.failures += 1
        policy = self._policy
        if self.failures > policy.retries:
            raise RetriesExhausted(f"attempt {self.failures}; retries={policy.retries} is used up")
        asked = retry_after_seconds(retry_after)
        if asked > policy.longest_retry_after:
            raise RetriesExhausted(f"attempt {self.failures}; the server asks to wait {asked:.0f} s")
        # Bounded, because a float overflows at 2**1024.
        backoff = min(policy.backoff_seconds * 2.0 ** min(self.failures - 1, 64), policy.longest_backoff_seconds)
        pause = max(asked, backoff / 2) + backoff / 2 * self._draw()
        if pause >= self._deadline.left():
            raise RetriesExhausted(
                f"attempt {self.failures}; deadline={self._deadline.seconds:g}, and a pause of {pause:.1f} s would be "
                "due"
            )
        return pause
