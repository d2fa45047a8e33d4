"""Privileged teacher context: the student's prompt with skills inserted, cut to a token budget.

    prompt = prompt_parts(style_for(task.suite), instruction, history, observation, commands)
    student = prompt.messages()
    context = teacher_context(prompt, retrieved)
    teacher = context.messages

The student's text is never changed. Placements of the skills:

- `user` (default): in the user message, between the task and the history;
- `system`: at the end of the system message, which is added if there is none;
- `legacy_prefix`: raw text before the rendered chat, outside of any message, as in SDAR's code; for parity only.
  `TeacherContext.render` joins the two.

A context that exceeds its token budget loses whole parts, in this order: skills, worst first, except the best one with
a task type (the best of all if all are general); then history, oldest turn first. If that is not enough, it is an
error: the observation, the task, the answer format and that one skill are never dropped. The record names everything
that was dropped, and `rebuild_context` restores the context from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, InvalidOption, SdarError, did_you_mean
from sdar_envs.prompt import PromptParts
from sdar_skills.library.budget import TokenCounter
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Arm, Retrieved, Skill, arm_of

__all__ = [
    "ContextTooLong",
    "Messages",
    "Placement",
    "Render",
    "TeacherContext",
    "legacy_prefix",
    "rebuild_context",
    "skill_block",
    "teacher_context",
    "teacher_messages",
]

Placement = Literal["user", "system", "legacy_prefix"]
"""Where the skills are inserted."""

Messages = list[dict[str, str]]
"""Chat messages, each `{"role": ..., "content": ...}`."""

Render = Callable[[Messages], str]
"""Renders messages as the text that the model reads: the tokenizer's chat template with the generation prompt."""


class ContextTooLong(SdarError, ValueError):
    """A teacher context exceeds its token budget even without everything that may be dropped."""


@dataclass(frozen=True, slots=True)
class TeacherContext:
    """Teacher prompt of one turn, with a record of what was shown and dropped.

    Attributes:
        messages: the chat messages.
        prefix: raw text before the rendered chat; empty unless the placement is `legacy_prefix`.
        placement: where the skills are inserted.
        skills: the skills shown, best first.
        dropped_skills: skills that were dropped for the budget, in order of rank.
        dropped_turns: number of past turns in the student's prompt that were dropped for the budget.
        tokens: length of the rendered context; None without a budget.
        token_budget: greatest length of the rendered context; None without a budget.
    """

    messages: Messages
    prefix: str
    placement: Placement
    skills: tuple[Arm, ...]
    dropped_skills: tuple[Arm, ...] = ()
    dropped_turns: int = 0
    tokens: int | None = None
    token_budget: int | None = None

    def render(self, render: Render) -> str:
        """Return the text that the teacher reads.

        Args:
            render: renders the messages, such as
                `lambda messages: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)`.
        """
        return self.prefix + render(self.messages)

    def to_json(self) -> dict[str, Any]:
        """Return the context as a dictionary of JSON values."""
        arms = {name: [arm._asdict() for arm in getattr(self, name)] for name in ("skills", "dropped_skills")}
        return asdict(self) | arms

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> TeacherContext:
        """Restore a context from `to_json`'s dictionary, before or after a round trip through JSON."""
        arms = {name: tuple(Arm(**arm) for arm in fields[name]) for name in ("skills", "dropped_skills")}
        messages = [dict(message) for message in fields["messages"]]
        return cls(**{**fields, **arms, "messages": messages})


def skill_block(skills: Sequence[Skill]) -> str:
    """Return skills as prompt text: an introductory line, then each text under its name as a heading."""
    return "\n\n".join(
        ["What is known about tasks of this kind:", *(f"### {skill.name}\n{skill.text}" for skill in skills)]
    )


def legacy_prefix(skills: Sequence[Skill]) -> str:
    """Return skills as SDAR's code puts them before the rendered chat; empty without skills.

    Control tokens of chat templates in the skills are broken up (`sdar_envs.control_tokens`), because no template
    stands between this text and the tokenizer.
    """
    texts = "\n\n".join(break_control_tokens(skill.text) for skill in skills)
    return f"[Privileged Skill Information]\n{texts}\n\n" if skills else ""


def teacher_messages(
    messages: PromptParts | Sequence[Mapping[str, str]], skills: Sequence[Skill], placement: Placement = "user"
) -> Messages:
    """Return chat messages with skills inserted; the student's own messages if there are no skills.

    Args:
        messages: the student's prompt (`sdar_envs.prompt.prompt_parts`), or any chat messages.
        skills: the skills to show, best first.
        placement: `user` needs a `PromptParts`, because messages do not tell where the task ends; with
            `legacy_prefix` the messages are the student's, and the caller prepends `legacy_prefix(skills)`.

    Raises:
        InvalidOption: there is no such placement, or it needs a `PromptParts`.
    """
    _check_placement(placement)
    if isinstance(messages, PromptParts):
        if placement == "user":
            return messages.messages([skill_block(skills)] if skills else [])
        chat = messages.messages()
    else:
        chat = [dict(message) for message in messages]
        if placement == "user" and skills:
            raise InvalidOption(
                "placement is 'user', but plain messages do not tell where the task ends: pass "
                "sdar_envs.prompt.prompt_parts(...) or a PromptParts of yours, or choose placement='system'."
            )
    if placement != "system" or not skills:
        return chat
    if chat and chat[0]["role"] == "system":
        return [{**chat[0], "content": f"{chat[0]['content']}\n\n{skill_block(skills)}"}, *chat[1:]]
    return [{"role": "system", "content": skill_block(skills)}, *chat]


