"""Verification of a record without its model: the actions of its episodes are played again in the environment.

Checked are the panel (its tasks and their content), the end, success, score and number of steps of each episode, and
the numbers of the record that follow from these. Not checked, because nobody can: that it was the agent who chose the
actions, and its answers, tokens and costs.

Environments with their data on this machine do the same again. One that asks a server, such as a search engine over
HTTP, need not; a difference may be the server's, and the message says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sdar_agents import Decision
from sdar_benchmarks.analysis.summary import summarize_panel
from sdar_benchmarks.analysis.tables import data_words
from sdar_benchmarks.evaluation.episodes import play_episode
from sdar_benchmarks.evaluation.panels import Panel, PanelSpec
from sdar_benchmarks.leaderboard.actions import PlayedEpisode, read_actions
from sdar_benchmarks.leaderboard.adding import PRIVATE_ARGUMENTS
from sdar_benchmarks.leaderboard.metrics import played_metrics
from sdar_benchmarks.leaderboard.records import Record, load_record
from sdar_benchmarks.records.runs import Episode, EpisodeKey
from sdar_envs.errors import RunStopped, UnknownName, UnsolvableGame, did_you_mean
from sdar_envs.importing import names_from
from sdar_envs.storage import with_progress

__all__ = ["Verification", "verify"]

_SHOW_PROGRESS_FROM = 1000
# Records hold six decimals.
_TOLERANCE = 2e-6
# Why an episode ends in the environment; all others are decided outside of it.
_ENDS = MappingProxyType({"terminated": "the task's end was reached", "step_limit": "the steps ran out"})


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of `verify`.

    Attributes:
        episodes: how many were played again.
        seconds: that it took.
        difference: the first difference from the record, a sentence; empty if there is none.
    """

    episodes: int
    seconds: float
    difference: str


def verify(path: Path, arguments: Mapping[str, Any] = MappingProxyType({})) -> Verification:
    """Play the actions of a record again, and compare what comes of them with the record.

    Args:
        path: the record.
        arguments: of the environment, which say where its data are on this machine: `PRIVATE_ARGUMENTS`.

    Raises:
        MissingData: the record, its actions or the official data are not there.
        CorruptData: a file is damaged.
        UnknownName: the environment is not there, or one of the arguments is none of these.
        RunStopped: the environment failed.
    """
    for name in arguments:
        if name not in PRIVATE_ARGUMENTS - {"split"}:
            known = sorted(PRIVATE_ARGUMENTS - {"split"})
            raise UnknownName(
                f"{name} is part of the record; wanted where the data are, as one of {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    record = load_record(path)
    recorded, note = read_actions(path, record)
    names_from(record, path)
    # Where data are, only the user says: a record of somebody else must not name an address.
    env_kwargs = {name: value for name, value in record["env_kwargs"].items() if name not in PRIVATE_ARGUMENTS}
    spec = PanelSpec(record["env_id"], record["split"], record["panel"]["limit"], {**env_kwargs, **arguments})
    started = time.perf_counter()
    with closing(Panel(spec)) as panel:
        difference = _panel_difference(panel, record)
        played: list[Episode] = []
        if not difference:
            difference = asyncio.run(_play(panel, record, recorded, played))
    if difference and note:
        difference += f"; {note}"
    return Verification(len(played), time.perf_counter() - started, difference or note)


class _Replay:
    """Agent that gives recorded actions, and gives up after the last."""

    def __init__(self, actions: list[str]) -> None:
        self._rest: Iterator[str] = iter(actions)

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode."""

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Return the next action.

        Raises:
            UnsolvableGame: there are no more.
        """
        for action in self._rest:
            return Decision(action)
        raise UnsolvableGame("the recorded actions are at their end.")


async def _play(
    panel: Panel, record: Record, recorded: Mapping[EpisodeKey, PlayedEpisode], played: list[Episode]
) -> str:
    """Play all episodes, add them to a list, and return the first difference."""
    cases = [(seed, task) for seed in record["seeds"] for task in panel]
    env = panel.take_env()
    hint = ""
    if env.blocks_on_io:
        hint = " (this environment asks a server or an index, and a server may answer otherwise than it did)"
    for seed, task in with_progress(cases, "verifying", total=len(cases), show_from=_SHOW_PROGRESS_FROM):
        wanted = recorded.get(EpisodeKey(panel.env_id, task.id, seed))
        where = f"the task {task.id}, seed {seed}"
        if wanted is None:
            return f"{where}: there are no actions of this episode"
        episode, _ = await play_episode(env, _Replay(wanted.actions), task, env_id=panel.env_id, seed=seed)
        if episode.status == "error":
            raise RunStopped(f"{where}: the environment failed ({(episode.error or {}).get('message')}).")
        played.append(episode)
        if difference := _difference(wanted, episode):
            return f"{where}: {difference}{hint}"
    panel.give_back(env)
    if len(recorded) > len(cases):
        key = next(key for key in recorded if key not in {episode.key for episode in played})
        return f"the task {key.task_id}, seed {key.seed}: the record has no such episode"
    found = played_metrics(summarize_panel(panel.env_id, panel.split, played))
    return _metric_difference("metrics", {name: record["metrics"][name] for name in found}, found)


def _panel_difference(panel: Panel, record: Record) -> str:
    wanted, here = record["panel"], panel.to_json()
    told = data_words(wanted.get("data_flags", {})), data_words(here.get("data_flags", {}))
    if told[0] != told[1]:
        return f"the data are {told[1]} here, and {told[0]} in the record"
    for name in ("variant", "tasks", "fingerprint"):
        if wanted[name] != here[name]:
            return (
                f"the panel's {name} is {here[name]} here, and {wanted[name]} in the record, which was made at "
                f"{record['revision'][:20]}: look there, or name other data or another search engine by --set"
            )
    return ""


def _difference(wanted: PlayedEpisode, episode: Episode) -> str:
    if episode.steps < len(wanted.actions):
        return f"it is over after {episode.steps} of its {len(wanted.actions)} actions"
    end, end_wanted = _ENDS.get(episode.stop_reason), _ENDS.get(wanted.stop_reason)
    if end != end_wanted:
        still = "it is not over"
        return f"when its actions are played again, {end or still}; in the record, {end_wanted or still}"
    if episode.is_success != wanted.is_success:
        won, won_wanted = ("won" if is_won else "not won" for is_won in (episode.is_success, wanted.is_success))
        return f"the task is {won} when its actions are played again, and {won_wanted} in the record"
    if not math.isclose(episode.score, wanted.score, rel_tol=1e-9, abs_tol=1e-9):
        return f"the score is {episode.score!r} when its actions are played again, and {wanted.score!r} in the record"
    return ""


def _metric_difference(place: str, wanted: Any, found: Any) -> str:
    """Return in words where numbers of a record differ from those of the episodes."""
    if isinstance(found, Mapping):
        if not isinstance(wanted, Mapping) or set(found) != set(wanted):
            return (
                f"{place} is {wanted!r:.80} in the record, and {found!r:.80} over the episodes that were played again"
            )
        parts = (_metric_difference(f"{place}.{name}", wanted[name], value) for name, value in found.items())
        return next(filter(None, parts), "")
    if math.isclose(wanted, found, rel_tol=0, abs_tol=_TOLERANCE):
        return ""
    return f"{place} is {wanted!r} in the record, and {found!r} over the episodes that were played again"
