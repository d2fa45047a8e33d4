"""OpenEnv's server and clients on each suite."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.pages import blocks, run_block

from sdar_envs import ChatEpisode, make_text_env, tasks
from sdar_envs.errors import UnsolvableGame
from sdar_envs.prompt import STYLES, render_completion

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
PATIENT = {"connect_timeout_s": 300.0, "message_timeout_s": 300.0}
SDAR = Path(sys.executable).with_name("sdar")
LEAKS = re.compile('golden|supporting_hit|passage_ids|oracle|reward_info|gamefile|answers"|"goal"|"data"')


@contextmanager
def serving(*line: str) -> Iterator[str]:
    """Run `sdar serve openenv`; give the address."""
    process = subprocess.Popen(
        [SDAR, "serve", "openenv", *line, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = process.stdout.readline()
        assert " at http://" in said, said + process.stderr.read()
        yield said.split(" at ")[1].split()[0].rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "stopped\n"), errors


@pytest.fixture(scope="module", params=SPLITS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with serving(request.param, "--split", SPLITS[request.param], "--sessions", "65") as address:
        yield request.param, address


def plans(env_id: str, count: int) -> list[tuple[str, tuple[str, ...]]]:
    """The first tasks of the split that can be solved, with what an expert does."""
    env = make_text_env(env_id)
    found = []
    for task in tasks(env_id, split=SPLITS[env_id], limit=2 * count):
        env.reset(options={"task_id": task.id})
        with suppress(UnsolvableGame):  # some goals of WebShop cannot be reached
            found.append((task.id, env.oracle_plan()))
    return found[:count]


def ask(address: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(address + path, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    return json.load(urllib.request.urlopen(request, timeout=60))


def test_an_episode_is_that_of_the_environment(server: tuple[str, str]) -> None:
    from sdar_envs.integrations.openenv import SdarAction, SdarClient

    env_id, address = server
    style = STYLES[tasks(env_id, split=SPLITS[env_id], limit=1)[0].suite]
    episode = ChatEpisode(env_id, split=SPLITS[env_id])
    with SdarClient(base_url=address).sync() as env:
        for task_id, plan in plans(env_id, 5):
            result, step = env.reset(task_id=task_id), episode.reset(task_id=task_id)
            for number, command in enumerate(plan):
                seen = result.observation
                assert (seen.text, seen.messages, seen.task_id) == (step.observation, step.messages, task_id)
                assert not result.done
                if number % 2:
                    result, step = env.step(SdarAction(command=command)), episode.act(command)
                else:
                    completion = render_completion(style, command, "So.")
                    result, step = env.step(SdarAction(completion=completion)), episode.step(completion)
                assert (result.reward, result.done) == (step.reward, step.is_over)
                assert result.observation.is_well_formed is step.is_well_formed
                assert result.observation.is_action_valid is step.is_action_valid
            assert result.done
            assert result.observation.won == step.info["won"]
            assert not LEAKS.search(result.observation.model_dump_json())
            state = env.state()
            assert (state.task_id, state.step_count) == (task_id, len(plan))


def test_sixty_four_clients_play_at_a_time(server: tuple[str, str]) -> None:
    from sdar_envs.integrations.openenv import SdarAction, SdarClient

    env_id, address = server
    given = plans(env_id, 64)
    steps = 0

    async def play(task_id: str, plan: tuple[str, ...]) -> bool:
        nonlocal steps
        async with SdarClient(base_url=address, **PATIENT) as env:
            await env.reset(task_id=task_id)
            for command in plan:
                result = await env.step(SdarAction(command=command))
                steps += 1
            assert result.done
            return result.observation.won

    async def play_all() -> list[bool]:
        return await asyncio.gather(*(play(*entry) for entry in given))

    begun = time.perf_counter()
    won = asyncio.run(play_all())
    seconds = time.perf_counter() - begun
    print(f"{env_id}: {len(given) / seconds:.1f} episodes/s, {steps / seconds:.0f} steps/s over 64 clients")
    assert won == [True] * 64


def test_one_client_too_many_is_told(server: tuple[str, str]) -> None:
    from sdar_envs.integrations.openenv import SdarClient

    _, address = server

    async def fill() -> None:
        clients = [SdarClient(base_url=address, **PATIENT) for _ in range(65)]
        await asyncio.gather(*(client.reset() for client in clients))
        late = SdarClient(base_url=address, **PATIENT)
        with pytest.raises(Exception, match="CAPACITY_REACHED"):
            await late.reset()
        await asyncio.gather(*(client.close() for client in [*clients, late]))

    asyncio.run(fill())


def test_the_tasks_are_listed_without_answers(server: tuple[str, str]) -> None:
    env_id, address = server
    split = SPLITS[env_id]
    listed = tasks(env_id, split=split, limit=7)
    splits = make_text_env(env_id).source.splits
    assert [found["name"] for found in ask(address, "/sdar/splits")] == list(splits)
    assert ask(address, "/sdar/num_tasks", {"split": split}) == {"num_tasks": splits[split]}
    found = ask(address, "/sdar/task_range", {"split": split, "start": 2, "stop": 7})
    wanted = [
        {"id": task.id, "split": split, "task_type": task.task_type, "instruction": task.instruction}
        for task in listed[2:]
    ]
    assert found["tasks"] == wanted
    assert ask(address, "/sdar/task", {"split": split, "index": 3})["task"] == wanted[1]
    for path, body, status in (
        ("/sdar/task", {"split": split, "index": 10**6}, 400),
        ("/sdar/num_tasks", {"split": "tset"}, 400),
    ):
        with pytest.raises(urllib.error.HTTPError, match=str(status)):
            ask(address, path, body)
    if splits["train"] is None:
        with pytest.raises(urllib.error.HTTPError, match="501"):
            ask(address, "/sdar/num_tasks", {"split": "train"})
        assert len(ask(address, "/sdar/task_range", {"split": "train", "stop": 3})["tasks"]) == 3
    for task in found["tasks"]:
        assert set(task) == {"id", "split", "task_type", "instruction"}
    for path in ("/schema", "/metadata"):
        assert not re.search("golden|supporting|passage|oracle|answers|gamefile", json.dumps(ask(address, path)))


def test_errors_are_told(server: tuple[str, str]) -> None:
    from sdar_envs.integrations.openenv import SdarAction, SdarClient

    env_id, address = server
    split = SPLITS[env_id]
    with SdarClient(base_url=address).sync() as env:
        for arguments, told in (
            ({"task_id": "alfworld/nowhere/1"}, "alfworld/nowhere/1"),
            ({"split": split}, "split and index together"),
            ({"split": split, "index": 10**6}, "has no such task"),
            ({"split": "tset", "index": 0}, "no split 'tset'"),
            ({"tsak_id": "x"}, "no reset argument 'tsak_id'"),
        ):
            with pytest.raises(RuntimeError, match=re.escape(told)):
                env.reset(**arguments)
        env.reset(split=split, index=1)
        assert env.state().task_id == tasks(env_id, split=split, limit=2)[1].id
        for action in (SdarAction(), SdarAction(command="look", completion="look")):
            with pytest.raises(RuntimeError, match="wanted one of them"):
                env.step(action)


def handshake(address: str, **headers: str) -> str:
    """Ask for a WebSocket; return the status line of the answer."""
    host, port = address.removeprefix("http://").split(":")
    given = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return connection.recv(4096).decode().split("\r\n")[0]


def test_foreign_pages_are_refused(server: tuple[str, str]) -> None:
    _, address = server
    assert " 101 " in handshake(address)
    assert " 101 " in handshake(address, Origin="http://127.0.0.1:3000")
    assert " 403 " in handshake(address, Origin="http://evil.example")
    assert " 403 " in handshake(address, Host="evil.example")
    request = urllib.request.Request(address + "/health", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=60)


def test_a_token_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdar_envs.integrations.openenv import SdarClient

    monkeypatch.setenv("SDAR_TOKEN", "a-token+of/24-characters")
    with serving("sdar/ALFWorld-v0", "--token-env", "SDAR_TOKEN") as address:
        headers = {"Authorization": "Bearer a-token+of/24-characters"}
        with SdarClient(base_url=address, headers=headers).sync() as env:
            assert env.reset().observation.messages
        with pytest.raises(ConnectionError, match="403"), SdarClient(base_url=address).sync() as env:
            env.reset()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(address, "/sdar/splits")


def test_wrong_arguments_are_one_line() -> None:
    for line, told in (
        (["sdar/ALFWorld-v1"], "sdar/ALFWorld-v0"),
        (["sdar/ALFWorld-v0", "--split", "tset"], "no split 'tset'"),
        (["sdar/ALFWorld-v0", "--sessions", "0"], "sessions is 0"),
        (["sdar/ALFWorld-v0", "--mode", "windoed"], "Did you mean 'windowed'?"),
    ):
        done = subprocess.run([SDAR, "serve", "openenv", *line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"error: [^\n]*\n", done.stderr)
        assert told in done.stderr


def test_the_page() -> None:
    page = blocks("openenv.md")
    with serving("sdar/ALFWorld-v0", "--split", "train", "--max-steps", "3") as address:
        values = {"http://127.0.0.1:8000": address}
        scope = run_block(page[0], values, model=lambda messages: "<think>I look.</think><action>look</action>")
        assert scope["result"].done
        assert run_block(page[1], values)["won"] == [False] * 64
