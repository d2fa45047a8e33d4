"""Collect a folder of games with stock ALFWorld, play each by its walkthrough, print how it ended. Run as a script.

    python alfworld_play.py folder results.json

`results.json` maps the path of each game that `AlfredTWEnv` collected to `[won, score, done]` after the
last command. It runs in a process of its own for the reasons that `textworld_replay.py` gives.
"""

import json
import sys

from alfworld.agents.environment.alfred_tw_env import TASK_TYPES, AlfredTWEnv


def main(folder, results_path):
    config = {
        "dataset": {"data_path": folder, "num_train_games": -1},
        "env": {
            "goal_desc_human_anns_prob": 0,
            "task_types": list(TASK_TYPES),
            "domain_randomization": False,
            "expert_type": "handcoded",
        },
        "general": {"training_method": "dqn"},
        "rl": {"training": {"max_nb_steps_per_episode": 50}},
    }
    collected = AlfredTWEnv(config, train_eval="train")
    env = collected.init_env(batch_size=1)
    results = {}
    for _ in collected.game_files:
        _, infos = env.reset()
        path = infos["extra.gamefile"][0]
        with open(path) as file:
            walkthrough = json.load(file)["walkthrough"]
        scores, dones = [0], [False]
        for number, command in enumerate(walkthrough):
            assert not dones[0], f"{path} was over after {number} of {len(walkthrough)} commands"
            _, scores, dones, infos = env.step([command])
        results[path] = [bool(infos["won"][0]), scores[0], bool(dones[0])]
    env.close()
    with open(results_path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
