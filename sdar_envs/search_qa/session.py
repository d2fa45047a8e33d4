"""State machine of a Search-QA episode under each of the three behaviours, without files, network or Gymnasium.

A session says which search a command asks for (`query`) and takes the result (`act`), so a caller with many sessions
can search for all of them in one batch. It does not stop at the end of an episode: the reference plays on, and that can
be compared only if this can too.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from sdar_envs.search_qa.blocks import BLOCKS, neutral, sdar_block
from sdar_envs.search_qa.questions import Question
from sdar_envs.search_qa.reference import tagged
from sdar_envs.search_qa.retrieval.retriever import Hit
from sdar_envs.search_qa.scoring import em_with_format, exact_match, f1, last_answer, normalize, sub_exact_match

__all__ = [
    "BEHAVIOURS",
    "METRICS",
    "Behaviour",
    "Finding",
    "Metric",
    "QuestionSession",
    "QuestionState",
    "Reply",
    "parse",
]

Behaviour = Literal["fixed", "sdar", "search-r1"]
Metric = Literal["em", "f1", "sub_em", "em_format"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)
METRICS: tuple[Metric, ...] = get_args(Metric)

_COMMAND = re.compile(r"\s*(search|answer)\[(.*)\]\s*", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"<search>(.*?)</search>", re.DOTALL)

_NO_COMMAND = (
    "That is no command. Give search[what you look for] to see passages, or answer[your answer] to end the task."
)


def parse(command: str) -> tuple[str, str] | None:
    """Parse a command; return `search` or `answer` and the stripped text in its brackets, None for anything else."""
    match = _COMMAND.fullmatch(command)
    return (match.group(1).lower(), match.group(2).strip()) if match else None


class Finding(NamedTuple):
    """Result of a search: hits, or the text of the reference's tool, or why it failed if that may be shown."""

    hits: tuple[Hit, ...] = ()
    said: str | None = None
    failure: str = ""


class Reply(NamedTuple):
    """Result of a command."""

    observation: str
    is_valid: bool


@dataclass(frozen=True, slots=True)
class QuestionState:
    """Immutable state of a session.

    Attributes:
        turns: commands given.
        searches: searches carried out.
        transcript: what was done and shown, in turn; kept only under `sdar`, which scores it.
        passages: ids of what the latest command found.
        found: ids of the supporting passages that searches have found.
        shows_answer: a passage contained a golden answer.
        answer: what was answered last; None before.
        is_well_formed: every command was one.
        is_over: something was answered, or (under `sdar`) the turns have run out.
        failure: why the search of the latest command failed; empty if it did not.
    """

    turns: int = 0
    searches: int = 0
    transcript: str = ""
    passages: tuple[str, ...] = ()
    found: frozenset[str] = frozenset()
    shows_answer: bool = False
    answer: str | None = None
    is_well_formed: bool = True
    is_over: bool = False
    failure: str = ""


