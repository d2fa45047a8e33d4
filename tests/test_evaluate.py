"""Evaluation: each task once, seeds from ids, numbers by hand, files that are never lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import sdar_envs
from sdar_benchmarks.evaluate import (
    Episode,
    Evaluation,
    check_output,
    episode_seed,
    evaluate,
    save,
    summarize,
    wilson_interval,
)
from sdar_envs.errors import InvalidOption, UnknownName

ALFWORLD = "sdar/ALFWorld-v0"
TOY = "toy/EvaluatedCounting-v0"


@pytest.fixture(scope="module", autouse=True)
def _toy() -> Iterator[None]:
    gym.register(id=TOY, entry_point="toy:CountingEnv")
    yield
    del gym.registry[TOY]


def without_times(evaluation: Evaluation) -> list[Episode]:
    return [dataclasses.replace(episode, seconds=0.0) for episode in evaluation.episodes]


def episode(success: bool, steps: int, invalid_actions: int = 0) -> Episode:
    return Episode("toy/valid/0000", "t", 0, success, 0.0, 0.0, steps, success, not success, invalid_actions, 0.0)


# -- numbers by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("trials", [1, 7, 134, 10**6])
def test_wilson_interval_ends_are_exact(trials: int) -> None:
    assert wilson_interval(0, trials)[0] == 0.0
    assert wilson_interval(trials, trials)[1] == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_wilson_interval_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(InvalidOption, match=f"{successes} successes in {trials} trials"):
        wilson_interval(successes, trials)


def test_summary_by_hand() -> None:
    summary = summarize([episode(True, 4), episode(True, 8, 1), episode(False, 50, 10), episode(False, 38, 14)])
    assert summary.episodes == 4
    assert summary.success_rate == 0.5
    assert summary.success_interval == wilson_interval(2, 4)
    assert summary.mean_steps == 25.0
    assert summary.mean_steps_won == 6.0
    assert summary.invalid_share == 0.25


def test_summary_without_success_or_episodes() -> None:
    assert summarize([episode(False, 3)]).mean_steps_won is None
    with pytest.raises(InvalidOption, match="no episode"):
        summarize([])


# -- the walk ---------------------------------------------------------------------------------


def test_each_task_once_in_the_order_of_the_split() -> None:
    calls: list[tuple[int, int]] = []
    evaluation = evaluate(TOY, "random", split="valid", progress=lambda done, total: calls.append((done, total)))
    tasks = sdar_envs.tasks(TOY, split="valid")
    assert [(row.task_id, row.task_type) for row in evaluation.episodes] == [(t.id, t.task_type) for t in tasks]
    assert calls == [(done, 30) for done in range(31)]
    assert evaluation.total == summarize(evaluation.episodes)
    assert list(evaluation.task_types) == ["count_down", "count_up"]
    assert sum(summary.episodes for summary in evaluation.task_types.values()) == 30


def test_rows_add_up() -> None:
    for row in evaluate(TOY, "random", split="valid").episodes:
        assert row.success == row.terminated
        assert row.terminated != row.truncated
        assert row.episode_return == row.score == float(row.success)
        assert 1 <= row.steps <= 8
        assert row.truncated <= (row.steps == 8)
        assert row.invalid_actions == 0
        assert row.seconds > 0


def test_the_same_seed_gives_the_same_episodes() -> None:
    first = without_times(evaluate(TOY, "random", split="valid", seed=5))
    assert first == without_times(evaluate(TOY, "random", split="valid", seed=5))
    assert first != without_times(evaluate(TOY, "random", split="valid", seed=6))
    # An episode depends on its task alone, not on how many came before.
    assert first[:7] == without_times(evaluate(TOY, "random", split="valid", seed=5, limit=7))


def test_episode_seed_is_the_same_everywhere() -> None:
    wanted = int(hashlib.sha256(b"0/toy/valid/0000").hexdigest()[:8], 16)
    assert episode_seed(0, "toy/valid/0000") == wanted == 187113241
    assert len({episode_seed(seed, f"task {i}") for seed in range(3) for i in range(100)}) == 300


@pytest.mark.parametrize("agent", ["oracle", "explorer"])
def test_alfworld_with_arguments(agent: str) -> None:
    evaluation = evaluate(
        ALFWORLD, agent, split="valid_unseen", limit=5, env_kwargs={"wording": "put", "max_steps": 40}
    )
    assert evaluation.config.env_kwargs["wording"] == "put"
    assert evaluation.config.env_kwargs["max_steps"] == 40
    assert evaluation.config.env_kwargs["data"] == "embedded"
    assert evaluation.config.env_kwargs["split"] == "valid_unseen"
    assert max(row.steps for row in evaluation.episodes) <= 40
    assert evaluation.total.success_rate == 1.0


def test_endless_split_with_a_limit() -> None:
    evaluation = evaluate(ALFWORLD, "oracle", split="train", limit=3)
    assert [row.task_id for row in evaluation.episodes] == [f"alfworld/train/000{i}" for i in range(3)]


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (InvalidOption, "without end: say how many", {"split": "train"}),
        (InvalidOption, "limit is 0", {"split": "valid", "limit": 0}),
        (UnknownName, "no split 'valdi'.*Did you mean 'valid'", {"split": "valdi"}),
        (UnknownName, "no agent 'randon'.*Did you mean 'random'", {"split": "valid", "agent_name": "randon"}),
        (UnknownName, "no environment 'sdar/ALFWrld-v0'.*Did you mean", {"split": "x", "env_id": "sdar/ALFWrld-v0"}),
        (
            UnknownName,
            "has no argument 'max_step'.*Did you mean 'max_steps'",
            {"split": "valid", "env_kwargs": {"max_step": 3}},
        ),
        (UnknownName, "no explorer for 'toy/Counting-v0'", {"split": "valid", "agent_name": "explorer"}),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        evaluate(**{"env_id": TOY, "agent_name": "random", **arguments})


# -- the file ---------------------------------------------------------------------------------


def test_file_holds_everything(tmp_path: Path) -> None:
    evaluation = evaluate(TOY, "random", split="valid", limit=4, seed=9)
    path = tmp_path / "new" / "result.json"
    save(evaluation, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == 1
    assert content["config"] == {
        "env_id": TOY,
        "agent": "random",
        "split": "valid",
        "limit": 4,
        "seed": 9,
        "env_kwargs": {"split": "valid", "max_steps": 8, "render_mode": None},
    }
    assert set(content["versions"]) == {"python", "sdar-envs", "gymnasium", "numpy"}
    assert content["total"] == json.loads(json.dumps(dataclasses.asdict(evaluation.total)))
    assert set(content["task_types"]) == set(evaluation.task_types)
    assert [Episode(**row) for row in content["episodes"]] == list(evaluation.episodes)
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_file_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    evaluation = evaluate(TOY, "random", split="valid", limit=1)
    path = tmp_path / "result.json"
    path.write_text("precious")
    with pytest.raises(InvalidOption, match=r"result\.json exists"):
        save(evaluation, path)
    assert path.read_text() == "precious"
    save(evaluation, path, overwrite=True)
    assert json.loads(path.read_text())["format"] == 1


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidOption, match="cannot be written"):
        save(evaluate(TOY, "random", split="valid", limit=1), tmp_path / "file" / "result.json")
    with pytest.raises(InvalidOption, match="is a folder"):
        check_output(tmp_path, overwrite=True)


def test_a_task_that_cannot_be_done_is_a_failure_and_no_crash() -> None:
    # With the original's quirks, about one synthetic goal of twenty cannot reach a full score.
    evaluation = evaluate("sdar/WebShop-v0", "oracle", split="test", limit=60)
    given_up = [episode for episode in evaluation.episodes if not episode.success]
    assert given_up
    assert all(not episode.terminated and not episode.truncated for episode in given_up)
    assert all(episode.score == 1.0 for episode in evaluation.episodes if episode.success)
    expected = sum(episode.score for episode in evaluation.episodes) / 60
    assert evaluation.total.mean_score == pytest.approx(expected, abs=1e-12)
    assert evaluation.total.mean_score == pytest.approx(1 - len(given_up) / 60)
