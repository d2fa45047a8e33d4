"""What official data is on this machine, suite by suite: what is there, what is missing and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sdar_envs.errors import UnknownName, did_you_mean

__all__ = ["CHECKED_SUITES", "Finding", "check_data", "compared"]

CHECKED_SUITES: Mapping[str, str] = MappingProxyType(
    {
        "alfworld": "sdar_envs.alfworld.data_check",
        "webshop": "sdar_envs.webshop.data_check",
        "search_qa": "sdar_envs.search_qa.data_check",
    }
)
"""Module with the check of each suite's data: its `check(data_dir)` yields findings."""


class Finding(NamedTuple):
    """One line about official data.

    Attributes:
        state: `there`; `missing`, or other than published; `note`, for what nothing is wrong with.
        text: what it is.
    """

    state: Literal["there", "missing", "note"]
    text: str


def check_data(suite: str, data_dir: Any = None) -> Iterator[Finding]:
    """Yield what is there and what is missing of a suite's official data, as soon as it is known.

    Args:
        suite: `alfworld`, `webshop` or `search_qa`.
        data_dir: where the data is, as for the environment; None for its default place.

    Raises:
        UnknownName: there is no such suite.
        InvalidOption: the folder cannot be named so.
    """
    if suite not in CHECKED_SUITES:
        raise UnknownName(
            f"no suite {suite!r}; official data is known of {', '.join(CHECKED_SUITES)}."
            f"{did_you_mean(suite, CHECKED_SUITES)}"
        )
    check: Any = import_module(CHECKED_SUITES[suite]).check
    findings: Iterator[Finding] = check(data_dir)
    return findings


def compared(what: str, count: int, published: int | None) -> Finding:
    """Return a finding about a count.

    Args:
        what: what is counted, such as `train: games`.
        count: how many there are.
        published: how many there should be; None where no number was published.
    """
    if published is None:
        return Finding("note", f"{what}: {count:,}")
    if count == published:
        return Finding("there", f"{what}: {count:,}, as published")
    return Finding("missing", f"{what}: {count:,}, and {published:,} are published")
