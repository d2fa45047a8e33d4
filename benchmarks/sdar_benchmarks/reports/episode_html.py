"""An episode as HTML, turn by turn: for the viewer and for the reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any
from urllib.parse import urlencode

from sdar_benchmarks.records.trajectories import EpisodeId
from sdar_benchmarks.reports.markup import Html, attribute, details, element, inline
from sdar_benchmarks.reports.plot import number

__all__ = ["TOKEN_LEGEND", "episode_address", "make_address", "outcome_tag", "prompt_html", "turns_html"]

_LONGEST_PROMPT = 20_000
_GAP_LEVELS = (0.05, 0.25, 0.75, 1.5)
_VERDICTS = {
    "is_well_formed": "malformed answer",
    "is_action_valid": "invalid action",
    # Of format 1, which did not tell the two apart.
    "is_usable": "malformed or invalid",
}


def _legend() -> Html:
    def keys(levels: Iterable[tuple[str, str]]) -> Html:
        spans = (Html(f'<span class="{name}">&nbsp;{label}&nbsp;</span>') for name, label in levels)
        return element("span", *spans, class_="tokens")

    down = [(f"down{i}", f"−{_GAP_LEVELS[i - 1]}") for i in (4, 3, 2, 1)]
    up = [(f"up{i}", f"+{_GAP_LEVELS[i - 1]}") for i in (1, 2, 3, 4)]
    return element(
        "p",
        "Ground of a token: the gap, its log-probability with the teacher's skills minus without, in nats; from ",
        keys(down),
        " the teacher finds it less likely, from ",
        keys(up),
        " more likely. Line below: the gate, from ",
        keys((f"gate{i}", f"{i / 5:.1f}") for i in (1, 2, 3, 4)),
        ". A token's own numbers show when the pointer rests on it.",
        class_="quiet",
    )


TOKEN_LEGEND = _legend()
"""What the colours of tokens mean."""


def make_address(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return an address with its parameters."""
    query = urlencode(list(parameters), errors="replace")
    return f"{path}?{query}" if query else path


def episode_address(episode: EpisodeId, *, path: str = "/episode", more: Iterable[tuple[str, str]] = ()) -> str:
    """Return where the viewer shows an episode.

    Args:
        episode: tells it apart.
        path: of the page.
        more: further parameters.
    """
    key = [("env", episode.env_id), ("task", episode.task_id), ("seed", str(episode.seed))]
    # What is as usual is left out: addresses are read by people too.
    key += [("attempt", str(episode.attempt))] if episode.attempt != 1 else []
    key += [("copy", str(episode.copy))] if episode.copy else []
    return make_address(path, [*key, *more])


def outcome_tag(outcome: str) -> Html:
    """Return `won`, `lost` or `error` as a tag."""
    return element(
        "span", outcome, class_=f"tag {'good' if outcome == 'won' else 'bad' if outcome == 'error' else 'quiet'}"
    )


def turns_html(trajectory: Mapping[str, Any], *, longest: int | None = None, prompt_address: str | None = None) -> Html:
    """Return all turns of a trajectory, and the observation after the last.

    Args:
        trajectory: a row of `trajectories.jsonl`. What it lacks is left out; what has an unexpected form is shown as
            JSON.
        longest: characters of a text that are shown; None for all.
        prompt_address: where a long prompt can be read, followed by the turn's number; None leaves prompts out, and
            the ids of turns, which a page with several episodes must not repeat.
    """
    turns = [
        _turn(turn if isinstance(turn, Mapping) else {"observation": turn}, i, longest, prompt_address)
        for i, turn in enumerate(trajectory["turns"], 1)
    ]
    last = trajectory.get("final_observation")
    if last not in (None, ""):
        end = element(
            "section",
            element("h3", "End"),
            _says("Observation", _text(last, longest)),
            class_="turn",
            id=None if prompt_address is None else "end",
        )
        turns.append(end)
    return Html("".join(turns))


