"""The server of the shop and of the retriever: who may ask, and how long a request may take to arrive."""

import asyncio
import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
import requests
from helpers.live import running, served
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sdar_envs.errors import InvalidOption
from sdar_envs.http.guard import Guard
from sdar_envs.http.hosts import LOCAL_HOSTS, hosts_of, is_served, listen, shown_address
from sdar_envs.http.protocol import Patience
from sdar_envs.http.serving import serve
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.retriever import RetrievalFailed
from sdar_envs.webshop.site.client import SiteError, WebShopClientEnv

TOKEN = "a-token+of/24-characters"


async def _answer(request):
    return PlainTextResponse(f"{len(await request.body())} bytes")


APP = Starlette(routes=[Route("/", _answer, methods=["GET", "POST"])])


# -- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "  ", None, 5])
def test_no_address_is_not_all_addresses(host):
    with pytest.raises(InvalidOption, match=r"host is .*; wanted an address to listen on.*0\.0\.0\.0"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["no such host", "999.1.1.1", "x" * 300, "müller..de", "a\0b"])
def test_what_nothing_can_listen_on(host):
    with pytest.raises(InvalidOption, match="cannot listen on"):
        listen(host, 0)


@pytest.mark.parametrize("port", [-1, 70_000, "80", None, 1.5])
def test_a_port_that_does_not_exist(port):
    with pytest.raises(InvalidOption, match=f"port is {port!r}; wanted a number from 0"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", LOCAL_HOSTS),
        ("localhost", LOCAL_HOSTS),
        ("127.1", (*LOCAL_HOSTS, "127.1")),
        ("127.0.0.2", (*LOCAL_HOSTS, "127.0.0.2")),
        ("::1", LOCAL_HOSTS),
        ("0:0:0:0:0:0:0:1", (*LOCAL_HOSTS, "[0:0:0:0:0:0:0:1]")),
        ("0.0.0.0", None),
        ("::", None),
    ],
)
def test_the_names_of_a_server(host, names):
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen(host, 0) as listener:
        found = hosts_of(host, listener)
        assert found is None if names is None else set(names) <= set(found)
        assert is_served("evil.example:80", found) is (names is None)
        assert shown_address(host, listener).startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")


def _has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "header",
    ["127.0.0.1", "127.0.0.1:8000", "LOCALHOST:1", "localhost.", "localhost.:80", "[::1]", "[::1]:3000", " localhost "],
)
def test_names_of_this_machine(header):
    assert is_served(header, LOCAL_HOSTS)


@pytest.mark.parametrize(
    "header",
    ["", ":8000", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "127.0.0.1:80:80", "user@localhost", "localhost/x", "::1", "127.0.0.1, evil.example", "0.0.0.0", "lоcalhost"],
)  # fmt: skip
def test_names_that_are_not(header):
    assert not is_served(header, LOCAL_HOSTS)


def ask(address, host, path="/", method="GET", headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in [*([] if host is None else [("Host", host)]), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("headers", "is_open"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:3000"}, True),
        ({"origin": "https://localhost"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"host": "evil.example"}, False),
        ({"authorization": "Bearer wrong"}, False),
        ({"authorization": ""}, False),
    ],
)
def test_a_websocket_of_a_foreign_page_or_without_the_token_is_closed(headers, is_open):
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message)

    given = {"host": "127.0.0.1:8000", "authorization": f"Bearer {TOKEN}", **headers}
    scope = {"type": "websocket", "headers": [(name.encode(), value.encode()) for name, value in given.items()]}
    asyncio.run(Guard(app, hosts=LOCAL_HOSTS, token=TOKEN)(scope, None, send))
    assert (reached, sent) == ((["websocket"], []) if is_open else ([], [{"type": "websocket.close", "code": 1008}]))


def test_a_foreign_name_is_refused_over_a_socket():
    with running(APP) as address:
        assert ask(address, "localhost")[0] == 200
        status, text = ask(address, "evil.example")
        assert (status, "This server is not 'evil.example': ask for it by 127.0.0.1 or localhost" in text) == (
            400,
            True,
        )
        assert ask(address, None)[0] == 400
        assert ask(address, "localhost", headers=[("Host", "evil.example")])[0] == 400
    assert (
        Guard(APP, hosts=LOCAL_HOSTS)._refusal([(b"host", b"localhost"), (b"host", b"localhost")], is_socket=False)[0]
        == 400
    )


# -- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([], 401),
        ([("Authorization", f"Bearer {TOKEN}")], 200),
        ([("authorization", f"bearer  {TOKEN} ")], 200),
        ([("Authorization", f"Bearer {TOKEN}x")], 401),
        ([("Authorization", f"Bearer {TOKEN[:-1]}")], 401),
        ([("Authorization", "Bearer")], 401),
        ([("Authorization", "Bearer schl\u00fcssel")], 401),
        ([("Authorization", f"Basic {TOKEN}")], 401),
        ([("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")], 401),
        ([("X-Token", TOKEN)], 401),
    ],
)
def test_a_token(sent, status):
    with running(APP, token=TOKEN) as address:
        found, text = ask(address, "localhost", headers=sent)
        assert found == status
        assert TOKEN not in text
        assert status == 200 or "oken" in text


