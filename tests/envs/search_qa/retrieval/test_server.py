"""The retrieval server: what the original servers answer, gathering, limits, failures."""

import asyncio
import concurrent.futures
import json
import signal
import socket
import threading
from urllib.parse import urlsplit

import pytest
import requests
from helpers.invented import DATA, TableRetriever
from helpers.live import running, served
from helpers.passages import write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.index import build_index, open_index
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed
from sdar_envs.search_qa.retrieval.server import _Batcher, create_app, serve_retriever

CASES = json.loads((DATA / "golden_retrieve_api.json").read_text(encoding="utf-8"))["cases"]

# By their number in the file: what the original of that dialect does, and this server does not.
DEPARTURES = {
    27: "SDAR's server refuses `queries`",
    28: "SDAR's server answers `query` where there is `queries` too",
    52: "Search-R1's server fails without scores: one query, by default",
    53: "Search-R1's server fails without scores: one query",
    54: "Search-R1's server answers two queries without scores with the documents of the first",
    55: "Search-R1's server fails without scores: three queries",
    60: "Search-R1's server refuses `query`",
    64: "Search-R1's server says that `queries` is missing where SDAR's says `query`",
}

QUERY = "Which Calulmford lie does"


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(TableRetriever()), follow_redirects=False) as client:
        yield client


def send(client, case):
    if "raw_body" in case:
        headers = {"Content-Type": case["request_content_type"]}
        return client.request(case["method"], case["path"], content=case["raw_body"].encode(), headers=headers)
    return client.request(case["method"], case["path"], json=case["request"])


def error_fields(answer):
    return [[entry["type"], entry["loc"]] for entry in answer.json()["detail"]]


def from_table(queries, k, with_scores):
    found = TableRetriever().search(queries, k)
    documents = [[{"id": hit.passage.id, "contents": hit.passage.contents} for hit in hits] for hits in found]
    if not with_scores:
        return {"result": documents}
    scores = [[hit.score for hit in hits] for hits in found]
    pairs = [zip(*each, strict=True) for each in zip(documents, scores, strict=True)]
    return {"result": [[{"document": document, "score": score} for document, score in pair] for pair in pairs]}


@pytest.mark.parametrize("number", [n for n in range(len(CASES)) if n not in DEPARTURES])
def test_the_answer_is_the_original_servers(client, number):
    case = CASES[number]
    answer = send(client, case)
    assert answer.status_code == case["status"]
    if answer.status_code == 422:
        assert error_fields(answer) == case["error_fields"]
    elif answer.status_code == 307:
        assert urlsplit(answer.headers["location"]).path == case["location"]
    else:
        assert answer.headers["content-type"] == case["content_type"]
        assert answer.json() == case["response"]


def test_all_recorded_pairs_are_compared():
    assert len(CASES) == 76
    assert {case["dialect"] for case in CASES} == {"query", "queries"}


@pytest.mark.parametrize("number", DEPARTURES, ids=DEPARTURES.get)
def test_a_departure(client, number):
    case = CASES[number]
    asked, answer = case["request"], send(client, case)
    if number == 64:
        assert (answer.status_code, case["status"]) == (422, 422)
        assert case["error_fields"] == [["missing", ["body", "queries"]]]
        assert error_fields(answer) == [["missing", ["body", "query"]]]
        return
    assert answer.status_code == 200
    queries = asked["queries"] if "queries" in asked else [asked["query"]]
    assert answer.json() == from_table(queries, asked.get("topk", 3), asked.get("return_scores", False))
    assert (case["status"], case["response"]) != (200, answer.json())


def test_clients_of_both_originals_work_unchanged():
    """The literal requests of Search-R1's trainer and of SDAR's and verl-agent's search tool, over a socket."""
    with running(create_app(TableRetriever())) as address:
        search_url = f"{address}/retrieve"
        payload = {"queries": [QUERY, "no such words"], "topk": 3, "return_scores": True}
        results = requests.post(search_url, json=payload).json()["result"]
        assert results[0][0]["document"]["contents"].startswith('"Calulmford"\n')
        assert results[1] == []

        session = requests.Session()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        payload = {"query": QUERY, "topk": 3, "return_scores": True}
        response = session.post(search_url, headers=headers, json=payload, timeout=60)
        response.raise_for_status()
        assert response.json()["result"] == results[:1]
        session.close()


