"""The HTTP client: deadlines, sizes, redirects, connections that are kept, and what is tried again."""

import gzip
import socket
import time

import pytest
from helpers.retrieval_servers import OK, SLOW, Server, speaking

from sdar_envs.http.retries import Deadline, RetriesExhausted, RetryPolicy
from sdar_envs.http.transport import NoResponse, Transport, exchange_with_retries


@pytest.mark.parametrize("speak", SLOW.values(), ids=SLOW)
def test_an_answer_has_a_time_limit(speak):
    with speaking(speak) as address:
        transport = Transport(address, max_bytes=1 << 20)
        started = time.monotonic()
        with pytest.raises(NoResponse):
            transport.exchange("POST", address, b"{}", seconds=0.4)
        assert 0.35 < time.monotonic() - started < 4
        transport.close()


def test_a_server_that_hangs_up():
    with (
        speaking(lambda connection, _: connection.sendall(OK + b"Content-Length: 100\r\n\r\n{")) as address,
        pytest.raises(NoResponse),
    ):
        Transport(address, max_bytes=1000).exchange("GET", address, seconds=10)


def test_an_answer_that_is_too_long():
    with Server(respond=lambda _: (200, b" " * 5000)) as server:
        transport = Transport(server.url, max_bytes=4999)
        with pytest.raises(NoResponse, match="more than 4,999 bytes"):
            transport.exchange("POST", server.url, b"{}", seconds=10)
        transport.close()


def test_a_packed_answer_is_bounded_by_its_unpacked_size():
    packed = gzip.compress(b" " * 1_000_000)
    with Server(respond=lambda _: (200, packed, {"Content-Encoding": "gzip"})) as server:
        transport = Transport(server.url, max_bytes=100_000)
        with pytest.raises(NoResponse, match="more than 100,000 bytes") as caught:
            transport.exchange("POST", server.url, b"{}", seconds=10)
        assert caught.value.is_lasting
        transport.close()


def test_connections_are_kept_alive():
    taken = []

    def speak(connection, stop):
        taken.append(connection)
        connection.sendall(OK + b"Content-Length: 2\r\n\r\nok")
        while connection.recv(65536):
            connection.sendall(OK + b"Content-Length: 2\r\n\r\nok")

    with speaking(speak) as address:
        transport = Transport(address)
        assert [transport.exchange("GET", address, seconds=10).body for _ in range(5)] == [b"ok"] * 5
        assert len(taken) == 1
        # The next answer has a time limit of its own, on the connection that the first one used.
        time.sleep(0.3)
        assert transport.exchange("GET", address, seconds=0.2).body == b"ok"
        transport.close()


@pytest.mark.parametrize(
    ("method", "status", "final"),
    [
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("POST", 301, None),
        ("GET", 301, "GET"),
        ("GET", 302, "GET"),
        ("GET", 307, "GET"),
    ],
)
def test_redirects_on_the_same_server_are_followed_as_browsers_do(method, status, final):
    lines = []

    def answer(connection, stop):
        # `speaking` has read the first request, perhaps without its body.
        connection.sendall(f"HTTP/1.1 {status} Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".encode())
        request = connection.recv(65536).removeprefix(b"{}") or connection.recv(65536)
        if request:
            lines.append(request.split(b"\r\n")[0].decode())
            connection.sendall(OK + b"Content-Length: 4\r\n\r\ndone")

    with speaking(answer) as address:
        transport = Transport(address)
        response = transport.exchange(method, f"{address}/here", b"{}" if method == "POST" else None, seconds=10)
        transport.close()
    if final is None:
        assert (response.status, lines) == (301, [])
    else:
        assert lines == [f"{final} /there HTTP/1.1"]
        assert (response.body, response.url) == (b"done", f"{address}/there")


def test_a_redirect_to_another_server_is_not_followed():
    with Server(respond=lambda _: (307, b"", {"Location": "http://127.0.0.1:9/"})) as server:
        transport = Transport(server.url)
        assert transport.exchange("POST", server.url, b"{}", seconds=10).status == 307
        transport.close()


def test_repeated_requests_end_with_the_last_failure_and_its_reason():
    with Server(respond=lambda _: (503, b"busy")) as server:
        transport = Transport(server.url)
        attempts = RetryPolicy(2, backoff_seconds=0.01).start(Deadline(10))
        with pytest.raises(NoResponse, match=r"retrieve answers 503 .*busy.*\(attempt 3; retries=2 is used up\)"):
            exchange_with_retries(lambda: transport.exchange("POST", server.url, b"{}", seconds=5), attempts)
        assert len(server.bodies) == 3
        transport.close()


def test_a_caller_can_end_the_pauses():
    def wait(pause):
        raise RetriesExhausted("somebody else has failed")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    transport = Transport(address)
    with pytest.raises(NoResponse, match=r"refused.*\(somebody else has failed\)"):
        exchange_with_retries(lambda: transport.exchange("GET", address, seconds=5), RetryPolicy().start(), wait)


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999999/", "http://a..b/"])
def test_what_would_fail_again_is_not_repeated(address):
    transport = Transport("http://127.0.0.1:9")
    sent = []

    def send():
        sent.append(1)
        return transport.exchange("GET", address, seconds=5)

    with pytest.raises(NoResponse) as caught:
        exchange_with_retries(send, RetryPolicy(3, backoff_seconds=0.01).start())
    assert caught.value.is_lasting
    assert sent == [1]
