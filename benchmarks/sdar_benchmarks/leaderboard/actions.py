"""Actions of a row's episodes: a compressed file beside the record, by which the row can be checked without its model.

`<name of the record>.actions.jsonl.gz` has a line for each episode, sorted by seed and task: `task_id`, `seed`,
`is_success`, `score`, `stop_reason` and `actions`, the commands as the agent gave them. The record has the number of
bytes and the SHA-256 of the file. The same episodes give the same bytes (there is no time stamp among them), as far as
zlib is the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdar_benchmarks.leaderboard.records import Record
from sdar_benchmarks.records.runs import Episode, EpisodeKey, read_trajectories
from sdar_benchmarks.records.schema import Count, Flag, Name, Number, Text, make_row
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.json_text import open_file, parse_json

__all__ = ["LARGEST", "PlayedEpisode", "actions_of", "actions_path", "digest", "pack", "read_actions"]

LARGEST = 2_000_000
"""Bytes of the largest file of actions; of a row with more, none are kept."""

_LARGEST_TEXT = 1 << 27


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """One episode, without what the agent read and thought.

    Attributes:
        task_id: the task.
        seed: one of the run's seeds.
        is_success: the task was done.
        score: the environment's score at the end.
        stop_reason: why it ended, one of `sdar_benchmarks.records.runs.STOP_REASONS`.
        actions: the commands.
    """

    task_id: Name
    seed: Count
    is_success: Flag
    score: Number
    stop_reason: Name
    actions: list[Text]


def actions_path(record: Path) -> Path:
    """Return where the actions of a record are."""
    return record.with_name(f"{record.stem}.actions.jsonl.gz")


def actions_of(folder: Path, episodes: Iterable[Episode]) -> dict[EpisodeKey, list[str]]:
    """Return the actions of a run's episodes.

    Args:
        folder: of the run.
        episodes: those that count.

    Raises:
        CorruptData: the trajectories cannot be read, one is missing, or one is not that of its episode.
    """
    wanted = {episode.key: episode for episode in episodes}
    found: dict[EpisodeKey, list[str]] = {}
    for row in read_trajectories(folder):
        key = EpisodeKey(*(row.get(name) for name in EpisodeKey._fields))  # type: ignore[arg-type]
        episode = wanted.get(key) if all(isinstance(part, (str, int)) for part in key) else None
        if episode is not None and row.get("attempt") == episode.attempt:
            found[key] = _actions(row, episode, folder)
    for key in wanted:
        if key not in found:
            raise CorruptData(
                f"{folder} has no trajectory of the task {key.task_id}, seed {key.seed}, and a row is kept with the "
                "actions of its episodes: restore trajectories.jsonl, or evaluate again."
            )
    return found


def pack(episodes: Iterable[Episode], actions: Mapping[EpisodeKey, list[str]]) -> bytes | None:
    """Return the content of the file for these episodes; None if it would be larger than `LARGEST`."""
    lines = []
    for episode in sorted(episodes, key=lambda episode: (episode.seed, episode.task_id)):
        played = PlayedEpisode(
            episode.task_id,
            episode.seed,
            episode.is_success,
            episode.score,
            episode.stop_reason,
            actions[episode.key],
        )
        lines.append(json.dumps(asdict(played), separators=(",", ":")) + "\n")
    text = "".join(lines).encode()
    content = gzip.compress(text, 9, mtime=0)
    return content if len(content) <= LARGEST and len(text) <= _LARGEST_TEXT else None


def digest(content: bytes) -> dict[str, Any]:
    """Return what a record says about the file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_actions(path: Path, record: Record) -> tuple[dict[EpisodeKey, PlayedEpisode], str]:
    """Read the actions of a record.

    Args:
        path: of the record.
        record: what it holds.

    Returns:
        The episodes, and a sentence if the file is not the one that the record is about.

    Raises:
        MissingData: there are none.
        CorruptData: the file is damaged.
    """
    file = actions_path(path)
    if record.get("actions") is None:
        raise MissingData(f"{path.name} has no actions, so that its episodes cannot be played again.")
    try:
        with open_file(file) as opened:
            content = opened.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise MissingData(f"{path.name} has actions, but there is no file {file}: restore it.") from error
    if len(content) > LARGEST:
        raise CorruptData(f"{file} is larger than {LARGEST:,} bytes.")
    note = "" if digest(content) == record["actions"] else f"{file.name} is not the file that the record is about"
    episodes: dict[EpisodeKey, PlayedEpisode] = {}
    for number, line in enumerate(_unpack(content, file).splitlines(), 1):
        try:
            episode = make_row(PlayedEpisode, parse_json(line))
        except ValueError as error:
            raise CorruptData(f"{file}, line {number}: {error}: restore the file.") from error
        key = EpisodeKey(record["env_id"], episode.task_id, episode.seed)
        if key in episodes:
            raise CorruptData(f"{file}, line {number}: the task {key.task_id}, seed {key.seed}, is there twice.")
        episodes[key] = episode
    return episodes, note


def _actions(row: Mapping[str, Any], episode: Episode, folder: Path) -> list[str]:
    turns = row.get("turns")
    actions = [turn.get("action") if isinstance(turn, dict) else None for turn in _list(turns)]
    same = (row.get("is_success"), row.get("score"), row.get("stop_reason"), len(actions))
    if same != (episode.is_success, episode.score, episode.stop_reason, episode.steps) or not all(
        isinstance(action, str) for action in actions
    ):
        raise CorruptData(
            f"{folder}: the trajectory of the task {episode.task_id}, seed {episode.seed}, is not that of the episode: "
            "restore trajectories.jsonl, or evaluate again."
        )
    return [str(action) for action in actions]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _unpack(content: bytes, file: Path) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(content, _LARGEST_TEXT)
    except zlib.error as error:
        raise CorruptData(f"{file} is damaged ({error}): restore it.") from error
    if not unpacking.eof or unpacking.unused_data:
        raise CorruptData(f"{file} is cut, has something after its end, or is too large: restore it.")
    return text
