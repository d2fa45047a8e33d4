"""Several processes that share a model take the steps of one: gradients, weights, metrics, signals."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sharded import CASES, MAX_TOKENS, ROWS, learn_case
from helpers.tiny_models import PAD, tiny_model
from hypothesis import given
from hypothesis import strategies as st

from sdar_agents.learner.passes import ReplicatedPasses, share_by_tokens
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.sharding import put_whole, whole_weights
from sdar_agents.parallel import World
from sdar_agents.scoring.batch import make_batch
from sdar_agents.training.config import LoraSettings
from sdar_agents.training.saving.adapters import add_adapters

TESTS = Path(__file__).parents[2]
QUICK = ("grpo", "sdar, several teachers' weights", "divergence", "lora", "tied", "packing", "replicated", "not finite")


def learn_together(folder: Path, size: int, *names: str) -> list[dict[str, Any]]:
    environment = os.environ | {"PYTHONPATH": str(TESTS), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "helpers" / "sharded.py"), str(folder), str(rank), str(size), *names],
            env=environment,
        )
        for rank in range(size)
    ]
    try:
        assert [rank.wait(timeout=3600) for rank in ranks] == [0] * size
    finally:
        for rank in ranks:
            rank.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return learn_together(tmp_path_factory.mktemp("two"), 2, *QUICK, "adamw")


def check(found: dict[str, Any], wanted: dict[str, Any], *, precision: float = 1e-5) -> None:
    assert len(found["gradients"]) == len(wanted["gradients"])
    for ours, theirs in zip(found["gradients"], wanted["gradients"], strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) <= precision
    for name in ("weights", "average"):
        for key, tensor in (wanted[name] or {}).items():
            torch.testing.assert_close(found[name][key], tensor, atol=precision, rtol=precision, equal_nan=True)
    for ours, theirs in zip(found["metrics"], wanted["metrics"], strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=20 * precision, abs=20 * precision, nan_ok=True), key
    for ours, theirs in zip(found["gaps"], wanted["gaps"], strict=True):
        assert ours == pytest.approx(theirs, rel=20 * precision, abs=20 * precision)
    for ours, theirs in zip(found["signals"], wanted["signals"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=20 * precision, rtol=20 * precision, equal_nan=True)


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_take_the_steps_of_one(name: str, two: list[dict[str, Any]]) -> None:
    alone = learn_case(name)
    assert bool(alone["gradients"]) == (name != "not finite")
    for rank in two:
        check(rank[name], alone)


def test_adamw_of_sharded_parameters_is_that_of_whole_ones(two: list[dict[str, Any]]) -> None:
    alone = learn_case("adamw")
    for rank in two:
        first, wanted = rank["adamw"]["gradients"][0], alone["gradients"][0]
        assert float((first - wanted).norm() / wanted.norm()) < 1e-5
        for key, tensor in alone["weights"].items():
            # The learning rate is 1e-3: elements of one sign in both, but for a few whose gradient is rounding.
            difference = (rank["adamw"]["weights"][key] - tensor).abs()
            assert float((difference > 1e-5).float().mean()) < 0.01, key


def test_a_gradient_that_is_not_finite_stops_the_update_of_all(two: list[dict[str, Any]]) -> None:
    for rank in two:
        assert [each["optimizer/skipped"] for each in rank["not finite"]["metrics"]] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_and_setting_in_two_and_three_processes(size: int, tmp_path: Path) -> None:
    names = [name for name in CASES if name != "adamw"]
    ranks = learn_together(tmp_path, size, *names)
    for name in names:
        alone = learn_case(name)
        for rank in ranks:
            # In bfloat16 the layout of a micro-batch decides about rounding.
            check(rank[name], alone, precision=0.05 if name == "autocast" else 1e-5)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 5))
def test_shares_are_a_partition_with_about_equal_tokens(lengths: list[int], size: int) -> None:
    shares = share_by_tokens(lengths, size)
    assert sorted(row for share in shares for row in share) == list(range(len(lengths)))
    totals = [sum(lengths[row] for row in share) for share in shares]
    assert max(totals) - min(totals) <= max(lengths)


def test_whole_weights_are_those_of_the_model_with_its_adapters_merged() -> None:
    plain, model = tiny_model(), add_adapters(tiny_model(), LoraSettings(rank=2, alpha=4), seed=0)
    assert {name: tensor.tolist() for name, tensor in whole_weights(plain)} == {
        name: parameter.tolist() for name, parameter in plain.named_parameters()
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    found = dict(whole_weights(model))
    merged = model.merge_and_unload()  # type: ignore[operator]
    assert found.keys() == dict(merged.named_parameters()).keys()
    for name, parameter in merged.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), atol=1e-6, rtol=1e-6)


def test_one_process_is_a_world_that_does_nothing() -> None:
    world = World.current()
    assert world == World(0, 1)
    assert (world.gather(3), world.sum(1.5, 2.0), world.largest(2.0)) == ([3], [1.5, 2.0], 2.0)
    assert world.share([1, 2, 3]) == [1, 2, 3]
    assert [World(rank, 2).share([1, 2, 3]) for rank in range(2)] == [[1, 3], [2]]
    target = torch.zeros(3)
    put_whole(target, torch.tensor([1.0, 2.0, math.pi]))
    assert target.tolist() == pytest.approx([1.0, 2.0, math.pi])


@pytest.mark.parametrize("size", [2, 3])
def test_rows_are_such_that_ranks_make_different_numbers_of_passes(size: int) -> None:
    settings = LearnerSettings(max_tokens=MAX_TOKENS)
    ranks = [ReplicatedPasses(tiny_model(), settings, World(rank, size)) for rank in range(size)]
    batch = make_batch(ROWS, pad_id=PAD)
    minis = [mini for step in (1, 2) for mini in batch.minibatches(2, random.Random(f"mini-batches 0 {step}"))]
    counts = [[sum(1 for _ in rank.micro_batches(mini)) for rank in ranks] for mini in minis]
    assert any(len(set(count)) > 1 for count in counts)
