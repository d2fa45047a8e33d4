"""Demonstrations: an expert plays, and each of its turns becomes a row for supervised fine-tuning.

    rows = demonstrate(DemonstrationSettings(env_id="sdar/ALFWorld-v0", episodes=100))

A row holds the prompt of a policy at that turn (`messages`, from `sdar_envs.prompt`) and the answer to learn
(`completion`): a thought in words of the prompt (`sdar_agents.sft.thoughts`), and the expert's command. With
`with_skills`, a share of the episodes shows skills in the prompt, where a teacher would read them, and the explorer
follows them. With `noise`, some commands are not the expert's: refused ones, useless ones and mistakes. Only what comes
after them becomes a row, so that a policy learns to recover from its own.

With `history: appended` a row is a whole episode as one growing chat: `learnt` has the numbers of the messages that are
to be learnt besides the completion. Commands that are not the expert's stand in it, and are not learnt.

Rows are the same for the same settings. What cannot be learnt from is left out, with the reason: episodes that the
expert loses or cannot play, and those with a search for names or codes that neither the instruction nor any page has
shown.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdar_agents.baselines.scripted import Agent, ExplorerAgent, default_agent, filled, make_agent
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.sft.thoughts import think
from sdar_envs import Task, TextEnv
from sdar_envs.chat import ChatMode
from sdar_envs.errors import InvalidOption, UnsolvableGame, UnsupportedGame
from sdar_envs.files.locks import writing_path
from sdar_envs.prompt import PromptStyle, Turn, later_message, prompt_parts, render_completion, style_of, terse
from sdar_envs.registry import open_split, sample_indices
from sdar_envs.storage import write_atomic
from sdar_skills import Library, Retriever, Skill, make_retriever, teacher_messages
from sdar_skills.retrieval.homes import read_habits

__all__ = [
    "Demonstration",
    "DemonstrationSettings",
    "DemonstrationTally",
    "demonstrate",
    "row_line",
    "write_demonstrations",
]

_SEARCH = re.compile(r"search\[(.*)\]", re.DOTALL)
_WORD = re.compile(r"\w+")
_EXPERTS = MappingProxyType({"sdar/SearchQA-v0": "oracle"})


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """Tasks, expert, noise and prompts of demonstrations.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        env_kwargs: as for `gymnasium.make`, such as `{"rooms": "small"}`.
        split: whose tasks are played, in the order of `sdar_envs.registry.sample_indices`, which represents the split;
            None is `train`, or the only split.
        episodes: how many.
        first: how many tasks of that order are passed over.
        expert: an agent of `sdar_agents.baselines.scripted`; None for the environment's own script, of Search-QA for
            the oracle: no script finds the hops of its questions.
        guesses: ALFWorld's explorer knows only from skills where things are, and searches the other places in random
            order.
        turns: only the first so many turns of an episode; None for all. One turn each of many homes teaches a model to
            read their skills.
        noise: share of the commands that are drawn from those that were admissible at some time of the episode, instead
            of the expert's. One that would lose the episode at once is not given.
        again: play an episode that was lost with noise again without.
        with_skills: share of the episodes with skills in the prompt.
        retriever: the strategy of `sdar_skills` that chooses them.
        k: how many skills at most.
        history: `windowed` makes a row of each turn, `appended` one of each episode, a growing chat.
        history_length: how many of the latest turns a windowed prompt shows.
        terse: prompts without role and answer format (`sdar_envs.prompt.terse`).
        seed: of all random draws.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    episodes: int = setting(100, low=1)
    first: int = setting(0, low=0)
    expert: str | None = None
    guesses: bool = False
    turns: int | None = setting(None, low=1)
    noise: float = setting(0.2, low=0, high=0.9)
    again: bool = True
    with_skills: float = setting(0.0, low=0, high=1)
    retriever: str = "task_type"
    k: int = setting(1, low=1)
    history: ChatMode = "windowed"
    history_length: int = setting(2, low=0)
    terse: bool = False
    seed: int = setting(0, low=0)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One episode of an expert.

    Attributes:
        task_id: what was played.
        rows: its rows, oldest turn first; empty if it is left out.
        reason: why it is left out, such as `lost`; empty if it is not.
    """

    task_id: str
    rows: list[dict[str, Any]]
    reason: str = ""


@dataclass(slots=True)
class DemonstrationTally:
    """Progress of `write_demonstrations`.

    Attributes:
        episodes: played so far, those left out included.
        rows: written so far.
        left_out: the tasks left out, by reason.
    """

    episodes: int = 0
    rows: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def add(self, demonstration: Demonstration) -> None:
        """Count an episode."""
        self.episodes += 1
        self.rows += len(demonstration.rows)
        if demonstration.reason:
            self.left_out.setdefault(demonstration.reason, []).append(demonstration.task_id)


def write_demonstrations(
    path: Path,
    settings: DemonstrationSettings,
    *,
    progress: Callable[[DemonstrationTally], object] = lambda _: None,
) -> DemonstrationTally:
    """Write the rows of demonstrations to a file of JSON Lines, which appears when it is complete.

    An error or an interrupt in the middle ends the file, too: the rows of the episodes before it are kept.

    Args:
        path: the file.
        settings: what is demonstrated.
        progress: called after each episode.

    Raises:
        InvalidOption: no episode has a row, and nothing is written then; or another process writes the file.
        UnknownName: see `demonstrate`.
    """
    tally = DemonstrationTally()
    stopped: BaseException | None = None

    def lines() -> Iterator[str]:
        nonlocal stopped
        try:
            for demonstration in demonstrate(settings):
                tally.add(demonstration)
                yield from map(row_line, demonstration.rows)
                progress(tally)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not tally.rows:
                raise
            stopped = error
        if not tally.rows:
            reasons = "; ".join(f"{reason}: {', '.join(ids[:3])}" for reason, ids in tally.left_out.items())
            raise InvalidOption(
                f"none of {tally.episodes} episodes can be learnt from ({reasons}): choose another expert or split."
            )

    with writing_path(path):
        write_atomic(path, lines())
    if stopped is not None:
        raise stopped
    return tally


def demonstrate(settings: DemonstrationSettings) -> Iterator[Demonstration]:
    """Play the episodes, one by one.

    Raises:
        UnknownName: there is no such environment, split, expert or strategy.
        InvalidOption: the split is not that long, or the expert does not guess.
    """
    env, split = open_split(settings.env_id, settings.env_kwargs, settings.split, usual="train")
    last = settings.first + settings.episodes
    indices = sample_indices(env.source, split, last, first=settings.first)
    if len(indices) < settings.episodes:
        size = env.source.splits[split]
        raise InvalidOption(
            f"demonstrations of {settings.episodes:,} tasks after the first {settings.first:,} were asked for, and "
            f"{split!r} has {size:,}: lower episodes or first."
        )
    retriever = make_retriever(settings.retriever, Library.load())
    name = settings.expert or _EXPERTS.get(settings.env_id) or default_agent(settings.env_id)
    if settings.guesses and not isinstance(make_agent(name), ExplorerAgent):
        raise InvalidOption(f"guesses is for ALFWorld's explorer, and the expert is {name!r}: leave it out.")
    for index in indices:
        task = env.source.task(split, index)
        played = _play(env, task, name, settings, retriever)
        if played.reason and settings.noise and settings.again:
            played = _play(env, task, name, replace(settings, noise=0.0), retriever)
        yield played


def row_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON Lines."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _play(
    env: TextEnv[Any], task: Task, name: str, settings: DemonstrationSettings, retriever: Retriever
) -> Demonstration:
    try:
        rows, is_won = _episode(env, task, name, settings, retriever)
    except _LeftOut as error:
        return Demonstration(task.id, [], str(error))
    except UnsolvableGame:
        return Demonstration(task.id, [], "the expert has no plan")
    except UnsupportedGame:
        return Demonstration(task.id, [], "the expert cannot read the instruction, or the game cannot be played")
    if not is_won:
        return Demonstration(task.id, [], "lost")
    rows = [row for row in rows if settings.turns is None or row["turn"] < settings.turns]
    # The last row of a growing chat holds those before it.
    return Demonstration(task.id, rows[-1:] if settings.history == "appended" else rows)


class _LeftOut(Exception):
    """The reason why an episode cannot be learnt from."""


def _episode(
    env: TextEnv[Any], task: Task, name: str, settings: DemonstrationSettings, retriever: Retriever
) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of an episode, and whether it was won."""
    rng = random.Random(f"{settings.seed}/{task.id}")
    observation, info = env.reset(options={"task_id": task.id})
    expert = make_agent(name)
    expert.reset(env, observation, info, rng.randrange(2**31))
    skills: tuple[Skill, ...] = ()
    if rng.random() < settings.with_skills:
        skills = tuple(retrieved.skill for retrieved in retriever.retrieve(task, settings.k, None, rng))
    _inform(expert, skills, settings, rng)
    style = style_of(env, task)
    style = terse(style) if settings.terse else style
    past: list[Turn] = []
    # Of a growing chat: the messages before the next completion, and the numbers of those to learn.
    chat: list[dict[str, str]] = []
    learnt: list[int] = []
    is_growing = settings.history == "appended"
    rows: list[dict[str, Any]] = []
    # Where the tag is the command, no listed command is ever refused, but an unreadable answer is.
    known: dict[str, None] = {"": None} if style.tag_is_command else {}
    is_over = False
    while not is_over:
        commands, shown = info["admissible_commands"], len(past) if is_growing else settings.history_length
        known |= dict.fromkeys(command for command in commands if command not in style.hidden_commands)
        action = expert.act(observation, info)
        parts = prompt_parts(style, info["instruction"], past, observation, commands, history_length=shown)
        if is_growing and past:
            said = later_message(style, info["instruction"], past, observation, commands)
            chat.append({"role": "user", "content": said})
        else:
            chat = teacher_messages(parts, skills)
        # Commands of earlier turns too, so that a policy knows how to go on after a command that is refused.
        result = None
        if known and rng.random() < settings.noise:
            stray = filled(rng.choice(list(known)), observation, info, rng)
            result = _try(env, stray)
        if result is not None:
            action = stray
            if is_growing:
                completion = _completion(style, task, past, observation, action, commands=commands, shown=shown)
            overruled = getattr(expert, "overruled", None)
            if overruled is not None:
                overruled()
        else:
            _check_search(action, [info["instruction"], *(turn.observation for turn in past), observation])
            completion = _completion(style, task, past, observation, action, commands=commands, shown=shown)
            rows.append(
                {
                    "task_id": task.id,
                    "task_type": task.task_type,
                    "turn": len(past),
                    "expert": name,
                    "skills": [f"{skill.id}@{skill.version}" for skill in skills],
                    "messages": list(chat),
                    "completion": completion,
                    **({"learnt": list(learnt)} if is_growing else {}),
                }
            )
            result = env.step(action)
            learnt.append(len(chat))
        if is_growing:
            chat.append({"role": "assistant", "content": completion})
        past.append(Turn(observation, action))
        observation, _, terminated, truncated, info = result
        is_over = terminated or truncated
    return rows, bool(info["is_success"])


