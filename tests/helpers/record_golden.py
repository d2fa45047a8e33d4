"""Record golden transcripts with the real TextWorld. Run as a script where TextWorld is installed:

    python tests/alfworld/record_golden.py

For one embedded game of each task type and both wordings it writes the commands and what TextWorld
answered. `test_golden.py` replays them without TextWorld.
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.transcripts import game_file, play, replay_in_textworld

import sdar_envs
from sdar_envs.alfworld.generator import generate
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.wording import DIALECTS
from sdar_envs.alfworld.world import Game

GOLDEN = Path(__file__).parents[1] / "envs" / "alfworld" / "golden.json.gz"
STEPS = 40


def main():
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen")
    chosen = [next(task for task in tasks if task.task_type == task_type) for task_type in TASK_TYPES]
    episodes, jobs = [], []
    for seed, task in enumerate(chosen):
        for wording, dialect in DIALECTS.items():
            made = generate(task.split, int(task.id.rsplit("/", 1)[1]))
            game = Game(made.problem, made.task_sentence, dialect)
            commands, _ = play(game, seed, STEPS)
            jobs.append((game_file(game), commands))
            # The file's own text is kept, so that the transcript stays true when the generator changes.
            episodes.append({"task_id": task.id, "file": jobs[-1][0], "wording": wording, "commands": commands})
    with tempfile.TemporaryDirectory() as directory:
        transcripts, _ = replay_in_textworld(jobs, directory)
    for episode, transcript in zip(episodes, transcripts, strict=True):
        episode["transcript"] = transcript
    # mtime=0: recording again gives the same bytes.
    with open(GOLDEN, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file:
        file.write(json.dumps(episodes, sort_keys=True).encode())


if __name__ == "__main__":
    main()