class QuestionSession:
    """Session of one question: commands in, observations and scores out.

    Args:
        question: the question.
        behaviour: `fixed`, `sdar` or `search-r1`, see `sdar_envs.search_qa.env.SearchQAEnv`.
        max_steps: turns.
        state: where to go on.
    """

    def __init__(
        self, question: Question, behaviour: Behaviour, max_steps: int, state: QuestionState = QuestionState()
    ) -> None:
        self.question = question
        self.behaviour = behaviour
        self.max_steps = max_steps
        self.state = QuestionState() if state is None else state

    def query(self, command: str) -> str | None:
        """Return what this command would search for now; None if it would not search."""
        if self.behaviour == "sdar":
            block = None if self._ends(command) else _QUERY.search(tagged(command))
            return None if block is None else block.group(1).strip()
        parsed = parse(command)
        if parsed is None or parsed[0] == "answer":
            return None
        return None if self.behaviour == "search-r1" and self._is_last_turn() else parsed[1]

    def act(self, command: str, finding: Finding | None = None) -> Reply:
        """Carry out a command.

        Args:
            command: any text.
            finding: what the search for `query(command)` gave; None if there was none.
        """
        if self.behaviour == "sdar":
            return self._act_as_reference(command, finding)
        parsed = parse(command)
        self._turn(finding, is_valid=parsed is not None)
        if parsed is None:
            return Reply(self._with_turns(_NO_COMMAND), False)
        name, text = parsed
        if name == "answer":
            self._note(answer=text, is_over=True)
            return Reply("", True)
        if finding is None:
            return Reply("", True)  # the last turn of Search-R1
        if finding.failure:
            # It may quote what a server said.
            block = f"<information>\nThe search failed: {neutral(finding.failure)}\n</information>"
        else:
            block = BLOCKS[self.behaviour](finding.hits)
        return Reply(self._with_turns(block), True)

    def scores(self) -> dict[Metric, float]:
        """Return what the episode scores by each metric, from 0 to 1; all 0 before its end.

        `em_format` sees commands, not thoughts: here, well-formed means that every action was a command and the last
        one an answer. `sdar_envs.search_qa.scoring.is_well_formed` judges a whole transcript.
        """
        state, answers = self.state, self.question.answers
        scores: dict[Metric, float] = dict.fromkeys(METRICS, 0.0)
        # The reference takes the last answer block of everything, passages included.
        answer = last_answer(state.transcript) if self.behaviour == "sdar" else state.answer
        if not state.is_over or answer is None:
            return scores
        em = exact_match(answer, answers)
        well_formed = state.is_well_formed and state.answer is not None
        return {
            "em": em,
            "f1": f1(answer, answers),
            "sub_em": sub_exact_match(answer, answers),
            "em_format": em_with_format(em=em, well_formed=well_formed, shows=state.shows_answer),
        }

    # -- inside -----------------------------------------------------------------------------

    def _act_as_reference(self, command: str, finding: Finding | None) -> Reply:
        ends = self._ends(command)
        action = tagged(command)
        if finding is None:
            shown = ""
        elif finding.said is not None:
            shown = sdar_block(finding.said)
        elif finding.failure:
            shown = sdar_block(f"Search error: {finding.failure}")
        else:
            shown = BLOCKS["sdar"](finding.hits)
        self._turn(finding, is_valid=action != "")
        answer = last_answer(action)
        self._note(
            transcript=self.state.transcript + action + shown,
            answer=self.state.answer if answer is None else answer,
            is_over=ends,
        )
        return Reply(shown, action != "")

    def _ends(self, command: str) -> bool:
        """Return whether the reference ends the episode with this command, and so does not search."""
        action = tagged(command)
        return self.state.is_over or self._is_last_turn() or ("<answer>" in action and "</answer>" in action)

    def _is_last_turn(self) -> bool:
        return self.state.turns + 1 >= self.max_steps

    def _turn(self, finding: Finding | None, *, is_valid: bool) -> None:
        """Count a turn, and what its search gave."""
        state, question = self.state, self.question
        hits = () if finding is None else finding.hits
        passages = tuple(hit.passage.id for hit in hits)
        shows = state.shows_answer
        if not shows and hits:
            texts = [normalize(hit.passage.contents) for hit in hits]
            shows = any(normalize(answer) in text for answer in question.answers for text in texts)
        self._note(
            turns=state.turns + 1,
            searches=state.searches + (finding is not None),
            passages=passages,
            found=state.found.union(id for id in passages if id in question.supporting),
            shows_answer=shows,
            is_well_formed=state.is_well_formed and is_valid,
            failure="" if finding is None else finding.failure,
        )

    def _note(self, **changes: object) -> None:
        self.state = dataclasses.replace(self.state, **changes)  # type: ignore[arg-type]

    def _with_turns(self, text: str) -> str:
        left = self.max_steps - self.state.turns
        if self.behaviour != "fixed" or left < 1:
            return text
        return f"{text}\nOne turn is left: answer now." if left == 1 else f"{text}\nTurns left: {left}."
