"""Interactive play: read a command, step the environment, show the observation.

In a terminal, commands complete while typing; from a pipe, each line is a command and is echoed, so that the output
reads like a terminal's. `?` and lines that begin with `:` are commands of the session and cost no step. Pages of a shop
are shown as pages. In a terminal, text is wrapped between words to 80 columns at most; a pipe gets whole lines.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import FuzzyCompleter, WordCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from rich.console import Console

from sdar_benchmarks.analysis.shop_page import page_text, read_page
from sdar_envs import Snapshot, TextEnv
from sdar_envs.errors import UnknownName, UnsolvableGame, did_you_mean
from sdar_envs.printing import printable

__all__ = ["Reader", "Session", "choose_reader", "read_from"]

_WIDTH = 80

_META = {
    "?": "list the commands that do something now",
    ":help": "say how to play",
    ":hint": "show the oracle's next command",
    ":undo": "take the last command back",
    ":new": "go on to another task",
    ":quit": "leave (so does Ctrl-D)",
}
_HELP = (
    "Type a command as ? lists it and press Enter; in a terminal, commands complete while you type, and Ctrl-C clears "
    "a line that is not sent yet. Words between < and > stand for your own: search[red mug]. A command that the "
    "environment does not accept costs a step, as it does for a model."
)


class Reader(Protocol):
    """Source of the player's commands."""

    def __call__(self, commands: Sequence[str], status: str) -> str:
        """Return the next line.

        Args:
            commands: what may be typed now, for completion.
            status: the task and the step, for a status line.

        Raises:
            EOFError: there are no more.
            KeyboardInterrupt: the player wants to stop.
        """
        ...


class Session:
    """Episode after episode, played by a person until they leave.

    Args:
        env: the environment.
        read: returns the next command.
        console: shows everything; of `sdar_envs.printing.console`.
    """

    def __init__(self, env: TextEnv[Any], read: Reader, console: Console) -> None:
        self._env = env
        self._read = read
        self._console = console
        self._before: list[Snapshot[Any]] = []
        self._info: dict[str, Any] = {}
        self._over = False
        self._oracle_steps: int | None = None

    def play(self, *, seed: int | None = None, task_id: str | None = None) -> None:
        """Play until the player leaves.

        Args:
            seed: draws the first task; None for any.
            task_id: the first task; later ones are drawn from the environment's split.

        Raises:
            UnknownName: there is no such task.
        """
        self._begin(seed, {"task_id": task_id} if task_id is not None else None)
        try:
            while self._turn():
                pass
        except (EOFError, KeyboardInterrupt):
            pass
        if not self._over:
            self._say(f"\nLeft after {self._steps()}.")

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        observation, self._info = self._env.reset(seed=seed, options=options)
        self._before.clear()
        self._over = False
        plan = self._plan()
        self._oracle_steps = None if plan is None else len(plan)
        self._say(f"Task {self._info['task_id']} ({self._info['task_type']}), {self._env.max_steps} steps.")
        self._say("Give commands; ? lists them. " + ", ".join(name for name in _META if name != "?") + ".\n")
        self._show(observation)

    def _turn(self) -> bool:
        """Read one line and do what it says; return False to leave."""
        commands = [":new", ":undo", ":quit"] if self._over else [*self._info["admissible_commands"], *_META]
        step, limit = self._info["step"], self._env.max_steps
        line = self._read(commands, f"{self._info['instruction']}  (step {step} of {limit})").strip()
        actions: dict[str, Callable[[], None]] = {
            "?": self._list,
            ":help": self._help,
            ":hint": self._hint,
            ":undo": self._undo,
            ":new": lambda: self._begin(None, None),
        }
        if line == ":quit":
            return False
        if line in actions:
            actions[line]()
        elif line.startswith(":"):
            self._say(f"No command {line!r}; there are {', '.join(_META)}.{did_you_mean(line, _META)}")
        elif line and self._over:
            self._say("The episode is over: :new plays another task, :undo takes the last command back, :quit leaves.")
        elif line:
            self._step(line)
        return True

    def _step(self, command: str) -> None:
        self._before.append(self._env.snapshot())
        observation, _, terminated, truncated, self._info = self._env.step(command)
        self._show(observation)
        self._over = terminated or truncated
        if self._over:
            end = "Won" if self._info["is_success"] else "Out of steps" if truncated else "Lost"
            oracle = "" if self._oracle_steps is None else f" The oracle needs {self._oracle_steps}."
            self._say(f"\n{end} after {self._steps()}.{oracle}")

    def _list(self) -> None:
        for command in [] if self._over else self._info["admissible_commands"]:
            self._say(f"  {command}")
        for name, meaning in _META.items():
            self._say(f"  {name:6} {meaning}")

    def _help(self) -> None:
        self._say(f"The task: {self._info['instruction']}\n\n{_HELP}\n")
        for name, meaning in _META.items():
            self._say(f"  {name:6} {meaning}")

    def _hint(self) -> None:
        plan = () if self._over else self._plan()
        if plan is None:
            self._say("There is no hint: no plan is known.")
        else:
            self._say(f"Hint: {plan[0]}" if plan else "There is no hint: the episode is over.")

    def _undo(self) -> None:
        if not self._before:
            self._say("There is nothing to undo.")
            return
        observation, self._info = self._env.restore(self._before.pop())
        self._over = False
        self._say(f"Back after {self._steps()}.")
        self._show(observation)

    def _plan(self) -> tuple[str, ...] | None:
        try:
            return self._env.oracle_plan()
        except (UnknownName, UnsolvableGame):
            return None

    def _steps(self) -> str:
        step = self._info["step"]
        return f"{step} step" if step == 1 else f"{step} steps"

    def _show(self, observation: str) -> None:
        """Show what the player sees: a page of a shop as a page, all else as it is."""
        page = read_page(observation, self._info["admissible_commands"])
        self._say(observation if page is None else page_text(page, self._width))

    def _say(self, text: str) -> None:
        # Lines are wrapped between words in a terminal only; a pipe gets them whole.
        self._console.print(text, width=self._width, soft_wrap=self._width is None)

    @property
    def _width(self) -> int | None:
        return min(self._console.width, _WIDTH) if self._console.is_terminal else None


