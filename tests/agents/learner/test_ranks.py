"""The number of processes shows neither in the step nor in the metrics."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import gradients, largest_difference, random_rows, scored_batch, tiny_model

from sdar_agents.algorithms import make_algorithm
from sdar_agents.scoring.batch import Totals
from sdar_agents.scoring.logprobs import score

TESTS = Path(__file__).parents[2]


def run(folder: Path, mode: str, world: int) -> list[dict[str, Any]]:
    environment = os.environ | {"PYTHONPATH": str(TESTS), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "helpers" / "rank.py"), str(folder), mode, str(rank), str(world)],
            env=environment,
        )
        for rank in range(world)
    ]
    try:
        assert [rank.wait(timeout=300) for rank in ranks] == [0] * world
    finally:
        for rank in ranks:
            rank.kill()
    return [torch.load(folder / f"{world}-{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["token-mean", "episode-mean-token-mean"])
def test_two_processes_take_the_step_of_one(tmp_path: Path, mode: str) -> None:
    (one,) = run(tmp_path, mode, 1)
    for rank in run(tmp_path, mode, 2):
        torch.testing.assert_close(rank["norm"], one["norm"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rank["weights"], one["weights"], atol=1e-5, rtol=0)
        assert rank["summary"] == pytest.approx(one["summary"], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_rank_without_tokens_joins_and_adds_nothing(tmp_path: Path) -> None:
    (one,) = run(tmp_path, "token-mean", 1)
    for rank in run(tmp_path, "token-mean", 3):
        torch.testing.assert_close(rank["weights"], one["weights"], atol=1e-5, rtol=0)
        assert rank["summary"] == pytest.approx(one["summary"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "episode-mean-token-mean"])
def test_gradients_of_two_halves_with_common_totals_add_up(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = scored_batch(random_rows(8))
    algorithm = make_algorithm("sdar", suite="alfworld", distill_coef=0.5, aggregation=mode)
    totals = Totals.of(batch)
    halves = [batch.select(range(6)), batch.select(range(6, 8))]
    parts = [Totals.of(half) for half in halves]
    assert Totals(*map(sum, zip(*((t.tokens, t.rows, t.episodes) for t in parts), strict=True))) == totals
    model = tiny_model()
    algorithm.loss(batch.weighed(mode), score(model, batch.student, batch.mask)).loss.backward()
    expected = gradients(model)
    monkeypatch.setattr(Totals, "reduced", lambda self: totals)
    for half in halves:
        algorithm.loss(half.weighed(mode), score(model, half.student, half.mask)).loss.backward()
    assert largest_difference(gradients(model), expected) < 1e-5
