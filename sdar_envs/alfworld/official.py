"""Task source of the official ALFWorld games on disk: `$ALFWORLD_DATA`, as `alfworld-download` leaves it.

Games are sorted by path, so a task is the same on every machine (the original takes them in the
order of the file system). The first scan reads each game file once and keeps what listing tasks
needs in a cache; later scans only compare sizes and times. As in the original, a game counts if
its file says `solvable`, `traj_data.json` is in the same folder, its folder names one of the six task
types, and neither `movable` nor `Sliced` occurs in the folder's name (the original also looks at the
folders above the data, so that a data folder called `movable` has no games).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.pddl import read_problem
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.wording import DIALECTS, Wording, read_dialect, read_task_sentence
from sdar_envs.alfworld.world import Game
from sdar_envs.core import Task
from sdar_envs.errors import CorruptData, MissingData, UnknownName, UnsolvableGame, UnsupportedGame, did_you_mean
from sdar_envs.storage import cache_dir, given_path, with_progress, write_atomic

__all__ = ["OfficialGames", "data_folder", "load_game"]

_INDEX_FORMAT = 1
_SHOW_PROGRESS_FROM = 200
_TRIALS = "*/*-*/trial_*"


class OfficialGames:
    """Task source of the official games in a folder.

    Args:
        folder: the folder that holds the splits, as `data_folder` finds it.
        wording: play all games in this wording; None for each file's own.

    Raises:
        MissingData: there is no game in it.
        CorruptData: a game file cannot be read.
    """

    def __init__(self, folder: Path, wording: Wording | None = None) -> None:
        self.root = folder
        self.wording = wording
        self._tasks: dict[str, tuple[Task, ...]] = {}
        index = _read_index(self.root)
        for name in sorted({path.split("/")[0] for path in index}):
            self._tasks[name] = tuple(
                self._describe(path, entry["instruction"])
                for path, entry in sorted(index.items())
                if path.startswith(f"{name}/") and entry["solvable"]
            )
        self._by_id = {task.id: task for tasks in self._tasks.values() for task in tasks}
        if not self._by_id:
            raise MissingData(
                f"{self.root} holds no solvable game (<split>/<task>/<trial>/ with game.tw-pddl and traj_data.json). "
                "Run `alfworld-download`, or point data_dir or $ALFWORLD_DATA to a complete download."
            )

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Number of games in each split."""
        return {split: len(tasks) for split, tasks in self._tasks.items()}

    def task(self, split: str, index: int) -> Task:
        """Return game `index` of the split, in the order of paths."""
        if split not in self._tasks:
            raise UnknownName(f"no split {split!r} in {self.root}.{did_you_mean(split, self._tasks)}")
        tasks = self._tasks[split]
        if not 0 <= index < len(tasks):
            raise UnknownName(f"no task {index} in {split}: it has {len(tasks)} tasks, from 0.")
        return tasks[index]

    def find(self, task_id: str) -> Task:
        """Return the game with that id."""
        if task_id not in self._by_id:
            raise UnknownName(
                f"no task {task_id[:200]!r} among the {len(self._by_id)} games of {self.root}."
                f"{did_you_mean(task_id, self._by_id)}"
            )
        return self._by_id[task_id]

    def game(self, task: Task) -> Game:
        """Return the compiled game."""
        return load_game(Path(task.data["gamefile"]), self.wording)

    def _describe(self, path: str, instruction: str) -> Task:
        split, folder, _ = path.split("/")
        return Task(
            id=f"alfworld/{path}",
            env="sdar/ALFWorld-v0",
            split=split,
            task_type=folder.split("-")[0],
            instruction=instruction,
            data={"gamefile": str(self.root / path / "game.tw-pddl")},
            suite="alfworld",
        )


