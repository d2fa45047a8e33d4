"""Verbs that write a folder or file: while one process writes, others are refused in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_benchmarks.cli.main import main

HOLD = """
import sys
from pathlib import Path
from sdar_envs.files import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print(flush=True)
    sys.stdin.read()
"""


def evaluation(_: Path, out: Path) -> list[str]:
    return ["eval", "sdar/ALFWorld-v0", "--agent", "random", "--limit", "1", "--out", str(out)]


def training(folder: Path, out: Path) -> list[str]:
    (folder / "config.yaml").write_text(run_config(folder / "model").to_yaml())
    return ["train", "--config", str(folder / "config.yaml"), "--out", str(out)]


def resumed_training(folder: Path, out: Path) -> list[str]:
    (out / "config.yaml").write_text(run_config(folder / "model").to_yaml())
    return ["train", "--resume", str(out)]


def fine_tuning(folder: Path, out: Path) -> list[str]:
    (folder / "demos.jsonl").touch()
    return ["sft", "tiny-1m", str(folder / "demos.jsonl"), "--out", str(out)]


def demonstrations(_: Path, out: Path) -> list[str]:
    return ["demos", "--episodes", "1", "--out", str(out), "sdar/ALFWorld-v0"]


def studying(_: Path, out: Path) -> list[str]:
    return ["quickstart", "--out", str(out)]


def indexing(folder: Path, out: Path) -> list[str]:
    (folder / "corpus.jsonl").write_text(json.dumps({"id": "1", "contents": '"T"\ntea'}) + "\n")
    return ["index", "build", str(folder / "corpus.jsonl"), "--out", str(out)]


def rendering(_: Path, out: Path) -> list[str]:
    (out / "results").mkdir()
    return ["leaderboard", "render", "--root", str(out)]


@pytest.mark.parametrize(
    ("command", "hold"),
    [
        (evaluation, "writing_folder"),
        (training, "writing_folder"),
        (resumed_training, "writing_folder"),
        (fine_tuning, "writing_folder"),
        (demonstrations, "writing_path"),
        (studying, "writing_folder"),
        (indexing, "writing_path"),
        (rendering, "writing_folder"),
    ],
)
def test_the_second_writer_is_refused(
    command: Callable[[Path, Path], list[str]], hold: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, hold, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        arguments = command(tmp_path, out)
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert main(arguments) == 2
        said = capfd.readouterr().err
        assert said.startswith(f"error: {out} is being written by process {holder.pid} on "), said
        assert said.count("\n") == 1
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        holder.kill()


@pytest.mark.slow
@pytest.mark.parametrize("command", [evaluation, training, fine_tuning, demonstrations, indexing])
def test_of_two_that_start_at_once_one_wins(command: Callable[[Path, Path], list[str]], tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "model")
    out = tmp_path / "out"
    arguments = command(tmp_path, out)
    if command is fine_tuning:
        assert main(demonstrations(tmp_path, tmp_path / "rows.jsonl")) == 0
        (tmp_path / "rows.jsonl").replace(tmp_path / "demos.jsonl")
        arguments += ["--set", "steps=2"]
    whole = [str(tmp_path / "whole") if argument == str(out) else argument for argument in arguments]
    started = [
        subprocess.Popen([sys.executable, "-m", "sdar_benchmarks.cli", *arguments], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {process.communicate()[1]: process.returncode for process in started}
    assert sorted(said.values()) == [0, 2]
    [refused] = [text for text, status in said.items() if status == 2]
    # Whoever comes too late for the lock finds what the winner has written.
    assert re.fullmatch(r"error: .*out (is being written by process \d+ on .*|.*(holds a run|exists).*)\n", refused)
    assert main(whole) == 0
    names = [sorted(path.relative_to(top).as_posix() for path in top.rglob("*")) for top in (out, tmp_path / "whole")]
    assert names[0] == names[1]
    assert not list(tmp_path.glob(".*"))
