"""Analyst: a model reads each finished episode and writes advice for the whole of it and for its decisive turns.

The context of OPID (arXiv 2606.26790; SEED, 2607.14777, lets the policy itself write). The analyst, which is the
policy or a model behind an endpoint, is told the task, the outcome and every turn, and answers with a JSON object. Its
*episode skill* stands behind the task in all turns, a *step skill* behind the history of the turn that it names.

As in OPID's scripts, a turn with a step skill is read with that alone (`routing: step_first`); `both` gives two views,
for the two terms of its additive form. An answer that is no such object is asked for again with the problem; without a
valid one the episode has no teacher, and is counted. Where OPID drops an episode without the key for its episode skill,
so do we. Unlike OPID the prompts are ours, and turns show actions without the thoughts before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from sdar_agents.contexts.asking import ask_objects
from sdar_agents.contexts.base import Ask, Groups, Review, TurnKey, View
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.contexts.telling import fitting_chat, outcome
from sdar_agents.engines.policy import Messages
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Trajectory
from sdar_envs.rng import derive_seed

__all__ = ["EpisodeAnalyst"]

_EPISODE = "Advice for this task, written by somebody who saw how the attempt ended:"
_STEP = "Advice for this turn, written by somebody who saw how the attempt ended:"


class _Skills(NamedTuple):
    """What an analyst says of an episode: advice for all of it, and by the index of a turn."""

    episode: str
    steps: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class EpisodeAnalyst(Stateless):
    """Hindsight advice of an analyst: one text for the episode, and one for each of its decisive turns.

    Attributes:
        step_skills: how many turns get advice of their own, at most.
        only: which episodes are analysed: `all`, or those that `failed`.
        attempts: how often an answer is asked for.
        routing: see above.
    """

    step_skills: int = setting(5, low=0)
    only: Literal["all", "failed"] = "all"
    attempts: int = setting(2, low=1)
    routing: Literal["step_first", "both"] = "step_first"

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def view_count(self) -> int:
        """Views of a turn."""
        return 2 if self.routing == "both" else 1

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Ask about each episode, and return the views of its turns."""
        episodes = [episode for group in groups for episode in group if episode.turns and self._is_asked(episode)]
        chats = [fitting_chat(ask, episode, partial(self._chat, episode)) for episode in episodes]
        seed = derive_seed(seed, f"analyst {step}")
        answers = ask_objects(ask, chats, self._read, attempts=self.attempts, seed=seed)
        views: dict[TurnKey, tuple[View | None, ...]] = {}
        steps = 0
        for episode, skills in zip(episodes, answers, strict=True):
            if skills is not None:
                steps += sum(index < len(episode.turns) for index in skills.steps)
                views |= {
                    (episode.episode_id, index): self._views(skills, index) for index in range(len(episode.turns))
                }
        failures = sum(skills is None for skills in answers)
        return Review(
            views, metrics={"failures": float(failures), "asked": float(len(chats)), "step_skills": float(steps)}
        )

    def _is_asked(self, episode: Trajectory) -> bool:
        return self.only == "all" or not episode.success

    def _views(self, skills: _Skills, index: int) -> tuple[View | None, ...]:
        whole = View((_EPISODE, skills.episode))
        own = View((_STEP, skills.steps[index]), after="history") if index in skills.steps else None
        return (whole, own) if self.routing == "both" else (own or whole,)

    def _chat(self, episode: Trajectory, shown: str) -> Messages:
        request = [
            _ROLE,
            f"The task: {episode.task.instruction}",
            f"An agent's attempt, which was {outcome(episode)}:\n{shown}",
            _request(self.step_skills),
        ]
        return [{"role": "user", "content": "\n\n".join(request)}]

    def _read(self, content: Mapping[str, Any]) -> _Skills:
        """Return the skills in an answer.

        Raises:
            ValueError: it lacks the episode's, or a turn's is none.
        """
        episode = content.get("episode_skill")
        if not isinstance(episode, str) or not episode.strip():
            raise ValueError("'episode_skill' is not a text")
        given = content.get("step_skills", {})
        if not isinstance(given, Mapping):
            raise ValueError("'step_skills' is not an object")
        steps = {}
        for name, text in given.items():
            if not (str(name).isascii() and str(name).isdigit()) or not isinstance(text, str) or not text.strip():
                raise ValueError("'step_skills' is not an object with numbers of turns as keys and texts as values")
            steps[int(name) - 1] = text.strip()
        # What is too many or of no turn is left out, as in OPID.
        return _Skills(episode.strip(), dict(list(steps.items())[: self.step_skills]))


_ROLE = (
    "You review attempts of an agent in a text environment, so that it plays better the next time. Say what to do, "
    "from what the attempt shows and how it ended. Invent nothing. Write to the agent, briefly."
)


def _request(steps: int) -> str:
    parts = [
        "Write advice that the agent could have had from the start. If the attempt solved the task, describe the way "
        "that led there; if not, say what to avoid and what to do instead."
    ]
    form = '{"summary": "one sentence", "episode_skill": "the advice, a few sentences"'
    if steps:
        parts.append(
            f"Then choose up to {steps} turns that decided the outcome, and write one sentence of advice for each, "
            "by its number."
        )
        form += ', "step_skills": {"3": "one sentence"}'
    return "\n".join([*parts, f"Answer with one JSON object and nothing around it:\n{form}}}"])
