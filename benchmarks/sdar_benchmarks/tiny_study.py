"""A whole study for a CPU: demonstrations, a tiny model that learns from them, GRPO and SDAR from there, a report.

    study(Path("runs/tiny"), StudySettings())

Every stage leaves a file or folder, and is not done again if it is there; a training run that was interrupted goes on
from its last checkpoint. All methods start from the same checkpoint and see the same tasks, draws and panel.

It shows that the pieces work together. One seed and twenty steps say nothing about which method is better, and the
report says so.
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

from sdar_agents.demonstrations import DemonstrationSettings, demonstrate, row_line
from sdar_agents.intervals import wilson_interval
from sdar_benchmarks.metrics import METRICS, read_metrics
from sdar_benchmarks.report import write_comparison
from sdar_benchmarks.tables import TextTable
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, RunStopped, SdarError
from sdar_envs.storage import write_atomic

__all__ = ["BAND", "StudySettings", "study", "study_table"]

BAND = (0.10, 0.60)
"""Between these success rates of the start a comparison can say something: below, nobody learns; above, all win."""

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What is done.

    Attributes:
        model: of `sdar_agents.tiny.TINY_MODELS`.
        episodes: demonstrated, half of them with skills.
        readings: first turns of other episodes, all with skills: without them a tiny model does not learn to read
            skills.
        methods: that are compared.
        config: of the training.
        overrides: of that configuration, as on the command line.
        seed: of everything.
        jobs: training runs at a time; each gets its share of the processor's threads.
    """

    model: str = "tiny-1m"
    episodes: int = 1800
    readings: int = 8000
    methods: tuple[str, ...] = ("grpo", "sdar")
    config: str = "alfworld_sdar_tiny"
    overrides: tuple[str, ...] = ()
    seed: int = 0
    jobs: int = 2

    def __post_init__(self) -> None:
        for name, low in (("episodes", 1), ("readings", 1), ("seed", 0), ("jobs", 1)):
            value = getattr(self, name)
            if not is_integer(value) or value < low:
                raise InvalidOption(f"{name} is {value!r}; wanted a whole number from {low}.")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InvalidOption(f"methods is {self.methods!r}; wanted different methods, at least one.")


