"""A completion's JSON form."""

from __future__ import annotations

import json

import pytest

from sdar_agents import Completion


@pytest.mark.parametrize(
    "completion",
    [Completion((8, 9), (-0.5, -1.25), "look", "length"), Completion((), None, "look", "eos", "Well.", 7, 3)],
)
def test_a_completion_comes_back_from_json(completion: Completion) -> None:
    assert Completion(**json.loads(json.dumps(completion.to_json()))) == completion


def test_json_leaves_out_what_is_not_known() -> None:
    assert set(Completion((1,), None, "x", "eos").to_json()) == {"token_ids", "logprobs", "text", "stop_reason"}
