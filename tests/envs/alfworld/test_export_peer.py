"""Exported games in stock ALFWorld: its environment collects them all and wins them by their walkthroughs."""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from sdar_envs.alfworld.export import export_game
from sdar_envs.alfworld.generator import generate
from sdar_envs.alfworld.problem import TASK_TYPES

pytestmark = pytest.mark.peer

PLAY = Path(__file__).parents[2] / "helpers" / "alfworld_play.py"
PER_TASK_TYPE = int(os.environ.get("SDAR_EXPORT_GAMES", "1"))


def indices():
    """Return the first `PER_TASK_TYPE` games of each task type."""
    left = dict.fromkeys(TASK_TYPES, PER_TASK_TYPE)
    for index in count():
        task_type = generate("train", index).problem.goal.task_type
        if left[task_type]:
            left[task_type] -= 1
            yield index
        if not any(left.values()):
            return


@pytest.mark.parametrize("wording", ["move", "put"])
def test_stock_alfworld_collects_and_wins_exported_games(wording, tmp_path):
    exported = [export_game("train", index, tmp_path / "games", wording) for index in indices()]
    results = tmp_path / "results.json"
    python = os.environ.get("SDAR_PEER_PYTHON", sys.executable)
    done = subprocess.run(
        [python, str(PLAY), str(tmp_path / "games"), str(results)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(results.read_text()) == {str(path): [True, 1, True] for path in exported}
