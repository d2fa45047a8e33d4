"""A model's answers are read strictly, and a real server is asked over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills.endpoint import EndpointProposer
from sdar_skills.experience import Draft, Episode, Step, propose
from sdar_skills.proposers import ModelProposer, ProposalFailed
from sdar_skills.skill import Skill


def episode(name: str, *, won: bool, steps: int = 2) -> Episode:
    task = Task(f"alfworld/train/{name}", "sdar/ALFWorld-v0", "train", "pick", f"put a mug in drawer {name}")
    played = tuple(Step(f"You see\n\nthing {number}.", f"do {number}", number != 1) for number in range(steps))
    return Episode(name, "run-1", task, played, won)


EPISODES = [episode("a", won=True), episode("b", won=True), episode("c", won=False)]
GOOD = {"title": "Open first", "description": "Says to open.", "text": "Open it.", "scope": "kind", "episodes": ["E2"]}


def answer(*skills: Any) -> str:
    return json.dumps({"skills": skills})


class Model:
    """Answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, str]]] = []

    def __call__(self, messages: Sequence[dict[str, str]]) -> str:
        self.asked.append([dict(message) for message in messages])
        return self.answers[len(self.asked) - 1]


# -- a model ----------------------------------------------------------------------------------


def test_a_good_answer_becomes_a_draft() -> None:
    model = Model(answer(GOOD, {**GOOD, "scope": "all kinds", "episodes": ["E1", "E2", "E1"]}))
    drafts = ModelProposer(model, "tiny").propose(EPISODES, [])
    # Wins and losses come in turn: E2 is the loss.
    assert drafts == [
        Draft("Open first", "Says to open.", "Open it.", False, (EPISODES[2],)),
        Draft("Open first", "Says to open.", "Open it.", True, (EPISODES[0], EPISODES[2])),
    ]


def test_what_a_model_is_asked() -> None:
    model = Model(answer())
    known = [Skill("look-around", "alfworld", None, "Says to look.", "Look.")]
    long = episode("d", won=True, steps=5)
    assert ModelProposer(model, "tiny", max_steps=2, max_episodes=3).propose([*EPISODES, long], known) == []
    system, user = model.asked[0]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "Kind of task: pick" in user["content"]
    assert "- look-around: Says to look." in user["content"]
    assert (
        "Episode E2, not solved: put a mug in drawer c\nYou see thing 0.\n> do 0\nYou see thing 1." in user["content"]
    )
    assert "> do 1   (not understood)" in user["content"]
    assert "E3, solved: put a mug in drawer b" in user["content"]
    assert "E4" not in user["content"]
    model = Model(answer())
    ModelProposer(model, "tiny", max_steps=2).propose([long], [])
    assert "(3 earlier steps are left out)\nYou see thing 3." in model.asked[0][1]["content"]
    assert "(none)" in model.asked[0][1]["content"]


def test_a_long_observation_is_shortened_in_sight() -> None:
    task = EPISODES[0].task
    model = Model(answer())
    ModelProposer(model, "tiny").propose([Episode("a", "r", task, (Step("x" * 700, "go"),), False)], [])
    assert f"{'x' * 600} ...\n> go" in model.asked[0][1]["content"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Here you are: {}", "it is not JSON"),
        ("[]", 'it is not an object with the one key "skills"'),
        ('{"skills": [], "note": ""}', 'it is not an object with the one key "skills"'),
        ('{"skills": {}}', 'it is not an object with the one key "skills"'),
        (answer(*[GOOD] * 4), "it has 4 skills, more than 3"),
        (
            answer(GOOD, "open"),
            "skill 2 is not an object with exactly the keys title, description, text, scope, episodes",
        ),
        (answer({**GOOD, "note": ""}), "skill 1 is not an object with exactly the keys"),
        (answer({**GOOD, "text": " "}), "the text of skill 1 is not a text of 1 to 4000 characters"),
        (answer({**GOOD, "text": "x" * 4001}), "the text of skill 1 is not a text"),
        (answer({**GOOD, "title": 7}), "the title of skill 1 is not a text of 1 to 80"),
        (answer({**GOOD, "scope": "every"}), "the scope of skill 1 is 'every', not"),
        (answer({**GOOD, "scope": []}), "the scope of skill 1 is"),
        (answer({**GOOD, "episodes": ["E9"]}), "the episodes of skill 1 are not a list of some of E1, E2, E3"),
        (answer({**GOOD, "episodes": []}), "the episodes of skill 1 are not"),
        (answer({**GOOD, "episodes": [1]}), "the episodes of skill 1 are not"),
    ],
)
def test_a_bad_answer_is_sent_back_with_what_was_wrong(bad: str, problem: str) -> None:
    model = Model(bad, answer(GOOD))
    assert len(ModelProposer(model, "tiny").propose(EPISODES, [])) == 1
    *_, said, back = model.asked[1]
    assert said == {"role": "assistant", "content": bad}
    assert problem in back["content"]
    assert back["role"] == "user"


