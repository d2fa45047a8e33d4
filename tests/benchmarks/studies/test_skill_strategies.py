"""The simulation: what it computes, on a small scale, and what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sdar_benchmarks.studies import skill_strategies
from sdar_benchmarks.studies.skill_strategies import (
    SCENARIOS,
    STRATEGIES,
    Curve,
    Scenario,
    World,
    main,
    plot,
    simulate,
    summarize,
)

FIXED, GROUP, DRIFTING, _ = SCENARIOS.values()


def test_the_oracle_has_no_regret_and_others_have() -> None:
    oracle = simulate("oracle", DRIFTING, 3, 8)
    assert oracle.regret.tolist() == [0.0] * 8
    assert np.array_equal(oracle.uplift, oracle.possible)
    for strategy in STRATEGIES:
        curve = simulate(strategy, DRIFTING, 3, 8)
        # All meet the same world and the same tasks.
        assert np.array_equal(curve.possible, oracle.possible)
        assert np.allclose(curve.regret, curve.possible - curve.uplift)
        assert strategy == "oracle" or curve.regret.sum() > 0.1


@pytest.mark.slow
def test_a_strategy_that_learns_beats_one_that_does_not() -> None:
    late = {name: simulate(name, FIXED, 1, 60).regret[40:].mean() for name in ("random", "thompson", "oracle")}
    hybrid = simulate("task type, then ucb, c = 0.3", FIXED, 1, 60).regret[40:].mean()
    assert late["oracle"] < hybrid < late["thompson"] < late["random"]


def test_equal_seeds_give_equal_curves() -> None:
    one, two = (simulate("thompson", FIXED, 5, 4) for _ in range(2))
    assert np.array_equal(one.regret, two.regret)


def test_worths_drift_only_where_they_should() -> None:
    for drifts in (False, True):
        world = World(0, drifts=drifts)
        before = [world.chance(skill, "kind_a") for skill in world.library]
        world.move()
        after = [world.chance(skill, "kind_a") for skill in world.library]
        assert (before != after) is drifts
    assert len(world.library) == 42
    best = world.best("kind_b")
    assert all(world.chance(skill, "kind_b") <= world.chance(best, "kind_b") for skill in world.library)


def test_the_summary_by_hand() -> None:
    ones = np.ones(5)
    found = summarize([Curve(ones, ones, 2 * ones), Curve(3 * ones, 2 * ones, 2 * ones)])
    # Shares 0.5 and 1: mean 0.75, standard deviation 0.3536, half width 1.96 * 0.3536 / sqrt(2).
    assert found["captured"] == {"mean": 0.75, "half_width": pytest.approx(0.49)}
    assert found["regret"]["mean"] == [2, 4, 6, 8, 10]
    assert found["regret"]["half_width"] == pytest.approx([1.96 * i for i in range(1, 6)])


@pytest.mark.slow
def test_record_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(skill_strategies, "SCENARIOS", dict(list(SCENARIOS.items())[:1]))
    assert main(["--output", str(tmp_path), "--seeds", "2", "--steps", "5"]) == 0
    record = json.loads((tmp_path / "skill_strategies.json").read_text())
    ((title, scenario),) = record["scenarios"].items()
    assert (record["seeds"], record["steps"]) == (2, 5)
    assert scenario["settings"] == {"drifts": False, "gamma": 1.0, "baseline": "control"}
    assert list(scenario["strategies"]) == list(STRATEGIES)
    assert len(scenario["strategies"]["thompson"]["regret"]["mean"]) == 5
    assert title in capsys.readouterr().out
    drawn = (tmp_path / "skill_strategies.svg").read_bytes()
    assert b"</svg>" in drawn
    plot(record, tmp_path)
    assert (tmp_path / "skill_strategies.svg").read_bytes() == drawn


def test_a_missing_matplotlib_is_reported_before_the_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["--output", str(tmp_path / "figure")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "pip install 'sdar-envs[plots]'" in err) == ("", 1, True)
    assert not (tmp_path / "figure").exists()


def test_too_small_a_simulation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path), "--seeds", "1"])


@pytest.mark.slow
def test_the_groups_mean_hides_nothing_from_a_constant_that_is_divided_by_its_size() -> None:
    def captured(strategy: str, scenario: Scenario) -> float:
        curves = [simulate(f"task type, then ucb, {strategy}", scenario, seed, 60) for seed in range(3)]
        mean: float = summarize(curves)["captured"]["mean"]
        return mean

    whole = captured("c = 0.3", FIXED)
    assert captured("c = 0.3", GROUP) < whole - 0.1
    # Not quite the same choices: skills that were never shown are drawn for each member.
    assert captured("c = 0.3 / 8", GROUP) == pytest.approx(whole, abs=0.1)
