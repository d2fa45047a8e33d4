"""The programs of docs/plugs/others.md, each in the package that it is for; `make plugs` has some of these packages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from helpers.endpoints import Reply, serving
from helpers.pages import PAGES, run_block

from sdar_envs import make_text_env

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

TASK = "alfworld/valid_unseen/0000"


def program(heading: str) -> str:
    """The code of a section."""
    section = (PAGES / "others.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]


def plan() -> list[str]:
    env = make_text_env("sdar/ALFWorld-v0")
    env.reset(options={"task_id": TASK})
    return list(env.oracle_plan())


def test_mcp() -> None:
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
    agents = pytest.importorskip("agents", reason="openai-agents is not installed: pip install openai-agents")
    from openai import AsyncOpenAI

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
