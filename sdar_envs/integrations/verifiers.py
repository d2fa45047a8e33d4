"""verifiers and prime-rl: the environments as a taskset, whose id is `sdar-vf`.

    vf-eval sdar-vf --env.taskset.env-id sdar/WebShop-v0 --env.taskset.split test --env.taskset.limit 8 -m MODEL ...

An episode is one growing chat: the task's prompt is the first message, and the environment answers as the user. The
module `sdar_vf`, which this package installs, has the names that verifiers looks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdar_envs.importing import extra_imports
from sdar_envs.integrations.episodes import ScoredEpisode, call
from sdar_envs.registry import make_text_env
from sdar_envs.rows import task_rows

with extra_imports("verifiers", purpose="sdar_envs.integrations.verifiers"):
    import verifiers.v1 as vf
    from pydantic import Field

__all__ = ["SdarEnv", "SdarEnvConfig", "SdarTask", "SdarTaskData", "SdarTaskset", "SdarTasksetConfig"]


class SdarTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]
    """Which tasks are played, and how they are shown.

    Attributes:
        env_id: a registered id or `module:id`.
        split: the split's name; None for the one that results are reported on.
        limit: only the first so many tasks; None for all, without end where the split has none.
        style: see `sdar_envs.ChatEpisode`.
        env_args: further arguments of the environment.
    """

    env_id: str = "sdar/ALFWorld-v0"
    split: str | None = None
    limit: int | None = None
    style: str | None = None
    env_args: dict[str, Any] = Field(default_factory=dict)


class SdarTaskData(vf.TaskData):  # type: ignore[misc]
    """A task as its row, of which `sdar_envs.integrations.episodes` makes the environment; no answer is in it."""

    row: dict[str, str]


class SdarTask(vf.Task[SdarTaskData, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    """A task, whose key is its id."""

    @property
    def key(self) -> str:
        """The task's id."""
        return str(self.data.id)


class SdarEnvConfig(vf.EnvConfig):  # type: ignore[misc]
    """The model that plays: a chat without tools, in a process on this machine."""

    player: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"}, runtime={"type": "subprocess"})


class SdarTaskset(vf.Taskset[SdarTask, SdarTasksetConfig]):  # type: ignore[misc]
    """The tasks of a split."""

    def __init__(self, config: SdarTasksetConfig) -> None:
        super().__init__(config)
        env = make_text_env(config.env_id, **config.env_args)
        self.split: str = config.split or env.evaluation_split
        self.INFINITE = config.limit is None and env.source.splits.get(self.split, 0) is None

    def load(self) -> Iterator[SdarTask]:
        """Iterate over the tasks, each with the first message of its episode."""
        config, episode = self.config, None
        for row in task_rows(config.env_id, split=self.split, limit=config.limit, **config.env_args):
            episode = episode or ScoredEpisode.from_row(row, mode="appended", style=config.style)
            prompt = episode.reset(task=row).messages[-1]["content"]
            data = SdarTaskData(id=row["task_id"], name=row["task_id"], prompt=prompt, row=row)
            yield SdarTask(data, config.task)


class SdarEnv(vf.Env[SdarEnvConfig]):  # type: ignore[misc]
    """Plays a task's episode with the role `player`; the reward is the sum of the environment's."""

    async def run(self, task: Any, agents: Any) -> None:
        """Play an episode to its end, or until the model's run ends."""
        row: Mapping[str, str] = task.data.row
        episode = ScoredEpisode.from_row(row, mode="appended", style=self.taskset.config.style)
        await call(episode, episode.reset, task=row)
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                step = await call(episode, episode.step, segment.last_reply, reasoning=_reasoning(segment))
                if step.is_over:
                    break
                segment = await interaction.turn(step.new_messages[-1]["content"])
        interaction.trace.record_reward("reward", episode.episode_return, 1.0)
        interaction.trace.record_metrics(episode.metrics())


def _reasoning(segment: Any) -> str | None:
    """Return the reasoning of the last reply, where the server returned it apart."""
    replies = [message for message in segment.messages if isinstance(message, vf.AssistantMessage)]
    return getattr(replies[-1], "reasoning_content", None) if replies else None
