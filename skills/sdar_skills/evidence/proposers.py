"""Skill proposers: a template, as the baseline and for tests, and a chat model.

A model is any function from chat messages to a text; `sdar_agents.engines.servers.endpoint.endpoint_chat` makes one of
a model behind an OpenAI-compatible endpoint. Its answer must be exactly one JSON object of the form that the prompt
describes. An invalid answer is returned to the model with the error, a limited number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.files.json_text import parse_json
from sdar_envs.prompt import UNREADABLE
from sdar_skills.evidence.experience import Draft, Episode
from sdar_skills.library.naming import LONGEST_DESCRIPTION
from sdar_skills.library.skill import Skill

__all__ = ["Chat", "ModelProposer", "ProposalFailed", "TemplateProposer"]

Chat = Callable[[Sequence[dict[str, str]]], str]
"""Returns a model's answer to chat messages, each with `role` and `content`."""

_LONGEST_TITLE = 80
_LONGEST_TEXT = 4_000
_LONGEST_OBSERVATION = 600
_SHOWN = 200


class ProposalFailed(SdarError, RuntimeError):
    """A model gave no valid answer within its attempts."""


@dataclass(frozen=True)
class TemplateProposer:
    """Template proposer: the actions of the shortest successful episode, without object numbers.

    Equal episodes give equal drafts. Invalid actions are left out, and repeated actions are merged. Without a
    successful episode there is no draft.
    """

    name: str = "template"

    def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> Sequence[Draft]:
        """Return at most one draft."""
        won = [episode for episode in episodes if episode.is_success and episode.steps]
        if not won:
            return []
        shortest = min(won, key=lambda episode: (len(episode.steps), episode.id, episode.run))
        actions = [re.sub(r"(?<=\D) \d+\b", "", step.action) for step in shortest.steps if step.is_action_valid]
        kind = shortest.task.task_type
        lines = [f"{number}. {action}" for number, (action, _) in enumerate(groupby(actions), 1)]
        return [
            Draft(
                title=f"a way through {kind}",
                description=f"The shortest way that solved a task of the kind {kind}. For tasks of this kind.",
                text="\n".join([f'These actions, in this order, solved "{shortest.task.instruction}":', "", *lines]),
                is_general=False,
                episodes=(shortest,),
            )
        ]