def teacher_context(
    prompt: PromptParts,
    skills: Sequence[Retrieved] | Sequence[Skill],
    placement: Placement = "user",
    *,
    token_budget: int | None = None,
    count_tokens: TokenCounter | None = None,
    render: Render | None = None,
    require_skill: bool = True,
) -> TeacherContext:
    """Build the teacher's prompt of one turn.

    Args:
        prompt: the student's prompt.
        skills: retrieved skills, best first. Without any, the messages equal the student's.
        placement: where the skills are inserted.
        token_budget: greatest length of the rendered context in tokens; None is no limit.
        count_tokens: counts the tokens of a rendered text, without adding special ones; needed for a budget.
        render: renders messages, see `Render`; needed for a budget.
        require_skill: if the last remaining skill does not fit even without history: True raises an error, because a
            teacher without skills teaches nothing; False drops it too.

    Raises:
        InvalidOption: there is no such placement, or `count_tokens` or `render` is missing.
        ContextTooLong: the context exceeds the budget.
    """
    _check_placement(placement)
    given = tuple(skill.skill if isinstance(skill, Retrieved) else skill for skill in skills)
    if token_budget is None:
        return _context(prompt, given, placement)
    if not is_integer(token_budget) or token_budget < 1:
        raise InvalidOption(f"token_budget is {token_budget!r}; wanted None or a number of tokens from 1.")
    if count_tokens is None or render is None:
        raise InvalidOption(
            f"token_budget is {token_budget}, which needs count_tokens= and render=, the tokenizer's count and its "
            "chat template."
        )
    tokens = 0
    for kept, turns in _smaller(given, prompt.shown_turns, require_skill=require_skill):
        context = _context(replace(prompt, history_length=turns), kept, placement)
        tokens = count_tokens(context.render(render))
        if tokens <= token_budget:
            return replace(
                context,
                dropped_skills=tuple(arm_of(skill) for skill in given if skill not in kept),
                dropped_turns=prompt.shown_turns - turns,
                tokens=tokens,
                token_budget=token_budget,
            )
    raise ContextTooLong(
        f"the teacher's context takes {tokens} tokens without history and with "
        f"{'one skill only' if given and require_skill else 'no skill'}, and the budget is {token_budget}: "
        "give it more, or shorter skills."
    )


def rebuild_context(
    record: TeacherContext, prompt: PromptParts, library: Library | Mapping[str, Skill]
) -> TeacherContext:
    """Rebuild a context from its record, and check that it is the same.

    Args:
        record: the recorded context; its messages are compared with the result.
        prompt: the student's prompt of that turn.
        library: skills by id.

    Raises:
        UnknownName: the library has no such skill.
        CorruptData: a skill's text is another one by now, or the result differs from the record.
    """
    skills = []
    for arm in record.skills:
        skill = library[arm.skill]
        if arm_of(skill) != arm:
            raise CorruptData(
                f"{arm.skill} was version {arm.version} with the hash {arm.sha256[:12]}, and is {skill.version} with "
                f"{skill.sha256[:12]} now: use the library of that time."
            )
        skills.append(skill)
    shown = replace(prompt, history_length=prompt.shown_turns - record.dropped_turns)
    context = replace(
        _context(shown, tuple(skills), record.placement),
        dropped_skills=record.dropped_skills,
        dropped_turns=record.dropped_turns,
        tokens=record.tokens,
        token_budget=record.token_budget,
    )
    if context != record:
        raise CorruptData("the context differs from its record: this is not the prompt that it was made from.")
    return context


def _context(prompt: PromptParts, skills: tuple[Skill, ...], placement: Placement) -> TeacherContext:
    return TeacherContext(
        messages=teacher_messages(prompt, skills, placement),
        prefix=legacy_prefix(skills) if placement == "legacy_prefix" else "",
        placement=placement,
        skills=tuple(map(arm_of, skills)),
    )


def _smaller(skills: tuple[Skill, ...], turns: int, *, require_skill: bool) -> Iterator[tuple[tuple[Skill, ...], int]]:
    """Yield (skills, turns) to try, from everything to the least."""
    # Not general skills alone: the reference's code showed no others on Search-QA, unnoticed.
    last = next((skill for skill in skills if skill.task_type is not None), skills[0] if skills else None)
    while len(skills) > 1:
        yield skills, turns
        worst = next(skill for skill in reversed(skills) if skill is not last)
        skills = tuple(skill for skill in skills if skill is not worst)
    for kept in [skills] if require_skill or not skills else [skills, ()]:
        # Without skills the teacher's prompt is the student's, so its history comes back.
        for shown in range(turns, -1, -1):
            yield kept, shown


def _check_placement(placement: str) -> None:
    placements = get_args(Placement)
    if placement not in placements:
        raise InvalidOption(
            f"placement is {placement!r}; wanted one of {', '.join(placements)}.{did_you_mean(placement, placements)}"
        )
