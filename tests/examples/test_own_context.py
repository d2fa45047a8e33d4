"""The example of one's own context runs as a script and says what the group has learnt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers.told_episodes import Answers, told_episode
from own_context import RefusedCommands

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_context.py"


def test_it_runs_as_a_script() -> None:
    printed = subprocess.run([sys.executable, str(EXAMPLE)], check=True, capture_output=True, text=True).stdout
    assert "From other attempts:" in printed
    assert "The best attempt ended like this: " in printed


def test_its_views_name_what_was_refused() -> None:
    lost, won = told_episode("a", ["fly"]), told_episode("b", ["take", "put"], success=True)
    refused = told_episode("c", ["swim"])
    object.__setattr__(refused.turns[0], "is_action_valid", False)
    review = RefusedCommands().review([[lost, won, refused]], Answers(), step=1, seed=0)
    assert len(review.views) == 4
    assert {views[0].paragraphs for views in review.views.values() if views[0]} == {
        ("From other attempts:", "'swim' is refused.", "The best attempt ended like this: b is done")
    }
