"""Task source of the official ALFWorld games on disk: `$ALFWORLD_DATA`, as `alfworld-download` leaves it.

Games are sorted by path, so a task is the same on every machine (the original takes them in the order of the file
system). The first scan reads each game file once, checks that it can be played, and keeps what listing tasks needs in a
cache; later scans only compare sizes and times. As in the original, a game counts if its file says `solvable`, its
folder names one of the six task types, and neither `movable` nor `Sliced` occurs in the folder's name (the original
also looks at the folders above the data, so that a data folder called `movable` has no games). `traj_data.json`, which
the original wants beside the game, is not needed.

`solvable` in a file means that the original's scripted expert won the game; with `solvable="any"` a game counts if some
plan wins it, whatever the file says.
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
from typing import Any, Literal

from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.pddl import read_problem
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.wording import DIALECTS, Wording, read_dialect, read_task_sentence
from sdar_envs.alfworld.world import Game
from sdar_envs.core import Task
from sdar_envs.errors import (
    CorruptData,
    MissingData,
    SdarError,
    UnknownName,
    UnsolvableGame,
    UnsupportedGame,
    did_you_mean,
)
from sdar_envs.files.json_text import parse_json
from sdar_envs.storage import cache_dir, given_path, with_progress, write_atomic

__all__ = ["ADVICE", "ARCHIVES", "BadFiles", "OfficialGames", "Solvable", "data_folder", "load_game", "read_texts"]

Solvable = Literal["flag", "any"]
"""Which games count: those that their file calls solvable, or any that a plan wins."""

BadFiles = Literal["raise", "skip"]
"""What happens to game files that are damaged, or called solvable and cannot be played."""

ARCHIVES: Mapping[str, str] = {
    "https://github.com/alfworld/alfworld/releases/download/0.4.0/json_2.1.2_tw-pddl.zip": (
        "the games (game.tw-pddl), all that is read here"
    ),
    "https://github.com/alfworld/alfworld/releases/download/0.2.2/json_2.1.1_json.zip": (
        "traj_data.json, which only the original reads"
    ),
}
"""The archives of ALFWorld's release that hold the text games, and what is in them."""

ADVICE = (
    f"unpack {next(iter(ARCHIVES))} (or run `alfworld-download` of the alfworld package), then set $ALFWORLD_DATA or "
    "data_dir to the folder that holds json_2.1.*; `sdar data check alfworld` says what is missing"
)

_INDEX_FORMAT = 2
_SHOW_PROGRESS_FROM = 200
_GAMES = "*/*-*/trial_*/game.tw-pddl"
_SHOWN_BAD_FILES = 5


class OfficialGames:
    """Task source of the official games in a folder.

    Args:
        folder: the folder that holds the splits, as `data_folder` finds it.
        wording: play all games in this wording; None for each file's own.
        solvable: which games count: `flag`, those that their file calls solvable, as in the original; `any`, all that
            can be won.
        on_bad_file: what happens to files that are damaged, or called solvable and cannot be played: `raise` refuses
            the folder, `skip` warns and leaves them out.

    Attributes:
        left_out: path -> reason, of each game file that would count and cannot be played; with `solvable="any"` also
            those that no plan wins.

    Raises:
        MissingData: there is no game in it.
        CorruptData: a game file cannot be read.
        UnsupportedGame: a game's rules, words or goal are not ALFWorld's.
        UnsolvableGame: a game that is called solvable is not.
    """

    def __init__(
        self,
        folder: Path,
        wording: Wording | None = None,
        *,
        solvable: Solvable = "flag",
        on_bad_file: BadFiles = "raise",
    ) -> None:
        self.root = folder
        self.wording = wording
        index, bad = _read_index(self.root, solvable)
        if bad and on_bad_file == "raise":
            raise _refusal(bad)
        if bad:
            warnings.warn(f"{_reasons(bad)} Games left out for this: {len(bad):,}.", stacklevel=2)
        counted = {path: entry for path, entry in index.items() if entry["flag"] or solvable == "any"}
        self.left_out: Mapping[str, str] = {path: str(error) for path, error in bad.items()} | {
            path: entry["problem"] for path, entry in counted.items() if entry["problem"]
        }
        self._tasks: dict[str, tuple[Task, ...]] = {}
        for name in sorted({path.split("/")[0] for path in index}):
            self._tasks[name] = tuple(
                self._describe(path, entry["instruction"])
                for path, entry in sorted(counted.items())
                if path.startswith(f"{name}/") and not entry["problem"]
            )
        self._by_id = {task.id: task for tasks in self._tasks.values() for task in tasks}
        if not self._by_id:
            raise MissingData(f"{self.root} holds no solvable game (<split>/<task>/<trial>/game.tw-pddl): {ADVICE}.")

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

    def load(self, task: Task) -> tuple[Game, str]:
        """Return the compiled game, and the path of its file."""
        return self.game(task), str(task.data["gamefile"])

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
    return _compile(_read_json(path), path, wording)


