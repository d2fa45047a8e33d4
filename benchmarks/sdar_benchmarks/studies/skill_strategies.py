"""Simulation of skill retrieval strategies (bandits) in a world where the effect of every skill is known.

    python -m sdar_benchmarks.studies.skill_strategies --output benchmarks/studies

It takes about six minutes on one core.

The library has six task types, six skills for each and six general ones. A skill adds its effect to the probability of
success; the effect differs between task types and is mostly negative where the skill does not belong. At each step 16
groups of 8 episodes are played, as in SDAR's settings; in each group one episode is a control without a skill, and for
each of the others the strategy chooses one skill. Rewards are 0 or 1. The showings go into a real ledger, and the
strategies are the package's retrievers.

The student reads the skill here, as in Skill-GRPO. Where only a teacher reads it, as in SDAR, rewards carry no
information about skills, and there is nothing to learn from them.

All choices of a step are made before its rewards are known, so UCB shows the seven episodes of a group the same skill.
Compared with the group's mean, which is one eighth control and seven eighths skill, a skill's advantage is one eighth
of its difference to the control. The order of skills stays the same, but an exploration constant meant for whole
differences is eight times too large; the scenarios measure what that costs, and that dividing the constant by eight
removes it. They also measure the effect of discounting when effects drift (first-order autoregression with a time
constant of 50 steps).

Written: `skill_strategies.json` with all curves, and `skill_strategies.svg`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sdar_envs import Task
from sdar_envs.errors import MissingExtra
from sdar_envs.importing import import_extra
from sdar_envs.storage import write_atomic
from sdar_skills.evidence.ledger import Ledger, showings_of_group
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Retriever, Skill
from sdar_skills.retrieval.bandits import HybridRetriever, ThompsonRetriever, UcbRetriever
from sdar_skills.retrieval.strategies import RandomRetriever

__all__ = ["SCENARIOS", "STRATEGIES", "Curve", "Scenario", "main", "plot", "simulate", "summarize"]

_TYPES = tuple(f"kind_{letter}" for letter in "abcdef")
_SKILLS_PER_TYPE = 6
_TASKS_PER_STEP = 16
_GROUP = 8
_CONTROLS = 1
_MEMORY = 50  # steps: time constant of the drift
_POINTS = 30  # of a curve in the figure

# Mean and standard deviation of what a skill adds to the chance of success.
_FITTING = (0.05, 0.10)
_GENERAL = (0.02, 0.06)
_MISPLACED = (-0.03, 0.05)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings of a simulation.

    Attributes:
        drifts: whether effects of skills drift over time.
        gamma: discount of the statistics per step.
        baseline: what rewards are compared with, as in `showings_of_group`.
    """

    drifts: bool
    gamma: float
    baseline: Literal["control", "group"]


SCENARIOS: Mapping[str, Scenario] = {
    "fixed worths, compared with the control": Scenario(drifts=False, gamma=1.0, baseline="control"),
    "fixed worths, compared with the group's mean": Scenario(drifts=False, gamma=1.0, baseline="group"),
    "drifting worths, discount 0.99": Scenario(drifts=True, gamma=0.99, baseline="control"),
    "drifting worths, no discount": Scenario(drifts=True, gamma=1.0, baseline="control"),
}


class World:
    """Simulated environment: skills, task types, and the true effect of each skill at the present step.

    Args:
        seed: seed of the effects and their drift.
        drifts: whether effects drift over time.
    """

    def __init__(self, seed: int, *, drifts: bool) -> None:
        self._rng = np.random.default_rng(seed)
        self._drifts = drifts
        types: list[str | None] = [kind for kind in _TYPES for _ in range(_SKILLS_PER_TYPE)] + [None] * _SKILLS_PER_TYPE
        self.library = Library(
            Skill(f"skill-{number:02d}", "toy", kind, "A made-up skill.", f"Advice {number}.")
            for number, kind in enumerate(types)
        )
        self._number = {skill: number for number, skill in enumerate(self.library)}
        spreads = [
            [_GENERAL if kind is None else _FITTING if kind == context else _MISPLACED for context in _TYPES]
            for kind in types
        ]
        self._means, self._deviations = np.moveaxis(np.array(spreads), 2, 0)
        self._worths: NDArray[np.float64] = self._rng.normal(self._means, self._deviations)
        self._chances = self._rng.uniform(0.3, 0.6, len(_TYPES))

    def move(self) -> None:
        """Advance the drift by one step."""
        if self._drifts:
            kept = math.exp(-1 / _MEMORY)
            news = self._rng.normal(0.0, self._deviations * math.sqrt(1 - kept * kept))
            self._worths = self._means + kept * (self._worths - self._means) + news

    def chance(self, skill: Skill | None, task_type: str) -> float:
        """Return the probability of success with a skill, or with none."""
        context = _TYPES.index(task_type)
        worth = 0.0 if skill is None else self._worths[self._number[skill], context]
        return float(min(max(self._chances[context] + worth, 0.0), 1.0))

    def best(self, task_type: str) -> Skill:
        """Return the skill with the largest effect."""
        return max(self.library, key=lambda skill: self.chance(skill, task_type))


