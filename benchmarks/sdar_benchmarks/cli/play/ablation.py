"""`sdar eval --skills-ablation`: which skills help a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_benchmarks.evaluation.evaluate import Evaluation
    from sdar_benchmarks.evaluation.presets import PresetRun

__all__ = ["play_ablation"]


def play_ablation(
    runs: Sequence[PresetRun],
    args: argparse.Namespace,
    out: Path | None,
    play: Callable[[PresetRun, argparse.Namespace, Path | None], Evaluation],
) -> None:
    """Play all conditions that are missing, print the effects and write them to the folder.

    Args:
        runs: one run of a model that reads skills.
        args: the parsed command line.
        out: the folder of the conditions.
        play: plays one of them.

    Raises:
        InvalidOption: there is no folder, a preset, or no skills.
        RunStopped: a run was stopped; `--resume` continues.
    """
    from sdar_benchmarks.analysis.ablation import ablation_markdown, effect_table, measure_effects
    from sdar_benchmarks.analysis.terminal import print_table
    from sdar_benchmarks.evaluation.ablation import (
        ALL,
        ablation_contrasts,
        first_conditions,
        left_out_conditions,
        shown_skills,
    )
    from sdar_envs.errors import InvalidOption
    from sdar_envs.storage import write_atomic

    if out is None:
        raise InvalidOption("an ablation is a folder of runs: name it with --out.")
    if args.preset or len(runs) != 1:
        raise InvalidOption("an ablation is of one run: leave out --preset, and name the environments.")
    evaluations = [play(condition, args, out) for condition in first_conditions(runs[0])]
    left_out = left_out_conditions(runs[0], shown_skills(out / ALL))
    evaluations += [play(condition, args, out) for condition in left_out.values()]
    ablation = measure_effects(ablation_contrasts(out, left_out), args.measure or "success")
    write_atomic(out / "ablation.json", json.dumps(ablation.to_json(), indent=1, ensure_ascii=False) + "\n")
    write_atomic(out / "ablation.md", ablation_markdown(ablation, _facts(evaluations[0].config)))
    print_table(effect_table(ablation))
    for warning in ablation.warnings:
        say(f"note: {warning}")
    say(f"report: {out / 'ablation.md'}")


def _facts(config: Mapping[str, Any]) -> dict[str, str]:
    settings = config["agent"]["settings"]
    skills = settings["skills"]
    return {
        "model": str(settings.get("model")),
        "panels": "; ".join(
            f"{panel['env_id']}, {panel['split']}, {panel['tasks']} tasks" for panel in config["panels"]
        ),
        "seeds": ", ".join(map(str, config["seeds"])),
        "skills": f"{skills['retriever']}, up to {skills['k']}, placement {skills['placement']}",
    }
