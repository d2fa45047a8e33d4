"""Multi-turn text environments for language agents, behind one Gymnasium contract.

    import gymnasium, sdar_envs
    env = gymnasium.make("sdar/ALFWorld-v0")

`sdar_envs.tasks` lists the tasks of a split, `sdar_envs.make_vec` makes vectors of environments,
`sdar_envs.checker.check_env` checks an environment against the contract, `sdar_envs.prompt` turns
episodes into chat messages and completions into actions.
"""

from sdar_envs.core import INFO_TYPES, Outcome, Snapshot, Task, TaskSource, TextEnv, Unicode
from sdar_envs.registry import ENV_IDS, make_vec, register_all, tasks
from sdar_envs.vector import TextVectorEnv

__all__ = [
    "ENV_IDS",
    "INFO_TYPES",
    "Outcome",
    "Snapshot",
    "Task",
    "TaskSource",
    "TextEnv",
    "TextVectorEnv",
    "Unicode",
    "make_vec",
    "tasks",
]

register_all()
