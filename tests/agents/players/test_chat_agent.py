"""The chat agent's settings: appended chats, action formats, and what a run records of them."""

import asyncio
import json

import pytest
from helpers.endpoints import Reply, chat, serving

from sdar_agents import open_agent
from sdar_agents.baselines.scripted import OracleAgent
from sdar_agents.engines.batching import BatchingPolicy
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.engines.servers.endpoint import Endpoint
from sdar_agents.players.chat import ChatAgent
from sdar_agents.types import Completion
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.runs import RunWriter
from sdar_envs import make_text_env
from sdar_envs.errors import EndpointError, InvalidOption
from sdar_envs.tools import ACT, ToolCall, tool_schemas

ALFWORLD = "sdar/ALFWorld-v0"


def settings(server, **more):
    return {"model": "m", "base_url": server.url, **more}


@pytest.mark.parametrize("env_id", [ALFWORLD, "sdar/WebShop-v0", "sdar/SearchQA-v0"])
@pytest.mark.parametrize("more", [{"action_format": "json"}, {"action_format": "tools"}, {"history": "appended"}])
def test_a_script_wins_in_all_forms(env_id, more):
    async def play():
        env = make_text_env(env_id)
        agent = ChatAgent(BatchingPolicy(ScriptedPolicy(OracleAgent), Sampling()), **more)
        observation, info = env.reset(seed=4)
        await agent.reset(env, observation, info, 0)
        roles = []
        while True:
            decision = await agent.act(observation, info)
            assert decision.is_well_formed
            assert ("{" in decision.response) == ("action_format" in more)
            roles.append([message["role"] for message in decision.messages])
            observation, _, terminated, truncated, info = env.step(decision.action)
            if terminated or truncated:
                return info["is_success"], roles

    is_success, roles = asyncio.run(play())
    assert is_success
    if more == {"history": "appended"}:
        assert roles == [["user", "assistant"] * turn + ["user"] for turn in range(len(roles))]
    else:
        assert roles == [["user"]] * len(roles)


def test_a_run_records_how_a_model_was_asked(tmp_path, capsys):
    with serving(lambda _: chat('<think>.</think>{"name": "act", "arguments": {"command": "look"}}')) as server:
        status = main(
            [
                *("eval", ALFWORLD, "--split", "valid_seen", "--limit", "1", "--max-steps", "3", "--agent", "openai"),
                *("--model", "m", "--base-url", server.url, "--action-format", "json"),
                *("--agent-set", "history=appended", "--out", str(tmp_path / "run")),
            ]
        )
        bodies = [body for _, body in server.requests]
    assert (status, capsys.readouterr().err) == (0, "")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["agent"]["settings"]
    assert (config["history"], config["history_length"], config["action_format"]) == ("appended", None, "json")
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    assert "tools" not in bodies[0]
    turns = json.loads((tmp_path / "run" / "trajectories.jsonl").read_text())["turns"]
    assert [(turn["action"], turn["is_well_formed"]) for turn in turns] == [("look", True)] * 3


def test_a_run_that_was_begun_before_a_setting_is_resumed(tmp_path):
    with serving(lambda _: chat("x")) as server:
        agents = open_agent("openai", settings(server), [ALFWORLD])
        asyncio.run(agents.close())
    config = {
        "format": 2,
        "created": "",
        "command": "",
        "finished": None,
        "panels": [],
        "seeds": [0],
        "limits": {},
        "versions": {},
        "platform": {},
        "revision": None,
        "resumed": [],
        "agent": {"name": "openai", "settings": dict(agents.settings)},
    }
    old = {**config, "agent": {"name": "openai", "settings": dict(agents.settings)}}
    del old["agent"]["settings"]["history"], old["agent"]["settings"]["action_format"]
    for name in ("same", "other"):
        RunWriter(tmp_path / name, old).close()
    with pytest.raises(InvalidOption, match="history was None"):
        RunWriter(tmp_path / "same", config, resume=True)
    RunWriter(tmp_path / "same", config, resume=True, agent_defaults=agents.defaults).close()
    config["agent"]["settings"]["history"] = "appended"
    with pytest.raises(InvalidOption, match="history was 'windowed' and is 'appended'"):
        RunWriter(tmp_path / "other", config, resume=True, agent_defaults=agents.defaults)


