"""The retry policy of every HTTP client: what is repeated, after which pause, and until when."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.http.retries import Deadline, RetriesExhausted, RetryPolicy, is_retryable, retry_after_seconds


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529, 599])
def test_statuses_that_may_pass_are_retryable(status: int) -> None:
    assert is_retryable(status)


@pytest.mark.parametrize("status", [200, 204, 301, 307, 400, 401, 403, 404, 413, 422, 501, 505, 600])
def test_statuses_that_last_are_not_retryable(status: int) -> None:
    assert not is_retryable(status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        (".25", 0.25),
        ("3.", 3.0),
        ("9" * 400, math.inf),
        (None, 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e3", 0.0),
        ("١٢", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds(header: str | None, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds


@pytest.mark.parametrize("is_zone_named", [True, False])
def test_retry_after_is_read_as_a_date_in_gmt(is_zone_named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        text = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        assert 95 < retry_after_seconds(text if is_zone_named else text.removesuffix(" GMT")) <= 100
    finally:
        monkeypatch.undo()
        time.tzset()


def test_pauses_double_up_to_the_longest_and_are_jittered_by_half() -> None:
    policy = RetryPolicy(retries=8, backoff_seconds=0.5, longest_backoff_seconds=30.0)
    shortest, longest, middle = (policy.start(draw=lambda share=share: share) for share in (0.0, 1.0, 0.5))
    backoffs = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert [shortest.pause() for _ in backoffs] == [backoff / 2 for backoff in backoffs]
    assert [longest.pause() for _ in backoffs] == backoffs
    assert [middle.pause() for _ in backoffs] == [backoff * 0.75 for backoff in backoffs]


def test_pauses_are_at_least_what_the_server_asks_for() -> None:
    attempts = RetryPolicy(backoff_seconds=1.0).start(draw=lambda: 0.5)
    assert [attempts.pause("10"), attempts.pause("1.25"), attempts.pause("0.1")] == [10.25, 1.75, 3.0]


def test_retries_are_used_up() -> None:
    attempts = RetryPolicy(retries=2).start()
    assert [attempts.pause() > 0, attempts.pause() > 0, attempts.failures] == [True, True, 2]
    with pytest.raises(RetriesExhausted, match=r"^attempt 3; retries=2 is used up$"):
        attempts.pause()
    with pytest.raises(SdarError):
        RetryPolicy(retries=0).start().pause()


def test_a_wait_that_is_too_long_is_not_waited_for() -> None:
    policy = RetryPolicy(longest_retry_after=60.0)
    assert policy.start().pause("60") >= 60
    with pytest.raises(RetriesExhausted, match=r"attempt 1; the server asks to wait 3600 s"):
        policy.start().pause("3600")
    with pytest.raises(RetriesExhausted, match="inf"):
        policy.start().pause("9" * 400)


def test_requests_of_the_same_work_share_a_deadline() -> None:
    deadline = Deadline(20.0)
    policy = RetryPolicy(backoff_seconds=1.0, longest_backoff_seconds=8.0)
    first, second = policy.start(deadline), policy.start(deadline)
    assert 19 < first.left() <= 20
    assert first.pause("15") >= 15
    with pytest.raises(RetriesExhausted, match=r"attempt 1; deadline=20, and a pause of 2\d\.\d s would be due"):
        second.pause("20")
    assert Deadline(-1.0).left() < 0
    with pytest.raises(RetriesExhausted, match="deadline=-1"):
        policy.start(Deadline(-1.0)).pause()


def test_without_a_deadline_time_is_infinite_and_many_failures_do_not_overflow() -> None:
    attempts = RetryPolicy(retries=2000).start()
    assert attempts.left() == math.inf
    assert max(attempts.pause() for _ in range(2000)) <= 30.0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"retries": True}, "retries is True"),
        ({"backoff_seconds": 0}, "backoff_seconds is 0; wanted seconds above 0"),
        ({"backoff_seconds": math.nan}, "backoff_seconds is nan"),
        ({"longest_retry_after": "5"}, "longest_retry_after is '5'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        RetryPolicy(**settings)  # type: ignore[arg-type]
