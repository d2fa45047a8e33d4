"""Process that does jobs in children, which it kills at a moment of choice: for the tests of recovery.

A child is forked for each job; what the first ones import, the process imports for the others. Points of a job are
before and after each `os.fsync`, `os.rename`, `os.replace`, `os.unlink`, `os.remove`, `os.rmdir` and each row appended,
and in SQLite every few steps of its programs. A child kills itself at one of them, or the parent kills it after a time.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdar_envs.files import lines

_CALLS = ("fsync", "rename", "replace", "unlink", "remove", "rmdir")
_SQLITE_STEPS = 25  # of SQLite's virtual machine, between two points


# -- in the tests ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its status (minus the signal), the calls that its points are of, its seconds, its output."""

    status: int
    points: list[str]
    seconds: float
    output: str

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Killer:
    """The process with the jobs: `job` is `sdar` (with its arguments), or a function of this module."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kills = 0

    def run(
        self,
        job: str,
        *arguments: str | Path,
        kill_at: int | None = None,
        kill_after: float | None = None,
        env: dict[str, str] | None = None,
    ) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"job": job, "arguments": list(map(str, arguments)), "kill_at": kill_at, "kill_after": kill_after}
        self._process.stdin.write(json.dumps({**request, "env": env or {}}) + "\n")
        self._process.stdin.flush()
        outcome = Outcome(**json.loads(self._process.stdout.readline()))
        self.kills += outcome.was_killed
        return outcome


@contextmanager
def killer(folder: Path, *modules: str) -> Iterator[Killer]:
    """Start the process in a folder, with these modules imported."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, __file__, *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()


# -- in the process -------------------------------------------------------------------------


class _Points:
    def __init__(self, last: int | None) -> None:
        self.calls: list[str] = []
        self._last = last

    def reached(self, call: str = "sqlite") -> int:
        self.calls.append(call)
        if len(self.calls) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0  # to SQLite: go on

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.reached(call.__name__)
            result = call(*arguments, **options)
            self.reached(call.__name__)
            return result

        return counted


_points = _Points(None)


def sdar(*arguments: str) -> int:
    from sdar_benchmarks.cli.main import main

    return main(arguments)


def ledger(folder: str) -> int:
    """A run that appends 24 batches, with a checkpoint every fourth, from which it goes on."""
    from sdar_envs.storage import write_atomic
    from sdar_skills import Ledger
    from sdar_skills.evidence.ledger import NO_SKILL, Position, Showing

    checkpoint = Path(folder, "checkpoint.json")
    with Ledger(Path(folder, "ledger.sqlite")) as log:
        log._connection.set_progress_handler(_points.reached, _SQLITE_STEPS)
        saved = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"batch": 0, "position": [log._id, 0, 0]}
        log.rewind("run", Position(*saved["position"]))
        for batch in range(saved["batch"], 24):
            task = f"task-{batch}"
            log.append(
                Showing(NO_SKILL, "toy", f"type-{batch % 3}", task, "run", batch, f"s{batch % 5}", float(row), 0.5)
                for row in range(6)
            )
            if batch % 4 == 3:
                write_atomic(checkpoint, json.dumps({"batch": batch + 1, "position": list(log.position())}))
    return 0


def first_start(answer: str) -> int:
    """Answer the first commands of the two environments that cache what they make."""
    import gymnasium as gym

    import sdar_envs

    said = []
    for env_id, action in (("sdar/SearchQA-v0", "<search>river</search>"), ("sdar/WebShop-v0", "search[red lamp]")):
        env = gym.make(env_id)
        said.append(env.reset(seed=3)[0])
        said.append(env.step(action)[0])
        env.close()
    Path(answer).write_text(json.dumps([sdar_envs.__name__, said]))
    return 0


def _child(request: dict[str, Any], output: Path, count: Path, imported: Path) -> None:
    global _points  # noqa: PLW0603
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ.update(request["env"])
    _points = _Points(request["kill_at"])
    for name in _CALLS:
        setattr(os, name, _points.around(getattr(os, name)))
    append = lines.append_row
    for module in list(sys.modules.values()):
        if getattr(module, "append_row", None) is append:
            module.append_row = _points.around(append)  # type: ignore[attr-defined]
    status = 1
    try:
        status = globals()[request["job"]](*request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        count.write_text(json.dumps(_points.calls))
        imported.write_text(json.dumps(list(sys.modules)))
        os._exit(status)


def _serve() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        output, count, imported = Path(folder, "output"), Path(folder, "count"), Path(folder, "imported")
        for line in sys.stdin:
            request = json.loads(line)
            count.unlink(missing_ok=True)
            started = time.perf_counter()
            child = os.fork()
            if child == 0:
                _child(request, output, count, imported)
            if request["kill_after"] is not None:
                time.sleep(request["kill_after"])
                os.kill(child, signal.SIGKILL)  # still there, if only to be waited for
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            outcome = {
                "status": status,
                "points": json.loads(count.read_text()) if count.exists() else [],
                "seconds": time.perf_counter() - started,
                "output": output.read_text(errors="replace")[-3000:] if output.exists() else "",
            }
            for name in json.loads(imported.read_text()) if imported.exists() else ():
                if name not in sys.modules:
                    with suppress(ImportError):  # of a name that is no module
                        importlib.import_module(name)
            imported.unlink(missing_ok=True)
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    _serve()
