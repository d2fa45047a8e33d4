"""The HTTP client: both dialects, every form of an item, servers that fail in every way."""

import concurrent.futures
import contextlib
import email.utils
import gzip
import json
import pickle
import random
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from helpers.invented import TableRetriever
from helpers.live import running
from helpers.retrieval_servers import SLOW, Server, hits, item, speaking

from sdar_envs.errors import InvalidOption
from sdar_envs.http import retries
from sdar_envs.search_qa.retrieval import client as module
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed
from sdar_envs.search_qa.retrieval.server import create_app

DOCUMENT = {"id": "7", "contents": '"Lima"\nLima is a city.'}
PASSAGE = Passage("7", '"Lima"\nLima is a city.')


@contextlib.contextmanager
def opened(url, **options):
    retriever = HttpRetriever(url, **{"seed": 0, **options})
    try:
        yield retriever
    finally:
        retriever.close()


@contextlib.contextmanager
def connected(respond, **options):
    """Open a retriever while its server is sound, then let the server answer as `respond` says."""
    with Server() as server, opened(server.url, **options) as retriever:
        server.bodies.clear()
        server.respond = respond
        yield retriever, server


@pytest.fixture
def no_pauses(monkeypatch):
    """Time passes only by pausing; what was paused is noted."""
    clock, paused = [1000.0], []

    class Event(threading.Event):
        def wait(self, timeout=None):
            paused.append(timeout)
            clock[0] += timeout
            return self.is_set()

    monkeypatch.setattr(retries, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(module, "Event", Event)
    return paused


# -- dialects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["queries", "query"])
def test_the_dialect_is_found_out_once(dialect):
    with Server(dialect) as server, opened(server.url) as retriever:
        assert retriever.dialect == dialect
        assert [next(iter(body)) for body in server.bodies] == ["queries", "query"][: 1 + (dialect == "query")]
        server.bodies.clear()
        assert retriever.search(["a", "b", "a"], 3) == hits("a", "b", "a")
        asked = [{"query": query} for query in "aab"] if dialect == "query" else [{"queries": ["a", "b", "a"]}]
        assert sorted(server.bodies, key=str) == [{**each, "topk": 3, "return_scores": True} for each in asked]


def test_a_dialect_that_is_told_is_not_looked_for():
    with Server("query") as server:
        with opened(server.url, dialect="query"):
            assert [next(iter(body)) for body in server.bodies] == ["query"]
        with pytest.raises(RetrievalFailed, match=r"refuses a request in the dialect 'queries'.*422.*dialect='auto'"):
            HttpRetriever(server.url, dialect="queries")


def test_a_server_of_neither_dialect():
    with (
        Server("sentence") as server,
        pytest.raises(RetrievalFailed, match=r"dialect 'queries'.*sentence.*dialect 'query'"),
    ):
        HttpRetriever(server.url)


def test_both_dialects_of_the_original_find_what_the_table_has():
    with running(create_app(TableRetriever())) as address:
        queries = ["Which Calulmford lie does", "trap literal tag passage", "zzz qqq xxx", ""]
        for dialect in ("queries", "query"):
            with opened(address, dialect=dialect) as retriever:
                assert retriever.search(queries, 3) == TableRetriever().search(queries, 3)


# -- what is a result -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "hit"),
    [
        ({"document": DOCUMENT, "score": 0.5}, Hit(PASSAGE, 0.5)),
        ({"document": DOCUMENT, "score": 2}, Hit(PASSAGE, 2.0)),
        ({"document": DOCUMENT, "score": None}, Hit(PASSAGE, None)),
        ({"document": DOCUMENT}, Hit(PASSAGE, None)),
        (DOCUMENT, Hit(PASSAGE, None)),
        ({**DOCUMENT, "score": 1.5, "title": "x", "text": "y"}, Hit(PASSAGE, 1.5)),
        ({"document": {**DOCUMENT, "id": 7}}, Hit(PASSAGE, None)),
        ({"document": {"id": "7", "title": "Lima", "text": "Lima is a city."}}, Hit(PASSAGE, None)),
        ({"document": {"id": "7", "title": ' "Lima" ', "text": "Lima is a city."}}, Hit(PASSAGE, None)),
        ({"document": {"contents": "x"}}, Hit(Passage("sha256-2d711642b726b044", "x"), None)),
        ({"document": {"contents": "\ud800"}}, Hit(Passage("sha256-91a681b998555fb4", "\ud800"), None)),
    ],
)
def test_forms_of_an_item(given, hit):
    with connected(lambda _: (200, {"result": [[given]]})) as (retriever, _):
        assert retriever.search(["x"], 3) == [(hit,)]


