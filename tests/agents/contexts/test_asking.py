"""The models that contexts ask: the policy itself, and one behind an endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.endpoints import Reply, chat, serving
from helpers.tiny_models import tiny_policy

from sdar_agents.contexts.asking import AskEndpoint, AskPolicy
from sdar_agents.contexts.base import Cost
from sdar_agents.engines.policy import Sampling
from sdar_agents.training.config import AnalystSettings
from sdar_agents.training.run.context import make_ask
from sdar_envs.errors import EndpointError, InvalidOption, MissingExtra, UnknownName


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_policy_answers_in_one_batch_and_counts_its_tokens() -> None:
    policy = tiny_policy()
    ask = AskPolicy(policy, Sampling(5))
    chats = [question("a"), question("a"), question("b")]
    answers = ask(chats, seed=1)
    assert all(answer is not None for answer in answers)
    generated = sum(len(answer.token_ids) for answer in answers if answer is not None)
    read = sum(len(policy.encode(policy.render(chat))) for chat in chats)
    assert ask.cost == Cost(3, read, generated)
    assert ask(chats, seed=1) == answers  # the same seed, the same answers
    assert [a and a.token_ids for a in ask(chats, seed=2)] != [a and a.token_ids for a in answers]
    assert ask([], seed=1) == []


def test_a_question_that_does_not_fit_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy()
    policy.model.config.max_position_embeddings = 40
    ask = AskPolicy(policy, Sampling(5))
    assert [ask.fits(question("x" * n)) for n in (5, 50)] == [True, False]
    short, long = ask([question("x"), question("x" * 50)], seed=0)
    assert short is not None
    assert long is None
    with pytest.raises(InvalidOption, match=r"context\.analyst\.max_new_tokens is 40, and the policy's context has 40"):
        AskPolicy(policy, Sampling(40))


def test_an_endpoint_answers_and_a_failed_request_is_a_missing_answer() -> None:
    def respond(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        return Reply('{"error": {"message": "no"}}', 400) if text == "bad" else chat(f"to {text}", tokens=(7, 3))

    with serving(respond) as server:
        ask = AskEndpoint("tiny", base_url=server.url, concurrency=2, max_tokens=9, temperature=0.5)
        answers = ask([question(text) for text in ("a", "bad", "b")], seed=0)
        assert [None if answer is None else answer.text for answer in answers] == ["to a", None, "to b"]
        assert ask.cost == Cost(3, 14, 6)
        assert server.most_in_flight <= 2
        bodies = [body for _, body in server.requests]
        assert {(body["model"], body["max_tokens"], body["temperature"]) for body in bodies} == {("tiny", 9, 0.5)}
        assert len({body["seed"] for body in bodies}) == 3
        assert ask([], seed=0) == []


def test_an_endpoint_that_answers_nothing_is_an_error() -> None:
    with serving(lambda body: Reply("{}", 401)) as server:
        ask = AskEndpoint("tiny", base_url=server.url)
        with pytest.raises(EndpointError, match="401"):
            ask([question("a"), question("b")], seed=0)


def test_the_analyst_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_ask(AnalystSettings(), tiny_policy()), AskPolicy)
    with pytest.raises(InvalidOption, match="retries is -1"):
        make_ask(AnalystSettings(model="tiny", options={"retries": -1}), tiny_policy())
    with pytest.raises(UnknownName, match=r"'retrys', which is no option of an endpoint.*Did you mean 'retries'\?"):
        make_ask(AnalystSettings(model="tiny", options={"retrys": 1}), tiny_policy())
    with pytest.raises(UnknownName, match="'max_tokens', which is no option"):
        make_ask(AnalystSettings(model="tiny", options={"max_tokens": 1}), tiny_policy())
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sdar-envs\[openai-compatible\]'"):
        make_ask(AnalystSettings(model="tiny"), tiny_policy())
