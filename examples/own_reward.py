"""A reward of your own: success, minus a cost for each command, for malformed answers and for refused commands.

Run `python own_reward.py`, or in this folder
`sdar train --config alfworld_sdar_tiny --rollout.reward own_reward:shaped`.

The environment's own reward stays in the trajectories (`env_reward`) and in the metrics (`rollout/env_return`).
"""

import sdar_envs
from sdar_agents import RandomAgent, Rollout, RolloutSettings, ScriptedPolicy, Trajectory

STEP_COST, REFUSED_COST, MALFORMED_COST = 0.01, 0.05, 0.1


def shaped(trajectory: Trajectory) -> list[float]:
    """Return a reward for each turn. One number for the whole episode would do too: its last turn gets it.

    `turn.reward` is the environment's; a turn also has `score`, `action`, `observation` and `completion.text`, and the
    trajectory `task`, `success` and `stop_reason`.
    """
    return [
        turn.reward - STEP_COST - REFUSED_COST * (not turn.is_action_valid) - MALFORMED_COST * (not turn.is_well_formed)
        for turn in trajectory.turns
    ]


def main() -> None:
    """Play a few tasks and print both returns."""
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=5)
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 20}, reward="own_reward:shaped")
    result = Rollout(settings, ScriptedPolicy(RandomAgent)).collect(tasks, group_size=4, seed=0, step=0)
    print(
        f"return {result.metrics['rollout/return']:.3f}, of the environment {result.metrics['rollout/env_return']:.3f}"
    )


if __name__ == "__main__":
    main()
