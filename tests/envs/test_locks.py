from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sdar_envs.errors import InvalidOption
from sdar_envs.files import locks, replacing
from sdar_envs.files.locks import writing_folder, writing_path
from sdar_envs.files.replacing import delete_folder, hidden_name, new_folder, replace_folder, sweep, sweep_behind
from sdar_envs.storage import write_atomic

HOLD = """
import os, sys, time
from pathlib import Path
from sdar_envs.files.locks import writing_folder, writing_path
hold, path, forks = (writing_folder, writing_path)[sys.argv[1] == "path"], Path(sys.argv[2]), len(sys.argv) > 3
with hold(path):
    if forks:
        parent = os.getpid()
        if os.fork() == 0:  # what the child does after a fork is done before anyone is told
            print(parent, flush=True)
            time.sleep(60)
    else:
        print(os.getpid(), flush=True)
    sys.stdin.read()
"""
RACE = """
import sys, time
from pathlib import Path
from sdar_envs.errors import InvalidOption
from sdar_envs.files.locks import writing_folder
print("ready", flush=True)
sys.stdin.readline()
try:
    with writing_folder(Path("run")):
        print("won", flush=True)
        sys.stdin.readline()
except InvalidOption as error:
    print(error, flush=True)
"""


@contextmanager
def holding(kind: str, path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, kind, str(path), *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        yield process
        process.kill()


def test_the_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    told = r"is being written by process {} on \S+ since 20\S+Z \(\S+\): wait for it, or choose another name\.$"
    for kind, hold in (("folder", writing_folder), ("path", writing_path)):
        path = tmp_path / kind
        with holding(kind, path) as process:
            refused(path, hold, told.format(process.pid))
        with hold(path):  # the first was killed: its lock went with it, its note is replaced
            refused(path, hold, told.format(os.getpid()))
    assert [found.name for found in tmp_path.rglob("*")] == ["folder"]


def refused(path: Path, hold: Callable[[Path], AbstractContextManager[bool]], match: str) -> None:
    with pytest.raises(InvalidOption, match=match), hold(path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_keep_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    with holding("path", tmp_path / "index", "forks") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with writing_path(tmp_path / "index"):
            pass


def test_one_of_several_that_start_at_once_wins(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.pid: process.stdout.readline() for process in processes}
    [winner] = [pid for pid, line in said.items() if line == "won\n"]
    assert sum(f"run is being written by process {winner} on" in line for line in said.values()) == 2
    for process in processes:
        process.communicate("go\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"nonsense",
        b"[" * 2000,
        b'{"process": 7}',
        b"\xff\xfe",
        json.dumps({"process": 7, "host": "\x1b[31mred", "since": "now", "command": "sdar"}).encode(),
    ],
)
def test_a_note_that_is_not_ours_is_not_shown(note: bytes, tmp_path: Path) -> None:
    with writing_path(tmp_path / "x"):
        (tmp_path / ".x.lock").write_bytes(note)
        with (
            pytest.raises(InvalidOption, match=r"x is being written by another process: wait"),
            writing_path(tmp_path / "x"),
        ):
            pass


def test_arguments_are_not_in_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, command in (
        (["/usr/bin/sdar", "eval", "--api-key-env", "sk-secret"], "sdar eval"),
        (["/x/sdar_benchmarks/cli/__main__.py", "train"], "sdar train"),
        (["mine.py", "secret"], "mine.py"),
        (["-c"], "python"),
    ):
        monkeypatch.setattr(sys, "argv", arguments)
        with writing_folder(tmp_path / "run"):
            note = json.loads((tmp_path / "run" / ".lock").read_text())
        assert note["command"] == command
        assert note["process"] == os.getpid()


def test_a_reader_sweeps_up_behind_a_killed_writer_and_not_behind_a_living_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index").mkdir()
    monkeypatch.chdir(tmp_path / "index")
    with holding("path", tmp_path / "index") as process:
        (tmp_path / ".index=0123456789abcdef").mkdir()
        sweep_behind(Path())
        assert sorted(path.name for path in tmp_path.iterdir()) == [".index.lock", ".index=0123456789abcdef", "index"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        sweep_behind(Path())
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    sweep_behind(Path("/"))


def test_waiting_ends_with_the_writer(tmp_path: Path) -> None:
    with holding("path", tmp_path / "key") as process:
        assert process.stdin is not None
        process.stdin.close()
        with writing_path(tmp_path / "key", wait=True):
            assert process.wait() == 0
            assert [path.name for path in tmp_path.iterdir()] == [".key.lock"]
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"run has no locks: see to it"), writing_folder(tmp_path / "run") as is_locked:
        assert not is_locked
    (tmp_path / ".x=0123456789abcdef").touch()
    write_atomic(tmp_path / "x", "text")
    assert len(list(tmp_path.iterdir())) == 2  # nobody knows whether its writer lives


def test_places_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "file")
    with pytest.raises(InvalidOption, match="exists and is no folder"), writing_folder(tmp_path / "file"):
        pass
    with pytest.raises(OSError, match="symbolic links"), writing_folder(tmp_path / "run"):
        pass
    assert not (tmp_path / "file").read_bytes()


# -- replacing ------------------------------------------------------------------------------


def test_the_remains_of_the_dead_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".x=0123456789abcdef").write_text("half")
    (tmp_path / ".y=0123456789abcdef").mkdir()
    (tmp_path / ".y=0123456789abcdee-old").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / ".z=0123456789abcdef").symlink_to(tmp_path / "y")
    others = [".git", ".x=0123", ".x-0123456789abcdef", "x=0123456789abcdef"]
    for name in others:
        (tmp_path / name).touch()
    write_atomic(tmp_path / "x", "whole")
    assert not (tmp_path / ".x=0123456789abcdef").exists()
    assert (tmp_path / ".y=0123456789abcdef").exists()
    sweep(tmp_path, "y")
    assert (tmp_path / ".z=0123456789abcdef").is_symlink()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y", *others}
    sweep(tmp_path / "nowhere")


def test_the_remains_of_the_living_are_not(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "one "
        write_atomic(tmp_path / "x", "another")
        sweep(tmp_path)
        yield "two"

    write_atomic(tmp_path / "x", pieces())
    assert (tmp_path / "x").read_text() == "one two"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_that_is_swept_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = replacing.lock_file, []

    def sweep_first(file: object) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".x=*"))
            swept[0].unlink()
        lock(file)  # type: ignore[arg-type]

    monkeypatch.setattr(replacing, "lock_file", sweep_first)
    write_atomic(tmp_path / "x", "text")
    assert swept
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_old_folder_whose_successor_did_not_come_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "index", hidden_name(tmp_path / "index")
    for folder, text in ((path, "old"), (new, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    rename, calls = os.rename, []

    def rename_once(*arguments: Path) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename_once)
        with pytest.raises(KeyboardInterrupt):
            replace_folder(new, path)
    assert not path.exists()
    sweep(tmp_path, "index")
    assert (path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def make_twice(path: Path) -> None:
    path.mkdir()
    path.mkdir()


def test_folders_appear_and_disappear_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(FileExistsError), new_folder(path) as making:
        make_twice(making)
    assert not list(tmp_path.iterdir())
    with new_folder(path) as making:
        making.mkdir()
        assert not path.exists()
    assert path.is_dir()
    (tmp_path / "link").symlink_to(path)
    delete_folder(tmp_path / "link")
    assert path.is_dir()
    delete_folder(path)
    assert not list(tmp_path.iterdir())
