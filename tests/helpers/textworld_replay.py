"""Replay commands in the real TextWorld engine and write what it said. Run as a script.

    python textworld_replay.py jobs.json transcripts.json

`jobs.json` is a list of `{"game": path, "commands": [...]}`. Each transcript is a list of
`{"observation", "score", "done", "won", "admissible"}`, the reset first. It runs in a process of
its own because TextWorld overwrites `sys.argv` at every load and never frees its memory.
"""

import json
import sys
import time

import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler


def replay(game, commands):
    infos = textworld.EnvInfos(won=True, admissible_commands=True, feedback=True)
    env = textworld.start(game, infos, wrappers=[AlfredDemangler(shuffle=False)])
    state = env.reset()
    transcript = [record(state, 0, False)]
    seconds = 0.0
    for command in commands:
        started = time.process_time()
        state, score, done = env.step(command)
        state["admissible_commands"]
        seconds += time.process_time() - started
        transcript.append(record(state, score, done))
    env.close()
    return transcript, seconds


def record(state, score, done):
    return {
        "observation": state["feedback"],
        "score": score,
        "done": bool(done),
        "won": bool(state["won"]),
        "admissible": list(state["admissible_commands"]),
    }


def main(jobs_path, transcripts_path):
    with open(jobs_path) as file:
        jobs = json.load(file)
    transcripts, seconds = [], 0.0
    for job in jobs:
        transcript, spent = replay(job["game"], job["commands"])
        transcripts.append(transcript)
        seconds += spent
    with open(transcripts_path, "w") as file:
        json.dump({"transcripts": transcripts, "step_cpu_seconds": seconds}, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
