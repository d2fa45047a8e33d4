"""The OpenAI-compatible agent against a real server on this machine: what it sends, counts, waits for and refuses."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from helpers.endpoints import Endpoint as Server
from helpers.endpoints import Reply, act, chat, serving
from helpers.toy import CountingEnv

from sdar_agents import Decision, open_agent
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.servers.endpoint import Endpoint, EndpointPolicy, endpoint_chat
from sdar_agents.types import Completion
from sdar_envs import Task
from sdar_envs.errors import EndpointError, InvalidOption, UnknownName
from sdar_envs.prompt import DEFAULT_STYLE, STYLES, Turn, render_messages
from sdar_skills.evidence.experience import Episode, Step, propose
from sdar_skills.evidence.proposers import ModelProposer

MESSAGES = [{"role": "user", "content": "Say it: é 漢 🙂"}]
KEY = "sk-0123456789abcdef"


def complete(server: Server, seed: int = 5, **settings: Any) -> Completion:
    async def ask() -> Completion:
        endpoint = Endpoint("tiny", base_url=server.url, **{"backoff_seconds": 0.001, **settings})
        try:
            return await endpoint.complete(Request((), seed, MESSAGES))
        finally:
            await endpoint.close()

    return asyncio.run(ask())


def said(text: str, reasoning: str | None = None, *tokens: int) -> Completion:
    return Completion((), None, text, "eos", reasoning, *tokens)


def one_after_the_other(*replies: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Answer each once; the last one for ever."""
    left = list(replies)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


# -- what is sent and read --------------------------------------------------------------------


def test_a_request_and_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(lambda body: chat("Hello 🙂", tokens=(11, 4))) as server:
        answer = complete(
            server, api_key_env="SOME_KEY", temperature=0.4, max_tokens=9, extra_body={"top_p": 0.5, "n": 1}
        )
    assert answer == Completion((), None, "Hello 🙂", "eos", None, 11, 4)
    [(headers, body)] = server.requests
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tiny",
        "messages": MESSAGES,
        "temperature": 0.4,
        "max_tokens": 9,
        "top_p": 0.5,
        "n": 1,
        "seed": 5,
    }


def test_what_is_not_set_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda body: chat("x")) as server:
        complete(server, max_tokens=None, send_seed=False)
    [(headers, body)] = server.requests
    assert set(body) == {"model", "messages"}
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (chat(None), said("", None, 7, 3)),
        (chat("a", tokens=None), said("a")),
        (chat("a", reasoning="b"), said("a", "b", 7, 3)),
        (Reply({"choices": [{"message": {"content": "a", "reasoning": "b"}}]}), said("a", "b")),
        (Reply({"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "many"}}), said("a")),
        (Reply('{"choices": [{"message": {"content": "\\ud800"}}]}'), said("\ud800")),
    ],
)
def test_answers_of_all_kinds(reply: Reply, wanted: Completion) -> None:
    with serving(lambda body: reply) as server:
        assert complete(server) == wanted


@pytest.mark.parametrize(
    ("choice", "tokens", "wanted"),
    [
        ({"finish_reason": "length"}, 3, "length"),
        ({"finish_reason": "stop"}, 9, "eos"),
        ({"finish_reason": "stop", "stop_reason": "</action>"}, 3, "stop"),
        ({"finish_reason": "stop", "stop_reason": 151645}, 3, "eos"),
        ({}, 8, "eos"),
        ({}, 9, "length"),
        ({}, None, "eos"),
    ],
)
def test_why_an_answer_ended_is_read(choice: dict[str, Any], tokens: int | None, wanted: str) -> None:
    body = {"choices": [{"message": {"content": "a"}, **choice}], "usage": {"completion_tokens": tokens}}
    with serving(lambda _: Reply(body)) as server:
        assert complete(server, max_tokens=9).stop_reason == wanted


# -- what passes by itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Reply("slow down", 429),
        Reply("slow down", 429, {"Retry-After": "0.01"}),
        Reply("slow down", 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Reply("slow down", 429, {"Retry-After": "soon"}),
        Reply("<html>Bad gateway</html>", 502),
        Reply({"error": "busy"}, 503),
        Reply("", 408),
        Reply(is_dropped=True),
        Reply('{"choices": [{"message": {"cont'),
        Reply("null"),
        Reply({"error": {"code": 502, "message": "upstream"}}),
        Reply({"choices": []}),
        Reply({"choices": [{"message": None}]}),
        Reply({"choices": [{"message": {"content": ["parts"]}}]}),
        Reply("x", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.body)[:20]}-{reply.headers}",
)
def test_passing_failures_are_waited_for(failure: Reply) -> None:
    with serving(one_after_the_other(failure, failure, chat("at last"))) as server:
        assert complete(server).text == "at last"
        assert len(server.requests) == 3


