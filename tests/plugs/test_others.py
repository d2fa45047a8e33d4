"""The programs of docs/plugs/others.md, each in the package that it is for.

`make plugs` has MCP. The others want environments of their own (`pip install PACKAGE pytest -e .`), because their pins
exclude each other; Atropos also wants torch. A test whose package is not there is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.endpoints import Reply, chat, serving
from helpers.pages import PAGES, run_block

from sdar_envs import make_text_env, task_rows
from sdar_envs.integrations.episodes import ScoredEpisode
from sdar_envs.prompt import render_completion

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

TASK = "alfworld/valid_unseen/0000"
SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}


def program(heading: str) -> str:
    """The code of a section."""
    section = (PAGES / "others.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]


def plan() -> list[str]:
    env = make_text_env("sdar/ALFWorld-v0")
    env.reset(options={"task_id": TASK})
    return list(env.oracle_plan())


class Script:
    """A model that knows the prompts of an expert's episodes, two of each suite, and what to write after each.

    It knows no other prompt, so an adapter that changes one does not get through. `prompts` counts those it was given.
    """

    def __init__(self, **episode: Any) -> None:
        self.rows = [row for env_id, split in SPLITS.items() for row in task_rows(env_id, split=split, limit=2)]
        self.completions: dict[str, str] = {}
        self.prompts = 0
        for row in self.rows:
            played = ScoredEpisode.from_row(row, **episode)
            step = played.reset(task=row)
            for command in played.env.oracle_plan():
                completion = render_completion(played.style, command, "As planned.")
                self.completions[self.key(step.messages)] = completion
                step = played.step(completion)
            assert step.is_over
            assert played.episode_return == 1.0

    @staticmethod
    def key(messages: Any) -> str:
        return json.dumps([[message["role"], message["content"]] for message in messages])

    def write(self, messages: Any) -> str:
        self.prompts += 1
        return self.completions[self.key(messages)]

    def respond(self, body: dict[str, Any]) -> Reply:
        """Answer a request for a chat completion."""
        reply = chat(self.write(body["messages"]))
        reply.body |= {"object": "chat.completion", "created": 0, "model": body["model"]}
        return reply


def test_mcp() -> None:
    pytest.importorskip("mcp.server.mcpserver", reason="MCP 2 is not installed: pip install 'mcp>=2'")
    from mcp.client import Client

    server = run_block(program("MCP"))["server"]

    async def play() -> list[dict[str, Any]]:
        async with Client(server) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {"start", "act"}

            async def call(name: str, **arguments: str) -> dict[str, Any]:
                result = await client.call_tool(name, arguments)
                return json.loads(result.content[0].text)

            assert "alfworld/valid_unseen/9999" in (await call("start", task_id="alfworld/valid_unseen/9999"))["error"]
            answers = [await call("start", task_id=TASK)]
            for command in plan():
                answers.append(await call("act", episode=answers[0]["episode"], command=command))
            assert "call start first" in (await call("act", episode=answers[0]["episode"], command="look"))["error"]
            return answers

    answers = asyncio.run(play())
    assert (answers[-1]["over"], answers[-1]["won"], answers[-1]["reward"]) == (True, True, 1.0)
    assert "oracle" not in json.dumps(answers)


def test_openai_agents() -> None:
    pytest.importorskip("agents.run", reason="openai-agents is not installed: pip install openai-agents")
    from openai import AsyncOpenAI

    import agents

    commands = plan()

    def respond(body: dict[str, Any]) -> Reply:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        message: dict[str, Any] = {"role": "assistant", "content": "Done."}
        if turn < len(commands):
            function = {"name": "act", "arguments": json.dumps({"command": commands[turn]})}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{turn}", "type": "function", "function": function}],
            }
        reason = "tool_calls" if turn < len(commands) else "stop"
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return Reply(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )

    agents.set_tracing_disabled(True)
    with serving(respond) as endpoint:

        async def play() -> float:
            async with AsyncOpenAI(base_url=endpoint.url, api_key="none") as client:
                model = agents.OpenAIChatCompletionsModel(model="m", openai_client=client)
                return await run_block(program("openai-agents"))["play"](TASK, model)

        assert asyncio.run(play()) == 1.0
    first = endpoint.requests[0][1]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["act"]
    assert "oracle" not in json.dumps(first)


def test_art() -> None:
    pytest.importorskip("art.trajectories", reason="ART is not installed: pip install openpipe-art, on Python 3.12")
    import art

    script = Script()
    with serving(script.respond) as endpoint:
        model = art.Model(
            name="scripted",
            project="test",
            inference_api_key="none",
            inference_base_url=endpoint.url,
            inference_model_name="m",
        )

        async def play() -> Any:
            try:
                return await run_block(program("ART"))["play_groups"](model, script.rows, 2)
            finally:
                await model.openai_client().close()

        groups = asyncio.run(play())
    played = [[trajectory.metadata["task_id"] for trajectory in group.trajectories] for group in groups]
    assert played == [[row["task_id"]] * 2 for row in script.rows]
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    assert {(trajectory.reward, trajectory.metrics["won"]) for trajectory in trajectories} == {(1.0, 1.0)}
    # Each request of an episode is a training row of its own.
    assert sum(len(trajectory.chat_completions_histories()) for trajectory in trajectories) == script.prompts
    assert script.prompts == 2 * len(script.completions)


@contextmanager
def gateway(model_url: str) -> Iterator[str]:
    """Agent Lightning's server, which forwards requests to a model."""
    import uvicorn
    from agentlightning.client import AgentLightningSyncClient
    from agentlightning.server.app import create_app

    proxy = {"model_name": "m", "train": {"temperature": 1.0}, "val": {"temperature": 0.7}}
    app = create_app({"key": "", "default_proxy": proxy})
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with AgentLightningSyncClient(base_url=url) as client:
            client.post("/api/models", json=[{"model": "m", "endpoint": model_url}]).raise_for_status()
        yield url
    finally:
        server.should_exit = True
        thread.join(30)