@dataclass(frozen=True)
class ModelProposer:
    """Chat model as a proposer.

    Args:
        chat: returns the model's answer to messages.
        name: name of the model.
        max_skills: greatest number of skills for a task type at once.
        max_episodes: number of episodes in the prompt, successes and failures in turn, in the order given.
        max_steps: number of last steps of each episode in the prompt.
        attempts: number of answers that are read before giving up.

    Raises:
        InvalidOption: a number is not positive.
    """

    chat: Chat
    name: str
    max_skills: int = 3
    max_episodes: int = 8
    max_steps: int = 30
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("max_skills", "max_episodes", "max_steps", "attempts"):
            if not is_integer(getattr(self, name)) or getattr(self, name) < 1:
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; wanted a whole number from 1.")

    def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> Sequence[Draft]:
        """Return the drafts in the model's answer.

        Raises:
            ProposalFailed: none of its answers is valid.
        """
        shown = _balanced(episodes)[: self.max_episodes]
        numbers = {f"E{number}": episode for number, episode in enumerate(shown, 1)}
        messages = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": self._request(shown, known)},
        ]
        problem = ""
        for _ in range(self.attempts):
            answer = self.chat(messages)
            try:
                return self._read(answer, numbers)
            except ValueError as error:
                problem = str(error)
                messages += [
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": f"This cannot be used: {problem}. Answer with the JSON object alone."},
                ]
        raise ProposalFailed(
            f"{self.name} gave no valid answer in {self.attempts} attempts; the last one: {problem}. Try another "
            "model, or more attempts."
        )

    def _request(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> str:
        kind = episodes[0].task.task_type
        have = [f"- {skill.name}: {skill.description}" for skill in known] or ["(none)"]
        parts = [
            f"Kind of task: {kind}",
            "Skills that exist already; do not repeat them:\n" + "\n".join(have),
            *(self._tell(number, episode) for number, episode in enumerate(episodes, 1)),
            f"Write up to {self.max_skills} new skills for this kind of task, or none.\n\n{_FORM}",
        ]
        return "\n\n".join(parts)

    def _tell(self, number: int, episode: Episode) -> str:
        left_out = max(0, len(episode.steps) - self.max_steps)
        lines = [f"Episode E{number}, {'solved' if episode.is_success else 'not solved'}: {episode.task.instruction}"]
        if left_out:
            lines.append(f"({left_out} earlier steps are left out)")
        for step in episode.steps[left_out:]:
            observation = " ".join(step.observation.split())
            if len(observation) > _LONGEST_OBSERVATION:
                observation = f"{observation[:_LONGEST_OBSERVATION]} ..."
            lines += [
                observation,
                f"> {step.action or UNREADABLE}{'' if step.is_action_valid else '   (not understood)'}",
            ]
        return "\n".join(lines)

    def _read(self, answer: str, numbers: dict[str, Episode]) -> list[Draft]:
        """Parse an answer strictly.

        Raises:
            ValueError: the answer is invalid; the message is for the model.
        """
        try:
            content = parse_json(answer)
        except ValueError as error:
            raise ValueError(f"it is not JSON ({error})") from error
        skills = content.get("skills") if isinstance(content, dict) and len(content) == 1 else None
        if not isinstance(skills, list):
            raise ValueError('it is not an object with the one key "skills", a list')
        if len(skills) > self.max_skills:
            raise ValueError(f"it has {len(skills)} skills, more than {self.max_skills}")
        return [_read_draft(skill, f"skill {place}", numbers) for place, skill in enumerate(skills, 1)]


_SYSTEM = (
    "You teach an agent that acts in a text environment. From episodes that it played you write skills: short pieces "
    "of advice that would have helped, and that hold for every task of the kind. Say what to do, in which order, and "
    "what the environment refuses. Name kinds of things and places, never the particular ones of an episode. Claim "
    "only what the episodes show."
)
_FORM = (
    "Answer with one JSON object and nothing around it:\n"
    '{"skills": [{"title": "a few words", "description": "one sentence: what it says and when to use it", '
    '"text": "the advice, a few lines of Markdown", "scope": "kind" or "all kinds", "episodes": ["E1"]}]}\n'
    "`episodes` names the episodes that show it. If there is nothing to teach, the list is empty."
)
_LIMITS = {"title": _LONGEST_TITLE, "description": LONGEST_DESCRIPTION, "text": _LONGEST_TEXT}
_SCOPES = {"kind": False, "all kinds": True}


def _balanced(episodes: Sequence[Episode]) -> list[Episode]:
    """Return successes and failures in turn, as long as there are both."""
    won = [episode for episode in episodes if episode.is_success]
    lost = [episode for episode in episodes if not episode.is_success]
    both = min(len(won), len(lost))
    turns = [episode for pair in zip(won, lost, strict=False) for episode in pair]
    return [*turns, *won[both:], *lost[both:]]


def _read_draft(skill: Any, where: str, numbers: dict[str, Episode]) -> Draft:
    wanted = (*_LIMITS, "scope", "episodes")
    if not isinstance(skill, dict) or set(skill) != set(wanted):
        raise ValueError(f"{where} is not an object with exactly the keys {', '.join(wanted)}")
    for name, longest in _LIMITS.items():
        text = skill[name]
        if not isinstance(text, str) or not text.strip() or len(text) > longest:
            raise ValueError(f"the {name} of {where} is not a text of 1 to {longest} characters")
    if not isinstance(skill["scope"], str) or skill["scope"] not in _SCOPES:
        raise ValueError(f'the scope of {where} is {str(skill["scope"])[:_SHOWN]!r}, not "kind" or "all kinds"')
    named = skill["episodes"]
    if not isinstance(named, list) or not named or any(not isinstance(one, str) or one not in numbers for one in named):
        raise ValueError(f"the episodes of {where} are not a list of some of {', '.join(numbers)}")
    return Draft(
        title=skill["title"],
        description=skill["description"],
        text=skill["text"],
        is_general=_SCOPES[skill["scope"]],
        episodes=tuple(numbers[one] for one in dict.fromkeys(named)),
    )
