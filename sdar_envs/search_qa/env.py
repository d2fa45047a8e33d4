"""Search-QA environment (`sdar/SearchQA-v0`): answer questions by searching a corpus, scored by exact match."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from sdar_envs.core import Outcome, Task, TaskSource, TextEnv, is_integer, rebuilt, task_id_of
from sdar_envs.errors import InvalidOption, UnknownName, check_choice
from sdar_envs.prompt import STYLES, PromptStyle
from sdar_envs.search_qa import reference, search_r1
from sdar_envs.search_qa.corpora import CORPORA, CorpusName, EmbeddedTasks, embedded_tasks, open_corpus
from sdar_envs.search_qa.questions import Question
from sdar_envs.search_qa.retrieval.retriever import Retriever
from sdar_envs.search_qa.retrieval.search_tool import ON_ERROR, OnError, SearchTool, open_tool
from sdar_envs.search_qa.session import BEHAVIOURS, METRICS, Behaviour, Finding, Metric, QuestionSession, QuestionState
from sdar_envs.search_qa.tasks import ROWS, official_tasks, question_of, row_task

__all__ = ["SearchQAEnv"]

_ID = "sdar/SearchQA-v0"

Data = Literal["embedded", "official"]

_USUAL_STEPS = 4

_COMMANDS = ("answer[<your answer>]", "search[<your query>]")


class SearchQAEnv(TextEnv[QuestionState]):
    """Multi-turn question answering with a search tool, scored by exact match.

    **Observation**: first the question, then the result of the last command: after a search, the best passages in an
    information block.

    **Action**: `search[query]` or `answer[text]`. What is neither changes nothing and counts as a turn, with
    `info["is_action_valid"]` False. `sdar_envs.prompt` makes these of `<search>` and `<answer>` tags.

    **Reward**: 0 until the end, then the score of the answer by `reward`: `em` (1 for exact match after
    normalisation), `f1_squad` or `f1_hotpot` (F1 in SQuAD's form, or HotpotQA's and FlashRAG's, where yes and no match
    only themselves), `sub_em` (it contains a golden answer), `em_format` (Search-R1's, with part of the reward for
    format) or `em_format_v03` (as in its scripts of v0.3, without the bonus for a passage that shows the answer). Times
    `reward_scale`.

    **Episode end**: `terminated` by an answer; `truncated` after `max_steps` turns.

    **Info**: the common keys (`sdar_envs.INFO_TYPES`); `score` is the score by `reward`, `is_success` says that the
    exact match is 1, `task_type` is the kind of question. `admissible_commands` are two templates, which stand for
    any query and any answer. Besides: `data_set`; `metrics`, the answer's score by each metric, 0 before the end, and
    `answer_shown` as a number;
    `answer`, empty before; `searches`, carried out so far; `passage_ids` of this turn's search; `answer_shown`, whether
    a passage shown so far contains a golden answer by whole words (answer@k); `retrieval_error`, empty unless a search
    failed and `on_error` is not `raise`. Where a data set tells which passages an answer follows from, `metrics` has
    three more, which count from the first turn: `searches`; `evidence`, 1 once all these passages were shown;
    `hops_solved`, the share of hops whose passage was shown with all before it. With `reveal_answers`,
    `golden_answers`, and what only an oracle knows: `supporting_found` and `supporting_hit`, how many of the passages
    that the answer follows from were found so far, and whether any (0 where a data set does not tell; HotpotQA tells
    their titles), and `evidence_turn`, the turn in which the last of them was shown, 0 before.

    **Questions from elsewhere**: `reset(options={"task": row})` plays the question of a row of a trainer's data set,
    with its golden answers, in any form that `sdar_envs.search_qa.questions` reads; a row with a `task_id` plays that
    task. A `Task` of other data is played as it is.

    **Three behaviours.** `compat="sdar"` repeats the environment of SDAR and verl-agent. `compat="search-r1"` repeats
    Search-R1's: the action is a completion, cut after its first closing tag, tags inside thoughts act, an invalid
    action is answered with Search-R1's text, the last turn does not search, and scored is the last answer block of
    prompt and transcript (an unanswered episode by the example in Search-R1's prompt, `Beijing`); cuts at a number of
    tokens are left to the trainer. See `sdar_envs.search_qa.search_r1`. `prompt_style` is how completions are parsed.
    `fixed`, the default, differs from `sdar` in this:

    | the reference (`sdar`) | `fixed` |
    |---|---|
    | passages come as JSON: line breaks, quotes and all beyond ASCII are escaped | passages come as they are |
    | tags in passages are kept, and chat templates may read them | `<answer>` and its like become `[answer]` |
    | the last answer block of the whole transcript is scored, also one inside a passage | only the answer is scored |
    | the last turn never searches: three searches in four turns | the last turn may search; turns left are shown |
    | an invalid completion is carried out and punished | it is not carried out |
    | what is no command is answered with silence | the answer says what a command is |
    | `tool_calling` is True without a tool call | `searches` counts what was carried out |
    | a failed search is a passage for the model | it is an error, or as `on_error` says |
    | each environment asks the server for itself, once per search | a vector asks once for all, repeated queries once |
    | one of two dialects; the other's 422 goes to the model | both, found out by itself |
    | a dead server costs 45 s for each search | one deadline for all retries |
    | golden answers that are a bare list end in `TypeError` at the reward | any form is read when data is loaded |
    | success is a mean over batches, so small batches count more | every episode counts once |

    Args:
        data: `embedded` (no download) or `official` (from `data_dir`).
        corpus: of embedded data, one of `sdar_envs.search_qa.corpora`: `invented`, `films`, `films_twin` or `facts`.
        level: of the corpus `invented`, how hard it is: `easy`, `default` or `hard`.
        world: of the corpus `invented`, settings that differ from the level's, such as `{"seed": 2, "at_object": 80}`;
            see `sdar_envs.search_qa.invented.dataset.WorldSettings`. Another world is made at its first use, in half a
            minute.
        split: `train`, `dev` or `test`; of the corpus `invented` also `test_paths`, `test_hops` and `test_worlds`; of
            the films only `test`; of official data, those that are there.
        data_dir: folder of the official files, or one of its files where there are several for a split, see
            `sdar_envs.search_qa.tasks`; None for `$SEARCH_QA_DATA`.
        data_sets: of official data, only these; None for all.
        question_type: the kind of questions of data sets that are not known here and name none.
        retriever: `embedded`, the folder of an index (`sdar index build`), the address of a retrieval server or a list
            of addresses, `module:name` of a retriever of your own or of a class or function that returns one when it
            is called without arguments, or such an object itself (see `sdar_envs.search_qa.retrieval.retriever`), with
            which the environment's spec is not JSON. None is `embedded` for embedded data, and refused for official
            data. `off` answers every search with a note that searching is off, for playing closed-book. Environments
            of a process that search in the same place share what was found.
        topk: passages for a search.
        compat: `fixed`, `sdar` or `search-r1`. For Search-R1's four searches and one answer, pass `max_steps=5`.
        reward: `em`, `f1_squad`, `f1_hotpot`, `sub_em`, `em_format` or `em_format_v03`.
        on_error: what a failed search does. `raise`: `step` raises `RetrievalFailed`, and the episode stays as it was,
            so the step can be tried again. `observe`: the model reads of the failure, as in the reference. `truncate`:
            the episode is truncated.
        search_seconds: how long one search by a server may take, retries included; with `compat="sdar"`, how long
            each of ten attempts may take.
        token_env: the environment variable with the token of the retrieval servers; None if they want none.
        reveal_answers: give the golden answers, and what an oracle knows, in `info`.
        max_steps: turns; None for as many as the questions are made for: 8 of the corpus `invented` (4 at the level
            `easy`), 6 of the films, 4 of `facts` and of official data.
        reward_scale: factor on the reward.
        render_mode: None, `ansi` or `human`.
    """

    suite = "search_qa"
    evaluation_split = "test"
    path_arguments = MappingProxyType({"data_dir": (), "retriever": ("embedded", "off")})

    @classmethod
    def panel_name(cls, arguments: Mapping[str, Any]) -> str:
        """Return the corpus of embedded questions, with its level unless that is the default."""
        if arguments.get("data", "embedded") != "embedded":
            return ""
        level = arguments.get("level", "default")
        corpus = str(arguments.get("corpus", CORPORA[0]))
        return corpus if level == "default" else f"{corpus}-{level}"

    def __init__(
        self,
        *,
        data: Data = "embedded",
        corpus: CorpusName = "invented",
        level: str = "default",
        world: Mapping[str, Any] | None = None,
        split: str = "train",
        data_dir: str | None = None,
        data_sets: Sequence[str] | None = None,
        question_type: str | None = None,
        retriever: str | Sequence[str] | Retriever | None = None,
        topk: int = 3,
        compat: Behaviour = "fixed",
        reward: Metric = "em",
        on_error: OnError = "raise",
        search_seconds: float = 60.0,
        token_env: str | None = None,
        reveal_answers: bool = False,
        max_steps: int | None = None,
        reward_scale: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        for name, value, allowed in (
            ("data", data, get_args(Data)),
            ("corpus", corpus, CORPORA),
            ("compat", compat, BEHAVIOURS),
            ("reward", reward, METRICS),
            ("on_error", on_error, ON_ERROR),
        ):
            check_choice(name, value, allowed)
        if not is_integer(topk) or topk < 1:
            raise InvalidOption(f"topk is {topk!r}; wanted an integer of at least 1.")
        if not _is_seconds(search_seconds):
            raise InvalidOption(f"search_seconds is {search_seconds!r}; wanted a positive number.")
        self._arguments = {
            "data": data,
            "corpus": corpus,
            "level": level,
            "world": world,
            "split": split,
            "data_dir": data_dir,
            "data_sets": data_sets,
            "question_type": question_type,
            "retriever": retriever,
            "topk": topk,
            "compat": compat,
            "reward": reward,
            "on_error": on_error,
            "search_seconds": search_seconds,
            "token_env": token_env,
            "reveal_answers": reveal_answers,
            "max_steps": max_steps,
            "reward_scale": reward_scale,
            "render_mode": render_mode,
        }
        source: TaskSource
        if data == "official":
            if corpus != CORPORA[0] or level != "default" or world is not None:
                raise InvalidOption("corpus, level and world are about embedded questions: leave out data='official'.")
            keeps_empty = compat != "fixed"
            source = official_tasks(
                data_dir, data_sets=data_sets, default_type=question_type, env_id=_ID, keeps_empty=keeps_empty
            )
        else:
            _refuse_official(data_dir=data_dir, data_sets=data_sets, question_type=question_type)
            source = embedded_tasks(open_corpus(corpus, level, world, _ID), _ID)
        self._embedded = source if isinstance(source, EmbeddedTasks) else None
        if max_steps is None:
            max_steps = _USUAL_STEPS if self._embedded is None else self._embedded.corpus.max_steps
        super().__init__(source, split=split, max_steps=max_steps, reward_scale=reward_scale, render_mode=render_mode)
        self.topk = int(topk)
        self.compat: Behaviour = compat
        self._metric: Metric = reward
        self._question_type = question_type
        self._reveals = bool(reveal_answers)
        self._truncates = on_error == "truncate"
        where = _where(retriever, data)
        # Any other retriever may wait for a server or a disk.
        self.blocks_on_io = where not in ("embedded", "off")
        self._open = partial(
            open_tool,
            topk=self.topk,
            seconds=float(search_seconds),
            behaviour=compat,
            shows_failures=on_error != "raise",
            token_env=token_env,
        )
        # The questions of an embedded corpus search its own passages, and some splits have passages of their own.
        self._follows_task = where == "embedded" and self._embedded is not None
        self._place: tuple[object, str] | None = None
        self._tool: SearchTool
        if self._follows_task:
            self._follow(self.source.task(split, 0))
        else:
            self._tool = self._open(where)
        self._prepared: tuple[str, Finding] | None = None
        self._session: QuestionSession

    def __reduce__(self) -> tuple[Any, ...]:
        # The corpus is shared and mapped from files: a copy finds it again and takes over the episode.
        return rebuilt, (type(self), self._arguments, self._position())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A retriever is shared, also one that could not be copied.
        memo[id(self._arguments["retriever"])] = self._arguments["retriever"]
        make, arguments = self.__reduce__()
        made: Self = make(*copy.deepcopy(arguments, memo))
        return made

    @property
    def question(self) -> Question:
        """The current question with its golden answers."""
        return question_of(self.task)

    @property
    def prompt_style(self) -> PromptStyle:
        """Prompt style of the environment; the compat modes parse completions as their originals do."""
        return {"sdar": reference.STYLE, "search-r1": search_r1.STYLE}.get(self.compat, STYLES["search_qa"])

    @classmethod
    def prepare(cls, envs: Sequence[Self], actions: Sequence[str]) -> None:
        """Batch hook: one search for the queries of all environments that share a search tool."""
        wanted: dict[int, tuple[SearchTool, list[tuple[Self, str]]]] = {}
        for env, action in zip(envs, actions, strict=True):
            query = None if env._over else env._session.query(action)
            if query is not None:
                wanted.setdefault(id(env._tool), (env._tool, []))[1].append((env, query))
        searches = [partial(tool.find, [query for _, query in asked]) for tool, asked in wanted.values()]
        for (_, asked), findings in zip(wanted.values(), _at_once(searches), strict=True):
            for (env, query), finding in zip(asked, findings, strict=True):
                env._prepared = (query, finding)

    def look(self, queries: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the ids of the passages that each search would show; nothing changes.

        Raises:
            RetrievalFailed: a search failed.
        """
        return [tuple(hit.passage.id for hit in finding.hits) for finding in self._tool.find(queries)]

    def oracle_plan(self) -> tuple[str, ...]:
        """Return searches for the hops whose passages were not shown yet, and the answer, as far as there are turns.

        An oracle knows where to look, and answers only what it was shown: where a search does not show its passage, it
        gives up, and where turns are too few, it does not answer.

        Raises:
            EpisodeOver: nothing was reset yet.
            UnknownName: the data set does not say what to search for.
        """
        question = self.question
        if not question.queries:
            raise UnknownName(
                f"{_ID} knows no plan for {self.task.id!r}: its data set does not say which passages the answer "
                "follows from. The embedded questions do."
            )
        if self._over:
            return ()
        hops = zip(question.queries, question.supporting, strict=True)
        missing = [f"search[{query}]" for query, passage in hops if passage not in self._session.state.found]
        if self._action in missing:
            # It was searched for, and not shown.
            return ("answer[unknown]",)
        turns = self.max_steps - self._step_count
        return (*missing, f"answer[{question.answers[0]}]")[:turns]

    def _given_task(self, given: object) -> Task:
        if isinstance(given, Mapping) and task_id_of(given) is None:
            return row_task(given, _ID, self._question_type, keeps_empty=self.compat != "fixed")
        if not isinstance(given, Task) or given.env != _ID:
            return super()._given_task(given)
        with suppress(UnknownName):
            found = self.source.find(given.id)
            if found != given:
                raise InvalidOption(
                    f"the task {given.id!r} differs from the one of that id in this environment's data: give it an id "
                    "of its own, or play it by its task_id."
                )
        try:
            question_of(given)
        except (KeyError, TypeError) as error:
            raise InvalidOption(
                f"the data of the task {given.id!r} hold no question ({type(error).__name__}: {error}); wanted what "
                "the tasks of sdar_envs.tasks have, or a row with 'question' and 'golden_answers'."
            ) from error
        return given

    def _check_known(self, task: Task) -> None:
        # A question that was given carries all that an episode needs.
        question_of(task)

    def _begin(self, task: Task) -> str:
        self._session = QuestionSession(question_of(task), self.compat, self.max_steps)
        self._prepared = None
        if self._embedded is None or not self._follow(task) or self.compat != "fixed":
            return task.instruction
        return f"{task.instruction}\nTurns: {self.max_steps}."

    def _act(self, action: str) -> Outcome:
        session = self._session
        query = session.query(action)
        finding = None
        if query is not None:
            prepared, self._prepared = self._prepared, None
            if prepared is not None and prepared[0] == query:
                finding = prepared[1]
            else:
                (finding,) = self._tool.find([query])
        reply = session.act(action, finding)
        scores = session.scores()
        return Outcome(
            reply.observation,
            scores[self._metric],
            # In the compat modes an episode that ran out of turns is over too, but that is no end of the task.
            session.state.is_over and (session.state.answer is not None or session.state.turns < self.max_steps),
            scores["em"] == 1.0,
            reply.is_valid,
            self._truncates and session.state.failure != "",
        )

    def _commands(self) -> list[str]:
        return list(_COMMANDS)

    def _save(self) -> QuestionState:
        return self._session.state

    def _load(self, task: Task, state: QuestionState) -> None:
        self._session = QuestionSession(question_of(task), self.compat, self.max_steps, state)
        self._prepared = None
        if self._embedded is not None:
            self._follow(task)

    def _follow(self, task: Task) -> bool:
        """Search where the task's passages are; return whether its first observation says how many turns there are."""
        assert self._embedded is not None
        corpus = self._embedded.corpus_of(task.id)
        if self._follows_task and self._place != (corpus, task.split):
            self._place = (corpus, task.split)
            self._tool = self._open(corpus.retriever(task.split))
        return corpus.says_turns and task.split != ROWS  # a row's question is asked as it stands

    def _variant(self) -> str:
        fingerprint = self._tool.fingerprint
        if self._follows_task and self._embedded is not None:
            # Of the corpus, whatever passages a task of it searches: an episode can be restored before the next one.
            fingerprint = self._embedded.corpus.fingerprint
        return f"{self.compat}, topk {self.topk}, max_steps {self.max_steps}, {fingerprint}"

    def _env_id(self) -> str:
        return _ID

    def _reward(self, outcome: Outcome) -> float:
        return outcome.score

    def _extra_info(self) -> dict[str, Any]:
        session = self._session
        state = session.state
        info: dict[str, Any] = {
            "data_set": session.question.data_set,
            "metrics": {**session.scores(), "answer_shown": float(state.answer_shown), **session.evidence()},
            "answer": state.answer or "",
            "searches": state.searches,
            "passage_ids": list(state.passages),
            "answer_shown": state.answer_shown,
            "retrieval_error": state.failure,
        }
        if self.compat == "sdar":
            # The reference says so of every turn before the last, whether or not a tool was called.
            info["tool_calling"] = state.turns > 0 and not state.is_over
        if self._reveals:
            info["golden_answers"] = list(session.question.answers)
            info["supporting_found"] = len(state.found)
            info["supporting_hit"] = bool(state.found)
            info["evidence_turn"] = state.evidence_turn
        return info


def _refuse_official(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise InvalidOption(f"{name} is {value!r}, but the embedded questions need none: pass data='official' too.")


def _at_once(searches: Sequence[Callable[[], list[Finding]]]) -> list[list[Finding]]:
    """Return the results of searches in different places, carried out at the same time."""
    if len(searches) <= 1:
        return [search() for search in searches]
    with ThreadPoolExecutor(min(len(searches), 64), thread_name_prefix="sdar-search") as pool:
        futures = [pool.submit(search) for search in searches]
        return [future.result() for future in futures]


def _is_seconds(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _where(retriever: str | Sequence[str] | Retriever | None, data: str) -> str | Sequence[str] | Retriever:
    if retriever is not None:
        return retriever
    if data == "official":
        raise InvalidOption(
            "official questions need a corpus to search: pass retriever= with the address of a retrieval server, the "
            "folder of an index (`sdar index build`), module:name of your own retriever, or 'embedded' to search the "
            "embedded facts anyway."
        )
    return "embedded"
