"""The example of one's own reward runs as a script and trains through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.rollout.recording import read_trajectories
from sdar_benchmarks.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_runs_as_a_script() -> None:
    command = [sys.executable, "own_reward.py"]
    printed = subprocess.run(command, cwd=EXAMPLES, check=True, capture_output=True, text=True).stdout
    shaped, own = (float(words.split()[-1]) for words in printed.split(","))
    assert shaped < own


def test_the_command_line_trains_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, run = tmp_path / "mine.yaml", tmp_path / "run"
    config = run_config(save_tiny_chat(tmp_path / "model"), method="grpo", steps=1, log={"trajectories_every": 1})
    file.write_text(config.to_yaml())
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_reward", raising=False)
    arguments = ["--config", str(file), "--rollout.reward", "own_reward:shaped", "--out", str(run)]
    assert main(["train", *arguments]) == 0
    [row] = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert row["rollout/return"] < row["rollout/env_return"]
    for trajectory in read_trajectories(run):
        for turn in trajectory.turns:
            costs = 0.01 + 0.05 * (not turn.is_action_valid) + 0.1 * (not turn.is_well_formed)
            assert turn.env_reward is not None
            assert turn.reward == pytest.approx(turn.env_reward - costs)
    assert "reward: own_reward:shaped" in (run / "config.yaml").read_text()