def test_more_than_was_asked_for_is_cut():
    with connected(lambda _: (200, {"result": [[item(str(n)) for n in range(5)]]})) as (retriever, _):
        assert retriever.search(["x"], 3) == [sum(hits("0", "1", "2"), ())]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html>\n<html><h1>It works!</h1>", "not JSON.*"),
        (b"", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[" * 100_000, "levels deep"),
        ([], "wanted .*result"),
        ({"result": {}}, "wanted .*result"),
        ({"results": [[]]}, "wanted .*result"),
        ({"result": []}, "0 lists for 1 queries"),
        ({"result": [[], []]}, "2 lists for 1 queries"),
        ({"result": [{}]}, "wanted a list for each query"),
        ({"result": [DOCUMENT]}, "wanted a list for each query"),
        ({"result": [["Lima"]]}, "wanted documents, one is 'Lima'"),
        ({"result": [[{"document": "Lima", "score": 1.0}]]}, "wanted documents, one is 'Lima'"),
        ({"result": [[{"document": {"id": "7"}}]]}, "contents, or title and text"),
        ({"result": [[{"document": {"id": "7", "text": "Lima"}}]]}, "contents, or title and text"),
        ({"result": [[{"document": {"id": "7", "contents": 5}}]]}, "contents, or title and text"),
        ({"result": [[{"document": {"id": [], "contents": "x"}}]]}, "the id of a document"),
        ({"result": [[{"document": {"id": True, "contents": "x"}}]]}, "the id of a document"),
        ({"result": [[{"document": DOCUMENT, "score": "high"}]]}, "a score is 'high'"),
        ({"result": [[{"document": DOCUMENT, "score": True}]]}, "a score is True"),
        ({"result": [[{"document": DOCUMENT, "score": 10**400}]]}, "a score is 1000"),
        (b'{"result": [[{"document": {"id": "7", "contents": "x"}, "score": NaN}]]}', "a score is nan"),
    ],
)
def test_what_is_no_result(content, problem):
    with connected(lambda _: (200, content)) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=problem) as caught:
            retriever.search(["x"], 3)
        assert f"{server.url} answers 200 OK" in str(caught.value)
        assert len(str(caught.value)) < 600
        assert len(server.bodies) == 1  # asking again would not help


def test_the_beginning_of_the_body_is_shown():
    with (
        connected(lambda _: (200, b"<html>\n <h1>It works!")) as (retriever, _),
        pytest.raises(RetrievalFailed, match="<html> <h1>It works!"),
    ):
        retriever.search(["x"], 3)


# -- what is sent ---------------------------------------------------------------------------------


def test_odd_queries():
    queries = ["", " \t\n", "x" * 100_000, "漢字 🙂 é", "a\x00b", "\ud83d\ude42", "\ud800 half", "ha\udc00lf"]
    sent = ["", " \t\n", "x" * 100_000, "漢字 🙂 é", "a\x00b", "🙂", "\ufffd half", "ha\ufffdlf"]
    for dialect in ("queries", "query"):
        with Server(dialect) as server, opened(server.url) as retriever:
            server.bodies.clear()
            assert retriever.search(queries, 1) == hits(*sent)
            asked = [body[dialect] for body in server.bodies]
            assert sorted(asked[0] if dialect == "queries" else asked) == sorted(sent[2:])


def test_nothing_is_sent_for_nothing():
    with connected(lambda _: (500, {})) as (retriever, server):
        assert retriever.search([], 3) == []
        assert retriever.search(["", "  "], 3) == [(), ()]
        assert server.bodies == []


def test_batches_are_split_and_keep_their_order():
    with Server() as server, opened(server.url, batch_size=7, connections=4) as retriever:
        server.bodies.clear()
        queries = [f"q{n}" * (n % 5) for n in range(100)]
        assert retriever.search(queries, 3) == hits(*queries)
        assert len(server.bodies) == 12
        assert max(len(body["queries"]) for body in server.bodies) <= 7


