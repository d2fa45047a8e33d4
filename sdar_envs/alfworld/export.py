"""Export of generated games as files that stock ALFWorld finds and TextWorld plays.

The tree is that of the official data: `<split>/<task>-<object>-None-<receptacle>-<floor plan>/trial_.../` with
`game.tw-pddl` and `traj_data.json`. Only what a text game needs is written: no images, no scene for a simulator and no
human annotations beyond the task's own sentence. A directory that ALFWorld would silently skip is refused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sdar_envs.alfworld import logic
from sdar_envs.alfworld.generator import GeneratedGame, generate
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.pddl import write_problem
from sdar_envs.alfworld.wording import DIALECTS, Wording
from sdar_envs.alfworld.world import Game
from sdar_envs.errors import InvalidOption, did_you_mean
from sdar_envs.storage import write_atomic

__all__ = ["export_game"]

# First floor plan number of each kind of room in ALFRED; the plans themselves are ours.
_FIRST_FLOOR_PLANS = {"Kitchen": 0, "LivingRoom": 200, "Bedroom": 300, "Bathroom": 400}
# ALFWorld leaves out every game whose path has one of these in it.
_PASSED_OVER = ("movable", "Sliced")


def export_game(split: str, index: int, directory: str | os.PathLike[str], wording: Wording = "move") -> Path:
    """Write a generated game below `directory` and return the path of its `game.tw-pddl`.

    Existing files of the same game are replaced atomically.

    Args:
        split: the game's split, as for `generate`.
        index: its number in the split.
        directory: the root of the tree, what ALFWorld calls `json_2.1.1`.
        wording: `move` (as in current releases) or `put`.

    Raises:
        UnknownName: there is no such game.
        InvalidOption: ALFWorld would not find games there, or there is no such wording.
    """
    if wording not in DIALECTS:
        raise InvalidOption(
            f"the wording is {wording!r}; wanted one of {', '.join(DIALECTS)}.{did_you_mean(wording, DIALECTS)}"
        )
    root = Path(directory).absolute()
    for name in _PASSED_OVER:
        if name in str(root):
            raise InvalidOption(
                f"the directory {str(root)!r} has {name!r} in its path, and ALFWorld skips such games: choose another."
            )
    made = generate(split, index)
    game = Game(made.problem, made.task_sentence, DIALECTS[wording])
    trial = f"trial_{split}_{index:04d}"
    folder = root / split / _task_folder(made) / trial
    # The game file is written last: ALFWorld skips a folder that has only traj_data.json.
    write_atomic(folder / "traj_data.json", json.dumps(_trajectory(made, trial), indent=1))
    path = folder / "game.tw-pddl"
    content = {
        "pddl_domain": logic.domain(wording),
        "grammar": logic.grammar(wording, made.task_sentence),
        "pddl_problem": write_problem(made.problem, trial),
        "solvable": True,
        "walkthrough": plan(game, game.initial),
    }
    write_atomic(path, json.dumps(content, indent=1))
    return path


def _floor_plan(made: GeneratedGame) -> int:
    room, number = made.layout.split("-")
    return _FIRST_FLOOR_PLANS[room] + int(number)


def _task_folder(made: GeneratedGame) -> str:
    return f"{made.problem.goal.task_type}-{made.object_class}-None-{made.receptacle_class}-{_floor_plan(made)}"


def _trajectory(made: GeneratedGame, trial: str) -> dict[str, Any]:
    in_light = made.problem.goal.lamp_type is not None
    floor_plan = _floor_plan(made)
    return {
        "task_id": trial,
        "task_type": made.problem.goal.task_type,
        "pddl_params": {
            "object_target": made.object_class,
            "parent_target": "" if in_light else made.receptacle_class,
            "mrecep_target": "",
            "toggle_target": made.receptacle_class if in_light else "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{floor_plan}", "scene_num": floor_plan},
        "turk_annotations": {
            "anns": [{"task_desc": made.task_sentence.removeprefix("Your task is to: "), "high_descs": []}]
        },
    }
