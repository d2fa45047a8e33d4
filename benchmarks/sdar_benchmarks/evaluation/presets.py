"""Evaluation presets: `quick`, a smoke test, and `paper`, the panels and sampling settings of SDAR's paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sdar_benchmarks.evaluation.panels import PanelSpec

__all__ = ["PRESETS", "PresetRun"]

_QUICK_TASKS = 100


@dataclass(frozen=True, slots=True)
class PresetRun:
    """One run of a preset.

    Attributes:
        name: name of its folder.
        panels: what to play.
        agent: name of the agent; None for the user's choice.
        settings: the agent's default settings, if it asks a model.
    """

    name: str
    panels: tuple[PanelSpec, ...]
    agent: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def _quick(env_ids: Sequence[str]) -> list[PresetRun]:
    """Return runs of the scripted, random and oracle agents on a few tasks of each environment."""
    panels = tuple(PanelSpec(env_id, limit=_QUICK_TASKS) for env_id in env_ids)
    return [PresetRun(agent, panels, agent) for agent in ("default", "random", "oracle")]


def _paper(env_ids: Sequence[str]) -> list[PresetRun]:
    """Return a run per environment with the panels and the sampling settings of SDAR's paper.

    ALFWorld and WebShop: 128 validation tasks, temperature 0.4, two turns of history. Search-QA: all test questions,
    greedy, four turns of history. Which split of ALFWorld the paper reports is not certain: the configuration of its
    code says `eval_in_distribution`, which is `valid_seen`. The code draws other tasks at each evaluation; these are
    the first 128 of `valid_seen`, and the goals 0 to 127 of WebShop, always. Tables and records name the split.

    Environments and prompts are this package's, with their defaults: the embedded tasks, whose numbers do not compare
    with the paper's, unless `data="official"` is given, and Search-QA without the reference's faults unless
    `compat="sdar"` is.
    """
    sampled = {"temperature": 0.4, "history_length": 2, "max_tokens": 512}
    greedy = {"temperature": 0.0, "history_length": 4, "max_tokens": 512}
    known = {
        "sdar/ALFWorld-v0": ("valid_seen", 128, sampled),
        "sdar/WebShop-v0": ("test", 128, sampled),
        "sdar/SearchQA-v0": ("test", None, greedy),
    }
    return [
        PresetRun(env_id.partition("/")[2], (PanelSpec(env_id, split, limit),), None, settings)
        for env_id, (split, limit, settings) in known.items()
        if env_id in env_ids
    ]


PRESETS: Mapping[str, Callable[[Sequence[str]], list[PresetRun]]] = MappingProxyType({"quick": _quick, "paper": _paper})
"""Presets by name: each returns its runs, given the ids of the environments."""
