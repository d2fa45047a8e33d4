"""Turns of an episode in the form that the template `episode_parts.html` shows, for the viewer and for reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from sdar_benchmarks.records.schema import NUMBER
from sdar_benchmarks.records.trajectories import EpisodeId
from sdar_benchmarks.reports.markup import Tag
from sdar_benchmarks.reports.plot import number
from sdar_benchmarks.reports.scenes import RoomGuide, RoomView, page_of

__all__ = [
    "Part",
    "Prompt",
    "Section",
    "episode_address",
    "has_tokens",
    "make_address",
    "observed",
    "outcome_tag",
    "prompt_of",
    "sections_of",
    "verdicts_of",
]

_LONGEST_PROMPT = 20_000
_GAP_LEVELS = (0.05, 0.25, 0.75, 1.5)
_VERDICTS = {
    "is_well_formed": "malformed answer",
    "is_action_valid": "invalid action",
    # Of format 1, which did not tell the two apart.
    "is_usable": "malformed or invalid",
}
_FACTS = ("score", "reward", "advantage")
# What chat templates add to the messages: special tokens, and roles on lines of their own.
_MARKS = re.compile(r"<[|｜][^<>\n]*[|｜]>|</?s>|\[/?INST\]")
_ROLES = {"", "system", "user", "assistant"}
_OUTCOMES = {"won": "good", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled part of a turn.

    Attributes:
        who: the label.
        kind: form of the content: a text, a list of codes, a folded text, a folded `Prompt`, the address of a page, a
            list of tokens, a `ShopPage` (`title` is its text), or a `RoomView`.
        content: see `kind`.
        title: of a fold or a link; of a text or tokens, a remark below.
        class_: further class of the element.
    """

    who: str
    kind: Literal["text", "codes", "fold", "prompt", "link", "tokens", "page", "room"]
    content: Any
    title: str = ""
    class_: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A turn, or the end of an episode.

    Attributes:
        title: heading.
        parts: what was seen, written and done, in this order.
        verdicts: what was wrong with the answer or the command.
        facts: numbers of the turn.
        id: of the element; None for none.
    """

    title: str
    parts: Sequence[Part]
    verdicts: Sequence[str] = ()
    facts: Sequence[str] = ()
    id: str | None = None


class _Line(NamedTuple):
    text: str
    is_new: bool


class _Token(NamedTuple):
    text: str
    class_: str
    title: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A turn's prompt, and the teacher's if there is one.

    Attributes:
        messages: (role, content) of each message.
        teacher: lines of the teacher's prompt, with their ends, and whether the student's prompt lacks them; None if
            there is no teacher.
        size: characters in all.
    """

    messages: Sequence[tuple[str, str]]
    teacher: Sequence[_Line] | None
    size: int


