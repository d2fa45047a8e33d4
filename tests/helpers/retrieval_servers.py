"""Retrieval servers whose answers a test decides, over HTTP and over bare sockets."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sdar_envs.search_qa.retrieval.retriever import Hit, Passage


class Server:
    """A server whose answers a test decides: `respond(body)` returns (status, content) or (status, content, headers).

    Without `respond` it is an original server of one dialect. `bodies` are what it was sent, in that order.
    """

    def __init__(self, dialect="queries", respond=None, health=None, port=0):
        self.bodies = []
        self.headers = []
        self.dialect = dialect
        self.respond = respond or self.answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                self.send(404, {}) if health is None or self.path != "/health" else self.send(*health)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.headers.append(self.headers)
                outer.bodies.append(body)
                self.send(*outer.respond(body))

            def send(self, status, content, headers=()):
                payload = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}/retrieve"

    def answer(self, body):
        if self.dialect not in body:
            return 422, {"detail": [{"type": "missing", "loc": ["body", self.dialect]}]}
        asked = body[self.dialect]
        return 200, {"result": [[item(query)] for query in ([asked] if self.dialect == "query" else asked)]}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def item(query):
    return {"document": {"id": f"of {query}", "contents": f'"{query}"\ntext'}, "score": len(query) / 3}


def hits(*queries):
    return [(Hit(Passage(f"of {q}", f'"{q}"\ntext'), len(q) / 3),) if q.strip() else () for q in queries]


@contextlib.contextmanager
def speaking(speak):
    """A server that answers each connection by `speak(connection)`, once a request has begun to come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()
        connections = []

        def serve(connection):
            connections.append(connection)
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                speak(connection, stop)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def silent(connection, stop):
    stop.wait(60)


def trickling(beginning, rest):
    def speak(connection, stop):
        connection.sendall(beginning)
        while not stop.wait(0.02):
            connection.sendall(rest)

    return speak


OK = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "never answers": silent,
    "trickles its status": trickling(b"H", b"T"),
    "trickles its head": trickling(OK, b"X-Header: x\r\n"),
    "begins again and again": trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trickles its body": trickling(OK + b"Content-Length: 1000000\r\n\r\n", b" "),
    "trickles its chunks": trickling(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trickles without an end": trickling(OK + b"\r\n", b" "),
}