def test_headers_are_sent():
    with Server() as server, opened(server.url, headers={"Authorization": "Bearer abc"}) as retriever:
        retriever.search(["x"], 1)
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer abc"}
        assert server.headers[-1]["Content-Type"] == "application/json"


def test_packed_answers_are_unpacked():
    def respond(body):
        payload = gzip.compress(json.dumps({"result": [[item("x")]]}).encode())
        return 200, payload, {"Content-Encoding": "gzip"}

    with connected(respond) as (retriever, _):
        assert retriever.search(["x"], 1) == hits("x")


# -- statuses and retries -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "advice"),
    [(400, "dialect"), (401, "token_env="), (403, "token_env="), (404, "address"), (405, "POST"), (413, "batch_size="),
     (422, "dialect"), (301, "address"), (501, "address")],
)  # fmt: skip
def test_what_asking_again_would_not_change(status, advice):
    with connected(lambda _: (status, {"detail": "no such thing"}, {"Location": "/elsewhere"})) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=rf"{status} .*no such thing.*{advice}"):
            retriever.search(["x"], 1)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(status, no_pauses):
    answers = iter([(status, b"busy"), (status, b"busy")])
    with connected(lambda body: next(answers, (200, {"result": [[item("x")]]}))) as (retriever, server):
        assert retriever.search(["x"], 1) == hits("x")
        assert len(server.bodies) == 3
        shares = random.Random(0)
        assert no_pauses == [0.25 * (0.5 + 0.5 * shares.random()), 0.5 * (0.5 + 0.5 * shares.random())]


def test_pauses_double_and_end(no_pauses):
    with connected(lambda _: (503, b"busy"), retries=9, deadline=1000.0) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=r"503.*busy.*attempt 10; retries=9 is used up.*sdar serve retriever"):
            retriever.search(["x"], 1)
        assert len(server.bodies) == 10
        longest = [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8]
        assert len(no_pauses) == 9
        assert all(0.5 * most <= pause <= most for pause, most in zip(no_pauses, longest, strict=True))


def test_one_deadline_for_all_attempts(no_pauses):
    with connected(lambda _: (503, b"busy"), retries=1000, deadline=20.0) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=r"503.*busy.*deadline=20, and a pause of .* s would be due"):
            retriever.search(["x"], 1)
        assert 10 < sum(no_pauses) < 20
        assert len(server.bodies) == len(no_pauses) + 1


def test_a_server_that_says_when(no_pauses):
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    waits = iter(["12", date, "soon", "", "-5"])
    with connected(lambda _: (429, b"busy", {"Retry-After": next(waits)}), retries=4) as (retriever, _):
        with pytest.raises(RetrievalFailed, match="429"):
            retriever.search(["x"], 1)
        assert 12 <= no_pauses[0] <= 12.25
        assert 25 < no_pauses[1] <= 30.5
        assert no_pauses[2] <= 1
        assert len(no_pauses) == 4


def test_a_server_that_wants_a_pause_beyond_the_deadline(no_pauses):
    with connected(lambda _: (429, b"busy", {"Retry-After": "100000"})) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=r"attempt 1; the server asks to wait 100000 s"):
            retriever.search(["x"], 1)
        assert (no_pauses, len(server.bodies)) == ([], 1)


def test_one_failure_ends_the_other_requests():
    with Server("query") as server, opened(server.url, connections=2, retries=100, deadline=60.0) as retriever:
        server.respond = lambda body: (404, {}) if body["query"] == "bad" else (503, {})
        started = time.monotonic()
        with pytest.raises(RetrievalFailed, match="404"):
            retriever.search([*(f"slow {n}" for n in range(1)), "bad", *(f"later {n}" for n in range(500))], 1)
        assert time.monotonic() - started < 30
        assert len(server.bodies) < 100


# -- servers that are gone, slow or strange ---------------------------------------------------------


def test_nobody_there_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(RetrievalFailed, match=rf":{port}/health gives no answer .*refused.*sdar serve retriever"):
        HttpRetriever(f"http://127.0.0.1:{port}", deadline=100.0)
    assert time.monotonic() - started < 10


def test_a_server_that_is_another():
    with running_pages() as address, pytest.raises(RetrievalFailed, match=r"answers 404 .*at /retrieve"):
        HttpRetriever(address)


def running_pages():
    async def pages(scope, receive, send):
        if scope["type"] == "http":
            status = 200 if scope["path"] == "/health" else 404
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>hello"})

    return running(pages)