def prompt_html(messages: Any) -> Html:
    """Return a prompt's messages."""
    parts = []
    for message in _listed(messages):
        if isinstance(message, Mapping) and isinstance(message.get("content"), str):
            parts.append(_says(str(message.get("role", "")), _text(message["content"], None)))
        else:
            parts.append(_says("message", _text(message, None)))
    return Html("".join(parts))


def _turn(turn: Mapping[str, Any], i: int, longest: int | None, prompt_address: str | None) -> Html:
    verdicts = [word for name, word in _VERDICTS.items() if turn.get(name) is False]
    facts: list[str] = [element("span", word, class_="tag bad") for word in verdicts]
    facts += [f"{name} {_value(turn[name])}" for name in ("score", "reward") if turn.get(name) is not None]
    parts = [element("h3", f"Turn {i} ", element("span", *_between(facts), class_="quiet"))]
    if turn.get("observation") is not None:
        parts.append(_says("Observation", _text(turn["observation"], longest)))
    if turn.get("skills"):
        skills = [element("code", _value(skill)) for skill in _listed(turn["skills"])]
        parts.append(_says("Teacher's skills", element("p", *_between(skills))))
    if turn.get("admissible_commands"):
        commands = [_value(command) for command in _listed(turn["admissible_commands"])]
        title = f"{len(commands)} admissible command{'s' if len(commands) != 1 else ''}"
        parts.append(_says("", details(title, _text("\n".join(commands), longest), class_="fold")))
    if prompt_address is not None and turn.get("messages"):
        parts.append(_says("", _prompt(turn["messages"], i, prompt_address)))
    if turn.get("reasoning"):
        parts.append(_says("Reasoning", _text(turn["reasoning"], longest)))
    if turn.get("tokens"):
        parts.append(_says("Response", _tokens(_listed(turn["tokens"]))))
    elif turn.get("response") is not None:
        parts.append(_says("Response", _text(turn["response"], longest)))
    if turn.get("action") is not None:
        refused = " refused" if verdicts else ""
        parts.append(_says("Action", _text(turn["action"], longest), class_=f"action{refused}"))
    return element("section", *parts, class_="turn", id=None if prompt_address is None else f"t{i}")


def _prompt(messages: Any, i: int, address: str) -> Html:
    size = len(json.dumps(messages, ensure_ascii=False))
    count = len(_listed(messages))
    title = f"Prompt: {count} {'message' if count == 1 else 'messages'}, {size:,} characters"
    if size > _LONGEST_PROMPT:
        return element("p", element("a", title, href=f"{address}{i}"), class_="fold")
    return details(title, prompt_html(messages), class_="fold prompt")


def _tokens(tokens: Sequence[Any]) -> Html:
    spans, gaps, gates = [], [], []
    for token in tokens:
        if not isinstance(token, Mapping):
            spans.append(inline(_value(token)))
            continue
        gap, gate = (token.get(name) if isinstance(token.get(name), (int, float)) else None for name in ("gap", "gate"))
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
        title = f' title="{attribute(", ".join(says))}"' if says else ""
        spans.append(Html(f'<span class="{" ".join(classes)}"{title}>{inline(_value(token.get("text", "")))}</span>'))
    means = [f"mean {name} {number(fmean(values))}" for name, values in (("gap", gaps), ("gate", gates)) if values]
    summary = element("p", f"{len(tokens)} tokens, {', '.join(means)}", class_="quiet") if means else Html()
    return Html(element("pre", *spans, class_="tokens") + summary)


def _says(who: str, *content: str, class_: str = "") -> Html:
    return element("div", element("div", who, class_="who"), element("div", *content), class_=f"says {class_}".strip())


def _text(value: Any, longest: int | None) -> Html:
    text = _value(value)
    if longest is not None and len(text) > longest:
        return Html(
            element("pre", text[:longest] + "…")
            + element("p", f"{len(text) - longest:,} more characters are in the file.", class_="quiet")
        )
    return element("pre", text)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _between(parts: Sequence[str]) -> list[str]:
    return [piece for i, part in enumerate(parts) for piece in ([" · ", part] if i else [part])]
