"""SkyRL-Gym environments: the tasks of this package behind `skyrl_gym.envs.base_text_env.BaseTextEnv`.

    import sdar_envs.integrations.skyrl  # registers "sdar" with skyrl_gym

    env = skyrl_gym.make("sdar", env_config={"env_id": "sdar/ALFWorld-v0"}, extras={"task_id": task_id})

SkyRL appends to one chat, so the episode is an appended one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdar_envs.importing import extra_imports
from sdar_envs.integrations.episodes import ScoredEpisode, plain_messages

with extra_imports("skyrl", purpose="the SkyRL-Gym environment"):
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput
    from skyrl_gym.envs.registration import register, registry

__all__ = ["SdarEnv"]


class SdarEnv(BaseTextEnv):  # type: ignore[misc]
    """One task as a SkyRL-Gym environment.

    The prompt of the data set is replaced by the episode's. `done` is True at the task's end and at the step limit;
    `metadata` has the keys of `sdar_envs.INFO_TYPES` and `truncated`, which tells them apart.

    Args:
        env_config: `env_id`, the environment of rows that name none; `env_arguments`, a mapping of its arguments; and
            arguments of `ChatEpisode`: `style`, `system`, `prefilled`.
        extras: the row of the data set, as `sdar_envs.task_rows` makes it, or a question with its golden answers.

    Raises:
        InvalidOption: no environment is named, or an argument is out of range.
        UnknownName: there is no such environment or argument.
    """

    def __init__(self, env_config: Mapping[str, Any] | None = None, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._row = dict(extras or {})
        self._episode = ScoredEpisode.from_row(self._row, **{"mode": "appended", **dict(env_config or {})})
        self.max_turns = self._episode.env.max_steps

    def init(self, prompt: Any) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Start the episode; return its first messages, in the place of the prompt, and its info."""
        step = self._episode.reset(task=self._row)
        return plain_messages(step.messages), dict(step.info)

    def step(self, action: str) -> Any:
        """Take a turn with what the model wrote."""
        step = self._episode.step(action)
        return BaseTextEnvStepOutput(
            observations=plain_messages(step.new_messages),
            reward=step.reward,
            done=step.is_over,
            metadata={**step.info, "truncated": step.truncated},
        )

    def get_metrics(self) -> dict[str, Any]:
        """Return `won`, `score`, `turns`, `malformed` and `invalid` of the episode."""
        return self._episode.metrics()

    def close(self) -> None:
        """Close the environment."""
        self._episode.close()


if "sdar" not in registry:
    register(id="sdar", entry_point="sdar_envs.integrations.skyrl:SdarEnv")