def load_game(path: Path, wording: Wording | None = None) -> Game:
    """Return the compiled game of a `game.tw-pddl` file; recently read files are cached.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is another kind of file, or damaged.
        UnsupportedGame: its rules, words or goal are not ALFWorld's.
        UnsolvableGame: no plan reaches its goal (the original fails on such files with `KeyError: 'val1'`).
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MissingData(f"there is no game file {path}.") from error
    return _load_game(str(path), wording, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=512)
def _load_game(path: str, wording: Wording | None, _mtime_ns: int, _size: int) -> Game:
    content = _read_json(path)
    _check_texts(content, path)
    try:
        dialect = read_dialect(content["pddl_domain"], content["grammar"])
        sentence = read_task_sentence(content["grammar"])
        game = Game(read_problem(content["pddl_problem"]), sentence, DIALECTS[wording] if wording else dialect)
    except (CorruptData, UnsupportedGame) as error:
        raise type(error)(f"{path}: {error}") from error
    if plan(game, game.initial) is None:
        raise UnsolvableGame(
            f"{path}: no plan reaches the goal ({game.instruction!r}); an object, a place or an appliance "
            "that it needs is missing. Generate the game again or leave it out."
        )
    return game


def _check_texts(content: dict[str, Any], path: str) -> None:
    wanted = ("pddl_domain", "grammar", "pddl_problem")
    if not all(isinstance(content.get(key), str) for key in wanted):
        raise CorruptData(f"{path} is not a game.tw-pddl file: wanted an object with the texts {', '.join(wanted)}.")


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise CorruptData(f"{path} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path} is not sound JSON ({error}): download it again.") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} is not a game.tw-pddl file: wanted a JSON object.")
    return content


def data_folder(data_dir: str | None = None) -> Path:
    """Return the folder of the official data that holds the splits.

    Args:
        data_dir: that folder, or the one above it; None for `$ALFWORLD_DATA`, else `~/.cache/alfworld`.
            Of several releases (`json_2.1.*`) the latest is taken.

    Raises:
        MissingData: there is none.
    """
    origin = "data_dir" if data_dir else "$ALFWORLD_DATA, else ~/.cache/alfworld"
    folder = given_path(data_dir or os.environ.get("ALFWORLD_DATA") or "~/.cache/alfworld")
    advice = "run `alfworld-download`, then set $ALFWORLD_DATA or data_dir to the folder that holds json_2.1.*"
    if not folder.is_dir():
        raise MissingData(f"no official ALFWorld data: {folder} ({origin}) is not a folder; {advice}.")
    releases = [path for path in folder.glob("json_*") if re.fullmatch(r"json_\d+(\.\d+)+", path.name)]
    filled = [path for path in releases if any(path.glob(_TRIALS))]
    if filled or releases:
        return max(filled or releases, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])
    if any(folder.glob(_TRIALS)):
        return folder
    raise MissingData(f"no official ALFWorld data: {folder} ({origin}) has no folder json_2.1.*; {advice}.")


def _read_index(root: Path) -> dict[str, dict[str, Any]]:
    """Return the index entry of each trial folder (`split/task/trial`): what listing tasks needs."""
    cache = cache_dir() / "alfworld" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = _read_cache(cache)
    index: dict[str, dict[str, Any]] = {}
    changed: list[tuple[str, os.stat_result]] = []
    for path, status in _scan(root):
        entry = known.get(path)
        if entry is not None and entry["mtime_ns"] == status.st_mtime_ns and entry["size"] == status.st_size:
            index[path] = entry
        else:
            changed.append((path, status))
    if not changed and len(index) == len(known):
        return index
    for path, status in with_progress(
        changed, "Indexing ALFWorld games (once)", total=len(changed), show_from=_SHOW_PROGRESS_FROM
    ):
        file = str(root / path / "game.tw-pddl")
        content = _read_json(file)
        # What is not marked solvable is never played: it need not be sound.
        solvable = content.get("solvable") is True
        index[path] = {
            "mtime_ns": status.st_mtime_ns,
            "size": status.st_size,
            "solvable": solvable,
            "instruction": _read_instruction(content, file) if solvable else "",
        }
    try:
        write_atomic(cache, json.dumps({"format": _INDEX_FORMAT, "root": str(root), "games": index}))
    except OSError as error:
        warnings.warn(f"the index of {root} could not be cached ({error}): the next start scans again.", stacklevel=2)
    return index


def _read_cache(cache: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the cached index; none if there is no cache or it is not ours."""
    types = {"mtime_ns": int, "size": int, "solvable": bool, "instruction": str}
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
        games = stored["games"] if stored["format"] == _INDEX_FORMAT else {}
        sound = all(type(entry[key]) is type_ for entry in games.values() for key, type_ in types.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return games if sound else {}


def _read_instruction(content: dict[str, Any], path: str) -> str:
    _check_texts(content, path)
    try:
        sentence = read_task_sentence(content["grammar"])
    except (CorruptData, UnsupportedGame) as error:
        raise type(error)(f"{path}: {error}") from error
    return sentence.removeprefix("Your task is to: ").strip()


def _scan(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    for split in _folders(root):
        for task in _folders(split.path):
            if task.name.split("-")[0] not in TASK_TYPES or "movable" in task.name or "Sliced" in task.name:
                continue
            for trial in _folders(task.path):
                files = {entry.name: entry for entry in os.scandir(trial.path)}
                if "game.tw-pddl" in files and "traj_data.json" in files:
                    yield f"{split.name}/{task.name}/{trial.name}", files["game.tw-pddl"].stat()


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [entry for entry in entries if entry.is_dir()]
