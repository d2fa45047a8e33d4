"""Demonstrations: an expert plays, and each of its turns is a row to be fine-tuned on.

    rows = demonstrate(DemonstrationSettings(env_id="sdar/ALFWorld-v0", episodes=100))

A row holds what a policy would read at that turn (`messages`, from `sdar_envs.prompt`) and what it should answer
(`completion`): a thought in words of the prompt (`sdar_agents.sft.thoughts`), and the expert's command. With
`with_skills`, a share of the episodes shows skills in the prompt, where a teacher would read them, and the explorer
follows them; with `noise` some commands are others than the expert's, and only what comes after them is shown, so that
a policy sees how to get out of its own mistakes.

Rows are the same for the same settings. Episodes that the expert loses are left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdar_agents.baselines.scripted import Agent, ExplorerAgent, default_agent, filled, make_agent
from sdar_agents.sft.thoughts import think
from sdar_envs import Task, TextEnv, make_vec
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import Turn, prompt_parts, render_completion, style_of, terse
from sdar_envs.registry import count_tasks
from sdar_skills import Library, Retriever, Skill, make_retriever, teacher_messages
from sdar_skills.retrieval.homes import read_habits

__all__ = ["DemonstrationSettings", "demonstrate", "row_line"]


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """What is demonstrated.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        env_kwargs: as for `gymnasium.make`, such as `{"rooms": "small"}`.
        split: whose tasks are played, in their order.
        episodes: how many.
        first: the number of the first task.
        expert: an agent of `sdar_agents.baselines.scripted`; null for the environment's own script.
        guesses: ALFWorld's explorer knows nothing about where things are but what skills say, and looks anywhere else
            in an order by chance.
        turns: only the first so many turns of an episode; null for all. One turn of many homes teaches a model to
            read their skills.
        noise: share of the commands that are not the expert's but drawn from those that were admissible at some time
            of the episode.
        with_skills: share of the episodes with skills in the prompt.
        retriever: chooses them, by its name in `sdar_skills`.
        k: how many skills at most.
        history_length: how many of the latest turns a prompt shows.
        terse: prompts without role and answer format (`sdar_envs.prompt.terse`).
        seed: of all that is drawn.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"
    episodes: int = 100
    first: int = 0
    expert: str | None = None
    guesses: bool = False
    turns: int | None = None
    noise: float = 0.0
    with_skills: float = 0.0
    retriever: str = "task_type"
    k: int = 1
    history_length: int = 2
    terse: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = (("env_id", str), ("env_kwargs", Mapping), ("split", str), ("guesses", bool), ("retriever", str))
        for name, kind in (*wanted, ("terse", bool), *([] if self.expert is None else [("expert", str)])):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InvalidOption(f"{name} is {value!r:.80}; wanted {_KINDS[kind]}.")
        if self.turns is not None and (not is_integer(self.turns) or self.turns < 1):
            raise InvalidOption(f"turns is {self.turns!r}; wanted None or a whole number from 1.")
        for name, low in (("episodes", 1), ("first", 0), ("k", 1), ("history_length", 0), ("seed", 0)):
            value = getattr(self, name)
            if not is_integer(value) or value < low:
                raise InvalidOption(f"{name} is {value!r}; wanted a whole number from {low}.")
        for name, high in (("noise", 0.9), ("with_skills", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= high:
                raise InvalidOption(f"{name} is {value!r}; wanted a share from 0 to {high:g}.")


_KINDS: Mapping[type, str] = {bool: "True or False", Mapping: "a mapping", str: "text"}


def demonstrate(settings: DemonstrationSettings) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode, oldest turn first; an empty list for an episode that the expert lost.

    Raises:
        gymnasium.error.Error: there is no such environment.
        UnknownName: there is no such split, expert or strategy.
        InvalidOption: the split is not that long, or the expert does not guess.
        UnsolvableGame: noise has led the oracle into a dead end.
    """
    (env,) = make_vec(settings.env_id, 1, **{**settings.env_kwargs, "split": settings.split}).envs
    last = settings.first + settings.episodes
    count_tasks(env.source, settings.split, last)
    retriever = make_retriever(settings.retriever, Library.load())
    name = settings.expert or default_agent(settings.env_id)
    if settings.guesses and not isinstance(make_agent(name), ExplorerAgent):
        raise InvalidOption(f"guesses is for ALFWorld's explorer, and the expert is {name!r}: leave it out.")
    for index in range(settings.first, last):
        yield _episode(env, env.source.task(settings.split, index), name, settings, retriever)


def row_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of a JSONL file."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _episode(
    env: TextEnv[Any], task: Task, name: str, settings: DemonstrationSettings, retriever: Retriever
) -> list[dict[str, Any]]:
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
    shown = settings.history_length
    past: list[Turn] = []
    rows: list[dict[str, Any]] = []
    known: dict[str, None] = {}
    is_over = False
    while not is_over:
        commands = info["admissible_commands"]
        known |= dict.fromkeys(command for command in commands if command not in style.hidden_commands)
        action = expert.act(observation, info)
        if known and rng.random() < settings.noise:
            # Stale ones too: what is answered with "Nothing happens." must not be the end of the world.
            action = filled(rng.choice(list(known)), observation, info, rng)
        else:
            parts = prompt_parts(style, info["instruction"], past, observation, commands, history_length=shown)
            thought = think(task, past, observation, action, commands=commands, shown=shown)
            rows.append(
                {
                    "task_id": task.id,
                    "task_type": task.task_type,
                    "turn": len(past),
                    "expert": name,
                    "skills": [f"{skill.id}@{skill.version}" for skill in skills],
                    "messages": teacher_messages(parts, skills),
                    "completion": render_completion(style, action, thought),
                }
            )
        past.append(Turn(observation, action))
        observation, _, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
    return [row for row in rows if settings.turns is None or row["turn"] < settings.turns] if info["is_success"] else []


def _inform(expert: Agent, skills: tuple[Skill, ...], settings: DemonstrationSettings, rng: random.Random) -> None:
    if isinstance(expert, ExplorerAgent) and (settings.guesses or any(read_habits(skill.text) for skill in skills)):
        expert.read(skills, rng)
