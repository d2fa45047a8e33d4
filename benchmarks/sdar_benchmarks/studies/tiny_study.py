"""Comparison study on a CPU: demonstrations, supervised fine-tuning of a tiny model, GRPO and SDAR from it, a report.

    study(Path("runs/tiny"), StudySettings(seeds=3))

Every stage leaves a file or folder and is skipped if that exists; an interrupted training run is resumed from its last
checkpoint. For one seed, all methods start from the same checkpoint and see the same tasks, random numbers and panel.
Another seed has other demonstrations, weights, tasks and random numbers, and the same panel.

The study shows that the pieces work together. One seed does not tell which method is better: differences are reported
seed by seed, with the exact p-value of their signs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sdar_agents.settings.checks import check_value
from sdar_agents.sft.demonstrations import DemonstrationSettings, demonstrate, row_line
from sdar_agents.sft.tiny import TINY_MODELS
from sdar_agents.sft.warm_start import default_settings, warm_start
from sdar_agents.training.config import load_config
from sdar_agents.training.intervals import wilson_interval
from sdar_agents.training.trainer import CONFIG, Trainer
from sdar_benchmarks.analysis.statistics import sign_flip_test
from sdar_benchmarks.analysis.tables import TextTable
from sdar_benchmarks.records.metrics import METRICS, read_metrics
from sdar_benchmarks.records.provenance import training_facts
from sdar_benchmarks.reports.report import write_comparison
from sdar_envs.errors import InvalidOption, RunStopped, SdarError, UnknownName, did_you_mean
from sdar_envs.files.json_text import read_json_object
from sdar_envs.files.locks import writing_folder
from sdar_envs.registry import make_text_env
from sdar_envs.storage import write_atomic

__all__ = ["BAND", "StudySettings", "study", "study_table"]

BAND = (0.10, 0.60)
"""Success rates of the start between which methods can differ: below, none learns; above, all succeed."""

_SECONDS_BETWEEN_LOOKS = 0.5

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Settings of a study.

    Attributes:
        model: name in `sdar_agents.sft.tiny.TINY_MODELS`.
        episodes: number of demonstrated episodes, half of them with skills.
        readings: number of further episodes of which only the first turn is demonstrated, all with skills: without
            them a tiny model does not learn to read skills.
        methods: methods to train; the others are compared with the first.
        config: configuration of the training.
        overrides: overrides of that configuration, as on the command line.
        seed: the first seed, of everything but the panel.
        seeds: number of seeds; more can be added to a study later.
        jobs: number of training runs at a time, which share the processor's threads.
    """

    model: str = "tiny-1m"
    episodes: int = 1800
    readings: int = 8000
    methods: tuple[str, ...] = ("grpo", "sdar")
    config: str = "alfworld_sdar_tiny"
    overrides: tuple[str, ...] = ()
    seed: int = 0
    seeds: int = 1
    jobs: int = 2

    def __post_init__(self) -> None:
        for name, low in (("episodes", 1), ("readings", 1), ("seed", 0), ("seeds", 1), ("jobs", 1)):
            check_value(name, getattr(self, name), int, low=low)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InvalidOption(f"methods is {self.methods!r}; wanted at least one method, and each only once.")

    @property
    def all_seeds(self) -> range:
        """The seeds of all repetitions: `seed`, `seed + 1`, ..."""
        return range(self.seed, self.seed + self.seeds)


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a study with one seed.

    Attributes:
        folder: its folder.
        seed: seed of everything but the panel.
        settings: settings of the study.
    """

    folder: Path
    seed: int
    settings: StudySettings

    @property
    def sft(self) -> Path:
        return self.folder / "sft"

    def arguments(self, method: str) -> list[str]:
        """Return the overrides of a training run's configuration."""
        given = ["--method", method, "--model.path", str(self.sft / "model"), "--seed", str(self.seed)]
        return [*given, "--log.progress", "false", *self.settings.overrides]


