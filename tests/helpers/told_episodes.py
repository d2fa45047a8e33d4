"""Finished episodes made by hand, and a model that answers from a list, for contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sdar_agents.contexts.base import Cost
from sdar_agents.engines.policy import Messages
from sdar_agents.types import Completion, Trajectory, Turn
from sdar_envs import Task
from sdar_envs.prompt import STYLES, prompt_parts
from sdar_envs.prompt import Turn as PastTurn


def told_episode(
    name: str, actions: Sequence[str], *, success: bool = False, task: str = "mug", rewards: Sequence[float] = ()
) -> Trajectory:
    """Episode `name` of the group `1/<task>`, whose observation before action i is `<name> sees <i>`."""
    rewards = rewards or [0.0] * (len(actions) - 1) + [10.0 * success]
    turns: list[Turn] = []
    past: list[PastTurn] = []
    for index, (action, reward) in enumerate(zip(actions, rewards, strict=True)):
        observation = f"{name} sees {index}"
        parts = prompt_parts(STYLES["alfworld"], f"Find the {task}.", tuple(past), observation, ["look"])
        past.append(PastTurn(observation, action))
        completion = Completion((1, 2, 3), (-1.0, -1.0, -1.0), f"<action>{action}</action>", "eos")
        messages = tuple(parts.messages())
        turns.append(Turn(observation, messages, (7, 8), completion, action, reward, True, True, parts=parts))
    return Trajectory(
        task=Task(f"alfworld/train/{task}", "sdar/ALFWorld-v0", "train", "look", f"Find the {task}."),
        seed=0,
        group_id=f"1/{task}",
        episode_id=f"1/{task}/{name}",
        turns=tuple(turns),
        success=success,
        stop_reason="terminated" if success else "step_limit",
        final_observation=f"{name} is done",
    )


class Answers:
    """An `Ask` that answers with texts in turn, and keeps what it was asked. None is no answer."""

    name = "a list"

    def __init__(self, *texts: str | None, fits: Callable[[str], bool] = lambda text: True) -> None:
        self.cost = Cost()
        self.asked: list[list[Messages]] = []
        self.seeds: list[int] = []
        self._texts = list(texts)
        self._fits = fits

    def fits(self, chat: Messages) -> bool:
        return self._fits("\n".join(message["content"] for message in chat))

    def __call__(self, chats: Sequence[Messages], *, seed: int) -> list[Completion | None]:
        self.asked.append(list(chats))
        self.seeds.append(seed)
        texts = [self._texts.pop(0) for _ in chats]
        return [None if text is None else Completion((), None, text, "eos") for text in texts]


class Words:
    """A `Policy` whose tokens are words, for token limits."""

    context_length: int | None = None

    def render(self, messages: Messages) -> str:
        return "\n\n".join(message["content"] for message in messages)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(len(word) for word in text.split())

    def generate(self, requests: Sequence[Any], sampling: Any) -> list[Completion]:
        raise AssertionError("nothing is to be generated here")