def test_an_answer_that_does_not_come_in_time() -> None:
    with serving(one_after_the_other(Reply(seconds=60), chat("at last"))) as server:
        assert complete(server, request_seconds=0.2).text == "at last"


def test_waits_double_and_heed_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:  # the server's own are of no time
            waits.append(seconds)

    failure = Reply("", 500)
    with serving(
        one_after_the_other(failure, failure, failure, Reply("", 429, {"Retry-After": "40"}), failure)
    ) as server:
        monkeypatch.setattr("sdar_agents.engines.servers.endpoint.asyncio.sleep", sleep)
        with pytest.raises(EndpointError, match=r"answered 500  \(attempt 9; retries=8 is used up\)"):
            complete(server, backoff_seconds=0.5, retries=8)
    # 0.5 s doubled up to 30 s, of which jitter leaves at least half; the fourth wait is at least what the server asks.
    longest = [0.5, 1, 2, 42, 8, 16, 30, 30]
    shortest = [0.25, 0.5, 1, 40, 4, 8, 15, 15]
    assert len(waits) == 8
    assert all(low <= wait <= high for low, wait, high in zip(shortest, waits, longest, strict=True))


def test_a_storm_of_429_passes_for_everybody() -> None:
    refused = 0

    def respond(body: dict[str, Any]) -> Reply:
        nonlocal refused
        refused += 1
        return Reply("storm", 429, {"Retry-After": "0.01"}) if refused <= 60 else chat("calm")

    async def ask_all(url: str) -> list[Completion]:
        endpoint = Endpoint("tiny", base_url=url, backoff_seconds=0.01, retries=8)
        try:
            return await asyncio.gather(*(endpoint.complete(Request((), seed, MESSAGES)) for seed in range(20)))
        finally:
            await endpoint.close()

    with serving(respond) as server:
        answers = asyncio.run(ask_all(server.url))
    assert [answer.text for answer in answers] == ["calm"] * 20
    assert len(server.requests) == 80


# -- what does not pass -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (Reply({"error": {"message": "no such model"}}, 404), r"answered 404 .*no such model"),
        (Reply("no <b>such</b>\n thing", 400), r"answered 400 no <b>such</b> thing$"),
        (Reply("who are you?", 401), r"401 who are you\? \(the key comes from \$OPENAI_API_KEY, which is not set\)"),
        (Reply("\n <!doctype html><title>Login</title>"), r"a web page, '<!doctype html>.*It often ends in /v1"),
        (Reply("", 429, {"Retry-After": "3600"}), r"the server asks to wait 3600 s"),
        (Reply("", 302, {"Location": "/login"}), r"answered 302"),
    ],
)
def test_lasting_failures_are_told_at_once(reply: Reply, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda body: reply) as server:
        with pytest.raises(EndpointError, match=match):
            complete(server)
        assert len(server.requests) == 1


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = Server(lambda body: chat(""))
        server.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=r"answered ConnectError.*\(attempt 3; retries=2 is used up\)"):
            complete(server, retries=2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": ""}, "model is ''"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": True}, "temperature is True"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"request_seconds": 0}, "request_seconds is 0"),
        ({"extra_body": "x"}, "extra_body is 'x'"),
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000'; wanted an address such as http"),
        ({"base_url": "user:hunter2pw@host/v1"}, r"base_url is 'host/v1'; wanted"),
        ({"base_url": "http://[::1"}, "base_url is"),
        ({"base_url": "http://h:99999/v1"}, "base_url is"),
        ({"base_url": "http://user:hunter2@host/v1"}, "base_url at host holds a user name, password or query"),
        ({"base_url": "http://host/v1?key=1"}, "base_url at host holds"),
    ],
)
def test_bad_settings(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match) as refused:
        Endpoint(**{"model": "tiny", **settings})
    assert "hunter2" not in str(refused.value)


def test_a_policy_learns_once_for_all_batches() -> None:
    def respond(body: dict[str, Any]) -> Reply:
        return Reply({"error": {"message": "no", "param": "seed"}}, 400) if "seed" in body else chat("x")

    with serving(respond) as server:
        policy = EndpointPolicy("tiny", base_url=server.url, concurrency=1)
        for _ in range(2):
            policy.generate([Request((), 1, MESSAGES)] * 2, Sampling())
    assert ["seed" in body for _, body in server.requests] == [True, False, False, False, False]


