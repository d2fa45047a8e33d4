"""Skills in the prompts of a chat agent: chosen at the start of an episode, placed anew in each turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sdar_agents.engines.policy import AsyncPolicy
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_envs import Task
from sdar_envs.chat import ChatMode, Conversation
from sdar_envs.errors import InvalidOption
from sdar_skills import Skill, TeacherContext, teacher_context

__all__ = ["SkillReading", "token_counter"]


class SkillReading:
    """The skills of one agent, an episode after another.

    Args:
        skills: which, where, and how many.
        policy: has the methods `render` and `encode` if there is a tokenizer to count by.
        history: how the episode becomes chat.

    Raises:
        InvalidOption: the reader is no student, the chat grows, or a limit or a placement needs a tokenizer that the
            policy has not.
    """

    def __init__(self, skills: SkillPrompts, policy: AsyncPolicy, history: ChatMode) -> None:
        if skills.reader != "student":
            raise InvalidOption(
                f"the reader of the skills is {skills.reader!r}; an agent that plays is the student: wanted 'student'."
            )
        if history == "appended":
            raise InvalidOption("skills are shown in windowed prompts; with history='appended', leave them out.")
        self._skills = skills
        # Any, because a policy need not have them.
        self._policy: Any = policy
        self._count_tokens = token_counter(policy)
        limits = skills.max_prompt_tokens, getattr(policy, "longest_prompt", None)
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        if self._count_tokens is None and skills.max_prompt_tokens is not None:
            raise InvalidOption(
                f"max_prompt_tokens is {skills.max_prompt_tokens}, and a model behind an endpoint has no tokenizer "
                "here to count by: leave it out, and limit the number of skills by k."
            )
        if self._count_tokens is None and skills.placement == "legacy_prefix":
            raise InvalidOption(
                "the placement 'legacy_prefix' puts text outside of the chat's messages, and an endpoint takes nothing "
                "else: wanted 'user' or 'system'."
            )
        self._chosen: tuple[Skill, ...] = ()

    def choose(self, task: Task, seed: int) -> None:
        """Choose the skills of an episode.

        Raises:
            UnknownName: there are none for the task's suite or type.
        """
        self._chosen = self._skills.choose(task, 0, 1, (seed, seed)) or ()

    def context(self, conversation: Conversation, shown: int | None = None) -> TeacherContext:
        """Return the prompt of the next turn with the skills, within the limit.

        Args:
            conversation: the episode as chat.
            shown: how many of the latest turns it shows; None for all that it should.

        Raises:
            ContextTooLong: it does not fit even without skills and history.
        """
        parts = conversation.parts()
        return teacher_context(
            parts if shown is None else replace(parts, history_length=shown),
            self._chosen,
            self._skills.placement,
            token_budget=None if self._count_tokens is None else self._limit,
            count_tokens=self._count_tokens,
            render=getattr(self._policy, "render", None),
            require_skill=False,
        )

    def prefixed_ids(self, context: TeacherContext) -> tuple[int, ...]:
        """Return the token ids of a prompt that begins outside of the chat's messages; empty for any other."""
        if not context.prefix:
            return ()
        ids: tuple[int, ...] = self._policy.encode(context.render(self._policy.render))
        return ids


def token_counter(policy: Any) -> Callable[[str], int] | None:
    """Return a function that counts the tokens of a text for a policy; None if it has no tokenizer."""
    if not (hasattr(policy, "encode") and hasattr(policy, "render")) or not policy.encode("a"):
        return None
    return lambda text: len(policy.encode(text))
