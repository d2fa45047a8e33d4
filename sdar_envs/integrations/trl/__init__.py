"""TRL: the environments in `GRPOTrainer`, as tools (`environment_factory`) or as whole rollouts (`rollout_func`).

    trainer = GRPOTrainer(
        model="Qwen/Qwen3-0.6B",
        args=GRPOConfig(max_tool_calling_iterations=50, max_completion_length=8192),
        train_dataset=make_dataset("sdar/ALFWorld-v0", split="train", limit=1000),
        environment_factory=ALFWorldTools,
    )

With tools the model calls `act`, `search`, `click` or `answer`, and TRL generates and tokenises. With
`EpisodeRollouts` it writes `<think>...</think><action>...</action>` as in `sdar eval`, and each episode is one sequence
in which completions stay as they were sampled, to the token. Rows name tasks, so that a group of generations plays one
task. Both want a `max_completion_length` for all tokens of an episode, observations included.

Written against TRL 1.16. `EpisodeRollouts` calls the trainer's `_tokenize_prompts` and `_generate_single_turn`, which
TRL may change: another minor version is refused.
"""

from sdar_envs.integrations.trl.rollout import EpisodeRollouts, check_version, episode_return
from sdar_envs.integrations.trl.tools import (
    ALFWorldTools,
    CommandTools,
    SearchQATools,
    WebShopTools,
    make_dataset,
)

__all__ = [
    "ALFWorldTools",
    "CommandTools",
    "EpisodeRollouts",
    "SearchQATools",
    "WebShopTools",
    "check_version",
    "episode_return",
    "make_dataset",
]
