"""Effects of skills: Holm's correction by hand, and what an ablation finds where the true effects are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.run_folders import episode

from sdar_benchmarks.analysis.ablation import Ablation, Contrast, measure_effects
from sdar_benchmarks.analysis.statistics import holm
from sdar_benchmarks.records.runs import Episode
from sdar_envs.errors import InvalidOption

ONE = Episode.from_json(episode())

SKILLS = {"helps": 0, "idle": 0, "third": 0, "fourth": 1, "fifth": 1, "sixth": 1}
"""By name of a made-up skill, the task type that it is for."""
TASKS, EFFECT = 80, 0.3


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.6, 0.02]).tolist() == pytest.approx([1.0, 0.004, 1.0, 0.06])
    assert holm([0.2]).tolist() == pytest.approx([0.2])
    assert holm([]).tolist() == []


def played(wins: np.ndarray, kind: int = 0) -> list[Episode]:
    return [
        replace(ONE, task_id=f"toy/test/{kind}-{task}", is_success=bool(won), score=float(won))
        for task, won in enumerate(wins)
    ]


def simulate(seed: int) -> Ablation:
    """Return the ablation of a model to whom one skill of six adds `EFFECT` to the success rate of its task type."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.05, 0.65, size=(2, TASKS))  # tasks are of different difficulty

    def condition(*, helps: bool, kinds: tuple[int, ...] = (0, 1)) -> list[Episode]:
        return [
            one
            for kind in kinds
            for one in played(rng.random(TASKS) < base[kind] + EFFECT * (helps and kind == 0), kind)
        ]

    everything, nothing = condition(helps=True), condition(helps=False)
    return measure_effects(
        [
            Contrast("all skills", "library", nothing, everything),
            *(
                Contrast(name, "skill", condition(helps=name != "helps", kinds=(kind,)), everything)
                for name, kind in SKILLS.items()
            ),
            Contrast("shuffled", "control", nothing, condition(helps=False)),
        ],
        resamples=20,
    )


@pytest.mark.parametrize("repeats", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_the_true_effect_is_found_and_a_shuffled_skill_is_not(repeats: int) -> None:
    found = dict.fromkeys([*SKILLS, "all skills", "shuffled"], 0)
    for seed in range(repeats):
        for effect in simulate(seed).effects:
            found[effect.name] += effect.verdict != "no effect found"
    assert found["helps"] >= 0.8 * repeats, found
    assert found["shuffled"] <= 0.05 * repeats, found
    assert sum(found[name] for name in SKILLS if name != "helps") <= 0.05 * repeats, found


def test_effects_by_hand() -> None:
    without, shown = played(np.array([0, 0, 1, 0])), played(np.array([1, 1, 1, 0]))
    errors = [replace(shown[0], status="error", is_success=False), *shown[1:]]
    made = measure_effects(
        [Contrast("shuffled", "control", without, errors), Contrast("toy/s", "skill", without, shown[:3])], resamples=50
    )
    skill, control = made.effects
    assert (skill.name, skill.episodes, skill.tasks) == ("toy/s", 3, 3)
    assert (skill.mean_without, skill.mean_with, skill.effect) == pytest.approx((1 / 3, 1.0, 2 / 3))
    assert (skill.p, skill.adjusted_p) == pytest.approx((0.5, 1.0))  # two changes, both upwards: 2 of 4 patterns
    assert control.errors == 1
    assert made.warnings == ("episodes ended in errors, which count as failures: shuffled (1 of 4)",)
    with pytest.raises(InvalidOption, match="the runs with and without toy/s have no task and seed in common"):
        measure_effects([Contrast("toy/s", "skill", without, played(np.array([1]), 7))])


def test_a_control_that_helps_is_told() -> None:
    made = measure_effects([Contrast("shuffled", "control", played(np.zeros(20)), played(np.ones(20)))], resamples=50)
    assert made.effects[0].verdict == "helps"
    assert "what helps may be any text of this kind" in made.warnings[0]
    turned = measure_effects([Contrast("toy/s", "skill", played(np.ones(20)), played(np.zeros(20)))], resamples=50)
    assert turned.effects[0].verdict == "harms"
