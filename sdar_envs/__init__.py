"""Multi-turn text environments for language agents, behind one Gymnasium contract.

    import gymnasium, sdar_envs
    env = gymnasium.make("sdar/ALFWorld-v0")

Importing the package registers its environments with Gymnasium; `gymnasium.make("sdar_envs:sdar/ALFWorld-v0")` does
both. Gymnasium 1.x has no plugin hook: without the import it knows no id that begins with `sdar/`.

- Environments: `make_text_env`, `make_vec`, `tasks`, `iter_tasks`, `ENV_IDS`; the contract is `TextEnv`, `Task` and
  `INFO_TYPES`, and `check_env` tests an environment of your own against it. `from_gym` wraps a plain Gymnasium text
  environment.
- Data sets for trainers: `task_rows`, `to_parquet`.
- Chat: `ChatEpisode` is an episode as chat messages, for any model or trainer.
- Prompts: `render_messages` and `prompt_parts` turn an episode into chat messages, `parse_completion` turns a
  completion into an action, `PromptStyle` and `resolve_style` say how.
"""

from sdar_envs.chat import ChatEpisode, ChatStep
from sdar_envs.checker import check_env
from sdar_envs.core import INFO_TYPES, Outcome, Snapshot, Task, TaskSource, TextEnv, Unicode
from sdar_envs.gym_adapter import from_gym
from sdar_envs.prompt import (
    ParsedCompletion,
    PromptParts,
    PromptStyle,
    Turn,
    parse_completion,
    prompt_parts,
    render_completion,
    render_messages,
    resolve_style,
    style_of,
)
from sdar_envs.registry import ENV_IDS, iter_tasks, make_text_env, make_vec, register_all, tasks
from sdar_envs.rows import task_rows, to_parquet
from sdar_envs.vector import TextVectorEnv

__all__ = [
    "ENV_IDS",
    "INFO_TYPES",
    "ChatEpisode",
    "ChatStep",
    "Outcome",
    "ParsedCompletion",
    "PromptParts",
    "PromptStyle",
    "Snapshot",
    "Task",
    "TaskSource",
    "TextEnv",
    "TextVectorEnv",
    "Turn",
    "Unicode",
    "check_env",
    "from_gym",
    "iter_tasks",
    "make_text_env",
    "make_vec",
    "parse_completion",
    "prompt_parts",
    "render_completion",
    "render_messages",
    "resolve_style",
    "style_of",
    "task_rows",
    "tasks",
    "to_parquet",
]

register_all()
