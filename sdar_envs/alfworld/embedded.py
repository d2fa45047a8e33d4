"""Task source of embedded ALFWorld games: procedurally generated on demand, no download."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import lru_cache

from sdar_envs.alfworld.generator import SPLITS, STREAM_SIZE, Rooms, generate, task_type_of
from sdar_envs.alfworld.wording import DIALECTS, Wording
from sdar_envs.alfworld.world import Game
from sdar_envs.core import Task, index_from_id
from sdar_envs.errors import UnknownName, did_you_mean

__all__ = ["EmbeddedGames"]


class EmbeddedGames:
    """Task source of generated games: fixed evaluation splits and an endless train split.

    Args:
        wording: `move` (default, as in current releases) or `put`.
        rooms: `full`, or `small` for easy games of their own.
        task_types: only games of these types are in the splits; empty for all. A game keeps its id.
    """

    def __init__(self, wording: Wording | None = None, rooms: Rooms = "full", task_types: tuple[str, ...] = ()) -> None:
        self.wording: Wording = wording or "move"
        self.rooms: Rooms = rooms
        self.task_types = task_types
        self._prefix = _PREFIXES[rooms]

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Number of games in each split; None for a split without end."""
        return _sizes(self.rooms, self.task_types) if self.task_types else SPLITS[self.rooms]

    def task(self, split: str, index: int) -> Task:
        """Return game `index` of the split."""
        if split not in SPLITS[self.rooms]:
            raise UnknownName(f"no split {split!r}.{did_you_mean(split, self.splits)}")
        if self.task_types:
            index = _index_of_type(self.rooms, split, self.task_types, index)
        return _make(self.rooms, split, index, self.wording)[0]

    def find(self, task_id: str) -> Task:
        """Return the game with that id, `alfworld/<split>/<number>`, or `alfworld/small_<split>/<number>`."""
        split = next((name for name in self.splits if task_id.startswith(f"{self._prefix}{name}/")), None)
        if split is None:
            examples = [f"{self._prefix}{name}/0000" for name in self.splits]
            raise UnknownName(
                f"no task {task_id[:200]!r}; embedded tasks look like {examples[-1]!r}."
                f"{did_you_mean(task_id, examples)}"
            )
        index = index_from_id(task_id, f"{self._prefix}{split}/", SPLITS[self.rooms][split])
        task = _make(self.rooms, split, index, self.wording)[0]
        if self.task_types and task.task_type not in self.task_types:
            raise UnknownName(
                f"{task_id} is of type {task.task_type}, and task_types is {', '.join(self.task_types)}: leave it out, "
                "or choose another task."
            )
        return task

    def game(self, task: Task) -> Game:
        """Return the compiled game."""
        return _make(self.rooms, task.split, int(task.id.rsplit("/", 1)[1]), self.wording)[1]

    def load(self, task: Task) -> tuple[Game, str]:
        """Return the compiled game, and a path as an official game's; there is no file."""
        return _make(self.rooms, task.split, int(task.id.rsplit("/", 1)[1]), self.wording)[1:]


_PREFIXES: Mapping[Rooms, str] = {"full": "alfworld/", "small": "alfworld/small_"}


@lru_cache(maxsize=64)
def _indices_of_type(rooms: Rooms, split: str, task_types: tuple[str, ...]) -> tuple[int, ...]:
    """Return the games of a finite split that are of these types, in its order."""
    size = SPLITS[rooms][split]
    assert size is not None
    return tuple(index for index in range(size) if task_type_of(split, index, rooms) in task_types)


@lru_cache(maxsize=64)
def _sizes(rooms: Rooms, task_types: tuple[str, ...]) -> Mapping[str, int | None]:
    return {
        split: None if size is None else len(_indices_of_type(rooms, split, task_types))
        for split, size in SPLITS[rooms].items()
    }


# Odd, so that its multiples run through all games of a split without end; near the golden section, so that those of
# the first numbers are far from each other.
_STRIDE = 1_327_217_885


def _index_of_type(rooms: Rooms, split: str, task_types: tuple[str, ...], index: int) -> int:
    """Return the number in the whole split of game `index` among those of these types."""
    size = SPLITS[rooms][split]
    number = operator.index(index)
    if size is not None:
        found = _indices_of_type(rooms, split, task_types)
        if not 0 <= number < len(found):
            raise UnknownName(
                f"no generated game {number} of type {', '.join(task_types)} in split {split!r}; wanted 0 to "
                f"{len(found) - 1}."
            )
        return found[number]
    if not 0 <= number < STREAM_SIZE:
        raise UnknownName(f"no generated game {number} in split {split!r}; wanted 0 to {STREAM_SIZE - 1}.")
    place = number * _STRIDE % STREAM_SIZE
    while task_type_of(split, place, rooms) not in task_types:
        place = (place + 1) % STREAM_SIZE
    return place


# Games are shared between environments; 512 of them take about 50 MB.
@lru_cache(maxsize=512)
def _make(rooms: Rooms, split: str, index: int, wording: Wording) -> tuple[Task, Game, str]:
    made = generate(split, index, rooms)
    game = Game(made.problem, made.task_sentence, DIALECTS[wording])
    task = Task(
        id=f"{_PREFIXES[rooms]}{split}/{index:04d}",
        env="sdar/ALFWorld-v0",
        split=split,
        task_type=game.goal.task_type,
        instruction=game.instruction,
        data={"layout": made.layout, "gamefile": ""},
        suite="alfworld",
    )
    classes = f"{made.object_class}-None-{made.receptacle_class}-{made.layout}"
    return task, game, f"{split}/{game.goal.task_type}-{classes}/trial_{split}_{index:04d}/game.tw-pddl"
