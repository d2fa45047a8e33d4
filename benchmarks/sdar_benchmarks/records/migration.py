"""Migration of run folders from format 1 to format 2, on reading; the files stay as they are.

In format 1 one flag had two meanings. `is_action_valid` of an evaluated turn was false if the completion was malformed
*or* the environment refused the command, and `invalid_actions` counted such turns; in trajectories of a training run it
was false if the completion was malformed. Format 2 keeps both facts apart, `is_well_formed` and `is_action_valid`, and
`malformed_answers` and `invalid_actions`. What format 1 cannot tell apart becomes null, never a guess:

- evaluation, no model asked (`response` is null): `is_action_valid` was the environment's word;
- evaluation, a model asked: true meant that both hold; false meant either, so both are null and `is_usable` is false;
- training (the turn has token ids): the flag was `is_well_formed`, and the environment's word was not recorded.

Rows say themselves which format they have, because a resumed run appends rows of format 2 to those of format 1. In
`config.json`, `suites` became `panels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["migrate_config", "migrate_episodes", "migrate_trajectory"]


def migrate_config(config: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return a configuration of format 1 in the form of another format, with `migrated_from` in it.

    Args:
        config: what `config.json` holds.
        version: the format wanted.
    """
    renamed = {("panels" if name == "suites" else name): value for name, value in config.items()}
    return {**renamed, "format": version, "migrated_from": config["format"]}


def migrate_trajectory(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `trajectories.jsonl` in the form of format 2; one of format 2 as it is."""
    turns = row.get("turns")
    if not isinstance(turns, list) or not any(map(_is_old, turns)):
        return row
    return {**row, "turns": [_migrate_turn(turn) if _is_old(turn) else turn for turn in turns]}


def migrate_episodes(
    rows: Iterable[Mapping[str, Any]], trajectories: Callable[[], Iterable[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return rows of `episodes.jsonl` in the form of format 2; those of format 2 as they are.

    Args:
        rows: of the file.
        trajectories: reads the migrated trajectories; called only if a row needs them, since they can be large.
    """
    migrated = [dict(row) for row in rows]
    unclear = []
    for row in migrated:
        if "malformed_answers" in row or "invalid_actions" not in row:
            continue
        row["malformed_answers"] = None if row.get("completion_tokens") is None else 0
        if row["invalid_actions"]:
            unclear.append(row)
    if unclear:
        no_model = {_attempt(row) for row in trajectories() if _asked_no_model(row.get("turns"))}
        for row in unclear:
            row["malformed_answers"] = None
            if _attempt(row) not in no_model:
                row["invalid_actions"] = None
    return migrated


def _is_old(turn: Any) -> bool:
    return isinstance(turn, dict) and "is_action_valid" in turn and "is_well_formed" not in turn


def _migrate_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    flag = turn["is_action_valid"]
    if "prompt_ids" in turn:
        return {**turn, "is_well_formed": flag, "is_action_valid": None}
    if turn.get("response") is None:
        return {**turn, "is_well_formed": None}
    if flag:
        return {**turn, "is_well_formed": True}
    return {**turn, "is_well_formed": None, "is_action_valid": None, "is_usable": False}


def _asked_no_model(turns: Any) -> bool:
    return isinstance(turns, list) and all(isinstance(turn, dict) and turn.get("response") is None for turn in turns)


def _attempt(row: Mapping[str, Any]) -> tuple[str, ...]:
    # As text: what a row holds need not be hashable.
    return tuple(repr(row.get(name)) for name in ("env_id", "task_id", "seed", "attempt"))