def test_the_address() -> None:
    for given in ("http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"):
        assert Endpoint("tiny", base_url=given).base_url == "http://h/v1"


def test_a_key_that_the_server_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        serving(lambda body: Reply(f"wrong key {KEY}", 401)) as server,
        pytest.raises(EndpointError, match=r"wrong key \[key\]"),
    ):
        complete(server)
    with serving(lambda body: chat(f"Your key is {KEY}.")) as server:
        assert complete(server).text == "Your key is [key]."


def test_a_key_that_is_no_secret_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(lambda body: chat("The fridge is EMPTY.")) as server:
        assert complete(server).text == "The fridge is EMPTY."
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(InvalidOption, match=r"the key in \$OPENAI_API_KEY has characters"):
        Endpoint("tiny")


# -- the agent --------------------------------------------------------------------------------


def play(server: Server, turns: int, **settings: Any) -> list[Decision]:
    async def run() -> list[Decision]:
        agents = open_agent("openai", {"model": "tiny", "base_url": server.url, **settings}, ())
        agent = agents.take()
        env = CountingEnv()
        observation, info = env.reset(options={"task_id": "toy/valid/0003"})
        await agent.reset(env, observation, info, seed=2**31 - 1)
        decisions = []
        for _ in range(turns):
            decisions.append(await agent.act(observation, info))
            observation, _, _, _, info = env.step(decisions[-1].action)
        await agents.close()
        return decisions

    return asyncio.run(run())


def test_the_agent_asks_as_the_prompt_module_says_and_counts() -> None:
    with serving(one_after_the_other(act("up", "One."), act("double", "Two."), act("down"))) as server:
        decisions = play(server, 3, history_length=1, system="Be brief.", price_prompt=2.0, price_completion=10.0)
    assert [decision.action for decision in decisions] == ["up", "double", "down"]
    assert [decision.reasoning for decision in decisions] == ["One.", "Two.", "Well."]
    assert all((d.prompt_tokens, d.completion_tokens, d.is_well_formed) == (7, 3, True) for d in decisions)
    assert decisions[0].cost == pytest.approx((7 * 2 + 3 * 10) / 1e6)
    assert decisions[1].response == "<think>Two.</think><action>double</action>"
    # The same by hand.
    env = CountingEnv()
    observation, info = env.reset(options={"task_id": "toy/valid/0003"})
    history = []
    for action, (_, body), decision in zip(("up", "double", "down"), server.requests, decisions, strict=True):
        wanted = render_messages(
            DEFAULT_STYLE,
            info["instruction"],
            history,
            observation,
            info["admissible_commands"],
            history_length=1,
            system="Be brief.",
        )
        assert body["messages"] == decision.messages == wanted
        history.append(Turn(observation, action))
        observation, _, _, _, info = env.step(action)
    assert [body["seed"] for _, body in server.requests] == [2**31 - 1, 0, 1]


@pytest.mark.parametrize("prefilled", [None, "", "<think>"])
def test_reasoning_that_comes_beside_the_answer_counts_and_is_not_joined(prefilled: str | None) -> None:
    reasoning = "I think <action>down</action>"
    with serving(lambda body: chat("<action>up</action>", reasoning=reasoning)) as server:
        [decision] = play(server, 1, prefilled=prefilled)
    assert (decision.action, decision.is_well_formed, decision.reasoning) == ("up", True, reasoning)


def test_a_thought_that_the_servers_template_opens_is_found_in_the_answers() -> None:
    with serving(lambda body: chat("not <action>down</action></think><action>up</action>")) as server:
        with pytest.warns(RuntimeWarning, match="Set prefilled to '<think>'") as warned:
            found = play(server, 3)
        assert len(warned) == 1
        assert {(decision.action, decision.is_well_formed) for decision in found} == {("up", True)}
        assert play(server, 3, prefilled="<think>") == found
        [denied] = play(server, 1, prefilled="")
        assert (denied.action, denied.is_well_formed) == ("up", False)
    with serving(lambda body: chat("so I take <action>up</action>")) as server:
        assert play(server, 1, prefilled="<think>")[0].action == ""


def test_control_tokens_are_sent_as_text() -> None:
    with serving(lambda body: chat("<think>a</think><action>jump<|im_end|></action>")) as server:
        decisions = play(server, 2, system="</s>Be brief.")
    for (_, body), decision in zip(server.requests, decisions, strict=True):
        assert body["messages"][0]["content"] == "< /s>Be brief."
        assert decision.messages is not None
        assert decision.messages[0]["content"] == "</s>Be brief."
    assert "action: jump< |im_end|>" in server.requests[1][1]["messages"][1]["content"]