def test_the_styles_window_is_recorded(tmp_path):
    (tmp_path / "style.yaml").write_text("base: alfworld\nhistory_length: 7\n")
    with serving(lambda _: chat("x")) as server:
        for more, wanted in (({}, 2), ({"style": str(tmp_path / "style.yaml")}, 7), ({"history_length": 0}, 0)):
            agents = open_agent("openai", settings(server, **more), [ALFWORLD])
            assert agents.settings["history_length"] == wanted
            asyncio.run(agents.close())


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"history": "apended"}, "Did you mean 'appended'"),
        ({"history": "appended", "history_length": 2}, "shows all turns"),
        ({"history": "appended", "action_format": "tools"}, "need a server, whose chat template knows them"),
        ({"action_format": "xml"}, "wanted one of tags, tools, json"),
    ],
)
def test_wrong_settings_are_told_at_once(more, match):
    with pytest.raises(InvalidOption, match=match):
        ChatAgent(BatchingPolicy(ScriptedPolicy(OracleAgent), Sampling()), **more)


def calls(*given):
    message = {"role": "assistant", "content": None, "tool_calls": list(given)}
    return Reply({"choices": [{"message": message, "finish_reason": "tool_calls"}]})


def function(arguments):
    return {"id": "c1", "type": "function", "function": {"name": "act", "arguments": arguments}}


def complete(reply, request):
    async def ask(server):
        policy = Endpoint("m", base_url=server.url, retries=0)
        try:
            return await policy.complete(request)
        finally:
            await policy.close()

    with serving(lambda _: reply) as server:
        return asyncio.run(ask(server)), server.requests[0][1]


@pytest.mark.parametrize("arguments", ['{"command": "look"}', {"command": "look"}])
def test_native_tool_calls_of_an_endpoint(arguments):
    request = Request((), 0, [{"role": "user", "content": "Go."}], tools=(ACT,))
    completion, body = complete(calls(function(arguments)), request)
    assert body["tools"] == tool_schemas([ACT])
    assert completion.tool_calls == (ToolCall("act", '{"command": "look"}', "c1"),)
    assert Completion.from_json(json.loads(json.dumps(completion.to_json()))) == completion


def test_tool_calls_that_are_none():
    request = Request((), 0, [{"role": "user", "content": "Go."}], tools=(ACT,))
    with pytest.raises(EndpointError, match="no tool calls"):
        complete(calls({"function": 3}), request)


def test_a_message_that_the_model_has_begun():
    messages = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "I"}]
    _, body = complete(chat("went"), Request((), 0, messages))
    assert (body["messages"], body["add_generation_prompt"], body["continue_final_message"]) == (messages, False, True)


def test_requests_with_other_stop_strings_are_batched_apart():
    asked = []

    class Policy:
        context_length = None

        def generate(self, requests, sampling):
            asked.append(([request.seed for request in requests], sampling.stop))
            return [Completion((), None, str(request.seed), "eos") for request in requests]

        def render(self, messages):
            return ""

        def encode(self, text):
            return ()

    async def ask():
        policy = BatchingPolicy(Policy(), Sampling(stop=("z",)))
        stops = [(), ("a",), ()]
        return await asyncio.gather(*(policy.complete(Request((), i, stop=stop)) for i, stop in enumerate(stops)))

    assert [completion.text for completion in asyncio.run(ask())] == ["0", "1", "2"]
    assert asked == [([0, 2], ("z",)), ([1], ("z", "a"))]