def test_health(client):
    from importlib.metadata import version

    facts = client.get("/health").json()
    assert facts["status"] == "ok"
    assert (facts["engine"], facts["passages"], facts["topk"]) == ("invented", None, 3)
    assert facts["versions"]["sdar-envs"] == version("sdar-envs")
    assert TestClient(create_app(TableRetriever(), passages=200)).get("/health").json()["passages"] == 200


def test_health_counts_the_passages_of_an_index(tmp_path):
    source = write_corpus(tmp_path / "corpus.jsonl", [Passage(str(i), f'"T"\nriver {i}') for i in range(3)])
    build_index(source, tmp_path / "index", progress=False)
    app = create_app(open_index(tmp_path / "index"))
    assert TestClient(app).get("/health").json()["passages"] == 3


# -- limits and bad input -------------------------------------------------------------------------


def test_limits():
    client = TestClient(create_app(TableRetriever(), max_topk=5, max_queries=2, max_bytes=1000))

    def refused(body):
        answer = client.post("/retrieve", json=body)
        assert answer.status_code == 422
        return error_fields(answer)

    assert refused({"query": "x", "topk": 6}) == [["less_than_equal", ["body", "topk"]]]
    assert refused({"query": "x", "topk": 10**30}) == [["less_than_equal", ["body", "topk"]]]
    assert refused({"query": "x", "topk": -1}) == [["greater_than_equal", ["body", "topk"]]]
    assert refused({"queries": ["a", "b", "c"]}) == [["too_long", ["body", "queries"]]]
    assert refused({"queries": 1, "topk": [], "return_scores": 2}) == [
        ["list_type", ["body", "queries"]],
        ["int_type", ["body", "topk"]],
        ["bool_parsing", ["body", "return_scores"]],
    ]
    answer = client.post("/retrieve", json={"query": "x" * 1000})
    assert answer.status_code == 413
    assert "takes 1,000" in answer.json()["detail"]
    assert client.post("/retrieve", json={"query": "x" * 900, "topk": 5}).status_code == 200


@pytest.mark.parametrize("body", [b"\xff\xfe\xfd", b'{"query": "\xe9"}', b"[" * 100_000, b'{"topk": ' + b"9" * 5000])
def test_a_body_that_is_no_text(client, body):
    answer = client.post("/retrieve", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "JSON" in answer.json()["detail"]


@pytest.mark.parametrize("topk", ["NaN", "Infinity", "-Infinity", "2.5"])
def test_topk_that_is_no_integer(client, topk):
    body = f'{{"query": "x", "topk": {topk}, "return_scores": {topk}}}'
    answer = client.post("/retrieve", content=body, headers={"Content-Type": "application/json"})
    assert error_fields(answer) == [["int_from_float", ["body", "topk"]], ["bool_type", ["body", "return_scores"]]]


@pytest.mark.parametrize("media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/json"])
def test_a_body_that_a_foreign_page_could_send_is_no_json(client, media_type):
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = client.post("/retrieve", content=json.dumps({"query": QUERY, "topk": 1}), headers=headers)
    assert error_fields(answer) == [["model_attributes_type", ["body"]]]
    assert "Content-Type: application/json" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
def test_types_of_json(client, media_type):
    headers = {"Content-Type": media_type}
    answer = client.post("/retrieve", content=json.dumps({"query": QUERY, "topk": 1}), headers=headers)
    assert answer.json() == from_table([QUERY], 1, False)