def test_a_server_that_dies_and_comes_back():
    with Server() as server, opened(server.url, deadline=60.0) as retriever:
        assert retriever.search(["a"], 1) == hits("a")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(retriever.search, ["b", "c"], 1)
        time.sleep(0.2)
        with Server(port=server.port):
            assert found.result() == hits("b", "c")
    retriever.close()


def test_a_server_that_dies_for_good():
    with Server() as server, opened(server.url, retries=2) as retriever:
        pass
    with pytest.raises(RetrievalFailed, match=r"refused.*attempt 3; retries=2 is used up"):
        retriever.search(["x"], 1)
    retriever.close()


@pytest.mark.parametrize("name", ["never answers", "trickles its body"])
def test_a_search_has_a_deadline(name):
    with Server() as server, opened(server.url, timeout=0.15, deadline=0.5, retries=50) as retriever:
        pass
    with speaking(SLOW[name]) as address:
        for each in retriever._servers:
            each.url = f"{address}/retrieve"
        started = time.monotonic()
        with pytest.raises(RetrievalFailed, match=r"timed out.*timeout=, deadline="):
            retriever.search(["x"], 1)
        assert time.monotonic() - started < 5
        with pytest.raises(RetrievalFailed, match=r"gives no answer .*timed out"):
            HttpRetriever(address, timeout=0.15)
    retriever.close()


def test_an_answer_that_is_too_long_is_not_asked_for_again(monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 5000)
    with connected(lambda _: (200, b" " * 5001)) as (retriever, server):
        with pytest.raises(RetrievalFailed, match=r"more than 5,000 bytes.*would not help"):
            retriever.search(["x"], 1)
        assert len(server.bodies) == 1


def test_redirects():
    with running(create_app(TableRetriever())) as address:
        query = "Which Calulmford lie does"
        with opened(f"{address}/retrieve/") as retriever:  # 307 to /retrieve
            assert retriever.search([query], 1) == TableRetriever().search([query], 1)
        elsewhere = f"{address}/retrieve"
        with (
            connected(lambda _: (307, b"", {"Location": elsewhere})) as (retriever, _),
            pytest.raises(RetrievalFailed, match="answers 307"),
        ):
            retriever.search([query], 1)
    with connected(lambda _: (307, b"", {"Location": "/retrieve"})) as (retriever, server):
        with pytest.raises(RetrievalFailed, match="answers 307"):
            retriever.search(["x"], 1)
        assert len(server.bodies) == 3


# -- several servers --------------------------------------------------------------------------------


def test_several_servers_share_the_work():
    with Server() as one, Server() as two, opened([one.url, two.url]) as retriever:
        assert retriever.fingerprint == f"{one.url} {two.url}"
        for server in (one, two):
            server.bodies.clear()
        queries = [f"q{n}" for n in range(10)]
        assert retriever.search(queries, 1) == hits(*queries)
        assert [len(server.bodies) for server in (one, two)] == [1, 1]
        assert {*one.bodies[0]["queries"]} ^ {*two.bodies[0]["queries"]} == {*queries}
        for query in queries:
            assert retriever.search([query], 1) == hits(query)
        assert [len(server.bodies) for server in (one, two)] == [6, 6]


def test_one_of_several_servers_dies():
    with Server() as one, opened(one.url):
        with Server() as two:
            retriever = HttpRetriever([one.url, two.url], seed=0)
        for n in range(4):
            assert retriever.search([f"a{n}", f"b{n}"], 1) == hits(f"a{n}", f"b{n}")
        retriever.close()


def test_several_servers_must_be_equal():
    with Server() as one, Server("query") as two, pytest.raises(RetrievalFailed, match="differ in dialect"):
        HttpRetriever([one.url, two.url])
    with (
        Server(health=(200, {"engine": "bm25 of A"})) as one,
        Server(health=(200, {"engine": "bm25 of B"})) as two,
        pytest.raises(RetrievalFailed, match=r"differ in engine or corpus .*bm25 of A.*bm25 of B"),
    ):
        HttpRetriever([one.url, two.url])


