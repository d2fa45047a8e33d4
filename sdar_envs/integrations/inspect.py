"""Inspect: the environments as tasks of `inspect eval`.

    inspect eval sdar_envs/text_env -T env_id=sdar/WebShop-v0 -T limit=30 --model openai/MODEL

`text_env` is the whole task; `play_episodes` (its solver) and `episode_outcome` (its scorer) fit into a `Task` of your
own, whose samples have task ids as their ids. A solver plays each episode as one sample: windowed, every prompt is
built anew, and the log's events keep them all; appended, the episode is one growing chat.
"""

from __future__ import annotations

from typing import Any

from sdar_envs.chat import ChatMode, Messages
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import extra_imports
from sdar_envs.integrations.episodes import METRICS, ScoredEpisode, call
from sdar_envs.registry import make_text_env, tasks

with extra_imports("inspect", purpose="sdar_envs.integrations.inspect"):
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, ContentReasoning
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver

__all__ = ["episode_outcome", "play_episodes", "text_env"]

_MESSAGES = {"system": ChatMessageSystem, "user": ChatMessageUser}


@task  # type: ignore[untyped-decorator]
def text_env(
    *,
    env_id: str = "sdar/ALFWorld-v0",
    split: str | None = None,
    limit: int | None = None,
    mode: ChatMode = "windowed",
    style: str | None = None,
    env_args: dict[str, Any] | None = None,
) -> Task:
    """Tasks of a split, each of which a model plays as one episode.

    Args:
        env_id: a registered id or `module:id`.
        split: the split's name; None for the one that results are reported on.
        limit: only the first so many tasks; needed for a split without end.
        mode: see `sdar_envs.ChatEpisode`.
        style: see `sdar_envs.ChatEpisode`.
        env_args: further arguments of the environment.

    Raises:
        UnknownName: there is no such environment, split, style or argument.
    """
    given = env_args or {}
    split = split or make_text_env(env_id, **given).evaluation_split
    samples = [
        Sample(id=entry.id, input=entry.instruction, metadata={"task_type": entry.task_type})
        for entry in tasks(env_id, split=split, limit=limit, **given)
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"{env_id}, {split}"),
        solver=play_episodes(env_id, mode=mode, style=style, **{"split": split, **given}),
        scorer=episode_outcome(),
    )


@solver  # type: ignore[untyped-decorator]
def play_episodes(env_id: str, mode: ChatMode = "windowed", style: str | None = None, **env_kwargs: Any) -> Solver:
    """Solver that plays the episode of the task that a sample's id names.

    Args:
        env_id: a registered id or `module:id`.
        mode: see `sdar_envs.ChatEpisode`.
        style: see `sdar_envs.ChatEpisode`.
        **env_kwargs: arguments of the environment.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        episode = ScoredEpisode(env_id, mode=mode, style=style, **env_kwargs)
        step = await call(episode, episode.reset, task_id=str(state.sample_id))
        state.messages = []
        while not step.is_over and not state.completed:
            whole = mode == "windowed"
            state.messages = _chat(step.messages) if whole else [*state.messages, *_chat(step.new_messages)]
            state = await generate(state)
            completion, reasoning = _completion(state)
            step = await call(episode, episode.step, completion, reasoning=reasoning)
        state.metadata |= {"reward": episode.episode_return, **episode.metrics()}
        state.completed = True
        return state

    return solve


@scorer(metrics={name: [mean(), stderr()] for name in ("reward", *METRICS)})  # type: ignore[untyped-decorator]
def episode_outcome() -> Scorer:
    """Scorer of `play_episodes`: the sum of the rewards, and the metrics of `ScoredEpisode`."""

    async def score(state: TaskState, target: Target) -> Score:
        if "won" not in state.metadata:
            raise InvalidOption("the sample has no episode: episode_outcome scores samples that play_episodes solved.")
        return Score(value={name: state.metadata[name] for name in ("reward", *METRICS)})

    return score


def _chat(messages: Messages) -> list[ChatMessage]:
    return [_MESSAGES[message["role"]](content=break_control_tokens(message["content"])) for message in messages]


def _completion(state: TaskState) -> tuple[str, str | None]:
    """Return the text that the model wrote, and its reasoning where it came apart."""
    content = state.output.message.content if state.output.choices else ""
    parts = [] if isinstance(content, str) else content
    reasoning = [part.reasoning for part in parts if isinstance(part, ContentReasoning)]
    return state.output.completion, "\n".join(reasoning) or None