def test_a_body_too_large_is_answered_over_a_socket():
    with running(create_app(TableRetriever(), max_bytes=1 << 16)) as address:
        answer = requests.post(f"{address}/retrieve", json={"query": "x" * (8 << 20)})
        assert answer.status_code == 413
        pieces = (b"x" * (1 << 16) for _ in range(128))
        answer = requests.post(f"{address}/retrieve", data=pieces, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert "more than 65,536 bytes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("framing", "sent"),
    [(b"Content-Length: 900000", b""), (b"Transfer-Encoding: chunked", b"fa1\r\n" + b"x" * 4001 + b"\r\n")],
)
def test_a_body_too_large_is_answered_before_it_has_come(framing, sent):
    with running(create_app(TableRetriever(), max_bytes=4000)) as address:
        head = b"POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + framing
        with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=10) as connection:
            connection.sendall(head + b"\r\n\r\n" + sent)
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_an_answer_that_would_be_too_long_is_refused():
    client = TestClient(create_app(Echo(), max_topk=50, max_passages=100))
    answer = client.post("/retrieve", json={"queries": ["a", "b", "c"], "topk": 50})
    assert answer.status_code == 413
    assert "3 queries with 50 passages each are 150 passages; this server gives 100" in answer.json()["detail"]
    assert client.post("/retrieve", json={"queries": ["a", "b"], "topk": 50}).status_code == 200
    assert client.post("/retrieve", json={"queries": ["a"] * 34}).status_code == 413
    with pytest.raises(InvalidOption, match="more than max_passages=10"):
        create_app(Echo(), max_passages=10)


@pytest.mark.parametrize("count", [32, pytest.param(256, marks=pytest.mark.slow)])
def test_a_long_answer_does_not_hold_up_the_server(count):
    """A long answer, or the longest, while /health is asked again and again."""
    hits = tuple(Hit(Passage(str(n), f'"T"\n{"passage " * 8}{n}'), n / 7) for n in range(1000))
    retriever = Given()
    retriever.table = {f"q{n}": hits for n in range(count)}
    with running(create_app(retriever)) as address, concurrent.futures.ThreadPoolExecutor(1) as pool:
        body = {"queries": list(retriever.table), "topk": 1000, "return_scores": True}
        asked = pool.submit(requests.post, f"{address}/retrieve", json=body, timeout=60)
        answers = 0
        with requests.Session() as session:
            while not asked.done():
                assert session.get(f"{address}/health", timeout=60).status_code == 200
                answers += 1
        answer = asked.result()
        assert answer.status_code == 200
        assert answer.content.count(b'"score"') == 1000 * count
        assert answers > 5  # one or two, if they had to wait for the long answer


def test_a_client_that_goes_before_it_has_spoken_is_no_failure():
    scope = {"type": "http", "method": "POST", "path": "/retrieve", "query_string": b"", "headers": []}
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(create_app(TableRetriever())(scope, receive, send))
    assert sent[0]["status"] == 400


def test_arguments_are_checked():
    for name in ("default_topk", "max_topk", "max_queries", "max_bytes", "max_passages"):
        for value in (0, -1, 1.5, True, "3"):
            with pytest.raises(InvalidOption, match=f"{name} is"):
                create_app(TableRetriever(), **{name: value})
    with pytest.raises(InvalidOption, match="more than max_topk=2"):
        create_app(TableRetriever(), max_topk=2)


# -- gathering ------------------------------------------------------------------------------------


class Echo:
    """Finds passages that are made of the query. Notes every call, and waits if it is told to."""

    fingerprint = "echo"

    def __init__(self):
        self.calls = []
        self.entered = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def search(self, queries, k):
        self.calls.append((list(queries), k))
        self.entered.set()
        assert self.may_go.wait(20)
        if "poison" in queries:
            raise ValueError("this query breaks the engine")
        if "gone" in queries:
            raise RetrievalFailed("the engine is gone")
        return self.answer(queries, k)

    def answer(self, queries, k):
        return [tuple(Hit(Passage(f"{q} {n}", f'"{q}"\n{n} of {k}'), n / 7) for n in range(k)) for q in queries]


@pytest.fixture
def echo():
    retriever = Echo()
    with running(create_app(retriever)) as address:
        yield retriever, f"{address}/retrieve"


def post(url, query, k=2):
    answer = requests.post(url, json={"query": query, "topk": k, "return_scores": True}, timeout=20)
    return answer.status_code, answer.json()


def expected(query, k=2):
    document = [{"id": f"{query} {n}", "contents": f'"{query}"\n{n} of {k}'} for n in range(k)]
    return 200, {"result": [[{"document": document[n], "score": n / 7} for n in range(k)]]}


