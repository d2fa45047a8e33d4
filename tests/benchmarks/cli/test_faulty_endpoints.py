"""`sdar eval` against servers that behave in the ways of `helpers.faulty_endpoint`: what it says, keeps, counts."""

from __future__ import annotations

import html
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from helpers.endpoints import Reply, serving
from helpers.faulty_endpoint import CONTEXT, FAULTS, MODEL, Every, answer, models, words_in

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.runs import (
    Episode,
    final_episodes,
    read_config,
    read_episodes,
    read_summary,
    read_trajectories,
)

TOY = "toy/FaultyCounting-v0"


@pytest.fixture(scope="module", autouse=True)
def _toy() -> Iterator[None]:
    gym.register(id=TOY, entry_point="helpers.toy:CountingEnv")
    yield
    del gym.registry[TOY]


@dataclass
class Run:
    """What a command line did: its status, what it printed, and the folder that it wrote."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def screen(self) -> str:
        return " ".join((self.out + self.err).split())

    @property
    def turns(self) -> list[dict[str, Any]]:
        return [turn for row in read_trajectories(self.folder) for turn in row["turns"]]

    @property
    def episodes(self) -> list[Episode]:
        return final_episodes(read_episodes(self.folder))

    @property
    def adaptations(self) -> dict[str, int]:
        known = read_summary(self.folder)["adaptations"]
        assert known == read_config(self.folder)["adaptations"]
        return {each["kind"]: each["times"] for each in known}

    @property
    def report(self) -> str:
        return (self.folder / "report.md").read_text()


@pytest.fixture
def evaluated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(url: str, *arguments: str, model: str = MODEL) -> Run:
        folder = tmp_path / "run"
        quick = ("--agent-set", "backoff_seconds=0.01", "--max-steps", "3")
        agent = ("--agent", "openai", "--model", model, "--base-url", url)
        status = main(
            ["eval", TOY, "--split", "valid", *agent, *quick, "--limit", "2", "--out", str(folder), *arguments]
        )
        captured = capsys.readouterr()
        return Run(status, captured.out, captured.err, folder)

    return run


def served(fault: str) -> Any:
    return serving(FAULTS[fault](), models)


# -- what ends a run before it begins ---------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def refused_at_once(run: Run, wanted: str, since: float) -> None:
    assert run.status == 2
    assert run.out == ""
    assert run.err.startswith("error: http://127.0.0.1:")
    assert run.err.count("\n") == 1
    assert re.search(wanted, run.err), run.err
    assert time.monotonic() - since < 10


@pytest.mark.parametrize(
    ("fault", "arguments", "wanted"),
    [
        (
            "wrong_model",
            {"model": "smal-chat"},
            r"404 The model `smal-chat` does not exist\. .*Did you mean 'small-chat'",
        ),
        ("wrong_key", {}, r"401 Incorrect API key.*the key comes from \$OPENAI_API_KEY, which is not set"),
        ("no_temperature", {"also": ("--temperature", "0.4")}, r"refuses the setting temperature: change it or leave"),
        ("no_tools", {"also": ("--action-format", "tools")}, r"400 \"auto\" tool choice.*use --action-format json"),
    ],
)
def test_a_first_request_tells_what_is_wrong(evaluated, fault: str, arguments: dict[str, Any], wanted: str) -> None:
    since = time.monotonic()
    with served(fault) as server:
        run = evaluated(server.url, *arguments.get("also", ()), model=arguments.get("model", MODEL))
        assert len(server.requests) == 1
    refused_at_once(run, wanted, since)
    assert not run.folder.exists()


def test_a_path_without_its_end_and_a_dead_port(evaluated) -> None:
    since = time.monotonic()
    with served("busy") as server:
        run = evaluated(server.url.removesuffix("/v1"))
    refused_at_once(run, r"404 <!doctype html> .*It often ends in /v1, and is http", since)
    run = evaluated(f"http://127.0.0.1:{free_port()}/v1")
    refused_at_once(run, r"answered ConnectError.*\(attempt 3\)", since)
    assert not run.folder.exists()


def test_a_resumed_run_makes_a_first_request_too_and_a_finished_one_none(evaluated) -> None:
    since = time.monotonic()
    with serving(lambda body: Reply(answer()), models) as server:
        assert evaluated(server.url).status == 0
    dead = f"http://127.0.0.1:{free_port()}/v1"
    assert evaluated(dead, "--resume").status == 0
    rows = (run := evaluated(dead, "--resume")).folder / "episodes.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:1]))
    config = run.folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "finished": None}))
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    refused_at_once(evaluated(dead, "--resume"), "ConnectError", since)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


# -- what passes, or is learnt ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("too_many_requests", "repeated: 429", "requests were repeated after: 429 Too many requests"),
        ("until_a_date", "repeated: 429", "requests were repeated after: 429 Come back later"),
        ("busy", "repeated: 503", "requests were repeated after: 503 Loading model"),
        ("broken_off", "repeated: RemoteProtocolError", "requests were repeated after: RemoteProtocolError"),
        ("broken_stream", "repeated: a stream that breaks off", "after: a stream that breaks off: 43 characters came"),
        ("stream", "streamed", "answers came as streams, though nobody had asked"),
        ("needs_stream", "stream", "answers are asked for as streams"),
        ("new_limit", "max_completion_tokens", "the token limit is sent as max_completion_tokens"),
        ("low_limit", "token_limit", "lowered from 4096 to 1024, the server's most"),
        ("little_room", "room", "lowered from 4096 to what the context left after the prompt, 1748"),
        ("no_seed", "no_seed", "no seed is sent, because the server refuses it"),
    ],
)
def test_what_passes_or_is_learnt_is_said_once_and_kept(evaluated, fault: str, kind: str, said: str) -> None:
    with served(fault) as server:
        run = evaluated(server.url)
    assert run.status == 0, run.err
    assert said in run.err
    assert run.screen.count("Adapted: ") == len(run.adaptations)
    assert run.adaptations[kind] >= 1
    assert said in run.report
    assert said in html.unescape((run.folder / "report.html").read_text())
    assert {turn["action"] for turn in run.turns} == {"up"}


@pytest.mark.parametrize("fault", ["content_parts", "thinking_parts", "reasoning_content", "reasoning"])
def test_answers_in_parts_and_thoughts_apart(evaluated, fault: str) -> None:
    with served(fault) as server:
        run = evaluated(server.url)
    assert (run.status, run.err) == (0, "")
    assert {(turn["action"], turn["reasoning"], turn["is_well_formed"]) for turn in run.turns} == {
        ("up", "Up it is.", True)
    }
    assert run.adaptations == {}


def test_a_model_without_a_system_role(evaluated) -> None:
    with served("no_system") as server:
        run = evaluated(server.url, "--agent-set", "system=Be brief.")
    assert run.err.count("because the model has no system role") == 1
    # The first request alone was refused.
    assert run.adaptations == {"system_role": 1}
    assert len(server.requests) == 2 + len(run.turns)
    assert [message["role"] for message in server.requests[-1][1]["messages"]] == ["user"]
    assert server.requests[-1][1]["messages"][0]["content"].startswith("Be brief.\n\n")


def test_thoughts_that_the_token_limit_cuts(evaluated) -> None:
    with served("inline_thought_cut") as server:
        run = evaluated(server.url)
    assert run.status == 0
    assert {(turn["finish_reason"], turn["is_well_formed"]) for turn in run.turns} == {("length", False)}
    assert [episode.truncated_answers for episode in run.episodes] == [3, 3]
    assert read_summary(run.folder)["total"]["truncated_share"] == 1.0
    assert " cut " in run.out.splitlines()[1]
    warning = "6 of 6 answers (100.0%) were cut at the token limit, 4096"
    assert warning in run.screen
    assert "--agent-set max_tokens=16384" in run.screen
    assert warning in run.report


def test_few_truncated_answers_are_shown_and_not_warned_about(evaluated) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        return Reply(answer(finish_reason="length" if len(server.requests) == 2 else "stop"))

    with serving(respond, models) as server:
        run = evaluated(server.url, "--limit", "30", "--max-steps", "8")
    assert sum(episode.truncated_answers or 0 for episode in run.episodes) == 1
    assert sum(episode.steps for episode in run.episodes) > 100
    assert " cut " in run.out
    assert "Warning" not in run.screen


def test_refusals(evaluated) -> None:
    with served("refusal") as server:
        run = evaluated(server.url)
    assert {turn["refusal"] for turn in run.turns} == {"I can't help with numbers."}
    assert [episode.refusals for episode in run.episodes] == [3, 3]
    assert "The model refused to answer 6 times" in run.screen
    assert "The model refused to answer 6 times" in run.report


def test_tool_calls(evaluated) -> None:
    with served("tool_calls") as server:
        run = evaluated(server.url, "--action-format", "tools")
    assert (run.status, run.err) == (0, "")
    assert {turn["action"] for turn in run.turns} == {"up"}
    assert run.turns[0]["tool_calls"] == [{"name": "act", "arguments": '{"command": "up"}', "id": "call_7"}]
    assert run.turns[0]["is_well_formed"] is True
    assert read_config(run.folder)["agent"]["settings"]["action_format"] == "tools"


def test_tool_calls_of_a_growing_chat(evaluated) -> None:
    with served("tool_calls") as server:
        run = evaluated(server.url, "--action-format", "tools", "--agent-set", "history=appended")
        sent = max((body["messages"] for _, body in server.requests), key=len)
    assert (run.status, run.err) == (0, "")
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "act", "arguments": '{"command": "up"}'}
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"] == "call_7"


def test_cached_tokens(evaluated) -> None:
    with served("cached") as server:
        run = evaluated(server.url)
    assert [episode.cached_tokens for episode in run.episodes] == [32 * episode.steps for episode in run.episodes]
    total = read_summary(run.folder)["total"]
    assert total["cached_tokens"] == 32 * len(run.turns)
    assert f"({total['cached_tokens']:,} of them cached)" in run.report


@pytest.mark.parametrize("history", ["windowed", "appended"])
def test_a_prompt_that_is_too_long_loses_history(evaluated, history: str) -> None:
    window = ("--history-length", "8") if history == "windowed" else ()
    with served("short_context") as server:
        run = evaluated(server.url, "--max-steps", "8", "--agent-set", f"history={history}", *window)
    assert run.status == 0
    assert run.adaptations["history"] >= 1
    assert run.err.count("the history of a prompt was halved") == 1
    # What was sent is what is recorded, and the model has seen each observation.
    assert max(map(words_in, run.turns)) <= CONTEXT
    for turn in run.turns:
        assert turn["observation"] in turn["messages"][-1]["content"]
        assert "Make it" in "".join(message["content"] for message in turn["messages"])


def test_a_prompt_that_is_too_long_without_history_ends_the_episode(evaluated) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        is_first = "ready" in body["messages"][0]["content"]
        return Reply(answer()) if is_first else Reply({"error": {"message": "prompt is too long"}}, 400)

    with serving(respond, models) as server:
        run = evaluated(server.url)
    assert {(episode.stop_reason, episode.status) for episode in run.episodes} == {("token_limit", "ok")}
    assert "2 attempts at episodes ended in token_limit (2 in the result): PromptTooLong" in run.screen


def test_causes_of_errors_are_on_the_screen(evaluated) -> None:
    replies = iter(range(1000))

    def respond(body: dict[str, Any]) -> Reply:
        number = next(replies)
        if not number:
            return Reply(answer())
        return Reply({"error": f"no quota {number}"}, 403) if number % 2 else Reply({"error": "gone"}, 410)

    with serving(respond, models) as server:
        run = evaluated(server.url, "--limit", "4", "--attempts", "1", "--concurrency", "1")
    assert run.status == 2
    assert "2 attempts at episodes ended in endpoint_error (2 in the result): EndpointError: http" in run.screen
    assert "403 no quota 1" in run.screen
    assert "410 gone" in run.screen
    assert run.err.endswith("4 episodes ended in an error and count as failures; --resume tries them again.\n")


def test_one_run_over_all_faults_names_each(evaluated) -> None:
    with serving(Every(), models) as server:
        run = evaluated(
            server.url,
            *("--agent-set", "system=Be brief.", "--agent-set", "history=appended"),
            *("--limit", "10", "--max-steps", "8", "--concurrency", "1"),
        )
    report = run.report
    for named in (
        "because the model has no system role",
        "sent as max_completion_tokens",
        "no seed is sent",
        "answers came as streams",
        "repeated after: 429",
        "repeated after: 503",
        "repeated after: RemoteProtocolError",
        "repeated after: a stream that breaks off",
        "the history of a prompt was halved",
        "401 Incorrect API key",
        "404 The model was unloaded.",
        "The model refused to answer",
        "were cut at the token limit",
        "of them cached",
    ):
        assert named in report, named
    page = (run.folder / "report.html").read_text()
    assert "401 Incorrect API key" in page
    assert "because the model has no system role" in page
