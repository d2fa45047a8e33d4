"""Throughput of the skill library: the ledger of showings, and bandit choices of a skill.

A ledger of a million showings is written in batches of 1,024, which is one training step of 128 episodes with 8 skills.
It has 60 skills and 6 task types, as many as a suite has. A choice ranks all 60 skills for one task, from statistics of
the whole ledger; the showings of a training step are read once, before its first choice. Times are CPU seconds; the
file is in the system's temporary folder.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sdar_benchmarks.throughput.figures import Figures, median_seconds, seconds
from sdar_envs import Task
from sdar_skills.evidence.ledger import Ledger, Showing
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Skill, arm_of
from sdar_skills.retrieval.bandits import ThompsonRetriever, UcbRetriever

__all__ = ["measure"]

_SHOWINGS = 1_000_000
_BATCH = 1_024
_SKILLS = 60
_TYPES = tuple(f"kind_{letter}" for letter in "abcdef")
_CHOICES = 2_000
_STEPS = 20


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of ledger and bandits; takes about ten seconds."""
    add = figures.add
    skills = tuple(
        Skill(f"skill-{number:02d}", "toy", None if number < 12 else _TYPES[number % 6], "Made up.", "Advice. " * 40)
        for number in range(_SKILLS)
    )
    task = Task("toy/train/0", "toy", "train", _TYPES[0], "")
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        progress(f"writing {_SHOWINGS:,} showings")
        steps = math.ceil(_SHOWINGS / _BATCH)
        all_of_them = f"{steps * _BATCH:,} showings"
        with Ledger(path) as ledger:
            spent = 0.0
            for step in range(steps):
                batch = _batch(skills, step, rng)
                spent += seconds(lambda batch=batch: ledger.append(batch), 1)  # type: ignore[misc]
        add(f"append in batches of {_BATCH:,}", steps * _BATCH / spent, "showings/CPU s")
        add("append, one batch", spent / steps * 1e3, "CPU ms")
        add(f"file of {all_of_them}", path.stat().st_size / 1e6, "MB")

        progress("reading")
        started = time.process_time()
        ledger = Ledger(path, create=False)
        add(f"open {all_of_them}", (time.process_time() - started) * 1e3, "CPU ms")
        with ledger:
            for gamma in (1.0, 0.99):
                started = time.process_time()
                statistics = Statistics(ledger, gamma=gamma)
                statistics.context("toy", task.task_type)
                add(f"all statistics anew, discount {gamma}", time.process_time() - started, "CPU s")
            progress("choosing")
            library = Library(skills)
            for name, retriever in (
                ("UCB", UcbRetriever(library, statistics=statistics)),
                ("Thompson", ThompsonRetriever(library, statistics=statistics)),
            ):
                spent = median_seconds(lambda chosen=retriever: chosen.retrieve(task, 3, None, rng), _CHOICES)  # type: ignore[misc]
                add(f"{name} choice among {_SKILLS} skills", spent * 1e6, "CPU us")
            spent = 0.0
            for step in range(steps, steps + _STEPS):
                ledger.append(_batch(skills, step, rng))
                spent += seconds(statistics.refresh, 1)
            add(f"read {_BATCH:,} new showings", spent / _STEPS * 1e3, "CPU ms")


def _batch(skills: tuple[Skill, ...], step: int, rng: random.Random) -> list[Showing]:
    return [
        Showing(
            arm_of(skills[int(rng.random() * len(skills))]),
            "toy",
            _TYPES[int(rng.random() * len(_TYPES))],
            f"toy/train/{step:05d}-{number // 8:03d}",
            "run-1",
            step,
            "ucb",
            float(rng.random() < 0.5),
            0.5,
            rng.random(),
        )
        for number in range(_BATCH)
    ]
