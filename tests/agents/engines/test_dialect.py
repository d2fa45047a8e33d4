"""What is learnt of refusals, in the words of servers that are in use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sdar_agents.engines.servers.dialect import Dialect, Refused

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."}],
    "max_tokens": 4096,
    "temperature": 0.4,
    "seed": 5,
    "stop": ["</action>"],
}


def refused(message: str, parameter: str = "", status: int = 400) -> Refused:
    return Refused(status, json.dumps({"error": {"message": message, "param": parameter or None}}), message, parameter)


@pytest.mark.parametrize(
    ("message", "room"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (4904 in the "
            "messages, 4096 in the completion). Please reduce the length of the messages or completion.",
            8192 - 4904,
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 2048 "
            "tokens and your request has 300 input tokens (4096 > 2048 - 300).",
            2048 - 300,
        ),
        (
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
            "5000 tokens: 904 tokens from the input messages and 4096 tokens for the completion.",
            4096 - 904,
        ),
        (
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 300 `inputs` tokens "
            "and 4096 `max_new_tokens`",
            2048 - 300,
        ),
        ("This model's maximum context length is 2048 tokens. However, your request has 2100 input tokens.", None),
        ("the request exceeds the available context size. try increasing the context size", None),
        ("prompt is too long: 250000 tokens > 200000 maximum", None),
        ("Please reduce the length of the messages or completion.", None),
    ],
)
def test_prompts_that_are_too_long(message: str, room: int | None) -> None:
    found = refused(message)
    assert found.is_about_context
    assert found.room() == room
    dialect = Dialect()
    assert not dialect.learn(found, BODY)
    assert dialect.write(BODY) == BODY


@pytest.mark.parametrize(
    ("found", "kind", "changed"),
    [
        (
            refused(
                "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_tokens"
            ),
            "max_completion_tokens",
            {"max_tokens": None, "max_completion_tokens": 4096},
        ),
        (
            refused("max_tokens is too large: 4096. This model supports at most 2048 completion tokens."),
            "token_limit",
            {"max_tokens": 2048},
        ),
        (
            refused("`max_tokens` must be less than or equal to `1024`, the maximum value for this model"),
            "token_limit",
            {"max_tokens": 1024},
        ),
        (
            refused("Invalid max_tokens value, the valid range of max_tokens is [1, 512]"),
            "token_limit",
            {"max_tokens": 512},
        ),
        (refused("Unsupported parameter: 'seed'", "seed"), "no_seed", {"seed": None}),
        (refused("Unsupported parameter: 'stop' is not supported with this model.", "stop"), "no_stop", {"stop": None}),
        (
            refused("Unsupported value: 'messages[0].role' does not support 'system' with this model."),
            "system_role",
            {"messages": [{"role": "user", "content": "Be brief.\n\nGo."}]},
        ),
        (
            refused("Jinja Exception: System role not supported", status=500),
            "system_role",
            {"messages": [{"role": "user", "content": "Be brief.\n\nGo."}]},
        ),
        (
            refused("Developer instruction is not enabled for models/gemma-3"),
            "system_role",
            {"messages": [{"role": "user", "content": "Be brief.\n\nGo."}]},
        ),
        (
            refused("This model only support stream mode, please enable the stream parameter to access the model."),
            "stream",
            {"stream": True, "stream_options": {"include_usage": True}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_forms(found: Refused, kind: str, changed: dict[str, Any]) -> None:
    dialect = Dialect()
    assert dialect.learn(found, BODY)
    wanted = {name: value for name, value in {**BODY, **changed}.items() if value is not None}
    assert dialect.write(BODY) == wanted
    assert [(each["kind"], each["times"]) for each in dialect.adaptations.to_json()] == [(kind, 1)]


@pytest.mark.parametrize(
    "found",
    [
        refused("Unsupported value: 'temperature' does not support 0.4 with this model.", "temperature"),
        refused("Something else is wrong."),
        refused("Unsupported parameter: 'seed'", "seed", status=403),
        refused("Unsupported parameter: 'seed'", "seed", status=503),
    ],
)
def test_nothing_else_is_changed(found: Refused) -> None:
    dialect = Dialect()
    assert not dialect.learn(found, BODY)
    assert dialect.write(BODY) == BODY
    assert dialect.adaptations.to_json() == []


def test_settings_of_the_user_stay() -> None:
    dialect = Dialect(fixed=("seed", "max_tokens"))
    for found in (refused("no 'seed' supported", "seed"), refused("use max_completion_tokens", "max_tokens")):
        assert not dialect.learn(found, BODY)
    assert dialect.write(BODY) == BODY