# -- identity, processes, threads -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "engine"),
    [
        ((200, {"status": "ok", "engine": "bm25 0f3a"}), "bm25 0f3a"),
        ((200, {"status": "ok"}), ""),
        ((200, [1]), ""),
        ((200, b"<html>fine"), ""),
        ((503, {"engine": "x"}), ""),
        (None, ""),
    ],
)
def test_the_fingerprint(health, engine):
    with Server(health=health) as server, opened(server.url) as retriever:
        # The same corpus and engine are the same wherever they are served.
        assert retriever.fingerprint == (engine or server.url)


def test_a_copy_opens_its_own_connections():
    with Server("query") as server, opened(server.url) as retriever:
        server.bodies.clear()
        copy = pickle.loads(pickle.dumps(retriever))
        assert copy._random.getstate() == random.Random(0).getstate()
        assert server.bodies == []  # nothing is found out again
        assert (copy.fingerprint, copy.dialect) == (retriever.fingerprint, "query")
        assert copy.search(["a", "b"], 1) == retriever.search(["a", "b"], 1) == hits("a", "b")
        copy.close()


def test_copies_do_not_pause_in_step():
    with Server() as server, opened(server.url, seed=None) as retriever:
        copies = [pickle.loads(pickle.dumps(retriever)) for _ in range(3)]
        assert len({each._random.random() for each in [retriever, *copies]}) == 4
        for copy in copies:
            copy.close()


FORKING = """
import os, sys, warnings
warnings.simplefilter("ignore")
from sdar_envs.search_qa.retrieval.client import HttpRetriever
retriever = HttpRetriever(sys.argv[1])
def right(name):
    for turn in range(20):
        queries = [f"{name} {turn} {n}" for n in range(8)]
        found = retriever.search(queries, 1)
        assert [hits[0].passage.id for hits in found] == [f"of {query}" for query in queries], found
right("before")
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            right(f"child {child}")
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
right("parent")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("dialect", ["queries", "query"])
def test_a_fork_mixes_nothing_up(dialect):
    with Server(dialect) as server:
        command = [sys.executable, "-c", FORKING, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("dialect", ["queries", "query"])
def test_a_hundred_threads_get_their_own_answers(dialect):
    with Server(dialect) as server, opened(server.url, connections=8) as retriever:

        def ask(number):
            queries = [f"{number} {n}" for n in range(number % 4 + 1)]
            return retriever.search(queries, 1) == hits(*queries)

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            assert all(pool.map(ask, range(300)))


def test_closing_leaves_no_threads_and_no_end():
    with Server("query") as server:
        before = set(threading.enumerate())
        retriever = HttpRetriever(server.url)
        retriever.search(["a", "b"], 1)
        assert any(thread.name.startswith("sdar-retrieval") for thread in threading.enumerate())
        retriever.close()
        assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("sdar-retrieval")]
        assert retriever.search(["c", "d"], 1) == hits("c", "d")
        retriever.close()


# -- arguments ------------------------------------------------------------------------------------


def test_the_address():
    with running(create_app(TableRetriever())) as address:
        for url in (address, f"{address}/", f"{address}/retrieve", f"{address}/retrieve#x"):
            with opened(url) as retriever:
                assert retriever._servers[0].url == f"{address}/retrieve"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "file:///etc/passwd",
        "http://",
        "http://h:0",
        "http://[",
        "http://h:x",
        "http://a..b/",
        5,
        None,
        [],
        [""],
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(InvalidOption, match="wanted an address"):
        HttpRetriever(url)


def test_other_arguments():
    url = "http://127.0.0.1:9"
    for name in ("timeout", "deadline"):
        for value in (0, -1, float("inf"), float("nan"), "5", True):
            with pytest.raises(InvalidOption, match=f"{name} is"):
                HttpRetriever(url, **{name: value})
    for name, value in [("retries", -1), ("connections", 0), ("batch_size", 0), ("batch_size", 1.5), ("retries", True)]:
        with pytest.raises(InvalidOption, match=f"{name} is"):
            HttpRetriever(url, **{name: value})
    with pytest.raises(InvalidOption, match="Did you mean 'queries'"):
        HttpRetriever(url, dialect="Queries")
    with pytest.raises(InvalidOption, match="headers=") as caught:
        HttpRetriever("http://ann:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_what_is_no_search():
    with connected(lambda _: (500, {})) as (retriever, server):
        for queries, k in [("text", 3), ([5], 3), ([None], 3), (["x"], 0), (["x"], True), (["x"], "3")]:
            with pytest.raises(InvalidOption):
                retriever.search(queries, k)
        assert server.bodies == []
