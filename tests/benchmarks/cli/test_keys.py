"""No byte of a run folder, nor of what is printed, holds the key: whatever servers and users do with it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.encodings import encodings, found_in
from helpers.endpoints import Reply, act, chat, serving

from sdar_agents.engines.policy import Request
from sdar_agents.engines.servers.endpoint import Endpoint, endpoint_chat
from sdar_agents.training.config import make_config
from sdar_agents.training.trainer import Trainer
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.runs import read_config, read_summary
from sdar_envs import secrets
from sdar_envs.errors import EndpointError, InvalidOption

ALFWORLD = "sdar/ALFWorld-v0"
KEYS = {"long": "sk-a/b+c=d&e\"f'g\\h%<1>", "of five characters": 'q/7"Z'}


class Commands:
    """Runs command lines in a folder, and looks for the key in all that they print and write."""

    def __init__(self, folder: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.key = key
        self.printed = ""
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse's
            status = int(end.code or 0)
        captured = self._capsys.readouterr()
        self.printed += captured.out + captured.err
        return status, captured.err

    def check(self) -> None:
        assert found_in(self.printed.encode(), self.key) == [], self.printed
        for path in self.folder.rglob("*"):
            assert found_in(str(path).encode(), self.key) == []
            if path.is_file():
                assert found_in(path.read_bytes(), self.key) == [], path


@pytest.fixture(params=KEYS.values(), ids=KEYS)
def run(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Commands]:
    monkeypatch.setattr(secrets, "_known", ())
    monkeypatch.setattr(secrets, "_patterns", None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("MY_KEY", request.param)
    monkeypatch.chdir(tmp_path)
    commands = Commands(tmp_path, request.param, capsys)
    yield commands
    commands.check()


def playing(url: str, *more: str) -> tuple[str, ...]:
    agent = ("--agent", "openai", "--model", "tiny", "--base-url", url, "--agent-set", "api_key_env=MY_KEY")
    return ("eval", ALFWORLD, "--limit", "2", "--max-steps", "12", "--out", "run", *agent, *more)


def test_a_server_that_repeats_the_key_in_its_answers(run: Commands) -> None:
    forms = list(encodings(run.key).values())

    def respond(body: dict[str, Any]) -> Reply:
        form = forms[len(server.requests) % len(forms)]
        if len(server.requests) % 3 == 0:
            return act(f"take {form} from desk 1", thought=f"The key is {form}.")
        if len(server.requests) % 3 == 1:
            return chat(f"{form} <think>{form}</think>", reasoning=f"Hm, {form}")
        reply = act("look")
        reply.body["choices"][0]["message"] |= {"refusal": form, form: form}
        reply.body["choices"][0] |= {"stop_reason": form, "finish_reason": "stop"}
        return Reply(reply.body, headers={"X-Key": run.key, "Retry-After": run.key})

    with serving(respond) as server:
        assert run(*playing(server.url)) == (0, "")
        assert {headers["authorization"] for headers, _ in server.requests} == {f"Bearer {run.key}"}
    assert read_config(run.folder / "run")["agent"]["settings"]["api_key_env"] == "MY_KEY"
    assert "[key]" in (run.folder / "run" / "trajectories.jsonl").read_text(encoding="utf-8")
    assert run("report", "run")[0] == 0
    assert run("leaderboard", "add", "run", "--root", "board")[0] in (0, 2)  # a tree without a revision has no record


def test_a_server_that_repeats_the_key_in_its_failures_and_a_run_that_goes_on(run: Commands) -> None:
    forms = list(encodings(run.key).values())

    def respond(body: dict[str, Any]) -> Reply:
        form = forms[len(server.requests) // 4 % len(forms)]
        replies = [
            Reply({"error": {"message": f"wrong key {form}"}}, 401, {"WWW-Authenticate": form}),
            Reply(f"{'x' * 280} Bearer {form}", 503, {"Retry-After": "0"}),
            Reply(f"<html>{form}"),
            Reply('{"choices": "' + form),
        ]
        return replies[len(server.requests) % 4]

    quick = ("--agent-set", "retries=1", "--agent-set", "backoff_seconds=0.001")
    with serving(respond) as server:
        assert run(*playing(server.url, *quick))[0] == 2
        server.respond = lambda body: act("look")
        assert run(*playing(server.url, *quick, "--resume"))[0] == 0
    assert read_summary(run.folder / "run")["total"]["episodes"] == 2
    errors = (run.folder / "run" / "episodes.jsonl").read_text(encoding="utf-8")
    assert "wrong key [key]" in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("--agent-set", "api_key_env={key}"),
        ("--agent-set", "api_key={key}"),
        ("--agent-set", 'extra_body={{"note": "{json}"}}'),
        ("--agent-set", 'extra_body={{"{json}": 1}}'),
        ("--agent-set", 'extra_body={{"headers": {{"Authorization": "Bearer {json}"}}}}'),
        ("--base-url", "http://127.0.0.1:9/{address}/v1"),
        ("--base-url", "http://user:{address}@127.0.0.1:9/v1"),
        ("--base-url", "http://127.0.0.1:9/v1?key={address}"),
        ("--wording", "{key}"),
        ("--set", "data_dir={key}"),
    ],
)
def test_a_key_that_is_given_as_something_else_is_refused_unseen(run: Commands, arguments: tuple[str, str]) -> None:
    forms = encodings(run.key)
    given = arguments[1].format(key=run.key, json=forms["JSON"], address=forms["in an address"])
    status, err = run(*playing("http://127.0.0.1:9/v1"), arguments[0], given)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: ")
    assert not (run.folder / "run").exists()


@pytest.mark.parametrize("bad", ["\n", "\r\n", "\x1b", " ", "ü"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(run: Commands, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{run.key}{bad}{run.key}")
    status, err = run(*playing("http://127.0.0.1:9/v1"))
    assert status == 2
    assert err.startswith("error: the key in $MY_KEY has characters that no HTTP header can hold")
    assert not (run.folder / "run").exists()


def test_a_key_that_this_process_does_not_know_is_refused_by_its_form(run: Commands) -> None:
    key = "sk-proj-" + "4f9A" * 12
    status, err = run(*playing("http://127.0.0.1:9/v1"), "--agent-set", f'extra_body={{"note": "{key}"}}')
    assert (status, key in err) == (2, False)
    config = {"model": {"path": "none"}, "rollout": {"env_id": ALFWORLD, "env_kwargs": {"data_dir": key}}}
    with pytest.raises(InvalidOption, match="'data_dir' holds what looks like a secret") as refused:
        Trainer(make_config(config), run.folder / "training")
    assert key not in str(refused.value)
    assert not (run.folder / "training").exists()


def test_a_chat_function(run: Commands) -> None:
    reply = Reply()
    with serving(lambda body: reply) as server:
        endpoint = Endpoint("tiny", base_url=server.url, api_key_env="MY_KEY", retries=0)
        ask = endpoint_chat("tiny", base_url=server.url, api_key_env="MY_KEY", retries=0)
        reply = chat(f"a {encodings(run.key)['JSON']} b")
        assert ask([{"role": "user", "content": "hi"}]) == "a [key] b"

        async def complete() -> list[str]:
            nonlocal reply
            texts = []
            for form in encodings(run.key).values():
                reply = chat(form, reasoning=form)
                texts.append(repr(await endpoint.complete(Request((), 0, [{"role": "user", "content": "hi"}]))))
                for body in (form, {"error": form}, f"<p>{form}", '{"choices": "' + form, f"{'x' * 290}{form}"):
                    for status in (200, 400, 503):
                        reply = Reply(body, status)
                        with pytest.raises(EndpointError) as failed:
                            await endpoint.complete(Request((), 0, [{"role": "user", "content": "hi"}]))
                        texts.append(str(failed.value))
            await endpoint.close()
            return texts

        texts = asyncio.run(complete())
    assert len(texts) > 16 * len(KEYS)
    for text in texts:
        assert found_in(text.encode(), run.key) == [], text
