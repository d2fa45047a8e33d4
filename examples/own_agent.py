"""An agent of your own: gives the admissible command that it has given least often so far.

    python examples/own_agent.py
    cd examples && sdar eval sdar/ALFWorld-v0 --agent own_agent:LeastTried --set prefer=open --limit 20
"""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import gymnasium

import sdar_envs


class LeastTried:
    """A `sdar_agents.Agent`: `reset` begins an episode, `act` returns a command. The caller steps the environment.

    Args:
        prefer: of commands given equally often, those that begin with this word come first. What `--set` sets.
    """

    def __init__(self, prefer: str = "take") -> None:
        self._prefer = prefer

    def reset(self, env: gymnasium.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        self._random = random.Random(seed)
        self._times: Counter[str] = Counter()

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        commands: list[str] = info["admissible_commands"]
        command = min(
            commands,
            key=lambda each: (self._times[each], not each.startswith(self._prefer), self._random.random()),
        )
        self._times[command] += 1
        return command


def main() -> None:
    env = sdar_envs.make_text_env("sdar/ALFWorld-v0", split="valid_seen")
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=10)
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