def gathered(retriever, asked, **limits):
    """Ask while another search runs, in one event loop; return what each got."""

    async def ask():
        batcher = _Batcher(retriever, **limits)
        first = asyncio.create_task(batcher.search(["first"], 1))
        while not retriever.entered.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.search(*each)) for each in asked]
        await asyncio.sleep(0)  # the event loop runs on, and all of them are waiting
        retriever.may_go.set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        assert await first == retriever.answer(["first"], 1)
        batcher.close()
        return outcomes

    retriever.may_go.clear()
    return asyncio.run(ask())


def test_what_comes_while_a_search_runs_is_one_search():
    retriever = Echo()
    asked = [([f"query {n % 15}", f"other {n}"], 2) for n in range(30)]
    assert gathered(retriever, asked) == [retriever.answer(*each) for each in asked]
    assert [len(queries) for queries, _ in retriever.calls] == [1, 45]


def test_what_comes_while_a_search_runs_is_searched_in_pieces_of_bearable_size():
    retriever = Echo()
    asked = [*(([f"query {n}", f"other {n}"], 3) for n in range(10)), (["large"] * 9, 5), (["last"], 1)]
    assert gathered(retriever, asked, max_passages=20) == [retriever.answer(*each) for each in asked]
    assert [len(queries) for queries, _ in retriever.calls] == [1, 6, 6, 6, 2, 1, 1]


def test_different_numbers_of_passages_are_not_mixed():
    retriever = Echo()
    asked = [([f"query {n}"], 1 + n % 3) for n in range(12)] + [([], 2)]
    assert gathered(retriever, asked) == [retriever.answer(*each) for each in asked]
    assert [(len(queries), k) for queries, k in retriever.calls[1:]] == [(4, 1), (4, 2), (4, 3)]


def test_a_query_that_breaks_the_engine_breaks_no_other():
    retriever = Echo()
    asked = [(["a"], 2), (["b", "poison"], 2), (["c"], 2)]
    first, second, third = gathered(retriever, asked)
    assert [first, third] == [retriever.answer(["a"], 2), retriever.answer(["c"], 2)]
    assert isinstance(second, ValueError)


def test_an_engine_that_is_gone_is_asked_once():
    retriever = Echo()
    outcomes = gathered(retriever, [(["a"], 2), (["gone"], 2), (["b"], 2)])
    assert [str(outcome) for outcome in outcomes] == ["the engine is gone"] * 3
    assert len(retriever.calls) == 2


def test_a_search_after_the_end_is_refused():
    async def ask():
        batcher = _Batcher(Echo())
        batcher.close()
        await batcher.search(["x"], 1)

    with pytest.raises(RetrievalFailed, match="being stopped"):
        asyncio.run(ask())


def test_an_engine_that_answers_too_few_lists_is_a_failure():
    retriever = Echo()
    retriever.answer = lambda queries, k: []
    with TestClient(create_app(retriever), raise_server_exceptions=False) as client:
        assert client.post("/retrieve", json={"queries": ["a", "b"]}).status_code == 500


def test_failures_over_a_socket(echo):
    _, url = echo
    status, body = post(url, "poison")
    assert (status, "operator" in body["detail"]) == (500, True)
    assert "breaks the engine" not in json.dumps(body)
    status, body = post(url, "gone")
    assert (status, body["detail"]) == (503, "The engine of this server failed: the engine is gone")
    assert post(url, "back") == expected("back")


def test_the_operator_sees_what_broke():
    with TestClient(create_app(Echo())) as client, pytest.raises(ValueError, match="breaks the engine"):
        client.post("/retrieve", json={"query": "poison"})


def test_a_search_does_not_hold_up_the_server(echo):
    retriever, url = echo
    retriever.may_go.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        searching = pool.submit(post, url, "slow")
        assert retriever.entered.wait(20)
        assert requests.get(url.replace("retrieve", "health"), timeout=20).json()["status"] == "ok"
        assert not searching.done()
        retriever.may_go.set()
        assert searching.result() == expected("slow")


