"""Scripted ALFWorld transcripts of this engine and of TextWorld, and their comparison."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from sdar_envs.alfworld import logic
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.pddl import write_problem

REPLAY = Path(__file__).with_name("textworld_replay.py")
NONSENSE = (
    "",
    "help",
    "  look  ",
    "LOOK",
    "go to",
    "go to nowhere 1",
    "take  mug 1 from desk 1",
    "put mug 1 in/on desk 1",
    "move mug 1 to desk 1",
    "examine desk",
    "look\nlook",
    "take 🙂 from 茶碗 1",
    "use desklamp 1; look",
    "{o} [r] #task#",
)


def play(game, seed, steps):
    """Return `steps` commands and the records of the reset and of each step.

    The commands are a mixture of the oracle's, admissible ones (those that change something more
    often), ones that were admissible earlier, and nonsense. The game goes on after it is won.
    """
    rng = random.Random(seed)
    state = game.initial.copy()
    local = game.local_actions(state)
    admissible = game.commands(state, local)
    records = [_record(game.first_observation, state, admissible, 0)]
    commands, earlier = [], ["look"]
    follow_oracle = 0
    for _ in range(steps):
        if follow_oracle == 0 and rng.random() < 0.15:
            follow_oracle = rng.randrange(1, 6)
        expert = plan(game, state) if follow_oracle else None
        follow_oracle = max(0, follow_oracle - 1)
        changing = [c for c in admissible if not c.startswith(("go ", "examine ", "look", "inventory", "help"))]
        dice = rng.random()
        if expert:
            command = expert[0]
        elif dice < 0.15:
            command = rng.choice(earlier)
        elif dice < 0.22:
            command = rng.choice(NONSENSE)
        elif dice < 0.7 and changing:
            command = rng.choice(changing)
        else:
            command = rng.choice(admissible)
        earlier = (earlier + admissible)[-300:]
        action = game.parse(state, command.strip(), local)
        observation = "Nothing happens." if action is None else game.apply(state, action)
        local = game.local_actions(state)
        admissible = game.commands(state, local)
        commands.append(command)
        records.append(_record(observation, state, admissible, int(state.won)))
    return commands, records


def _record(observation, state, admissible, score):
    return {
        "observation": observation,
        "score": score,
        "done": bool(score),
        "won": state.won,
        "admissible": admissible,
    }


def game_file(game, domain=None, grammar=None):
    """Return the content of the game's `game.tw-pddl`, with our domain and grammar unless others are given."""
    sentence = game.first_observation.rsplit("\n\n", 1)[1]
    return {
        "pddl_domain": domain or logic.domain(game.dialect.wording),
        "grammar": grammar or logic.grammar(game.dialect.wording, sentence),
        "pddl_problem": write_problem(game.problem, "test"),
        "solvable": True,
        "walkthrough": None,
    }


def replay_in_textworld(jobs, directory):
    """Play `[(game file content, commands), ...]` in TextWorld; return its transcripts and CPU seconds for steps.

    TextWorld runs in a process of its own, under `$SDAR_PEER_PYTHON` if that is set (it needs a Python below 3.13).
    """
    listed = []
    for number, (content, commands) in enumerate(jobs):
        path = Path(directory) / f"{number}.tw-pddl"
        path.write_text(json.dumps(content))
        listed.append({"game": str(path), "commands": commands})
    jobs_path, result_path = Path(directory) / "jobs.json", Path(directory) / "transcripts.json"
    jobs_path.write_text(json.dumps(listed))
    python = os.environ.get("SDAR_PEER_PYTHON", sys.executable)
    done = subprocess.run(
        [python, str(REPLAY), str(jobs_path), str(result_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(result_path.read_text())
    return result["transcripts"], result["step_cpu_seconds"]


def first_difference(ours, theirs):
    """Return a text that shows the first difference between two transcripts, None if there is none."""
    assert len(ours) == len(theirs)
    for step, (mine, real) in enumerate(zip(ours, theirs, strict=True)):
        for key in real:
            if mine[key] != real[key]:
                return f"step {step}, {key}:\n ours {mine[key]!r}\n real {real[key]!r}"
    return None