def test_agent_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "Agent Lightning 1 is not installed: pip install agentlightning, on Python 3.12"
    pytest.importorskip("agentlightning.controller.local_reconciler", reason=reason)
    from agentlightning.client import AgentLightningAsyncClient
    from agentlightning.controller.local_reconciler import LocalReconciler
    from omegaconf import OmegaConf

    (tmp_path / "player.py").write_text(program("Agent Lightning"), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    script = Script()
    local = {"agent_class": "player:Player", "env_map": {"SDAR_ROW": "input"}}
    rollouts = [{"input": row, "config": {"local": local}} for row in script.rows]

    async def control(url: str) -> list[Any]:
        config = OmegaConf.create(
            {
                "runner_type": "local",
                "agl_server": {"url": url, "key": ""},
                "local_runner": {"maximum_size": 2, "poll_interval": 0.2},
            }
        )
        async with AgentLightningAsyncClient(base_url=url, timeout=60) as api:
            (await api.post("/api/rollouts", json=rollouts)).raise_for_status()
            reconciler = LocalReconciler(api=api, config=config)
            running = asyncio.create_task(reconciler.run())
            try:
                async with asyncio.timeout(180):
                    while True:
                        ended = (await api.get("/api/rollouts/terminal")).json()["items"]
                        if len(ended) == len(rollouts):
                            return ended
                        await asyncio.sleep(0.2)
            finally:
                reconciler.stop()
                await running

    from agentlightning.server.store import _events

    with serving(script.respond) as endpoint, gateway(endpoint.url) as url:
        ended = asyncio.run(control(url))
    assert {rollout["state"] for rollout in ended} == {"succeeded"}
    events = [event for attempts in _events.values() for event in attempts["0"]]
    assert [event.data["value"] for event in events if event.event_type == "reward"] == [1.0] * len(rollouts)
    assert sum(event.event_type == "model_request" for event in events) == script.prompts == len(script.completions)


def test_nemo_gym() -> None:
    pytest.importorskip("nemo_gym", reason="NeMo-Gym is not installed: pip install nemo-gym==0.4.0, on Python 3.12")
    from unittest.mock import MagicMock

    from fastapi.testclient import TestClient
    from nemo_gym.base_resources_server import BaseResourcesServerConfig
    from nemo_gym.config_types import ModelServerRef, ResourcesServerRef
    from nemo_gym.server_utils import ServerClient
    from responses_api_agents.gymnasium_agent.app import GymnasiumAgent, GymnasiumAgentConfig, GymnasiumAgentRunRequest

    named = {"host": "", "port": 0, "entrypoint": "", "name": ""}
    server = run_block(program("NeMo-Gym"))["SdarServer"](
        config=BaseResourcesServerConfig(**named), server_client=MagicMock(spec=ServerClient)
    )
    agent = GymnasiumAgent(
        config=GymnasiumAgentConfig(
            **named,
            resources_server=ResourcesServerRef(type="resources_servers", name="sdar"),
            model_server=ModelServerRef(type="responses_api_models", name="model"),
            max_steps=50,
        ),
        server_client=MagicMock(spec=ServerClient),
    )
    script = Script(mode="appended")

    class Answer:
        """A response as the agent reads it."""

        ok = True

        def __init__(self, content: bytes, cookies: Any) -> None:
            self.content, self.cookies = content, cookies

        async def read(self) -> bytes:
            return self.content

    def written(body: Any) -> dict[str, Any]:
        items = body.model_dump()["input"]
        messages = [
            {
                "role": item["role"],
                "content": item["content"] if isinstance(item["content"], str) else item["content"][0]["text"],
            }
            for item in items
        ]
        content = [{"annotations": [], "text": script.write(messages), "type": "output_text"}]
        message = {"id": "x", "content": content, "role": "assistant", "status": "completed", "type": "message"}
        rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return {"id": "x", "created_at": 0.0, "model": "m", "object": "response", "output": [message], **rest}

    for row in script.rows:
        with TestClient(server.setup_webserver()) as client:

            async def post(server_name: str, url_path: str, json: Any, cookies: Any, client: Any = client) -> Answer:
                if server_name == "model":
                    return Answer(dumps(written(json)), {})
                response = client.post(url_path, json=json)  # the client keeps its cookies itself
                response.raise_for_status()
                return Answer(response.content, {})

            agent.server_client.post = post
            given = {"responses_create_params": {"input": []}, **row}
            ended = asyncio.run(agent.run(MagicMock(cookies={}), GymnasiumAgentRunRequest(**given)))
        assert (ended.reward, ended.terminated, ended.truncated, ended.info["won"]) == (1.0, True, False, 1.0)
        assert server.session_state == {}
    assert script.prompts == len(script.completions)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_atropos(tmp_path: Path) -> None:
    base = pytest.importorskip("atroposlib.envs.base", reason="Atropos is not installed: pip install atroposlib")
    from atroposlib.envs.server_handling.server_baseline import APIServerConfig
    from atroposlib.envs.server_handling.vllm_server import VLLMServer
    from helpers.tiny_chat import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    commands = plan()
    losers = iter([False, True, False, True])

    class Scripted(VLLMServer):
        """A server that tells tokens: two players of the expert's plan, and two who give up."""

        async def check_server_status_task(self, chat_completion: bool = True) -> None:
            self.server_healthy = True

        async def _tokens_and_logprobs_completion_wrapper(self, **request: Any) -> tuple[Any, ...]:
            prompt = tokenizer.decode(request["input_ids"])
            turn = prompt.count("<|im_start|>assistant") - 1
            gives_up = next(losers) if turn == 0 else "I give up." in prompt
            text = "I give up." if gives_up else f"<think>So.</think><action>{commands[turn]}</action>"
            written = tokenizer.encode(text, add_special_tokens=False)
            return request["input_ids"], [written], [[-0.5] * len(written)], ["stop"]

    env_class = type("Env", (run_block(program("Atropos"))["SdarEnv"],), {"server_cls": Scripted})
    config = base.BaseEnvConfig(group_size=4, tokenizer_name=str(tmp_path), use_wandb=False)
    served = APIServerConfig(
        model_name=str(tmp_path), base_url="http://127.0.0.1:9/v1", api_key="x", health_check=False
    )

    async def play() -> Any:
        env = env_class(config, [served])
        await env.setup()
        assert (await env.get_next_item())["task_id"] == "alfworld/train/0000"
        [row] = task_rows("sdar/ALFWorld-v0", split="valid_unseen", limit=1, max_steps=len(commands))
        return await env.collect_trajectories(row)

    group, backlog = asyncio.run(play())
    assert (group["scores"], backlog) == ([1.0, 0.0, 1.0, 0.0], [])
    for tokens, masks, score in zip(group["tokens"], group["masks"], group["scores"], strict=True):
        assert [token for token, mask in zip(tokens, masks, strict=True) if mask not in (-100, token)] == []
        trained = tokenizer.decode([token for token in masks if token != -100])
        texts = [f"<think>So.</think><action>{command}</action>" if score else "I give up." for command in commands]
        assert trained == "".join(texts)
        assert tokenizer.decode(tokens).count("<|im_start|>user") == len(commands)
