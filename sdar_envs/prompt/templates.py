"""Prompt templates as data: Jinja2 texts with named slots, checked when they are loaded.

They give a prompt the words of another project, so that a model is evaluated with what it was trained on. A template
sees its slots and nothing else (`SLOTS`, `ITEM_SLOTS`); it runs in Jinja2's sandbox, without anything random. What
fills a slot is data: an observation with `{{` in it stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ITEM_SLOTS", "SLOTS", "PromptTemplates"]

SLOTS: Mapping[str, str] = MappingProxyType(
    {
        "task": "the instruction",
        "history": "the turns shown, each by `history_item`; empty where none is",
        "observation": "what the environment shows now, by the template `observation`",
        "commands": "the admissible commands, each by `command`; empty in a style that lists none",
        "step": "number of this turn, from 1",
        "steps_taken": "how many turns there were before it",
        "steps_shown": "how many of them the history shows",
        "skills": "inserted paragraphs, such as skills; they stand before a template that does not name this slot",
    }
)
"""Slots of the templates `first`, `later` and `appended`."""

ITEM_SLOTS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "observation": ("observation", "task", "step"),
        "history_item": ("step", "observation", "action", "result", "completion", "task"),
        "command": ("command",),
    }
)
"""Slots of the other templates. `result` is what the environment showed after the action, `completion` what the model
wrote."""


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    r"""Templates of a prompt style, each in Jinja2.

    Attributes:
        first: the user message of a turn that shows no history: the first one, and later ones if the window is empty.
        later: that of a turn with history; None for `first`, whose slot `history` is filled then.
        appended: where an episode is one growing chat, the user message of each turn but the first.
        observation: an observation; it sees the environment's own text.
        history_item: a turn of the history.
        history_separator: text between them.
        command: an admissible command.
        command_separator: text between them.
        is_transcript: the history is no part of the user message: it follows it as the beginning of the model's own
            message, which the model goes on writing.

    Raises:
        InvalidOption: a template is no Jinja2, or cannot be filled in.
        UnknownName: a template names a slot that it does not have.
    """

    first: str
    later: str | None = None
    appended: str = "{{ observation }}{% if commands %}\n\n{{ commands }}{% endif %}"
    observation: str = "{{ observation }}"
    history_item: str = "Turn {{ step }}, observation: {{ observation }}\nTurn {{ step }}, action: {{ action }}"
    history_separator: str = "\n"
    command: str = "{{ command }}"
    command_separator: str = "\n"
    is_transcript: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            name, text = field.name, getattr(self, field.name)
            if name == "is_transcript" or (name == "later" and text is None):
                continue
            if not isinstance(text, str):
                raise InvalidOption(f"the template {name} is {text!r:.80}; wanted text.")
            if not name.endswith("_separator"):
                _check(name, text)

    def user_message(self, slots: Mapping[str, object], skills: Sequence[str]) -> str:
        """Return a user message.

        Args:
            slots: all of `SLOTS` but `skills`.
            skills: paragraphs to insert.
        """
        text = self.later if slots["steps_shown"] and self.later is not None else self.first
        inserted = "\n\n".join(skills)
        message = _fill(text, {**slots, "skills": inserted})
        return f"{inserted}\n\n{message}" if inserted and "skills" not in _slots_of(text) else message

    def shows_history(self, slots: Mapping[str, object]) -> bool:
        """Return whether the user message shows past turns.

        Args:
            slots: as for `user_message`.
        """
        if not slots["steps_shown"] or self.is_transcript:
            return False
        return "history" in _slots_of(self.first if self.later is None else self.later)

    def appended_message(self, slots: Mapping[str, object]) -> str:
        """Return the user message of a later turn of a growing chat."""
        return _fill(self.appended, {**slots, "skills": ""})

    def write_observation(self, observation: str, task: str, step: int) -> str:
        """Return an observation as prompts show it."""
        return _fill(self.observation, {"observation": observation, "task": task, "step": step})

    def write_history(self, items: Sequence[Mapping[str, object]]) -> str:
        """Return turns, each with the slots of `history_item`."""
        return self.history_separator.join(_fill(self.history_item, item) for item in items)

    def write_commands(self, commands: Sequence[str]) -> str:
        """Return a list of commands."""
        return self.command_separator.join(_fill(self.command, {"command": command}) for command in commands)


_SAMPLE: Mapping[str, object] = {"step": 2, "steps_taken": 1, "steps_shown": 1}


def _check(name: str, text: str) -> None:
    """Refuse a template that cannot be filled in.

    Raises:
        InvalidOption: it is no Jinja2, or cannot be filled in.
        UnknownName: it names a slot that it does not have.
    """
    known = ITEM_SLOTS.get(name, tuple(SLOTS))
    for slot in sorted(_slots_of(text, name)):
        if slot not in known:
            raise UnknownName(
                f"the template {name} has a slot {slot!r}; its slots are {', '.join(known)}.{did_you_mean(slot, known)}"
            )
    _fill(text, {slot: _SAMPLE.get(slot, f"a {slot}") for slot in known}, name)


@lru_cache(maxsize=256)
def _slots_of(text: str, name: str = "") -> frozenset[str]:
    from jinja2 import TemplateSyntaxError, meta  # noqa: PLC0415  # `import sdar_envs` stays light

    environment = _environment()
    try:
        found = meta.find_undeclared_variables(environment.parse(text))
    except TemplateSyntaxError as error:
        raise InvalidOption(
            f"the template {name} cannot be read as Jinja2, in line {error.lineno}: {error.message}"
        ) from error
    return frozenset(found - environment.globals.keys())


def _fill(text: str, slots: Mapping[str, object], name: str = "") -> str:
    try:
        return _compiled(text).render(slots)
    except Exception as error:  # an expression of the template may raise anything
        raise InvalidOption(
            f"the template {name or repr(text[:60])} cannot be filled in ({type(error).__name__}: {error})."
        ) from error


@lru_cache(maxsize=256)
def _compiled(text: str) -> Template:
    return _environment().from_string(text)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    kept: dict[str, Any] = {name: environment.globals[name] for name in ("namespace", "range")}
    environment.globals.clear()  # `lipsum` is random
    environment.globals.update(kept)
    del environment.filters["random"]
    return environment