def _compile(content: dict[str, Any], path: str, wording: Wording | None = None) -> Game:
    _check_texts(content, path)
    try:
        dialect = read_dialect(content["pddl_domain"], content["grammar"])
        sentence = read_task_sentence(content["grammar"])
        # A file's rules are its own unless it is played in the other release's wording.
        dialect = DIALECTS[wording] if wording not in (None, dialect.wording) else dialect
        game = Game(read_problem(content["pddl_problem"]), sentence, dialect)
    except (CorruptData, UnsupportedGame) as error:
        raise type(error)(f"{path}: {error}") from error
    if plan(game, game.initial) is None:
        raise UnsolvableGame(
            f"{path}: no plan reaches the goal ({game.instruction!r}); an object, a place or an appliance "
            "that it needs is missing. Generate the game again or leave it out."
        )
    return game


def read_texts(path: str) -> tuple[str, str, str]:
    """Return the `pddl_domain`, `grammar` and `pddl_problem` of a game file.

    Raises:
        CorruptData: it is another kind of file, or damaged.
    """
    content = _read_json(path)
    _check_texts(content, path)
    return content["pddl_domain"], content["grammar"], content["pddl_problem"]


def _check_texts(content: dict[str, Any], path: str) -> None:
    wanted = ("pddl_domain", "grammar", "pddl_problem")
    if not all(isinstance(content.get(key), str) for key in wanted):
        raise CorruptData(f"{path} is not a game.tw-pddl file: wanted an object with the texts {', '.join(wanted)}.")


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = parse_json(file.read())
    except OSError as error:
        raise CorruptData(f"{path} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path} is not sound JSON ({error}): download it again.") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} is not a game.tw-pddl file: wanted a JSON object.")
    return content


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the official data that holds the splits.

    Args:
        data_dir: that folder, or the one above it; None for `$ALFWORLD_DATA`, else `~/.cache/alfworld`.
            Of several releases (`json_2.1.*`) the latest that holds games is taken.

    Raises:
        MissingData: there is none.
    """
    origin = "data_dir" if data_dir else "$ALFWORLD_DATA, else ~/.cache/alfworld"
    folder = given_path(data_dir or os.environ.get("ALFWORLD_DATA") or "~/.cache/alfworld")
    if not folder.is_dir():
        raise MissingData(f"no official ALFWorld data: {folder} ({origin}) is not a folder; {ADVICE}.")
    releases = [path for path in folder.glob("json_*") if re.fullmatch(r"json_\d+(\.\d+)+", path.name)]
    filled = [path for path in releases if any(path.glob(_GAMES))]
    if filled or releases:
        return max(filled or releases, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])
    if any(folder.glob(_GAMES)):
        return folder
    raise MissingData(f"no official ALFWorld data: {folder} ({origin}) has no folder json_2.1.*; {ADVICE}.")


def _read_index(root: Path, solvable: Solvable) -> tuple[dict[str, dict[str, Any]], dict[str, SdarError]]:
    """Return what listing tasks needs of each trial folder (`split/task/trial`), and what is wrong with bad files.

    An entry has the file's `flag`, the `instruction`, and the `problem` that keeps a game without flag from being
    played; None where that was not looked into, because only flagged games were asked for.
    """
    cache = cache_dir() / "alfworld" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.json"
    known = _read_cache(cache)
    index: dict[str, dict[str, Any]] = {}
    bad: dict[str, SdarError] = {}
    changed: list[tuple[str, os.stat_result]] = []
    for path, status in _scan(root):
        entry = known.get(path)
        is_same = entry is not None and entry["mtime_ns"] == status.st_mtime_ns and entry["size"] == status.st_size
        if entry is not None and is_same and not (solvable == "any" and entry["problem"] is None):
            index[path] = entry
        else:
            changed.append((path, status))
    if not changed and len(index) == len(known):
        return index, bad
    for path, status in with_progress(
        changed, "Indexing ALFWorld games (once)", total=len(changed), show_from=_SHOW_PROGRESS_FROM
    ):
        try:
            described = _described(str(root / path / "game.tw-pddl"), solvable)
        except SdarError as error:
            # Not remembered: the file may be mended without a new time, and the engine may learn to play it.
            bad[path] = error
        else:
            index[path] = {"mtime_ns": status.st_mtime_ns, "size": status.st_size, **described}
    try:
        write_atomic(cache, json.dumps({"format": _INDEX_FORMAT, "root": str(root), "games": index}))
    except OSError as error:
        warnings.warn(f"the index of {root} could not be cached ({error}): the next start scans again.", stacklevel=2)
    return index, bad


def _described(file: str, solvable: Solvable) -> dict[str, Any]:
    """Return the `flag`, `instruction` and `problem` of a game file.

    Raises:
        SdarError: it is damaged, or called solvable and cannot be played.
    """
    content = _read_json(file)
    # As the original reads it: 1 is as good as true.
    flag = bool(content.get("solvable"))
    if not flag and solvable == "flag":
        # What is not marked solvable is not played: it need not be sound.
        return {"flag": flag, "instruction": "", "problem": None}
    try:
        game = _compile(content, file)
    except SdarError as error:
        if flag:
            raise
        return {"flag": flag, "instruction": "", "problem": str(error)}
    return {"flag": flag, "instruction": game.instruction, "problem": ""}


def _refusal(bad: Mapping[str, SdarError]) -> SdarError:
    which, it = ("1 game file", "it") if len(bad) == 1 else (f"{len(bad):,} game files", "them")
    kind = type(next(iter(bad.values())))
    return kind(f"{_reasons(bad)} In all {which} cannot be played: pass on_bad_file='skip' to leave {it} out.")


def _reasons(bad: Mapping[str, SdarError]) -> str:
    shown = [str(error) for error in bad.values()][:_SHOWN_BAD_FILES]
    return " ".join(shown) + (f" (and {len(bad) - len(shown):,} more)" if len(bad) > len(shown) else "")


def _read_cache(cache: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the cached index; none if there is no cache or it is not ours."""
    types = {"mtime_ns": (int,), "size": (int,), "flag": (bool,), "instruction": (str,), "problem": (str, type(None))}
    try:
        stored = parse_json(cache.read_text(encoding="utf-8"))
        games = stored["games"] if stored["format"] == _INDEX_FORMAT else {}
        sound = all(type(entry[key]) in allowed for entry in games.values() for key, allowed in types.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return games if sound else {}


def _scan(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    for split in _folders(root):
        for task in _folders(split.path):
            if task.name.split("-")[0] not in TASK_TYPES or "movable" in task.name or "Sliced" in task.name:
                continue
            for trial in _folders(task.path):
                try:
                    status = os.stat(os.path.join(trial.path, "game.tw-pddl"))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise CorruptData(f"{trial.path} cannot be read: {error}.") from error
                yield f"{split.name}/{task.name}/{trial.name}", status


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise CorruptData(f"{path} cannot be read: {error}.") from error
