"""OpenEnv: the environments behind a server, for many clients at a time.

    sdar serve openenv sdar/ALFWorld-v0 --split train --port 8000

    with SdarClient(base_url="http://127.0.0.1:8000").sync() as env:
        result = env.reset(task_id="alfworld/train/0000")
        while not result.done:
            result = env.step(SdarAction(completion=model(result.observation.messages)))

Each WebSocket connection has an environment of its own. `GET /sdar/splits` and the other routes of OpenEnv's task
providers list the tasks; `reset(split=..., index=...)` plays one of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sdar_envs.chat import ChatEpisode, ChatMode, ChatStep
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import extra_imports

with extra_imports("openenv", purpose="sdar_envs.integrations.openenv"):
    from openenv.core.client_types import StepResult
    from openenv.core.env_client import EnvClient
    from openenv.core.env_server import create_fastapi_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State
    from pydantic import Field

__all__ = ["NoSuchTask", "SdarAction", "SdarClient", "SdarEnvironment", "SdarObservation", "SdarState", "make_app"]


class NoSuchTask(UnknownName, IndexError):
    """There is no task at that place. OpenEnv answers an `IndexError` with status 400."""


class SdarAction(Action):  # type: ignore[misc]
    """What an agent does in a turn: a model's completion, which is parsed, or a command. One of the two."""

    completion: str | None = Field(default=None, description="What the model wrote.")
    command: str | None = Field(default=None, description="A command of the environment, such as 'look'.")


class SdarObservation(Observation):  # type: ignore[misc]
    """What an agent sees after a reset or a step; `done` and `reward` are in it too."""

    text: str = Field(description="What the environment said.")
    messages: list[dict[str, str]] = Field(description="The prompt of the next completion, or what is new in it.")
    admissible_commands: list[str] = Field(description="The commands that the environment would accept.")
    task_id: str
    task_type: str
    instruction: str
    split: str
    won: bool
    score: float
    step: int
    truncated: bool = Field(description="Whether the step limit ended the episode.")
    is_well_formed: bool | None = Field(description="Whether the completion kept the format; None without one.")
    is_action_valid: bool | None = Field(description="Whether the environment accepted the command.")


class SdarState(State):  # type: ignore[misc]
    """The state of a session: its task, besides the episode's id and the number of steps."""

    task_id: str | None = None


