"""The example of one's own agent runs as a script and through the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdar_benchmarks.cli import main
from sdar_benchmarks.records.runs import read_config, read_trajectories

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_runs_as_a_script() -> None:
    command = [sys.executable, str(EXAMPLES / "own_agent.py")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.endswith(" steps\n")
    assert " of 20 tasks solved in " in printed


def test_the_command_line_plays_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_agent", raising=False)
    arguments = ["sdar/ALFWorld-v0", "--agent", "own_agent:LeastTried", "--agent-set", "weight=1", "--limit", "2"]
    assert main(["eval", *arguments, "--out", str(tmp_path / "run")]) == 0
    assert read_config(tmp_path / "run")["agent"] == {"name": "own_agent:LeastTried", "settings": {"weight": 1}}
    turns = [turn for trajectory in read_trajectories(tmp_path / "run") for turn in trajectory["turns"]]
    assert turns
    assert all(turn["action"] in turn["admissible_commands"] for turn in turns)