def choose_reader(console: Console) -> Reader:
    """Return a prompt with completion in a terminal, else the lines of standard input."""
    if _in_terminal(console):
        return _prompt()
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Bytes that are no text are one more command that does nothing, not a crash.
        sys.stdin.reconfigure(errors="replace")
    return read_from(sys.stdin, console)


def read_from(stream: TextIO, console: Console) -> Reader:
    """Return a reader of the lines of a stream, which echoes them."""

    def read(commands: Sequence[str], status: str) -> str:
        line = stream.readline()
        if not line:
            raise EOFError
        console.print(f"\n> {line.strip()}", soft_wrap=True)
        return line

    return read


def _in_terminal(console: Console) -> bool:
    return sys.stdin.isatty() and console.is_terminal


def _prompt() -> Reader:
    keys = KeyBindings()

    @keys.add("c-c", filter=Condition(lambda: bool(get_app().current_buffer.text)))
    def _clear(event: KeyPressEvent) -> None:
        # On an empty line, Ctrl-C leaves.
        event.current_buffer.reset()

    session: PromptSession[str] = PromptSession(key_bindings=keys)

    def read(commands: Sequence[str], status: str) -> str:
        # A command is a whole line: "hemi" is to find "heat mug 1 with microwave 1".
        words = WordCompleter(list(commands), sentence=True)
        width = min(session.output.get_size().columns, _WIDTH)
        return session.prompt(
            "\n> ", completer=FuzzyCompleter(words, pattern="^.+"), bottom_toolbar=_fitting(printable(status), width)
        )

    return read


def _fitting(status: str, width: int) -> str:
    """Return the task and the step in one line; a long task is cut, not the step behind it."""
    task, gap, step = status.rpartition("  ")
    room = width - len(gap) - len(step)
    return status if len(task) <= room else f"{task[: max(0, room - 1)].rstrip()}…{gap}{step}"
