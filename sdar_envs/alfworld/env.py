"""ALFWorld environment, `sdar/ALFWorld-v0`: household tasks in text, equal to the original to the character."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from sdar_envs.alfworld.embedded import EmbeddedGames
from sdar_envs.alfworld.generator import Rooms
from sdar_envs.alfworld.official import BadFiles, OfficialGames, Solvable, data_folder
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.world import Action, Game, State
from sdar_envs.core import Outcome, Task, TextEnv
from sdar_envs.errors import EpisodeOver, InvalidOption, UnsolvableGame, did_you_mean

__all__ = ["ALFWorldEnv"]


class ALFWorldEnv(TextEnv[State]):
    """ALFWorld: find objects in a room, heat, cool or clean them, and put them in their place.

    **Observation**: the text that ALFWorld prints, to the character. The first one lists the
    receptacles and states the task.

    **Action**: one command, such as `go to desk 1`, `open drawer 2`, `take mug 1 from desk 1`,
    `move mug 1 to shelf 2` (release 2.1.1: `put mug 1 in/on shelf 2`), `heat mug 1 with microwave 1`,
    `use desklamp 1`, `examine mug 1`, `inventory`, `look`. Blanks around it are ignored; anything that
    is not in `info["admissible_commands"]` is answered with "Nothing happens." and counts as a step.

    **Reward**: 1 when the goal is reached, else 0, times `reward_scale`.

    **Episode end**: `terminated` when the goal is reached; `truncated` after `max_steps` commands.

    **Info**: the common keys (`sdar_envs.INFO_TYPES`); `gamefile`, the path of an official game (empty for an embedded
    one); and `extra.gamefile`, the same under TextWorld's name. An embedded game has a path there that no file is at,
    made as the official ones are, `<split>/<task type>-.../trial_.../game.tw-pddl`: training code reads the task type
    from it.

    **Dead ends**, as in the official games: no furniture takes a paper towel roll or a teddy bear, so a player who
    picks one up cannot put it down. Then `oracle_plan` raises `UnsolvableGame`.

    **Departures from the original**: games come in sorted order, not in the order of the file system;
    an episode ends when it is won (TextWorld goes on and may un-win it); numbers of objects are never
    shuffled (`domain_randomization`); unknown domains, grammars and goals are refused.

    Args:
        data: `embedded` (made by us, no download) or `official` (from `data_dir`).
        rooms: of embedded games: `full`, as in the official ones, or `small`: few things in few places, for small
            models. Small rooms are in homes with habits (`sdar_envs.alfworld.generator.room_habits`).
        split: `train`, `valid_seen` or `valid_unseen`; official data may have more, and small rooms have `home`, the
            endless split in the home of their `valid_seen`, and `home_valid`, 4,096 other games there. The original's
            names `eval_in_distribution` and `eval_out_of_distribution` mean `valid_seen` and `valid_unseen`.
        task_types: of embedded games: only games of these types are in the splits, such as
            `["pick_and_place_simple"]`; None for all. A task id means the same game with and without.
        data_dir: folder of the official data, `$VARIABLES` in it expanded; None for `$ALFWORLD_DATA`, else
            `~/.cache/alfworld`.
        solvable: which official games count: `flag`, those that their file calls solvable, as in the original, or
            `any`, all that can be won (the flag says that a scripted expert won).
        on_bad_file: what happens to official files that are damaged, or called solvable and cannot be played: `raise`
            refuses the data and names the files, `skip` warns and leaves them out.
        wording: `move`, `put`, or `auto`: what the game file says, `move` for embedded games.
        max_steps: step limit.
        reward_scale: factor on the reward; verl-agent and SDAR use 10.
        render_mode: None, `ansi` or `human`.
    """

    suite = "alfworld"
    evaluation_split = "valid_unseen"

    def __init__(
        self,
        *,
        data: Literal["embedded", "official"] = "embedded",
        rooms: Rooms = "full",
        split: str = "train",
        task_types: Sequence[str] | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        solvable: Solvable = "flag",
        on_bad_file: BadFiles = "raise",
        wording: Literal["auto", "move", "put"] = "auto",
        max_steps: int = 50,
        reward_scale: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        for name, value, allowed in (
            ("data", data, ("embedded", "official")),
            ("rooms", rooms, get_args(Rooms)),
            ("wording", wording, ("auto", "move", "put")),
            ("solvable", solvable, get_args(Solvable)),
            ("on_bad_file", on_bad_file, get_args(BadFiles)),
        ):
            if value not in allowed:
                raise InvalidOption(
                    f"{name} is {value!r}; wanted one of {', '.join(allowed)}.{did_you_mean(value, allowed)}"
                )
        of_files = {"data_dir": (data_dir, None), "solvable": (solvable, "flag"), "on_bad_file": (on_bad_file, "raise")}
        for name, (given, default) in of_files.items():
            if data == "embedded" and given != default:
                raise InvalidOption(f"{name} is {given!r}, but embedded games have no files: pass data='official' too.")
        if data == "official" and rooms != "full":
            raise InvalidOption(f"rooms is {rooms!r}, but official games are as they are: leave it out.")
        if data == "official" and task_types is not None:
            raise InvalidOption("task_types is for embedded games: leave it out, or pass data='embedded'.")
        folder = data_folder(data_dir) if data == "official" else None
        source = _source(folder, wording, rooms, _checked_types(task_types), (solvable, on_bad_file))
        super().__init__(
            source,
            split=_SPLITS_OF_THE_ORIGINAL.get(split, split) if isinstance(split, str) else split,
            max_steps=max_steps,
            reward_scale=reward_scale,
            render_mode=render_mode,
        )
        self.source: EmbeddedGames | OfficialGames
        self._game: Game
        self._gamefile: str
        self._state: State
        self._local: dict[str, Action]

    @property
    def game(self) -> Game:
        """The compiled game being played; immutable, shared with other environments."""
        if self._task is None:
            raise EpisodeOver("there is no game before the first reset(): call reset() first.")
        return self._game

    def oracle_plan(self) -> tuple[str, ...]:
        """Return a shortest list of commands that wins from the current state; none if the game is won."""
        found = plan(self.game, self._state)
        if found is None:
            raise UnsolvableGame(f"{self.task.id} cannot be won from here.")
        return found

    def _begin(self, task: Task) -> str:
        self._game, self._gamefile = self.source.load(task)
        self._state = self._game.initial.copy()
        self._local = self._game.local_actions(self._state)
        return self._game.first_observation

    def _act(self, action: str) -> Outcome:
        game, state = self._game, self._state
        understood = game.parse(state, action.strip(), self._local)
        if understood is None:
            observation = "Nothing happens."
        else:
            observation = game.apply(state, understood)
            self._local = game.local_actions(state)
        return Outcome(observation, float(state.won), state.won, state.won, understood is not None)

    def _commands(self) -> list[str]:
        return self._game.commands(self._state, self._local)

    def _save(self) -> State:
        return self._state.copy()

    def _load(self, task: Task, state: State) -> None:
        self._game, self._gamefile = self.source.load(task)
        self._state = state.copy()
        self._local = self._game.local_actions(self._state)

    def _variant(self) -> str:
        return self.source.wording or "auto"

    def _env_id(self) -> str:
        return "sdar/ALFWorld-v0"

    def _extra_info(self) -> dict[str, Any]:
        return {"gamefile": self.task.data["gamefile"], "extra.gamefile": self._gamefile}


_SPLITS_OF_THE_ORIGINAL = {"eval_in_distribution": "valid_seen", "eval_out_of_distribution": "valid_unseen"}


def _checked_types(task_types: Sequence[str] | None) -> tuple[str, ...]:
    """Return the task types, sorted; empty for all."""
    if task_types is None:
        return ()
    if not task_types or isinstance(task_types, str):
        raise InvalidOption(f"task_types is {task_types!r}; wanted a list with some of {', '.join(TASK_TYPES)}.")
    for name in task_types:
        if name not in TASK_TYPES:
            raise InvalidOption(
                f"task_types has {name!r}; wanted some of {', '.join(TASK_TYPES)}.{did_you_mean(str(name), TASK_TYPES)}"
            )
    return tuple(sorted(set(task_types)))


@lru_cache(maxsize=16)
def _source(
    folder: Path | None,
    wording: str,
    rooms: Rooms,
    task_types: tuple[str, ...],
    official: tuple[Solvable, BadFiles],
) -> EmbeddedGames | OfficialGames:
    """Return the source that environments of one process share, with its index and games."""
    chosen: Any = None if wording == "auto" else wording
    if folder is None:
        return EmbeddedGames(chosen, rooms, task_types)
    return OfficialGames(folder, chosen, solvable=official[0], on_bad_file=official[1])