def test_the_commands_want_the_token_of_a_variable(monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    monkeypatch.setenv("WRONG_TOKEN", "wrong-5cd1e0")  # no word of a page: what is known as a key is blotted out
    with served("webshop", "--token-env", "SHOP_TOKEN", SHOP_TOKEN=TOKEN) as (address, _):
        assert requests.get(address, timeout=20).status_code == 401
        with pytest.raises(SiteError, match=r"401 .*wants a token.*token_env="):
            WebShopClientEnv(address)
        with pytest.raises(SiteError, match=r"401 .*not this server"):
            WebShopClientEnv(address, token_env="WRONG_TOKEN")
        env = WebShopClientEnv(address, token_env="SHOP_TOKEN")
        assert "Instruction" in env.reset(seed=1)[0]
        env.close()
        assert ask(address, "evil.example")[0] == 400

    with served("retriever", "--token-env", "SHOP_TOKEN", SHOP_TOKEN=TOKEN) as (address, _):
        assert requests.post(address, json={"query": "river"}, timeout=20).status_code == 401
        with pytest.raises(RetrievalFailed, match=r"401 .*wants a token.*token_env="):
            HttpRetriever(address)
        env = SearchQAEnv(retriever=address, token_env="SHOP_TOKEN")
        env.reset(seed=1)
        assert env.step("search[river]")[4]["is_action_valid"]
        env.close()
        assert ask(address, "evil.example", "/health")[0] == 400
        assert ask(address, "evil.example", "/retrieve", "POST")[0] == 400


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"retriever": "embedded"}, "token_env is for retrieval servers"),
        ({"retriever": "http://127.0.0.1:9/retrieve", "compat": "sdar"}, "the originals send no token"),
    ],
)
def test_a_token_for_nobody(monkeypatch, arguments, match):
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    with pytest.raises(InvalidOption, match=match):
        SearchQAEnv(token_env="SHOP_TOKEN", **arguments)


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "a\nb"])
def test_a_variable_without_a_token(monkeypatch, value):
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("SHOP_TOKEN", value)
    with pytest.raises(InvalidOption):
        serve(APP, port=0, token_env="SHOP_TOKEN")


# -- slow clients ---------------------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def talk(address, *pieces, pause=0.05, seconds=10.0):
    """Send pieces, the last one again and again; return what comes until the server closes, and after how long."""
    began = time.monotonic()
    received = bytearray()
    with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=seconds) as connection:
        stop = threading.Event()

        def send():
            try:
                for piece in pieces:
                    connection.sendall(piece)
                while pieces and not stop.wait(pause):
                    connection.sendall(pieces[-1])
            except OSError:
                pass  # closed, as it should be

        sender = threading.Thread(target=send)
        sender.start()
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
        finally:
            stop.set()
            sender.join()
    return bytes(received), time.monotonic() - began


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((), b""),
        ((b"G", b"E"), b"408"),
        ((HEAD, b"X-More: x\r\n"), b"408"),
        ((HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"), b"408"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), b"408"),
    ],
    ids=["says nothing", "trickles its method", "trickles its head", "trickles its body", "trickles chunks"],
)
def test_a_slow_request_is_given_up(pieces, status):
    with running(APP, patience=Patience(head=0.3, body=0.3)) as address:
        received, seconds = talk(address, *pieces)
        assert received.split(b" ")[1:2] == ([status] if status else [])
        assert 0.2 < seconds < 8
        assert requests.get(address, timeout=10).text == "0 bytes"


def test_what_comes_of_a_refused_body_is_read_for_a_while():
    async def refuse(request):
        return PlainTextResponse("no", 413)

    app = Starlette(routes=[Route("/", refuse, methods=["POST"])])
    with running(app, patience=Patience(rest=0.5)) as address:
        received, seconds = talk(address, HEAD + b"Content-Length: 100000000\r\n\r\n", b"x" * 1000)
        assert received.startswith(b"HTTP/1.1 413 ")
        assert 0.4 < seconds < 8


def test_a_request_in_time_may_be_answered_late():
    async def dawdle(request):
        import asyncio

        await asyncio.sleep(0.8)
        return PlainTextResponse("at last")

    app = Starlette(routes=[Route("/", dawdle)])
    with running(app, patience=Patience(0.3, 0.3, 0.3)) as address, requests.Session() as session:
        assert [session.get(address, timeout=10).text for _ in range(2)] == ["at last"] * 2


def test_hundreds_of_slow_connections_keep_nobody_out():
    with running(APP, patience=Patience(head=30)) as address:
        slow = [socket.create_connection(("127.0.0.1", urlsplit(address).port)) for _ in range(300)]
        try:
            for connection in slow:
                connection.sendall(b"GET / HT")
            assert requests.get(address, timeout=10).status_code == 200
            for connection in slow[::50]:
                connection.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        finally:
            for connection in slow:
                connection.close()
