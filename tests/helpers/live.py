"""Servers on this machine, for tests."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from sdar_envs.http.hosts import listen, shown_address
from sdar_envs.http.serving import make_server


@contextlib.contextmanager
def running(app, **settings) -> Iterator[str]:
    """Serve an app in a thread, as `sdar serve` does; give its address. Settings are those of `make_server`."""
    with listen("127.0.0.1", 0) as listener:
        server = make_server(app, listener, **{"longest_head": 8_000_000, **settings})
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield shown_address("127.0.0.1", listener).rstrip("/")
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def served(server: str, *arguments: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `sdar serve` on a free port; give its address and the process. `variables` are of its environment."""
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "serve", server, "--port", "0", *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        line = process.stdout.readline()
        assert " at http://" in line, line + process.stderr.read()
        yield line.split()[2].rstrip("/"), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
