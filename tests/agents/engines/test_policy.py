"""Policies without a model in this process: scripts with and without tokens, and endpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from helpers.tiny_models import tiny_tokenizer

import sdar_envs
from sdar_agents.baselines.scripted import ExplorerAgent, OracleAgent, QuestionAsQueryAgent, RuleAgent
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.engines.servers.endpoint import EndpointPolicy
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.types import make_rows
from sdar_envs.errors import EndpointError, InvalidOption

SCRIPTS = {"sdar/ALFWorld-v0": OracleAgent, "sdar/WebShop-v0": RuleAgent, "sdar/SearchQA-v0": QuestionAsQueryAgent}


@pytest.mark.parametrize("env_id", SCRIPTS)
def test_a_script_with_a_tokenizer_makes_demonstrations(env_id: str) -> None:
    tokenizer = tiny_tokenizer()
    policy = ScriptedPolicy(
        SCRIPTS[env_id],
        reasoning=lambda situation, command: f"Turn {situation.turn_index}: {len(situation.observation)}.",
        tokenizer=tokenizer,
    )
    split = "valid_seen" if "ALFWorld" in env_id else "test"
    tasks = sdar_envs.tasks(env_id, split=split, limit=3)
    result = Rollout(RolloutSettings(env_id), policy).collect(tasks, group_size=2, seed=0, step=0)
    assert result.metrics["rollout/invalid"] == 0
    for trajectory in result.trajectories:
        for index, (turn, row) in enumerate(zip(trajectory.turns, make_rows(trajectory), strict=True)):
            text = turn.completion.text
            assert text.startswith(f"<think>Turn {index}: {len(turn.observation)}.</think>\n<")
            assert row.response_ids == (*tokenizer.encode(text), tokenizer.eos_token_id)
            assert row.sampler_logprobs is None
            assert row.prompt_ids == policy.encode(policy.render(turn.messages))


def test_scripts_take_episodes_up_where_they_begin() -> None:
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=4)
    rollout = Rollout(RolloutSettings("sdar/ALFWorld-v0"), ScriptedPolicy(ExplorerAgent))
    first = rollout.collect(tasks, group_size=1, seed=0, step=0)
    second = rollout.collect(tasks[::-1], group_size=1, seed=0, step=0)
    assert second.trajectories == first.trajectories[::-1]
    assert first.metrics["rollout/success"] == 1


def test_a_script_without_a_situation_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="without a situation"):
        ScriptedPolicy(OracleAgent).generate([Request((), 0)], Sampling())


class Server:
    """Says what it was asked; the third request is answered in as many tokens as are allowed."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        content = body["messages"][-1]["content"]
        tokens = 20 if content == "c" else 3
        answer = {
            "choices": [{"message": {"content": f"<action>{content}</action>", "reasoning_content": "Hm."}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens},
        }
        return httpx2.Response(self.status, json=answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    client = httpx2.AsyncClient
    monkeypatch.setattr(
        httpx2, "AsyncClient", lambda **settings: client(transport=httpx2.MockTransport(server), **settings)
    )
    return server


def test_an_endpoint_answers_in_words(server: Server) -> None:
    policy = EndpointPolicy("m", concurrency=2, retries=0, extra_body={"top_k": 5})
    asked = [Request((), 2**31 + i, [{"role": "user", "content": text}]) for i, text in enumerate("abc")]
    answers = policy.generate(asked, Sampling(20, 0.4, stop=("</action>",)))
    assert [answer.text for answer in answers] == [f"<action>{text}</action>" for text in "abc"]
    assert {answer.reasoning for answer in answers} == {"Hm."}
    assert [answer.stop_reason for answer in answers] == ["eos", "eos", "length"]
    assert all(answer.token_ids == () and answer.logprobs is None for answer in answers)
    by_content = {body["messages"][0]["content"]: body for body in server.bodies}
    assert by_content["b"]["seed"] == 1
    assert {name: by_content["b"][name] for name in ("model", "max_tokens", "temperature", "stop", "top_k")} == {
        "model": "m",
        "max_tokens": 20,
        "temperature": 0.4,
        "stop": ["</action>"],
        "top_k": 5,
    }

    async def inside_a_loop() -> Any:
        return policy.generate(asked[:1], Sampling(20, greedy=True))

    asyncio.run(inside_a_loop())
    assert server.bodies[-1]["temperature"] == 0
    assert "stop" not in server.bodies[-1]
    server.status = 404
    with pytest.raises(EndpointError, match="404"):
        policy.generate(asked, Sampling(20))


def test_an_endpoint_plays(server: Server) -> None:
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=2)
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 2})
    result = Rollout(settings, EndpointPolicy("m")).collect(tasks, group_size=1, seed=0, step=0)
    assert [len(trajectory.turns) for trajectory in result.trajectories] == [2, 2]
    assert all(turn.is_well_formed for trajectory in result.trajectories for turn in trajectory.turns)
    with pytest.raises(InvalidOption, match="prompt_ids is empty"):
        make_rows(result.trajectories[0])


def test_bad_settings_of_an_endpoint_are_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="concurrency is 0"):
        EndpointPolicy("m", concurrency=0)
    with pytest.raises(InvalidOption, match="base_url is 'nowhere'"):
        EndpointPolicy("m", base_url="nowhere")
    with pytest.raises(InvalidOption, match="max_tokens was given to EndpointPolicy"):
        EndpointPolicy("m", max_tokens=5)
