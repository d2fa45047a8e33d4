"""An environment of your own with tasks, of numbers: `sdar eval own_env:acme/Numbers-v0 --agent random --limit 20`."""

from collections.abc import Mapping

import gymnasium

from sdar_envs import Outcome, PromptStyle, Task, TextEnv
from sdar_envs.core import index_from_id


class NumberTasks:
    """Tasks `acme/train/0000`, ... without end and `acme/test/0000` to `acme/test/0039`."""

    splits: Mapping[str, int | None] = {"train": None, "test": 40}

    def task(self, split: str, index: int) -> Task:
        data = {"start": index % 5, "target": 5 + (index * 7 + len(split)) % 9}
        goal = f"Make it {data['target']}."
        return Task(f"acme/{split}/{index:04d}", "acme/Numbers-v0", split, "count_up", goal, data)

    def find(self, task_id: str) -> Task:
        split = "train" if task_id.startswith("acme/train/") else "test"
        return self.task(split, index_from_id(task_id, f"acme/{split}/", self.splits[split]))


class NumbersEnv(TextEnv[int]):
    """A number is changed by commands until it is the one that the task names."""

    suite = "acme"
    prompt_style = PromptStyle(role="You change a number by commands.", require_reasoning=False)

    def __init__(self, *, split: str = "train", max_steps: int = 12, render_mode: str | None = None) -> None:
        super().__init__(NumberTasks(), split=split, max_steps=max_steps, render_mode=render_mode)

    def _begin(self, task: Task) -> str:
        self._number = int(task.data["start"])
        return f"It is {self._number}. {task.instruction}"

    def _act(self, action: str) -> Outcome:
        is_valid = action in self._commands()
        self._number += {"up": 1, "down": -1, "double": self._number}[action] if is_valid else 0
        solved = self._number == self.task.data["target"]
        return Outcome(f"It is {self._number}.", float(solved), solved, solved, is_valid)

    def _commands(self) -> list[str]:
        return ["double", "down", "up"]

    def _save(self) -> int:
        return self._number

    def _load(self, task: Task, state: int) -> None:
        self._number = state

    def _env_id(self) -> str:
        return "acme/Numbers-v0"


gymnasium.register("acme/Numbers-v0", entry_point="own_env:NumbersEnv")