def study(
    folder: Path,
    settings: StudySettings,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> dict[str, Any]:
    """Do what is not done yet of a study.

    Args:
        folder: of the study.
        settings: see there.
        progress: told the stage, how much of it is done and how much there is to do.

    Returns:
        What `study.json` holds: success on the panel at the start and at the end by method, with 95 % intervals.

    Raises:
        InvalidOption: the folder is that of a study with other settings.
        RunStopped: a stage failed; what was done is kept.
    """
    from sdar_agents.config import load_config  # noqa: PLC0415

    config = load_config(settings.config, _arguments(settings, folder, settings.methods[0]))
    _claim(folder, settings)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    demonstrations = [folder / f"{kind}.jsonl" for kind in _demonstrations(settings, config.rollout)]
    for path, shown in zip(demonstrations, _demonstrations(settings, config.rollout).values(), strict=True):
        if not path.exists():
            _demonstrate(path, shown, progress)
    seconds["demonstrations"] = time.perf_counter() - started

    started = time.perf_counter()
    _fine_tune(folder / "sft", demonstrations, settings, progress)
    seconds["sft"] = time.perf_counter() - started

    started = time.perf_counter()
    _train_all(folder, settings, config.steps, progress)
    seconds["training"] = time.perf_counter() - started

    result = _result(folder, settings, seconds)
    write_atomic(folder / "study.json", json.dumps(result, indent=1) + "\n")
    if len(settings.methods) > 1:
        write_comparison([folder / method for method in settings.methods], folder / "report.html")
    return result


def study_table(result: Mapping[str, Any]) -> TextTable:
    """Return the success rates of a study as a table."""
    rows = []
    for method, ways in result["methods"].items():
        for way, ends in ways.items():
            cells = [_percent(ends[moment]) for moment in ("start", "end")]
            rows.append((f"{method}, {way.replace('_', ' ')}", *cells))
    return TextTable(("method and evaluation", "start", "end"), tuple(rows))


def _percent(rate: Mapping[str, float]) -> str:
    return f"{rate['success']:.1%} ({rate['low']:.1%}-{rate['high']:.1%})"


def _claim(folder: Path, settings: StudySettings) -> None:
    path = folder / "settings.json"
    # The number of jobs changes how fast the same is done.
    wanted = {name: value for name, value in asdict(settings).items() if name != "jobs"}
    wanted = json.loads(json.dumps(wanted))  # tuples are lists in the file
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != wanted:
            changed = [name for name in wanted if found.get(name) != wanted[name]]
            raise InvalidOption(
                f"{folder} is a study with other settings: {', '.join(changed)} changed. Choose another folder."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InvalidOption(f"{folder} exists and is no study: choose another folder.")
    write_atomic(path, json.dumps(wanted, indent=1) + "\n")


def _demonstrations(settings: StudySettings, rollout: Any) -> dict[str, DemonstrationSettings]:
    """Return what is demonstrated, by the name of its file: whole episodes, and how to read skills."""
    episodes = DemonstrationSettings(
        env_id=rollout.env_id,
        env_kwargs={**rollout.env_kwargs, "max_steps": 30},
        episodes=settings.episodes,
        guesses=True,
        noise=0.25,
        with_skills=0.5,
        retriever="home",
        history_length=rollout.history_length,
        terse=rollout.terse,
        seed=settings.seed,
    )
    # Other homes than those of the episodes.
    readings = replace(
        episodes, episodes=settings.readings, first=settings.episodes, turns=1, noise=0.0, with_skills=1.0
    )
    return {"episodes": episodes, "readings": readings}


def _demonstrate(path: Path, shown: DemonstrationSettings, progress: Callable[[str, int, int | None], None]) -> None:
    def lines() -> Iterator[str]:
        for done, rows in enumerate(demonstrate(shown), 1):
            progress(f"demonstrations, {path.stem}", done, shown.episodes)
            yield from map(row_line, rows)

    write_atomic(path, lines())


def _fine_tune(
    folder: Path,
    demonstrations: Sequence[Path],
    settings: StudySettings,
    progress: Callable[[str, int, int | None], None],
) -> None:
    from sdar_agents.warm_start import default_settings, warm_start  # noqa: PLC0415

    warm_start(
        settings.model,
        demonstrations,
        folder,
        replace(default_settings(settings.model), seed=settings.seed),
        resume=folder.exists(),
        log=lambda measures: progress("fine-tuning", int(measures["step"]), int(measures["steps"])),
    )


def _arguments(settings: StudySettings, folder: Path, method: str) -> list[str]:
    given = ["--method", method, "--model.path", str(folder / "sft" / "model"), "--seed", str(settings.seed)]
    return [*given, "--log.progress", "false", *settings.overrides]


def _train_all(
    folder: Path, settings: StudySettings, steps: int, progress: Callable[[str, int, int | None], None]
) -> None:
    """Train what is not trained, `jobs` runs at a time, and watch their metrics grow."""
    last = f"step-{steps:06d}"
    waiting = [method for method in settings.methods if not (folder / method / "checkpoints" / last).is_dir()]

    def look() -> None:
        done = sum(min(_steps(folder / method), steps) for method in settings.methods)
        progress("training", done, steps * len(settings.methods))

    if settings.jobs == 1:
        for method in waiting:
            _train(settings, folder, method, None)
            look()
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // settings.jobs)
    running: dict[str, Any] = {}
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < settings.jobs:
                method = waiting.pop(0)
                running[method] = context.Process(target=_train, args=(settings, folder, method, threads))
                running[method].start()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            look()
            for method, process in list(running.items()):
                if not process.is_alive():
                    del running[method]
                    failed += [method] if process.exitcode else []
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    if failed:
        raise RunStopped(
            f"the training of {', '.join(failed)} failed; what it said stands above, what it did is in {folder}. Do "
            "the same again to go on."
        )


def _train(settings: StudySettings, folder: Path, method: str, threads: int | None) -> None:
    """Train one method; in a process of its own if it is given its number of threads."""
    import torch  # noqa: PLC0415

    from sdar_agents.config import load_config  # noqa: PLC0415
    from sdar_agents.trainer import CONFIG, Trainer  # noqa: PLC0415

    if threads is not None:
        torch.set_num_threads(threads)
    run = folder / method
    try:
        Trainer(
            load_config(settings.config, _arguments(settings, folder, method)), run, resume=(run / CONFIG).exists()
        ).run()
    except SdarError as error:
        if threads is None:
            raise
        raise SystemExit(f"error: {method}: {' '.join(str(error).split())}") from error


def _steps(run: Path) -> int:
    """Return how many steps of a run are in its metrics."""
    if not (run / METRICS).exists():
        return 0
    return int(max((points[-1][0] for points in read_metrics(run).values()), default=0))


def _result(folder: Path, settings: StudySettings, seconds: Mapping[str, float]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for method in settings.methods:
        metrics = read_metrics(folder / method)
        ways = [name.split("/")[1] for name in metrics if name.startswith("eval/") and name.endswith("/success")]
        methods[method] = {
            way: {
                "start": _rate(metrics, way, 0),
                "end": _rate(metrics, way, -1),
            }
            for way in ways
        }
    start = next(iter(methods.values())).get("greedy", {}).get("start", {}).get("success")
    return {
        "methods": methods,
        "start_is_in_band": None if start is None else BAND[0] <= start <= BAND[1],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "note": "One seed and a few steps: this says that the pieces work, not which method is better.",
    }


def _rate(metrics: Mapping[str, Sequence[tuple[float, float]]], way: str, place: int) -> dict[str, float]:
    success = metrics[f"eval/{way}/success"][place]
    episodes = int(metrics[f"eval/{way}/episodes"][place][1])
    low, high = wilson_interval(round(success[1] * episodes), episodes)
    return {"step": success[0], "success": success[1], "low": low, "high": high, "episodes": episodes}