def make_address(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return a path with its query."""
    query = urlencode(list(parameters), errors="replace")
    return f"{path}?{query}" if query else path


def episode_address(episode: EpisodeId, *, path: str = "/episode", more: Iterable[tuple[str, str]] = ()) -> str:
    """Return the viewer's address of an episode.

    Args:
        episode: its identity.
        path: path of the page.
        more: further parameters.
    """
    key = [("env", episode.env_id), ("task", episode.task_id), ("seed", str(episode.seed))]
    # Defaults are left out to keep addresses readable.
    key += [("attempt", str(episode.attempt))] if episode.attempt != 1 else []
    key += [("copy", str(episode.copy))] if episode.copy else []
    return make_address(path, [*key, *more])


def outcome_tag(outcome: str) -> Tag:
    """Return `won`, `lost` or `error` as a tag."""
    return Tag(outcome, _OUTCOMES.get(outcome, "quiet"))


def has_tokens(trajectory: Mapping[str, Any]) -> bool:
    """Return whether a trajectory has the gap and gate of tokens, so that a page needs their legend."""
    return any(isinstance(turn, Mapping) and bool(turn.get("tokens")) for turn in trajectory["turns"])


def sections_of(
    trajectory: Mapping[str, Any], *, longest: int | None = None, prompt_address: str | None = None
) -> list[Section]:
    """Return all turns of a trajectory, and the observation after the last.

    Args:
        trajectory: a row of `trajectories.jsonl`. Missing fields are left out; those of an unexpected form are shown
            as JSON.
        longest: characters of a text that are shown; None for all.
        prompt_address: address of the page of a long prompt, to which the turn's number is appended; None leaves out
            prompts, and the ids of turns, which must not repeat on a page with several episodes.
    """
    guide = RoomGuide()
    sections = []
    for i, turn in enumerate(trajectory["turns"], 1):
        shown = turn if isinstance(turn, Mapping) else {"observation": turn}
        sections.append(_section(shown, i, longest, prompt_address, guide.view(shown)))
    last = trajectory.get("final_observation")
    if last not in (None, ""):
        identity = None if prompt_address is None else "end"
        end = {"observation": last}
        sections.append(Section("End", [*observed(end, longest), *_room(guide.view(end))], id=identity))
    return sections


def prompt_of(turn: Mapping[str, Any]) -> Prompt | None:
    """Return the prompt of a turn; None if no model was asked."""
    if not turn.get("messages"):
        return None
    messages = [
        (str(message.get("role", "")), message["content"])
        if isinstance(message, Mapping) and isinstance(message.get("content"), str)
        else ("message", _value(message))
        for message in _listed(turn["messages"])
    ]
    size = len(json.dumps(turn["messages"], ensure_ascii=False))
    if turn.get("teacher_prompt") is None:
        return Prompt(messages, None, size)
    text = _value(turn["teacher_prompt"])
    known = {line.strip() for _, content in messages for line in content.splitlines()} | _ROLES
    lines = [_Line(line, _MARKS.sub("", line).strip() not in known) for line in text.splitlines(keepends=True)]
    return Prompt(messages, lines, size + len(text))


def observed(turn: Mapping[str, Any], longest: int | None) -> list[Part]:
    """Return the observation of a turn: a shop's page as a page, all else as text; nothing if there is none."""
    if turn.get("observation") is None:
        return []
    page = page_of(turn)
    text = _text("Observation", turn["observation"], longest)
    # In a report, a page is at most ten times as long as other texts.
    if page is None or (longest is not None and len(turn["observation"]) > 10 * longest):
        return [text]
    return [Part("Observation", "page", page, text.content)]


def verdicts_of(turn: Mapping[str, Any]) -> list[str]:
    """Return what was wrong with the answer or the command, in words."""
    words = [word for name, word in _VERDICTS.items() if turn.get(name) is False]
    return [*words, "cut at the token limit"] if turn.get("finish_reason") == "length" else words


def _room(view: RoomView | None) -> list[Part]:
    return [] if view is None else [Part("", "room", view)]


def _section(
    turn: Mapping[str, Any], i: int, longest: int | None, prompt_address: str | None, room: RoomView | None
) -> Section:
    verdicts = verdicts_of(turn)
    parts = [*observed(turn, longest), *_room(room)]
    if turn.get("skills"):
        parts.append(Part("Skills", "codes", [_value(skill) for skill in _listed(turn["skills"])]))
    if turn.get("admissible_commands"):
        parts.append(_commands(_listed(turn["admissible_commands"]), longest))
    prompt = None if prompt_address is None else prompt_of(turn)
    if prompt is not None:
        parts.append(_prompt_part(prompt, f"{prompt_address}{i}"))
    if turn.get("reasoning"):
        parts.append(_text("Reasoning", turn["reasoning"], longest))
    if turn.get("tokens"):
        parts.append(_tokens(_listed(turn["tokens"])))
    elif turn.get("response") is not None:
        parts.append(_text("Response", turn["response"], longest))
    if turn.get("action") is not None:
        parts.append(_text("Action", turn["action"], longest, class_=f"action{' refused' if verdicts else ''}"))
    facts = [f"{name} {_value(turn[name])}" for name in _FACTS if turn.get(name) is not None]
    return Section(f"Turn {i}", parts, verdicts, facts, None if prompt_address is None else f"t{i}")


def _commands(commands: Sequence[Any], longest: int | None) -> Part:
    text = "\n".join(map(_value, commands))
    title = f"{len(commands)} admissible command{'s' if len(commands) != 1 else ''}"
    return Part("", "fold", text if longest is None else text[:longest], title)


def _prompt_part(prompt: Prompt, address: str) -> Part:
    count = len(prompt.messages)
    both = "" if prompt.teacher is None else " and the teacher's"
    title = f"Prompt: {count} {'message' if count == 1 else 'messages'}{both}, {prompt.size:,} characters"
    if prompt.size > _LONGEST_PROMPT:
        return Part("", "link", address, title)
    return Part("", "prompt", prompt, title)


def _tokens(tokens: Sequence[Any]) -> Part:
    shown, gaps, gates = [], [], []
    for token in tokens:
        if not isinstance(token, Mapping):
            shown.append(_Token(_value(token), "", ""))
            continue
        gap, gate = (token.get(name) if NUMBER.accepts(token.get(name)) else None for name in ("gap", "gate"))
        classes, says = [], []
        if gap is not None:
            gaps.append(gap)
            says.append(f"gap {gap:+.3f} nats")
            level = sum(abs(gap) >= least for least in _GAP_LEVELS)
            classes += [f"{'up' if gap > 0 else 'down'}{level}"] if level else []
        if gate is not None:
            gates.append(gate)
            says.append(f"gate {gate:.3f}")
            level = min(4, int(gate * 5)) if gate > 0 else 0
            classes += [f"gate{level}"] if level else []
        shown.append(_Token(_value(token.get("text", "")), " ".join(classes), ", ".join(says)))
    means = [f"mean {name} {number(fmean(values))}" for name, values in (("gap", gaps), ("gate", gates)) if values]
    return Part("Response", "tokens", shown, f"{len(tokens)} tokens, {', '.join(means)}" if means else "")


def _text(who: str, value: Any, longest: int | None, class_: str = "") -> Part:
    text = _value(value)
    if longest is None or len(text) <= longest:
        return Part(who, "text", text, class_=class_)
    remark = f"{len(text) - longest:,} more characters are in the file."
    return Part(who, "text", text[:longest] + "…", remark, class_)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
