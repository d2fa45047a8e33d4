"""Prompts of a turn: the student's and the teacher's, each within its token limit.

Whole turns of history are left out of a prompt that is too long; nothing is cut in the middle. Each prompt is tokenised
once, and those ids are what the model is fed and trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdar_agents.contexts.base import View
from sdar_agents.contexts.inserting import fit_view
from sdar_agents.engines.chat.appended import AppendedMessages
from sdar_agents.engines.chat.reading import CompletionReader
from sdar_agents.engines.policy import Policy
from sdar_agents.rollout.episode import RunningEpisode
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.settings.reader import errors_at
from sdar_agents.skill_use.prompts import SkillPrompts, name_skill
from sdar_agents.types import Completion
from sdar_envs import Task, TextEnv
from sdar_envs.chat import Conversation
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import ParsedCompletion, PromptParts, resolve_style, style_of, terse
from sdar_skills import Skill, TeacherContext, teacher_context
from sdar_skills.context import ContextTooLong, Messages, Placement

__all__ = ["PromptBuilder", "TurnPrompt"]


@dataclass(frozen=True, slots=True, eq=False)
class TurnPrompt:
    """The prompts of one turn.

    Attributes:
        messages: the student's, as chat messages.
        ids: the student's, as token ids.
        teacher_ids: the teacher's; None if there is none.
        skill_ids: the skills in the prompt of their reader; in a mixed rollout, in the student's.
        parts: the student's without skills, with the history that it shows; None after the first turn of a growing
            chat.
    """

    messages: Messages
    ids: tuple[int, ...]
    teacher_ids: tuple[int, ...] | None
    skill_ids: tuple[str, ...]
    parts: PromptParts | None


class PromptBuilder:
    """Builds the prompts of episodes and reads the completions.

    Args:
        settings: of the rollout.
        policy: its chat template and its tokens.
        skills: which skills are shown to whom; None for none.

    Attributes:
        sampling: of the completions; the stop strings of `rollout.style` are among its own.
        max_tokens: limit of the student's prompt; None for none.
        max_teacher_tokens: limit of the teacher's prompt; None for none, or without a teacher.

    Raises:
        InvalidOption: a prompt and a completion of the allowed lengths do not fit the policy's context together.
        UnknownName: there is no such prompt style.
    """

    def __init__(self, settings: RolloutSettings, policy: Policy, skills: SkillPrompts | None) -> None:
        self.settings = settings
        self.policy = policy
        self.skills = skills
        self._reader = CompletionReader(policy, settings.prefilled)
        self._appended = AppendedMessages(policy)
        with errors_at("rollout.style"):
            self._own_style = None if settings.style is None else resolve_style(settings.style)
        stop = () if self._own_style is None else self._own_style.stop
        self.sampling = replace(settings.sampling, stop=tuple(dict.fromkeys((*settings.stop, *stop))))
        self.max_tokens = self._limit("max_prompt_tokens", settings.max_prompt_tokens)
        self.max_teacher_tokens = None
        if skills is not None and skills.reader != "student":
            self.max_teacher_tokens = self._limit("the teacher's max_prompt_tokens", skills.max_prompt_tokens)

    def converse(self, env: TextEnv[Any], task: Task) -> Conversation:
        """Return the chat of an episode that is about to begin."""
        style = style_of(env, task) if self._own_style is None else self._own_style
        is_growing = self.settings.history == "appended"
        return Conversation(
            terse(style) if self.settings.terse else style,
            mode=self.settings.history,
            history_length=None if is_growing else self.settings.history_length,
            system=self.settings.system,
        )

    def build(self, episode: RunningEpisode, counts: Counter[str]) -> TurnPrompt | None:
        """Return the prompts of an episode's next turn; None if they do not fit, which ends the episode.

        Args:
            episode: gets the skills that are shown, and the end reason.
            counts: gets what was shrunk and dropped, by metric.

        Raises:
            InvalidOption: the student's prompt is too long, and that is an error.
        """
        if episode.conversation.mode == "appended" and episode.turns:
            return self._grown(episode, counts)
        acts = episode.acts_with_skills
        parts = episode.conversation.parts()
        if episode.view is not None:
            return self._with_view(episode, parts, episode.view, counts)
        skills = episode.skills or () if acts else ()
        placement = self.skills.placement if self.skills is not None and acts else "user"
        try:
            context, ids = self._student(episode, parts, skills, placement)
        except ContextTooLong as error:
            if self.settings.overlong == "error":
                raise InvalidOption(str(error)) from error
            episode.stop_reason = "token_limit"
            counts["rollout/overlong_episodes"] += 1
            return None
        counts["rollout/shrunk_prompts"] += context.dropped_turns > 0
        counts["rollout/dropped_turns"] += context.dropped_turns
        # The teacher is to know skills, not more history than the student.
        parts = replace(parts, history_length=parts.shown_turns - context.dropped_turns)
        prompt = TurnPrompt(context.messages, ids, None, tuple(map(name_skill, context.skills)), parts)
        if self.skills is None or episode.skills is None:
            return prompt
        if acts:
            _count_skills(episode, context, ids, counts)
        if self.skills.reader == "student":
            return prompt
        try:
            other, other_ids = self._fitted(
                parts, () if acts else episode.skills, self.skills.placement, self.max_teacher_tokens
            )
        except ContextTooLong:
            counts["skills/misfits"] += 1
            return prompt
        if not acts:
            _count_skills(episode, other, other_ids, counts)
        is_teachers = self.skills.reader == "teacher"
        shown = tuple(map(name_skill, other.skills)) if is_teachers else prompt.skill_ids
        return replace(prompt, teacher_ids=other_ids or None, skill_ids=shown)

    def _grown(self, episode: RunningEpisode, counts: Counter[str]) -> TurnPrompt | None:
        """Return the next prompt of a growing chat: the tokens so far, and those of the new messages.

        What the teacher reads stands in its first prompt, and the same tokens follow.
        """
        last = episode.turns[-1]
        messages = episode.conversation.messages()
        said = self._appended.ids(messages[episode.conversation.answered_messages :], last.completion)
        added = (*last.completion.token_ids, *said)
        ids = (*last.prompt_ids, *added)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            if self.settings.overlong == "error":
                raise InvalidOption(
                    f"the chat of {episode.task.id!r} takes {len(ids)} tokens at turn {len(episode.turns) + 1}, and "
                    f"{self.max_tokens} are allowed: raise max_prompt_tokens, or let the episode end by overlong='end'."
                )
            episode.stop_reason = "token_limit"
            counts["rollout/overlong_episodes"] += 1
            return None
        teacher = None if last.teacher_prompt_ids is None else (*last.teacher_prompt_ids, *added)
        if teacher is not None and self.max_teacher_tokens is not None and len(teacher) > self.max_teacher_tokens:
            counts["skills/misfits"] += 1
            teacher = None
        return TurnPrompt(messages, ids, teacher, last.skill_ids, None)

    def _with_view(
        self, episode: RunningEpisode, parts: PromptParts, view: View, counts: Counter[str]
    ) -> TurnPrompt | None:
        """Return a prompt that shows a context to the student; None if it does not fit, which ends the episode."""
        found = fit_view(parts, view, self.policy, self.max_tokens)
        if found is None:
            episode.stop_reason = "token_limit"
            counts["rollout/overlong_episodes"] += 1
            return None
        messages, ids, dropped = found
        counts["rollout/shrunk_prompts"] += dropped > 0
        counts["rollout/dropped_turns"] += dropped
        return TurnPrompt(messages, ids, None, (), replace(parts, history_length=parts.shown_turns - dropped))

    def parse(self, episode: RunningEpisode, completion: Completion) -> ParsedCompletion:
        """Parse a completion by the prompt's style."""
        return self._reader.read(completion, episode.conversation.style)

    def _student(
        self, episode: RunningEpisode, parts: PromptParts, skills: Sequence[Skill], placement: Placement
    ) -> tuple[TeacherContext, tuple[int, ...]]:
        limit = self.max_tokens if self.settings.overlong == "shrink" else None
        context, ids = self._fitted(parts, skills, placement, limit)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise ContextTooLong(
                f"a prompt of turn {len(episode.turns) + 1} of {episode.task.id!r} takes {len(ids)} tokens, and "
                f"{self.max_tokens} are allowed: raise max_prompt_tokens, lower history_length, or let it lose history "
                "by overlong='shrink'."
            )
        return context, ids

    def _fitted(
        self, parts: PromptParts, skills: Sequence[Skill], placement: Placement, limit: int | None
    ) -> tuple[TeacherContext, tuple[int, ...]]:
        """Return a prompt that fits a limit, and its ids; nothing is encoded twice."""
        last: tuple[str, tuple[int, ...]] = ("", ())

        def count_tokens(text: str) -> int:
            nonlocal last
            last = text, self.policy.encode(text)
            return len(last[1])

        render = self.policy.render
        context = teacher_context(
            parts, skills, placement, token_budget=limit, count_tokens=count_tokens, render=render
        )
        if limit is None:
            count_tokens(context.render(render))
        return context, last[1]

    def _limit(self, name: str, tokens: int | None) -> int | None:
        context, new = self.policy.context_length, self.settings.max_new_tokens
        if context is None:
            return tokens
        if (tokens or 1) + new > context:
            raise InvalidOption(
                f"{name} is {tokens} and max_new_tokens {new}, but the policy's context has {context} tokens: lower "
                "one of them."
            )
        return context - new if tokens is None else tokens


def _count_skills(episode: RunningEpisode, context: TeacherContext, ids: tuple[int, ...], counts: Counter[str]) -> None:
    used = {arm.skill for arm in context.skills}
    if episode.counts_as_shown:
        episode.shown.update({skill.id: skill for skill in episode.skills or () if skill.id in used})
    counts["skills/prompts"] += bool(used)
    counts["skills/prompt_tokens"] += len(ids)
    counts["skills/shrunk_prompts"] += bool(context.dropped_turns or context.dropped_skills)
    counts["skills/dropped_turns"] += context.dropped_turns
    counts["skills/dropped_skills"] += len(context.dropped_skills)
