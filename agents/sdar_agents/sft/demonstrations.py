"""Demonstrations: an expert plays, and each of its turns becomes a row for supervised fine-tuning.

    rows = demonstrate(DemonstrationSettings(env_id="sdar/ALFWorld-v0", episodes=100))

A row holds the prompt of a policy at that turn (`messages`, from `sdar_envs.prompt`) and the answer to learn
(`completion`): a thought in words of the prompt (`sdar_agents.sft.thoughts`), and the expert's command. With
`with_skills`, a share of the episodes shows skills in the prompt, where a teacher would read them, and the explorer
follows them. With `noise`, some commands are not the expert's; only what comes after them becomes a row, so that a
policy learns to recover from its own mistakes.

Rows are the same for the same settings. Episodes that the expert loses are left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdar_agents.baselines.scripted import Agent, ExplorerAgent, default_agent, filled, make_agent
from sdar_agents.rollout.task_stream import choose_split
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.sft.thoughts import think
from sdar_envs import Task, TextEnv
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import Turn, prompt_parts, render_completion, style_of, terse
from sdar_envs.registry import make_text_env, sample_indices
from sdar_skills import Library, Retriever, Skill, make_retriever, teacher_messages
from sdar_skills.retrieval.homes import read_habits

__all__ = ["DemonstrationSettings", "demonstrate", "row_line"]


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
        expert: an agent of `sdar_agents.baselines.scripted`; None for the environment's own script.
        guesses: ALFWorld's explorer knows only from skills where things are, and searches the other places in random
            order.
        turns: only the first so many turns of an episode; None for all. One turn each of many homes teaches a model to
            read their skills.
        noise: share of the commands that are drawn from those that were admissible earlier in the episode, instead of
            the expert's.
        with_skills: share of the episodes with skills in the prompt.
        retriever: the strategy of `sdar_skills` that chooses them.
        k: how many skills at most.
        history_length: how many of the latest turns a prompt shows.
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
    noise: float = setting(0.0, low=0, high=0.9)
    with_skills: float = setting(0.0, low=0, high=1)
    retriever: str = "task_type"
    k: int = setting(1, low=1)
    history_length: int = setting(2, low=0)
    terse: bool = False
    seed: int = setting(0, low=0)

    def __post_init__(self) -> None:
        check_settings(self)


def demonstrate(settings: DemonstrationSettings) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode, oldest turn first; an empty list for an episode that the expert lost.

    Raises:
        UnknownName: there is no such environment, split, expert or strategy.
        InvalidOption: the split is not that long, or the expert does not guess.
        UnsolvableGame: noise has led the oracle into a dead end.
    """
    env = make_text_env(settings.env_id, **settings.env_kwargs)
    split = choose_split(env.source, settings.split, "train", "split")
    last = settings.first + settings.episodes
    indices = sample_indices(env.source, split, last, first=settings.first)
    if len(indices) < settings.episodes:
        size = env.source.splits[split]
        raise InvalidOption(
            f"demonstrations of {settings.episodes:,} tasks after the first {settings.first:,} were asked for, and "
            f"{split!r} has {size:,}: lower episodes or first."
        )
    retriever = make_retriever(settings.retriever, Library.load())
    name = settings.expert or default_agent(settings.env_id)
    if settings.guesses and not isinstance(make_agent(name), ExplorerAgent):
        raise InvalidOption(f"guesses is for ALFWorld's explorer, and the expert is {name!r}: leave it out.")
    for index in indices:
        yield _episode(env, env.source.task(split, index), name, settings, retriever)


def row_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON Lines."""
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
    past: list[Turn] = []
    rows: list[dict[str, Any]] = []
    known: dict[str, None] = {}
    is_over = False
    while not is_over:
        known |= dict.fromkeys(c for c in info["admissible_commands"] if c not in style.hidden_commands)
        action = expert.act(observation, info)
        if known and rng.random() < settings.noise:
            # Commands of earlier turns too, so that "Nothing happens." is an answer that a policy knows how to go on
            # from.
            action = filled(rng.choice(list(known)), observation, info, rng)
        else:
            commands, shown = info["admissible_commands"], settings.history_length
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
