"""A site on this machine, for tests."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EDGE = Path(__file__).parent / "data" / "catalogue_edge200"


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `sdar serve webshop` on a free port; give the site's address and the process."""
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "serve", "webshop", "--port", "0", *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        line = process.stdout.readline()
        assert line.startswith("WebShop at http://"), line + process.stderr.read()
        yield line.split()[2].rstrip("/"), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