@dataclass(frozen=True, slots=True)
class _Oracle:
    world: World

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        return (Retrieved(self.world.best(task.task_type), 0.0, "knows"),)


STRATEGIES: Mapping[str, Callable[[World, Statistics], Retriever]] = {
    "random": lambda world, _: RandomRetriever(world.library),
    "ucb, c = 1.0": lambda world, known: UcbRetriever(world.library, statistics=known, c=1.0, refresh=False),
    "ucb, c = 0.3": lambda world, known: UcbRetriever(world.library, statistics=known, c=0.3, refresh=False),
    "thompson": lambda world, known: ThompsonRetriever(world.library, statistics=known, refresh=False),
    "task type, then ucb, c = 0.3": lambda world, known: HybridRetriever(
        world.library, statistics=known, refresh=False
    ),
    "task type, then ucb, c = 0.3 / 8": lambda world, known: HybridRetriever(
        world.library, statistics=known, c=0.3 / _GROUP, refresh=False
    ),
    "oracle": lambda world, _: _Oracle(world),
}


@dataclass(frozen=True, slots=True)
class Curve:
    """Result of one strategy in one world: means per step over the episodes that it chose for.

    Attributes:
        regret: (steps,), probability of success with the best skill minus that with the one shown.
        uplift: (steps,), probability of success with the skill shown minus that without any.
        possible: (steps,), the uplift of the best skill.
    """

    regret: NDArray[np.float64]
    uplift: NDArray[np.float64]
    possible: NDArray[np.float64]


def simulate(strategy: str, scenario: Scenario, seed: int, steps: int) -> Curve:
    """Simulate a strategy for a number of training steps.

    Args:
        strategy: name in `STRATEGIES`.
        scenario: settings of the simulation.
        seed: seed of the world, the tasks and all random numbers; equal seeds give the same world and tasks.
        steps: number of training steps.
    """
    world = World(seed, drifts=scenario.drifts)
    tasks, rng = random.Random(f"tasks {seed}"), random.Random(f"draws {seed}")
    regret, uplift, possible = (np.zeros(steps) for _ in range(3))
    with Ledger(None) as ledger:
        statistics = Statistics(ledger, gamma=scenario.gamma)
        retriever = STRATEGIES[strategy](world, statistics)
        for step in range(steps):
            showings = []
            asked = 0
            for number in range(_TASKS_PER_STEP):
                kind = _TYPES[int(tasks.random() * len(_TYPES))]
                task = Task(f"toy/train/{step:05d}-{number:02d}", "toy", "train", kind, "")
                best, plain = world.chance(world.best(kind), kind), world.chance(None, kind)
                shown: list[list[Skill]] = [[] for _ in range(_CONTROLS)]
                shown += [
                    [found.skill for found in retriever.retrieve(task, 1, None, rng)] for _ in range(_GROUP - _CONTROLS)
                ]
                chances = [world.chance(skills[0] if skills else None, kind) for skills in shown]
                for chance in chances[_CONTROLS:]:
                    regret[step] += best - chance
                    uplift[step] += chance - plain
                    possible[step] += best - plain
                    asked += 1
                rewards = [float(rng.random() < chance) for chance in chances]
                showings += showings_of_group(
                    task, shown, rewards, scenario.baseline, run="simulation", step=step, strategy=strategy
                )
            for values in (regret, uplift, possible):
                values[step] /= asked
            ledger.append(showings)
            statistics.refresh()
            world.move()
    return Curve(regret, uplift, possible)


