"""verifiers' own `vf-eval` on each suite, through an endpoint on this machine.

It starts a process for each turn, for which uv installs packages: it needs uv on the path and the package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.endpoints import Reply, serving
from helpers.pages import blocks

from sdar_envs import ChatEpisode, tasks
from sdar_envs.prompt import render_completion

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
LIMIT = 2


def streamed(text: str) -> Reply:
    """A completion as server-sent events."""
    common = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    chunks = [json.dumps({**common, "choices": [choice]}) for choice in choices]
    chunks.append(
        json.dumps({**common, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    )
    body = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
    return Reply(body, headers={"Content-Type": "text/event-stream"})


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder with the module `sdar_vf`, as the wheel has it."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "sdar_vf.py").symlink_to(ROOT / "sdar_envs" / "integrations" / "sdar_vf.py")
    return folder


def run(line: list[str], modules: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # Whatever the environment says of other keys and servers must not be used.
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENAI_BASE_URL", "PRIME_API_KEY")}
    return subprocess.run(
        [str(Path(sys.executable).with_name(line[0])), *line[1:]],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(modules), "OPENAI_API_KEY": "not-a-key", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


@pytest.mark.parametrize("env_id", SPLITS)
def test_an_expert_solves_the_tasks(env_id: str, tmp_path: Path, modules: Path) -> None:
    plans, chats = {}, {}
    for task in tasks(env_id, split=SPLITS[env_id], limit=LIMIT):
        episode = ChatEpisode(env_id, split=SPLITS[env_id], mode="appended")
        first = episode.reset(task_id=task.id).messages[-1]["content"]
        plans[first] = [render_completion(episode.style, command, "So.") for command in episode.env.oracle_plan()]
        for completion in plans[first][:-1]:
            chats[first] = [message["content"] for message in episode.step(completion).messages]

    def respond(body: dict[str, Any]) -> Reply:
        messages = body["messages"]
        first = text_of(messages[0]["content"])
        said = [text_of(message["content"]) for message in messages]
        assert said == chats.get(first, [first])[: len(said)]
        return streamed(plans[first][sum(message["role"] == "assistant" for message in messages)])

    with serving(respond) as endpoint:
        settings = ["--env.taskset.env-id", env_id, "--env.taskset.limit", str(LIMIT), "-m", "m", "--no-push"]
        client = ["--client.base-url", endpoint.url, "--client.api-key-var", "OPENAI_API_KEY"]
        done = run(["vf-eval", "sdar-vf", *settings, *client], modules, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = tmp_path.rglob("traces.jsonl")
    traces = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(traces) == LIMIT, done.stdout + done.stderr
    assert len(endpoint.requests) == sum(map(len, plans.values()))
    text = json.dumps(traces)
    assert [task.id in text for task in tasks(env_id, split=SPLITS[env_id], limit=LIMIT)] == [True] * LIMIT
    for name in ("golden", "supporting_hit", "passage_ids", "oracle", "reward_info"):
        assert name not in text


def test_tasks_have_keys_and_prompts_and_no_answers() -> None:
    from sdar_envs.integrations.verifiers import SdarTaskset, SdarTasksetConfig

    for env_id, split in SPLITS.items():
        taskset = SdarTaskset(SdarTasksetConfig(id="sdar-vf", env_id=env_id, limit=3))
        found = list(taskset)
        wanted = tasks(env_id, split=split, limit=3)
        assert [task.key for task in found] == [task.id for task in wanted]
        episode = ChatEpisode(env_id, split=split)
        for task in found:
            assert task.data.prompt == episode.reset(task_id=task.key).messages[0]["content"]
            for name in ('"data"', "golden", '"answers"', '"goal"'):
                assert name not in task.data.model_dump_json()
        assert taskset.bounded
    endless = SdarTaskset(SdarTasksetConfig(id="sdar-vf", split="train"))
    assert not endless.bounded
    assert [task.data.idx for task in endless.take(2)] == [0, 1]


def test_the_page() -> None:
    [line] = blocks("verifiers.md", "bash")[1:2]
    for argument in ("sdar-vf", "--env.taskset.env-id", "--client.base-url", "--client.api-key-var", "--no-push"):
        assert argument in line
