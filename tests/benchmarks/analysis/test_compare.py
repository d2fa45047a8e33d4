"""Summaries and comparisons by hand, and what makes a comparison unfair."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from sdar_agents import open_agent
from sdar_benchmarks.analysis.compare import compare, compare_runs, difference_table
from sdar_benchmarks.analysis.statistics import wilson_interval
from sdar_benchmarks.analysis.summary import Macro, summarize, summarize_run
from sdar_benchmarks.analysis.tables import panel_tables
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.records.runs import Episode
from sdar_envs.errors import InvalidOption, MissingData

ALFWORLD = "sdar/ALFWorld-v0"


def episode(task: str, success: bool, score: float | None = None, **fields: Any) -> Episode:
    made = Episode(
        env_id="toy/A-v0",
        task_id=task,
        task_type="t",
        split="valid",
        seed=0,
        attempt=1,
        status="ok",
        is_success=success,
        score=float(success) if score is None else score,
        episode_return=float(success),
        steps=4,
        invalid_actions=0,
        malformed_answers=None,
        terminated=success,
        truncated=not success,
        stop_reason="terminated" if success else "step_limit",
        error=None,
        prompt_tokens=None,
        completion_tokens=None,
        cost=None,
        seconds=2.0,
        agent_seconds=1.0,
    )
    return dataclasses.replace(made, **fields)


# -- summaries --------------------------------------------------------------------------------


def test_summary_by_hand() -> None:
    rows = [
        episode("a", True, steps=4, prompt_tokens=10, completion_tokens=1, cost=0.5),
        episode("b", True, steps=8, invalid_actions=1, prompt_tokens=20, completion_tokens=2, cost=0.25),
        episode("c", False, 0.5, steps=50, invalid_actions=10),
        episode("d", False, 0.1, steps=38, invalid_actions=14, status="error", stop_reason="agent_error", seconds=10.0),
    ]
    summary = summarize(rows)
    assert (summary.episodes, summary.tasks, summary.errors) == (4, 4, 1)
    assert (summary.success_rate, summary.success_interval) == (0.5, wilson_interval(2, 4))
    assert summary.mean_score == pytest.approx(2.6 / 4)
    assert summary.score_interval[0] < 0.65 < summary.score_interval[1]
    assert (summary.mean_return, summary.mean_steps, summary.mean_steps_won) == (0.5, 25.0, 6.0)
    assert summary.invalid_share == 0.25
    assert summary.stop_reasons == {"agent_error": 1, "step_limit": 1, "terminated": 2}
    assert (summary.prompt_tokens, summary.completion_tokens, summary.cost) == (30, 3, 0.75)
    assert (summary.mean_seconds, summary.mean_agent_seconds) == (4.0, 1.0)
    assert summary.pass_at_k == {}


def test_summary_without_success_tokens_or_episodes() -> None:
    summary = summarize([episode("a", False)])
    assert (summary.mean_steps_won, summary.prompt_tokens, summary.completion_tokens, summary.cost) == (None,) * 4
    with pytest.raises(InvalidOption, match="no episode"):
        summarize([])


def test_seeds_give_pass_at_k_and_no_narrower_interval() -> None:
    # Task a: 2 of 3, b: 0 of 3, c: 3 of 3.
    won = {"a": (True, True, False), "b": (False,) * 3, "c": (True,) * 3}
    rows = [episode(task, success, seed=seed) for task, row in won.items() for seed, success in enumerate(row)]
    summary = summarize(rows)
    assert (summary.episodes, summary.tasks) == (9, 3)
    assert {k: value for k, (value, _, _) in summary.pass_at_k.items()} == pytest.approx(
        {"1": 5 / 9, "2": 2 / 3, "3": 2 / 3}
    )
    for value, low, high in summary.pass_at_k.values():
        assert 0 <= low < value < high <= 1
        # Three tasks say little.
        assert high - low > 0.6
    narrow, wide = wilson_interval(5, 9), summary.success_interval
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_macro_and_micro_means() -> None:
    rows = [
        *(episode(f"a{i}", i < 3, task_type="easy") for i in range(4)),
        episode("b0", False, task_type="hard"),
        *(episode(f"c{i}", True, env_id="toy/B-v0") for i in range(5)),
    ]
    suites = [{"env_id": f"toy/{x}-v0", "split": "valid", "tasks": 6} for x in "AB"]
    run = summarize_run("me", suites, 1, rows)
    assert [suite.total.success_rate for suite in run.panels] == [0.6, 1.0]
    assert run.panels[0].macro == Macro(pytest.approx((0.75 + 0) / 2), pytest.approx(0.375))
    assert run.macro == Macro(pytest.approx(0.8), pytest.approx(0.8))
    assert run.total is not None
    assert run.total.success_rate == 0.8
    assert run.missing == 2
    assert summarize_run("me", suites, 2, []).to_json() == {
        "format": 2,
        "agent": "me",
        "panels": (),
        "total": None,
        "macro": None,
        "missing": 24,
    }


def test_data_sets_that_tasks_name() -> None:
    rows = [
        *(episode(f"qa/test/nq/{i:04d}", i < 3, task_type="direct", data_set="nq") for i in range(4)),
        *(episode(f"qa/test/bamboogle/{i:04d}", False, task_type="multi_hop", data_set="bamboogle") for i in range(2)),
    ]
    suites = [{"env_id": "toy/A-v0", "split": "valid", "tasks": 6}]
    [suite] = summarize_run("me", suites, 1, rows).panels
    assert {name: (part.episodes, part.success_rate) for name, part in suite.data_sets.items()} == {
        "bamboogle": (2, 0.0),
        "nq": (4, 0.75),
    }
    assert suite.data_set_macro == Macro(0.375, 0.375)
    assert suite.total.success_rate == 0.5
    assert [table.columns[0] for table in panel_tables(suite)] == ["task type", "data set"]
    [suite] = summarize_run("me", suites, 1, [episode("qa/test/0000", True)]).panels
    assert (suite.data_sets, suite.data_set_macro) == ({}, None)


# -- comparisons ------------------------------------------------------------------------------


def test_a_comparison_by_hand() -> None:
    # B wins 9 tasks that A loses, A wins 1 that B loses, 20 are alike.
    a = [episode(f"t{i}", i < 11) for i in range(30)]
    b = [episode(f"t{i}", 1 <= i < 20, score=0.9 if i == 29 else None) for i in range(30)]
    success, score = compare(a, b).differences
    assert (success.group, success.measure, success.episodes, success.tasks) == ("toy/A-v0", "success", 30, 30)
    assert (success.mean_a, success.mean_b) == (pytest.approx(11 / 30), pytest.approx(19 / 30))
    assert success.difference == pytest.approx(8 / 30)
    # McNemar's exact test.
    assert success.test.p == pytest.approx(scipy.stats.binomtest(1, 10).pvalue, rel=1e-12)
    # The differences' variance is (10 - 64/30) / 30. The interval of few tasks is wider than a normal one.
    half = 1.96 * ((10 - 64 / 30) / 30 / 30) ** 0.5
    low, high = success.interval
    assert low < 8 / 30 - half < 8 / 30 + half < high
    assert high - low < 1.75 * 2 * half
    assert score.difference == pytest.approx(8.9 / 30)
    assert score.test.method == "exact"


def test_seeds_of_one_task_are_one_observation() -> None:
    # Two tasks, 50 seeds each, all better: two observations can never be better than p = 1/2.
    a = [episode(task, False, seed=seed) for task in "xy" for seed in range(50)]
    b = [episode(task, True, seed=seed) for task in "xy" for seed in range(50)]
    [success, _] = compare(a, b).differences
    assert (success.difference, success.test.p, success.tasks, success.episodes) == (1.0, 0.5, 2, 100)


def test_a_run_equals_itself() -> None:
    rows = [episode(f"t{i}", i % 3 == 0, score=i / 10) for i in range(10)]
    comparison = compare(rows, rows)
    assert comparison.warnings == ()
    for part in comparison.differences:
        assert (part.difference, part.test.p) == (0.0, 1.0)
        # Ten tasks without a difference do not show that there is none.
        assert -0.5 < part.interval[0] < -0.3
        assert part.interval[1] == -part.interval[0]


def test_different_panels_are_told_and_only_pairs_count() -> None:
    a = [episode(f"t{i}", True) for i in range(10)]
    b = [episode(f"t{i}", False) for i in range(8, 16)] + [episode("t8", False, seed=1)]
    comparison = compare(a, b)
    assert [part.episodes for part in comparison.differences] == [2, 2]
    assert comparison.warnings == (
        "the panels differ: 8 episodes are in the first run alone and were left out: "
        "t0 (seed 0), t1 (seed 0), t2 (seed 0), t3 (seed 0), t4 (seed 0) and 3 more",
        "the panels differ: 7 episodes are in the second run alone and were left out: "
        "t10 (seed 0), t11 (seed 0), t12 (seed 0), t13 (seed 0), t14 (seed 0) and 2 more",
    )
    with pytest.raises(InvalidOption, match=r"no task and seed in common \(10 and 1 episodes\)"):
        compare(a, [episode("other", True)])


def test_errors_are_told() -> None:
    a = [episode("t0", True), episode("t1", False, status="error", stop_reason="endpoint_error")]
    assert compare(a, [a[0], episode("t1", True)]).warnings == (
        "1 episodes of the first run ended in an error; they count as failures",
    )


def test_several_suites_and_all() -> None:
    a = [episode("t", False), episode("t", False, env_id="toy/B-v0")]
    b = [episode("t", True), episode("t", False, env_id="toy/B-v0")]
    parts = {(part.group, part.measure): part for part in compare(a, b).differences}
    assert list(parts) == [(group, m) for group in ("toy/A-v0", "toy/B-v0", "all") for m in ("success", "score")]
    assert parts["all", "success"].difference == 0.5
    # Tasks of different environments are different, whatever their names.
    assert parts["all", "success"].tasks == 2


def test_runs_on_disk(tmp_path: Path) -> None:
    def play(name: str, agent: str, **kwargs: Any) -> Path:
        plan = Plan([PanelSpec(ALFWORLD, "valid_unseen", 12, kwargs)], seeds=(0, 1))
        evaluate(plan, open_agent(agent, {}, [ALFWORLD]), out=tmp_path / name)
        return tmp_path / name

    random, oracle = play("random", "random"), play("oracle", "oracle")
    success, _ = compare_runs(random, oracle).differences
    assert (success.difference, success.episodes) == (1.0, 24)
    assert 0.3 < success.interval[0] < success.interval[1] == 1
    assert success.test.p == 2 / 2**12
    assert compare_runs(random, oracle).warnings == ()
    put = play("put", "oracle", wording="put", max_steps=49)
    assert compare_runs(oracle, put).warnings == (
        f"the runs were made with different max_steps, wording of {ALFWORLD}",
    )
    config = (put / "config.json").read_text()
    same = config.replace('"max_steps": 49', '"max_steps": 50').replace('"wording": "put"', '"wording": "auto"')
    (put / "config.json").write_text(same)
    assert compare_runs(oracle, put).warnings == (f"{ALFWORLD} was 'move' in the first run, 'put' in the second",)
    same = same.replace('"variant": "put"', '"variant": "move"').replace('"attempts": 2', '"attempts": 3')
    (put / "config.json").write_text(same)
    assert compare_runs(oracle, put).warnings == (
        f"the tasks of {ALFWORLD} have the same names, but not the same content",
        "the runs had different limits on turns, episodes or attempts",
    )
    with pytest.raises(MissingData, match=r"has no config\.json"):
        compare_runs(oracle, tmp_path)


def test_a_difference_that_chance_does_not_explain_has_no_p_of_zero() -> None:
    # The sum of 1,100 differences of 1 is as large by chance twice in 2**1100 times, which no float can hold.
    none, all_ = ([episode(f"t{i}", won) for i in range(1100)] for won in (False, True))
    comparison = compare(none, all_)
    assert comparison.differences[0].test.p == 0
    assert [row[-1] for row in difference_table(comparison).rows] == ["< 1e-300"] * 2


def test_runs_on_data_that_score_differently_are_refused() -> None:
    exact = [episode("a", True), episode("b", False)]
    guessed = [dataclasses.replace(row, data_flags={"title_nouns": "guessed"}) for row in exact]
    assert compare(guessed, guessed).differences
    with pytest.raises(InvalidOption, match=r"the reference ones in the first.*title_nouns=guessed in the second"):
        compare(exact, guessed)