def study(folder: Path, settings: StudySettings, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Run a study, or the stages of it that are missing.

    Args:
        folder: folder of the study.
        settings: settings of the study.
        progress: called with the stage, how much of it is done, and how much there is to do.

    Returns:
        The content of `study.json`: success on the panel at the start and at the end, by evaluation, method and seed,
        and the differences to the first method.

    Raises:
        InvalidOption: the folder holds a study with other settings, another process writes to it, or a setting is out
            of range.
        UnknownName: there is no such model, method or setting.
        RunStopped: a stage failed; finished stages are kept.
    """
    # Names are checked before the first stage, which can take hours.
    if settings.model not in TINY_MODELS:
        raise UnknownName(
            f"no tiny model {settings.model!r}; there is {', '.join(TINY_MODELS)}."
            f"{did_you_mean(settings.model, TINY_MODELS)}"
        )
    parts = [_Part(folder / f"seed-{seed}", seed, settings) for seed in settings.all_seeds]
    configs = [load_config(settings.config, parts[0].arguments(method)) for method in settings.methods]
    config = configs[0]
    make_text_env(config.rollout.env_id, **config.rollout.env_kwargs)
    if not (config.evaluation.every and config.evaluation.at_start and config.evaluation.tasks):
        raise InvalidOption("evaluation is off, and a study compares evaluations: set every, at_start and tasks.")
    with writing_folder(folder):
        _claim(folder, settings)
        return _run_stages(folder, parts, config, progress)


def _run_stages(folder: Path, parts: Sequence[_Part], config: Any, progress: Progress) -> dict[str, Any]:
    for part in parts:
        demonstrations = []
        for kind, shown in _demonstrations(part, config.rollout).items():
            demonstrations.append(part.folder / f"{kind}.jsonl")
            if not demonstrations[-1].exists():
                _demonstrate(demonstrations[-1], shown, progress)
        _fine_tune(part, demonstrations, progress)
    _train_all(parts, config.all_steps, progress)
    result = _result(parts)
    write_atomic(folder / "study.json", json.dumps(result, indent=1) + "\n")
    runs = [part.folder / method for part in parts for method in part.settings.methods]
    if len(runs) > 1:
        write_comparison(runs, folder / "report.html")
    return result


def study_table(result: Mapping[str, Any]) -> TextTable:
    """Return the success rates of a study: mean and range over seeds, or for one seed the rate and its interval."""
    methods = list(next(iter(result["evaluations"].values()))["end"])
    rows = []
    for way, rates in result["evaluations"].items():
        cells = [_rate(rates["start"], result["panel"])]
        cells += [_rate(rates["end"][method], result["panel"]) for method in methods]
        cells += [_difference(rates["differences"][method]) for method in methods[1:]]
        rows.append((way.replace("_", " "), *cells))
    others = [f"{method} - {methods[0]}" for method in methods[1:]]
    return TextTable(("evaluation", "start", *methods, *others), tuple(rows))


def _rate(rates: Sequence[float], tasks: int) -> str:
    low, high = min(rates), max(rates)
    if len(rates) == 1:
        low, high = wilson_interval(round(rates[0] * tasks), tasks)
    return f"{sum(rates) / len(rates):.1%} ({100 * low:.1f}-{100 * high:.1f})"


def _difference(found: Mapping[str, Any]) -> str:
    each = ", ".join(f"{100 * value:+.1f}" for value in found["by_seed"])
    return each if len(found["by_seed"]) == 1 else f"{100 * found['mean']:+.1f} ({each}; p = {found['p']:.2f})"


def _claim(folder: Path, settings: StudySettings) -> None:
    path = folder / "settings.json"
    # More jobs change only the speed, and more seeds only add results.
    wanted = {name: value for name, value in asdict(settings).items() if name not in ("jobs", "seeds")}
    wanted = json.loads(json.dumps(wanted))  # tuples are lists in the file
    if path.exists():
        found = read_json_object(path)
        if found != wanted:
            changed = [name for name in wanted if found.get(name) != wanted[name]]
            raise InvalidOption(
                f"{folder} is a study with other settings: {', '.join(changed)} changed. Choose another folder."
            )
        return
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise InvalidOption(f"{folder} exists and is no study: choose another folder.")
    write_atomic(path, json.dumps(wanted, indent=1) + "\n")


def _demonstrations(part: _Part, rollout: Any) -> dict[str, DemonstrationSettings]:
    """Return the demonstrations by the name of their file: whole episodes, and first turns with skills."""
    settings = part.settings
    episodes = DemonstrationSettings(
        env_id=rollout.env_id,
        env_kwargs={**rollout.env_kwargs, "max_steps": 30},
        episodes=settings.episodes,
        # Each seed has tasks of its own.
        first=part.seed * (settings.episodes + settings.readings),
        guesses=True,
        noise=0.25,
        again=False,
        with_skills=0.5,
        retriever="home",
        history_length=rollout.history_length,
        terse=rollout.terse,
        seed=part.seed,
    )
    readings = replace(
        episodes,
        episodes=settings.readings,
        first=episodes.first + settings.episodes,
        turns=1,
        noise=0.0,
        with_skills=1.0,
    )
    return {"episodes": episodes, "readings": readings}


def _demonstrate(path: Path, shown: DemonstrationSettings, progress: Callable[[str, int, int | None], None]) -> None:
    def lines() -> Iterator[str]:
        for done, played in enumerate(demonstrate(shown), 1):
            progress(f"demonstrations, {path.stem}", done, shown.episodes)
            yield from map(row_line, played.rows)

    write_atomic(path, lines())


def _fine_tune(part: _Part, demonstrations: Sequence[Path], progress: Progress) -> None:
    settings = part.settings
    warm_start(
        settings.model,
        demonstrations,
        part.sft,
        replace(default_settings(settings.model), seed=part.seed),
        resume=(part.sft / "config.json").is_file(),
        log=lambda measures: progress(f"fine-tuning, seed {part.seed}", int(measures["step"]), int(measures["steps"])),
    )


def _train_all(parts: Sequence[_Part], steps: int, progress: Progress) -> None:
    """Run the missing trainings, `jobs` at a time, and report progress from their metrics."""
    settings = parts[0].settings
    last = f"step-{steps:06d}"
    runs = [(part, method) for part in parts for method in settings.methods]
    waiting = [(part, method) for part, method in runs if not (part.folder / method / "checkpoints" / last).is_dir()]

    def look() -> None:
        done = sum(min(_steps(part.folder / method), steps) for part, method in runs)
        progress("training", done, steps * len(runs))

    if settings.jobs == 1:
        for part, method in waiting:
            _train(part, method, None)
            look()
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // settings.jobs)
    running: dict[Path, Any] = {}
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < settings.jobs:
                part, method = waiting.pop(0)
                process = context.Process(target=_train, args=(part, method, threads))
                process.start()
                running[part.folder / method] = process
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            look()
            for run, process in list(running.items()):
                if not process.is_alive():
                    del running[run]
                    failed += [str(run)] if process.exitcode else []
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    if failed:
        raise RunStopped(
            f"training failed in {', '.join(failed)}; its error is printed above, and its checkpoints are kept. Run "
            "the same command again to continue."
        )


def _train(part: _Part, method: str, threads: int | None) -> None:
    """Train with one method. With `threads`, this is the main function of a process of its own."""
    if threads is not None:
        torch.set_num_threads(threads)
    run = part.folder / method
    config = load_config(part.settings.config, part.arguments(method))
    try:
        Trainer(config, run, resume=(run / CONFIG).exists(), facts=training_facts()).run()
    except SdarError as error:
        if threads is None:
            raise
        raise SystemExit(f"error: {run}: {' '.join(str(error).split())}") from error


def _steps(run: Path) -> int:
    """Return the number of steps in a run's metrics."""
    if not (run / METRICS).exists():
        return 0
    return int(max((points[-1][0] for points in read_metrics(run).values()), default=0))


def _result(parts: Sequence[_Part]) -> dict[str, Any]:
    methods = parts[0].settings.methods
    metrics = {(part.seed, method): read_metrics(part.folder / method) for part in parts for method in methods}
    first = metrics[parts[0].seed, methods[0]]
    evaluations: dict[str, Any] = {}
    for name in first:
        _, _, way = name.removesuffix("/success").rpartition("/")
        if name != f"eval/{way}/success":
            continue
        end = {method: [metrics[part.seed, method][name][-1][1] for part in parts] for method in methods}
        differences = {}
        for method in methods[1:]:
            by_seed = [other - one for one, other in zip(end[methods[0]], end[method], strict=True)]
            p = sign_flip_test(by_seed).p
            differences[method] = {"by_seed": by_seed, "mean": sum(by_seed) / len(by_seed), "p": p}
        # Before the first step all methods are the same model.
        start = [metrics[part.seed, methods[0]][name][0][1] for part in parts]
        evaluations[way] = {"start": start, "end": end, "differences": differences}
    starts = evaluations.get("greedy", {}).get("start")
    return {
        "seeds": [part.seed for part in parts],
        "panel": int(
            next(
                points[0][1]
                for name, points in first.items()
                if name.startswith("eval/") and name.endswith("/episodes")
            )
        ),
        "evaluations": evaluations,
        "start_is_in_band": None if starts is None else all(BAND[0] <= start <= BAND[1] for start in starts),
        "note": "One seed says that the pieces work, not which method is better."
        if len(parts) == 1
        else f"With {len(parts)} seeds p is {2.0 ** (1 - len(parts)):.2g} or more, whatever the differences.",
    }
