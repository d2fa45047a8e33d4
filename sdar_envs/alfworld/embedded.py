"""Task source of embedded ALFWorld games: procedurally generated on demand, no download."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sdar_envs.alfworld.generator import SPLITS, Rooms, generate
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
    """

    def __init__(self, wording: Wording | None = None, rooms: Rooms = "full") -> None:
        self.wording: Wording = wording or "move"
        self.rooms: Rooms = rooms
        self._prefix = _PREFIXES[rooms]

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Number of games in each split; None for a split without end."""
        return SPLITS[self.rooms]

    def task(self, split: str, index: int) -> Task:
        """Return game `index` of the split."""
        if split not in self.splits:
            raise UnknownName(f"no split {split!r}.{did_you_mean(split, self.splits)}")
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
        return self.task(split, index_from_id(task_id, f"{self._prefix}{split}/", self.splits[split]))

    def game(self, task: Task) -> Game:
        """Return the compiled game."""
        return _make(self.rooms, task.split, int(task.id.rsplit("/", 1)[1]), self.wording)[1]

    def load(self, task: Task) -> tuple[Game, str]:
        """Return the compiled game, and a path as an official game's; there is no file."""
        return _make(self.rooms, task.split, int(task.id.rsplit("/", 1)[1]), self.wording)[1:]


_PREFIXES: Mapping[Rooms, str] = {"full": "alfworld/", "small": "alfworld/small_"}


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
