"""The measuring itself, on little: what it measures, not how fast it is."""

from __future__ import annotations

import pytest
import torch

from sdar_benchmarks.throughput import trainer as throughput_trainer
from sdar_benchmarks.throughput.figures import Figures
from sdar_benchmarks.throughput.trainer import SHAPES, Shape, forward_flop, measure, measure_shape

SMALL = Shape(hidden=16, layers=2, heads=2, kv_heads=1, mlp=32, vocabulary=800, rows=16, prompt=12, response=5)


def test_a_step_is_measured_by_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_TASKS": 1, "_GROUP": 2, "_TURNS": 1, "_NEW_TOKENS": 2, "_REPEATS": 1}.items():
        monkeypatch.setattr(throughput_trainer, name, value)
    threads = torch.get_num_threads()
    said: list[str] = []
    figures = Figures("trainer")
    measure(figures, said.append)
    assert [figure.what for figure in figures] == [
        "rollout: generated",
        "rollout: read and generated",
        "old",
        "reference",
        "update",
        "teacher with 1 skill",
        "teacher's tokens with 1 skill",
        "SDAR's step over GRPO's with 1 skill",
        "teacher with 6 skills",
        "teacher's tokens with 6 skills",
        "SDAR's step over GRPO's with 6 skills",
        "peak memory of the process",
    ]
    assert figures.value("teacher's tokens with 6 skills") > figures.value("teacher's tokens with 1 skill") > 1
    assert torch.get_num_threads() == threads
    assert "6 skills, sdar, step 1 of 1" in said


def test_shapes_are_those_of_qwen() -> None:
    # Parameters without the embedding, as published: 0.358 and 1.310 billion.
    for name, billions in (("0.5B", 0.358), ("1.5B", 1.310)):
        shape = SHAPES[name]
        head = shape.hidden // shape.heads
        of_layer = 2 * shape.hidden**2 + 2 * shape.hidden * shape.kv_heads * head + 3 * shape.hidden * shape.mlp
        assert shape.layers * of_layer / 1e9 == pytest.approx(billions, abs=2e-3)


def test_flop_by_hand() -> None:
    # Per layer 2 * 256 + 2 * 128 + 3 * 512 = 2304 weights; 2 layers; attention 2 * 2 * 16 * 17; the head 800 * 16.
    assert forward_flop(SMALL) == 16 * 17 * (2 * 2 * 2304 + 2 * 2 * 16 * 17) + 2 * 16 * 5 * 800 * 16


def test_a_shape_is_measured_on_any_device() -> None:
    figures = Figures("trainer")
    measure_shape(figures, "small", SMALL, "cpu")
    assert [figure.what for figure in figures] == [
        "small: generation",
        "small: update",
        "small: model FLOP of the update",
    ]
    assert all(figure.value > 0 for figure in figures)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert throughput_trainer.main() == 2
    assert "on an NVIDIA GPU; there is none" in capsys.readouterr().err