class SdarEnvironment(Environment[SdarAction, SdarObservation, SdarState]):  # type: ignore[misc]
    """An environment as OpenEnv serves it, and its tasks.

    Args:
        env_id: a registered id or `module:id`.
        mode: with `appended`, `SdarObservation.messages` has only what is new; see `sdar_envs.ChatEpisode`.
        **kwargs: further arguments of `sdar_envs.ChatEpisode`, those of the environment among them.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env_id: str, *, mode: ChatMode = "windowed", **kwargs: Any) -> None:
        super().__init__()
        self._episode = ChatEpisode(env_id, mode=mode, **kwargs)
        self._state = SdarState()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        task_id: str | None = None,
        split: str | None = None,
        index: int | None = None,
        **kwargs: Any,
    ) -> SdarObservation:
        """Start an episode: of a task's id, of a place in a split, of the one that a seed maps to, or of the next one.

        Raises:
            InvalidOption: the arguments contradict each other.
            UnknownName: there is no such task, split, place or argument.
        """
        if kwargs:
            raise InvalidOption(
                f"no reset argument {next(iter(kwargs))!r}; wanted task_id, or split and index, or seed."
            )
        if (split is None) != (index is None) or (index is not None and task_id is not None):
            raise InvalidOption("wanted task_id, or split and index together, or seed.")
        if split is not None and index is not None:
            task_id = self.get_task(split, index)["id"]
        step = self._episode.reset(seed=seed, task_id=task_id)
        self._state = SdarState(episode_id=episode_id, task_id=step.info["task_id"])
        return self._observation(step, None)

    def step(self, action: SdarAction, timeout_s: float | None = None, **kwargs: Any) -> SdarObservation:
        """Take a turn.

        Raises:
            InvalidOption: the action is not one of completion and command.
            EpisodeOver: the episode is over, or none was begun.
        """
        given: dict[str, str] = action.model_dump(include={"completion", "command"}, exclude_none=True)
        if len(given) != 1:
            raise InvalidOption("the action has both or neither of completion and command; wanted one of them.")
        [(kind, text)] = given.items()
        step = self._episode.act(text) if kind == "command" else self._episode.step(text)
        self._state.step_count += 1
        return self._observation(step, step.reward)

    @property
    def state(self) -> SdarState:
        """The session's state."""
        return self._state

    def close(self) -> None:
        """Close the environment."""
        self._episode.close()

    def list_splits(self) -> list[str]:
        """Return the names of the splits."""
        return list(self._episode.env.source.splits)

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks in a split.

        Raises:
            NotImplementedError: the split has no end, which OpenEnv answers with status 501.
            NoSuchTask: there is no such split.
        """
        size = self._size(split)
        if size is None:
            raise NotImplementedError(f"split {split!r} has tasks without end: ask for a range of them.")
        return size

    def list_tasks(self, split: str) -> list[dict[str, str]]:
        """Return all tasks of a split; see `num_tasks`."""
        return self.get_task_range(split)

    def get_task(self, split: str, index: int) -> dict[str, str]:
        """Return a task as its id, split, type and instruction.

        Raises:
            NoSuchTask: there is no such split, or no such place in it.
        """
        size = self._size(split)
        if index < 0 or (size is not None and index >= size):
            raise NoSuchTask(f"index is {index}; split {split!r} has no such task.")
        task = self._episode.env.source.task(split, index)
        return {"id": task.id, "split": split, "task_type": task.task_type, "instruction": task.instruction}

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, str]]:
        """Return the tasks of a slice of a split; see `num_tasks`."""
        size = stop if stop is not None and self._size(split) is None else self.num_tasks(split)
        return [self.get_task(split, index) for index in range(size)[start:stop]]

    def _size(self, split: str) -> int | None:
        splits = self._episode.env.source.splits
        if split not in splits:
            raise NoSuchTask(f"no split {split!r}; wanted one of {', '.join(splits)}.{did_you_mean(split, splits)}")
        return splits[split]

    def _observation(self, step: ChatStep, reward: float | None) -> SdarObservation:
        shown = ("admissible_commands", "task_id", "task_type", "instruction", "split", "won", "score", "step")
        return SdarObservation(
            text=step.observation,
            messages=step.new_messages,
            truncated=step.truncated,
            is_well_formed=step.is_well_formed,
            is_action_valid=step.is_action_valid,
            done=step.is_over,
            reward=reward,
            **{name: step.info[name] for name in shown},
        )


class SdarClient(EnvClient[SdarAction, SdarObservation, SdarState]):  # type: ignore[misc]
    """Client of an environment's server, asynchronous; `.sync()` for a synchronous one."""

    def _step_payload(self, action: SdarAction) -> dict[str, Any]:
        payload: dict[str, Any] = action.model_dump(exclude_none=True)
        return payload

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[SdarObservation]:
        done, reward = payload["done"], payload.get("reward")
        observation = SdarObservation(**payload["observation"], done=done, reward=reward)
        return StepResult(observation=observation, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> SdarState:
        return SdarState(**payload)


def make_app(env_id: str, *, sessions: int = 64, **kwargs: Any) -> Any:
    """Return the server of an environment as an ASGI application.

    Args:
        env_id: a registered id or `module:id`.
        sessions: how many clients play at a time; further ones are refused.
        **kwargs: as for `SdarEnvironment`.

    Raises:
        InvalidOption: `sessions` is not positive, or an argument of the environment is out of range.
        UnknownName: there is no such environment, argument or style.
    """
    if sessions < 1:
        raise InvalidOption(f"sessions is {sessions}; wanted 1 or more.")
    make = partial(SdarEnvironment, env_id, **kwargs)
    tried = make()
    tried.reset()  # so that a wrong argument is an error now, and the data are loaded
    tried.close()
    return create_fastapi_app(
        make, SdarAction, SdarObservation, max_concurrent_envs=sessions, env_name="sdar", state_cls=SdarState
    )
