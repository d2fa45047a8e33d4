"""Scoring options."""

import pytest

from sdar_agents.scoring.options import ScoringOptions
from sdar_envs.errors import InvalidOption


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(InvalidOption, match="top_k is 0; wanted a whole number of at least 1"):
        ScoringOptions(top_k=0)
    with pytest.raises(InvalidOption, match="chunk_elements is 0"):
        ScoringOptions(chunk_elements=0)
    with pytest.raises(InvalidOption, match="temperature is nan"):
        ScoringOptions(temperature=float("nan"))