def _completion(
    style: PromptStyle,
    task: Task,
    past: Sequence[Turn],
    observation: str,
    action: str,
    *,
    commands: Sequence[str],
    shown: int,
) -> str:
    """Return the completion that gives a command, with its thought."""
    thought = think(task, past, observation, action, commands=commands, shown=shown)
    try:
        return render_completion(style, action, thought)
    except InvalidOption as error:
        raise _LeftOut(f"the command {action!r:.60} does not survive the prompt style's format") from error


def _try(env: TextEnv[Any], action: str) -> tuple[str, float, bool, bool, dict[str, Any]] | None:
    """Step, unless that loses the episode: then the environment is as it was, and the result None."""
    here = env.snapshot()
    result = env.step(action)
    _, _, terminated, _, info = result
    if terminated and not info["is_success"]:
        env.restore(here)
        return None
    return result


def _check_search(action: str, texts: list[str]) -> None:
    """Refuse a search for a name or code that no text holds; a policy can word a question anew, but not know those."""
    query = _SEARCH.fullmatch(action)
    if query is None:
        return
    seen = {word.lower() for text in texts for word in _WORD.findall(text)}
    for position, word in enumerate(_WORD.findall(query[1])):
        is_name = (position > 0 and word[0].isupper()) or any(map(str.isdigit, word))
        if is_name and word.lower() not in seen:
            raise _LeftOut("the expert searches for names or codes that it was never shown")


def _inform(expert: Agent, skills: tuple[Skill, ...], settings: DemonstrationSettings, rng: random.Random) -> None:
    if isinstance(expert, ExplorerAgent) and (settings.guesses or any(read_habits(skill.text) for skill in skills)):
        expert.read(skills, rng)