def test_after_some_bad_answers_it_gives_up() -> None:
    model = Model("no", "no", "no")
    with pytest.raises(ProposalFailed, match=r"tiny gave no usable skills in 2 answers; the last one: it is not JSON"):
        ModelProposer(model, "tiny", attempts=2).propose(EPISODES, [])
    assert len(model.asked) == 2


def test_numbers_are_checked() -> None:
    with pytest.raises(InvalidOption, match="max_steps is 0; wanted a whole number from 1"):
        ModelProposer(Model(), "tiny", max_steps=0)


# -- a server ---------------------------------------------------------------------------------


class Server:
    """A chat server on this machine that gives prepared answers: (status, headers, body)."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                status, headers, text = outer.answers.pop(0)
                content = text.encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def says(self, content: str) -> None:
        self.answers.append((200, {}, json.dumps({"choices": [{"message": {"content": content}}]})))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TOY_KEY", "sk-toy")
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


def proposer(server: Server, **settings: Any) -> EndpointProposer:
    return EndpointProposer(
        server.url + "/", "tiny", **{"api_key_env": "TOY_KEY", "backoff_seconds": 0.001, **settings}
    )


def test_skills_by_http(server: Server) -> None:
    server.says("Sure!")
    server.says(answer(GOOD))
    asked = proposer(server, max_skills=2)
    (skill,) = propose(EPISODES, asked, []).skills
    assert (skill.created_by, skill.origin) == ("tiny", "run run-1, episodes c")
    path, headers, body = server.requests[0]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-toy")
    assert (body["model"], body["temperature"]) == ("tiny", 0.0)
    assert "up to 2 new skills" in body["messages"][1]["content"]
    assert len(server.requests[1][2]["messages"]) == 4


def test_what_passes_by_itself_is_tried_again(server: Server) -> None:
    server.answers = [(503, {}, "busy"), (429, {"Retry-After": "0"}, "slow down"), (500, {"Retry-After": "Fri"}, "")]
    server.says(answer(GOOD))
    asked = proposer(server)
    assert len(asked.propose(EPISODES, [])) == 1
    assert len(server.requests) == 4


def test_retries_are_bounded(server: Server) -> None:
    server.answers = [(503, {}, "busy")] * 9
    asked = proposer(server, retries=2)
    with pytest.raises(ProposalFailed, match="answered 503 'busy'"):
        asked.propose(EPISODES, [])
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "headers", "body", "match"),
    [
        (401, {}, "wrong key: sk-toy", r"answered 401 'wrong key: \[key\]'. Check address, model and key"),
        (404, {}, "<html>", "answered 404"),
        (302, {"Location": "http://127.0.0.1:9/"}, "", "answered 302"),
        (200, {}, "<html>", "no chat completion: '<html>'"),
        (200, {}, '{"choices": []}', "no chat completion"),
        (200, {}, '{"choices": [{"message": {"content": null}}]}', "no chat completion"),
    ],
)
def test_what_does_not_pass_is_an_error_at_once(
    server: Server, status: int, headers: dict[str, str], body: str, match: str
) -> None:
    server.answers = [(status, headers, body)]
    asked = proposer(server)
    with pytest.raises(ProposalFailed, match=match) as failed:
        asked.propose(EPISODES, [])
    assert len(server.requests) == 1
    assert "sk-toy" not in str(failed.value)


def test_nobody_there(server: Server) -> None:
    asked = EndpointProposer("http://127.0.0.1:9/v1", "tiny", api_key_env=None, retries=1, backoff_seconds=0.001)
    with pytest.raises(ProposalFailed, match="did not answer"):
        asked.propose(EPISODES, [])


def test_a_server_that_wants_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.says(answer())
    asked = proposer(server, api_key_env=None)
    assert asked.propose(EPISODES, []) == []
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    ("url", "settings", "match"),
    [
        ("ftp://x/v1", {}, "base_url is 'ftp://x/v1'; wanted a bare address"),
        ("http://me:secret@x/v1", {}, "base_url is 'x/v1'"),
        ("http://x/v1", {"api_key_env": "NO_SUCH_KEY"}, "the environment variable NO_SUCH_KEY is not set"),
        ("http://x/v1", {"api_key_env": "BAD_KEY"}, "the key in BAD_KEY has characters that no HTTP header can hold"),
        ("http://x/v1", {"retries": -1}, "retries is -1"),
        ("http://x/v1", {"backoff_seconds": 0}, "backoff_seconds is 0; wanted seconds above 0"),
    ],
)
def test_refusals(url: str, settings: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD_KEY", "schlüssel")
    with pytest.raises(InvalidOption, match=match) as refused:
        EndpointProposer(url, "tiny", **{"api_key_env": None, **settings})
    assert "secret" not in str(refused.value)