def test_a_hundred_clients_get_their_own_answers(echo):
    _, url = echo

    def converse(number):
        with requests.Session() as session:
            for turn in range(4):
                query = f"client {number} turn {turn}"
                key, value = ("queries", [query]) if (number + turn) % 2 else ("query", query)
                body = {key: value, "topk": 1 + number % 3, "return_scores": True}
                answer = session.post(url, json=body, timeout=20)
                if (answer.status_code, answer.json()) != expected(query, 1 + number % 3):
                    return query
        return None

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert set(pool.map(converse, range(100))) == {None}


def test_stopping_leaves_no_threads():
    before = set(threading.enumerate())
    with running(create_app(Echo())) as address:
        assert post(f"{address}/retrieve", "x") == expected("x")
        assert any(thread.name.startswith("sdar-search") for thread in threading.enumerate())
    assert set(threading.enumerate()) == before


# -- server and client together -------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
HITS = st.builds(Hit, st.builds(Passage, TEXT, TEXT), st.none() | st.floats(allow_nan=False, allow_infinity=False))


class Given:
    """Finds what a test says."""

    fingerprint = "given"

    def __init__(self):
        self.table = {}

    def search(self, queries, k):
        return [tuple(self.table.get(query, ()))[:k] for query in queries]


@pytest.fixture(scope="module", params=["queries", "query"])
def round_trip(request):
    retriever = Given()
    with running(create_app(retriever)) as address:
        client = HttpRetriever(address, dialect=request.param, batch_size=3)
        yield retriever, client
        client.close()


@settings(max_examples=60, deadline=None)
@given(table=st.dictionaries(st.text(max_size=40).filter(str.strip), st.lists(HITS, max_size=4)), k=st.integers(1, 5))
def test_a_round_trip_changes_nothing(round_trip, table, k):
    retriever, client = round_trip
    retriever.table = table
    queries = [*table, "unknown", *list(table)[:2], ""]
    assert client.search(queries, k) == retriever.search(queries, k)
    assert client.fingerprint == "given"


def test_a_server_of_a_server_tells_of_the_failure():
    with running(create_app(Echo())) as address:
        near = HttpRetriever(address, retries=0, deadline=5)
        with running(create_app(near)) as front:
            far = HttpRetriever(front, retries=0, deadline=5)
            assert far.search(["x", "y"], 2) == Echo().search(["x", "y"], 2)
            assert far.fingerprint == "echo"
            with pytest.raises(RetrievalFailed, match=r"503.*engine of this server failed: .*answers 503"):
                far.search(["gone"], 2)
            far.close()
        near.close()


# -- the command ----------------------------------------------------------------------------------


def test_the_command_serves_an_index_until_interrupted(tmp_path):
    build_index(DATA / "corpus.jsonl", tmp_path / "index", progress=False)
    here = open_index(tmp_path / "index")
    with served("retriever", "--topk", "2", "--index", str(tmp_path / "index")) as (url, process):
        assert urlsplit(url).path == "/retrieve"
        client = HttpRetriever(url)
        queries = [QUERY, "market town river", "", "x" * 100_000]
        assert client.search(queries, 3) == here.search(queries, 3)
        assert client.fingerprint == here.fingerprint
        assert len(requests.post(url, json={"query": "market town"}).json()["result"][0]) == 2
        client.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read().strip().splitlines()[-1:] == ["stopped"]


def test_the_command_serves_the_embedded_facts():
    here = pytest.importorskip("sdar_envs.search_qa.embedded").embedded_retriever()
    with served("retriever") as (url, _):
        client = HttpRetriever(url)
        assert client.search(["capital of Peru"], 3) == here.search(["capital of Peru"], 3)
        client.close()


def test_the_command_names_what_is_missing(capsys):
    from sdar_benchmarks.cli.main import main

    assert main(["serve", "retriever", "--index", "/no/such/index"]) == 2
    assert "no index /no/such/index" in capsys.readouterr().err


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(InvalidOption, match="another port"):
        serve_retriever(TableRetriever(), port=listener.getsockname()[1])
    with pytest.raises(InvalidOption, match="default_topk is 0"):
        serve_retriever(TableRetriever(), topk=0)