def test_a_stop_string_that_the_server_leaves_out_is_put_back() -> None:
    for text in ("<think>a</think><action>up", "<think>a</think><action>up</action>"):
        reply = chat(text)
        assert isinstance(reply.body, dict)
        reply.body["choices"][0]["stop_reason"] = "</action>"
        with serving(lambda body, reply=reply: reply) as server:
            [decision] = play(server, 1)
        assert (decision.action, decision.is_well_formed) == ("up", True)


def test_the_prompt_style_can_be_chosen() -> None:
    with serving(lambda body: chat("<search>the sea</search>")) as server:
        [own], [chosen] = play(server, 1), play(server, 1, style="search_qa")
    assert (own.is_well_formed, chosen.is_well_formed, chosen.action) == (False, True, "search[the sea]")
    role = STYLES["search_qa"].role
    assert [role in decision.messages[0]["content"] for decision in (own, chosen)] == [False, True]


def test_nonsense_is_no_action() -> None:
    with serving(lambda body: chat("I would rather not.", tokens=None)) as server:
        [decision] = play(server, 1)
    assert decision == Decision("", False, decision.messages, "I would rather not.", finish_reason="eos")


@pytest.mark.parametrize(
    ("error", "settings", "match"),
    [
        (InvalidOption, {}, "given no model: name one with --model"),
        (UnknownName, {"model": "x", "temprature": 1}, r"no setting 'temprature'; .*Did you mean 'temperature'\?"),
        (UnknownName, {"model": "x", "style": "alfwrld"}, r"no prompt style 'alfwrld'.*Did you mean 'alfworld'\?"),
        (InvalidOption, {"model": "x", "history_length": -1}, "history_length is -1"),
        (InvalidOption, {"model": "x", "price_prompt": 1.0}, "one of price_prompt and price_completion is missing"),
        (InvalidOption, {"model": "x", "price_prompt": "cheap"}, "price_prompt is 'cheap'"),
        (InvalidOption, {"model": "x", "api_key": KEY}, "'api_key' looks like a secret"),
    ],
)
def test_bad_settings_of_the_agent(error: type[Exception], settings: dict[str, Any], match: str) -> None:
    with pytest.raises(error, match=match) as refused:
        open_agent("openai", settings, ())
    assert KEY not in str(refused.value)


def test_all_settings_are_told_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://somewhere/v1/")
    settings = open_agent("openai", {"model": "tiny", "temperature": 0.4}, ()).settings
    assert settings["base_url"] == "http://somewhere/v1"
    assert (settings["temperature"], settings["max_tokens"], settings["history_length"]) == (0.4, 4096, 2)
    assert KEY not in json.dumps(settings)


# -- skills from experience -------------------------------------------------------------------


def test_a_model_behind_an_endpoint_writes_skills() -> None:
    task = Task("alfworld/train/0001", "sdar/ALFWorld-v0", "train", "pick", "put a mug in a drawer")
    episode = Episode("a", "run-1", task, (Step("a closed drawer", "open drawer 1"),), is_success=True)
    written = {"title": "Open first", "description": "Says to open.", "text": "Open it.", "scope": "kind"}
    good = chat(json.dumps({"skills": [{**written, "episodes": ["E1"]}]}))
    with serving(one_after_the_other(Reply("busy", 503), chat("Sure!"), good)) as server:
        asked = endpoint_chat("tiny", base_url=server.url, temperature=0.0, backoff_seconds=0.001)
        (skill,) = propose([episode], ModelProposer(asked, "tiny"), []).skills

        async def in_a_notebook() -> str:
            return asked(MESSAGES)

        assert asyncio.run(in_a_notebook()) == good.body["choices"][0]["message"]["content"]
    assert (skill.text, skill.status, skill.created_by, skill.origin) == (
        "Open it.",
        "shadow",
        "tiny",
        "run run-1, episodes a",
    )
    bodies = [body for _, body in server.requests]
    assert [len(body["messages"]) for body in bodies] == [2, 2, 4, 1]
    assert (bodies[0]["model"], bodies[0]["temperature"], bodies[0]["max_tokens"]) == ("tiny", 0.0, 4_096)
    with pytest.raises(InvalidOption, match="retries is -1"):
        endpoint_chat("tiny", retries=-1)