def summarize(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return means over seeds with the half width of their 95 % intervals (normal, over seeds).

    Returns:
        `captured`: the share of the possible uplift over all steps, `captured_late`: over the last fifth;
        `regret`: summed from the first step to each, per episode.
    """

    def share(curve: Curve, first: int) -> float:
        return float(curve.uplift[first:].sum() / curve.possible[first:].sum())

    late = len(curves[0].regret) * 4 // 5
    return {
        "captured": _interval(np.array([share(curve, 0) for curve in curves])),
        "captured_late": _interval(np.array([share(curve, late) for curve in curves])),
        "regret": _interval(np.array([curve.regret.cumsum() for curve in curves])),
    }


def _interval(values: NDArray[np.float64]) -> dict[str, Any]:
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    half = 1.96 * spread / math.sqrt(len(values))
    return {"mean": values.mean(axis=0).round(4).tolist(), "half_width": half.round(4).tolist()}


def plot(record: Mapping[str, Any], folder: Path) -> Path:
    """Plot the cumulative regret of all strategies, one panel per scenario.

    Args:
        record: what `main` writes as JSON.
        folder: folder of `skill_strategies.svg`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    matplotlib = import_extra("matplotlib", extra="plots", purpose="the figure")
    figures = import_extra("matplotlib.figure", extra="plots", purpose="the figure")
    scenarios = record["scenarios"]
    # The salt makes the SVG's ids, and so the file, the same every time.
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "sdar"}):
        columns = min(2, len(scenarios))
        rows = math.ceil(len(scenarios) / columns)
        figure = figures.Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flat
        for panel, (title, scenario) in zip(panels, scenarios.items(), strict=False):
            for number, (name, summary) in enumerate(scenario["strategies"].items()):
                mean = np.array(summary["regret"]["mean"])
                half = np.array(summary["regret"]["half_width"])
                at = np.arange(0, len(mean), max(1, len(mean) // _POINTS))
                label = f"{name} ({summary['captured']['mean']:.2f})"
                panel.plot(at + 1, mean[at], color=f"C{number}", linewidth=1.4, label=label)
                low, high = (mean - half)[at], (mean + half)[at]
                panel.fill_between(at + 1, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
            panel.set_title(title, fontsize=10)
            panel.legend(fontsize=7, title="strategy (share of uplift captured)", title_fontsize=7, frameon=False)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_xlabel("training step")
            panel.set_ylabel("summed regret per episode")
        path = folder / "skill_strategies.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


def main(argv: list[str] | None = None) -> int:
    """Run all simulations, print a table, and write the record and the figure."""
    parser = argparse.ArgumentParser(
        prog="python -m sdar_benchmarks.studies.skill_strategies", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for record and figure")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="worlds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=150, metavar="N", help="training steps (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 2 or arguments.steps < 5:
        parser.error(f"--seeds {arguments.seeds} --steps {arguments.steps}: wanted 2 seeds and 5 steps at least")
    try:
        import_extra("matplotlib", extra="plots", purpose="the figure")  # before the minutes of work, not after them
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stderr = Console(stderr=True)
    record: dict[str, Any] = {
        "version": importlib.metadata.version("sdar-envs"),
        "seeds": arguments.seeds,
        "steps": arguments.steps,
        "scenarios": {},
    }
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("simulating", total=len(SCENARIOS) * len(STRATEGIES) * arguments.seeds)
        for title, scenario in SCENARIOS.items():
            summaries = {}
            for strategy in STRATEGIES:
                curves = []
                for seed in range(arguments.seeds):
                    curves.append(simulate(strategy, scenario, seed, arguments.steps))
                    progress.advance(bar)
                summaries[strategy] = summarize(curves)
            record["scenarios"][title] = {"settings": asdict(scenario), "strategies": summaries}
    _print(record)
    write_atomic(arguments.output / "skill_strategies.json", json.dumps(record) + "\n")
    stderr.print(f"wrote {plot(record, arguments.output)}", markup=False, highlight=False)
    return 0


def _print(record: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    for title, scenario in record["scenarios"].items():
        table = Table(title=f"{title}: share of the possible uplift, {record['seeds']} worlds")
        table.add_column("strategy")
        table.add_column(f"all {record['steps']} steps", justify="right")
        table.add_column("last fifth", justify="right")
        for name, summary in scenario["strategies"].items():
            cells = (summary["captured"], summary["captured_late"])
            table.add_row(name, *(f"{cell['mean']:.2f} ± {cell['half_width']:.2f}" for cell in cells))
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
