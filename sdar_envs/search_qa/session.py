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

from sdar_envs.search_qa import search_r1
from sdar_envs.search_qa.blocks import BLOCKS, neutral, sdar_block
from sdar_envs.search_qa.questions import Question, title_key
from sdar_envs.search_qa.reference import tagged
from sdar_envs.search_qa.retrieval.retriever import Hit
from sdar_envs.search_qa.scoring import (
    contains_answer,
    contains_whole_answer,
    em_with_format,
    exact_match,
    f1_hotpot,
    f1_squad,
    fold,
    last_answer,
    sub_exact_match,
)

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
Metric = Literal["em", "f1_squad", "f1_hotpot", "sub_em", "em_format", "em_format_v03"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)
METRICS: tuple[Metric, ...] = get_args(Metric)
_NO_SCORES = (0.0,) * len(METRICS)

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
        transcript: what was done and shown, in turn; kept only under `sdar` and `search-r1`, which score it.
        passages: ids of what the latest command found.
        found: ids or titles of the supporting passages that searches have found.
        evidence_turn: the turn in which the last of the supporting passages was found, from 1; 0 before.
        shows_answer: a passage contained a golden answer, perhaps as a part of other words.
        answer_shown: a passage contained a golden answer by whole words.
        answer: what was answered last; None before.
        is_well_formed: every command was one.
        is_over: something was answered, or (under `sdar` and `search-r1`) the turns have run out.
        failure: why the search of the latest command failed; empty if it did not.
    """

    turns: int = 0
    searches: int = 0
    transcript: str = ""
    passages: tuple[str, ...] = ()
    found: frozenset[str] = frozenset()
    evidence_turn: int = 0
    shows_answer: bool = False
    answer_shown: bool = False
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

    __slots__ = ("_scored", "_scores", "behaviour", "max_steps", "question", "state")

    def __init__(
        self, question: Question, behaviour: Behaviour, max_steps: int, state: QuestionState = QuestionState()
    ) -> None:
        self.question = question
        self.behaviour = behaviour
        self.max_steps = max_steps
        self.state = state
        self._scored: QuestionState | None = None  # the state that `_scores` belongs to
        self._scores = _NO_SCORES

    def query(self, command: str) -> str | None:
        """Return what this command would search for now; None if it would not search."""
        if self.behaviour == "sdar":
            block = None if self._ends(command) else _QUERY.search(tagged(command))
            return None if block is None else block.group(1).strip()
        if self.behaviour == "search-r1":
            parsed = None if self._is_last_turn() else search_r1.block(search_r1.written(command))
        else:
            parsed = parse(command)
        return parsed[1] if parsed is not None and parsed[0] == "search" else None

    def act(self, command: str, finding: Finding | None = None) -> Reply:
        """Carry out a command.

        Args:
            command: any text.
            finding: what the search for `query(command)` gave; None if there was none.
        """
        if self.behaviour == "sdar":
            return self._act_as_reference(command, finding)
        if self.behaviour == "search-r1":
            return self._act_as_search_r1(command, finding)
        parsed = parse(command)
        self._turn(finding, is_valid=parsed is not None)
        if parsed is None:
            return Reply(self._with_turns(_NO_COMMAND), False)
        name, text = parsed
        if name == "answer":
            self._note(answer=text, is_over=True)
            return Reply("", True)
        return Reply(self._with_turns(self._block(finding or Finding())), True)

    def scores(self) -> dict[Metric, float]:
        """Return what the episode scores by each metric, from 0 to 1; all 0 before its end.

        `em_format` sees commands, not thoughts: here, well-formed means that every action was a command and the last
        one an answer. Under `search-r1` it sees the whole transcript. `em_format_v03` is the same without the bonus for
        a passage that shows a golden answer.
        """
        # The reward and the info of one step both ask.
        if self.state.is_over and self._scored is not self.state:
            self._scored, self._scores = self.state, self._score()
        return dict(zip(METRICS, self._scores, strict=True)) if self.state.is_over else dict.fromkeys(METRICS, 0.0)

    def evidence(self) -> dict[str, float]:
        """Return what searching has brought up so far; empty if the question does not tell its supporting passages.

        `searches`, how many; `evidence`, 1 if all supporting passages were shown, else 0; `hops_solved`, from 0 to 1,
        the share of hops whose passage was shown together with those of all hops before.
        """
        supporting, state = self.question.supporting, self.state
        if not supporting:
            return {}
        solved = 0
        for passage in supporting:
            if passage not in state.found:
                break
            solved += 1
        return {
            "searches": float(state.searches),
            "evidence": float(state.evidence_turn > 0),
            "hops_solved": solved / len(supporting),
        }

    def _score(self) -> tuple[float, ...]:
        """Return the scores of an episode that is over, in the order of `METRICS`."""
        state, question, answers = self.state, self.question, self.question.answers
        if self.behaviour == "search-r1":
            answer, well_formed, shows = search_r1.read(state.transcript, answers, is_text=question.answer_is_text)
        else:
            # The reference takes the last answer block of everything, passages included.
            answer = last_answer(state.transcript) if self.behaviour == "sdar" else state.answer
            well_formed, shows = state.is_well_formed and state.answer is not None, state.shows_answer
        if answer is None:
            return _NO_SCORES
        if self.behaviour == "fixed":
            answers = (*answers, *question.aliases)
            if question.folds_accents:
                answer, answers = fold(answer), tuple(map(fold, answers))
        em = exact_match(answer, answers)
        return (
            em,
            f1_squad(answer, answers),
            f1_hotpot(answer, answers),
            sub_exact_match(answer, answers),
            em_with_format(em=em, well_formed=well_formed, shows=shows),
            em_with_format(em=em, well_formed=well_formed, shows=False),
        )

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

    def _act_as_search_r1(self, command: str, finding: Finding | None) -> Reply:
        text = search_r1.written(command)
        block = search_r1.block(text)
        is_last = self._is_last_turn()
        is_answer = block is not None and block[0] == "answer"
        shown = ""
        if finding is not None:
            shown = self._block(finding)
        elif block is None and not is_last:
            shown = search_r1.INVALID_ACTION
        self._turn(finding, is_valid=block is not None)
        self._note(
            transcript=self.state.transcript + text + shown,
            answer=block[1] if block is not None and is_answer else self.state.answer,
            is_over=is_answer or is_last,
        )
        return Reply(shown, block is not None)

    def _block(self, finding: Finding) -> str:
        """Return the information block of a search."""
        if finding.failure:
            # It may quote what a server said.
            return f"<information>\nThe search failed: {neutral(finding.failure)}\n</information>"
        return BLOCKS[self.behaviour](finding.hits)

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
        texts = [hit.passage.contents for hit in hits]
        if finding is not None and finding.said is not None and not finding.failure:
            texts.append(finding.said)  # of a server that was asked as the reference does, only the text is known
        passages = tuple(hit.passage.id for hit in hits)
        found = {id for id in passages if id in question.supporting}
        if question.supporting_titles:
            titles = {title_key(hit.passage.title) for hit in hits}
            found.update(title for title in question.supporting_titles if title_key(title) in titles)
        known = state.found if found <= state.found else state.found | found
        wanted = question.supporting or question.supporting_titles
        has_all = state.evidence_turn == 0 and wanted and known.issuperset(wanted)
        self._note(
            turns=state.turns + 1,
            searches=state.searches + (finding is not None),
            passages=passages,
            found=known,
            evidence_turn=state.turns + 1 if has_all else state.evidence_turn,
            shows_answer=state.shows_answer or any(contains_answer(text, question.answers) for text in texts),
            answer_shown=state.answer_shown or any(contains_whole_answer(text, question.answers) for text in texts),
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
