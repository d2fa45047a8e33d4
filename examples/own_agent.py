"""An agent of your own: of the commands given least often, the one that shares most words with the instruction.

Run `python own_agent.py`, or in this folder
`sdar eval sdar/ALFWorld-v0 --agent own_agent:LeastTried --agent-set weight=1 --limit 20`.
"""

import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import gymnasium

import sdar_envs


class LeastTried:
    """A `sdar_agents.Agent`: `reset` begins an episode, `act` returns a command. The caller steps the environment.

    Args:
        weight: how often a command may be repeated for each word that it shares with the instruction.
    """

    def __init__(self, weight: float = 0.5) -> None:
        self._weight = weight

    def reset(self, env: gymnasium.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        self._random = random.Random(seed)
        self._times: Counter[str] = Counter()
        self._words = set(re.findall(r"[a-z]+", info["instruction"].lower())) - {"a", "in", "it", "the", "to"}

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        command: str = min(info["admissible_commands"], key=self._cost)
        self._times[command] += 1
        return command

    def _cost(self, command: str) -> float:
        shared = len(self._words.intersection(command.split()))
        return self._times[command] - self._weight * shared + self._random.random()


def main() -> None:
    env = gymnasium.make("sdar/ALFWorld-v0", split="valid_seen")
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=20)
    agent, solved, steps = LeastTried(), 0, 0
    for task in tasks:
        observation, info = env.reset(seed=0, options={"task_id": task.id})
        agent.reset(env, observation, info, seed=0)
        is_over = False
        while not is_over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
            is_over = terminated or truncated
            steps += 1
        solved += bool(info["is_success"])
    print(f"{solved} of {len(tasks)} tasks solved in {steps} steps")


if __name__ == "__main__":
    main()
