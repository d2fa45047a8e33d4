"""`examples/trl_grpo.py` trains in either way."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.trl_models import save_tiny_qwen

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("way", [[], ["--rollouts"]])
def test_it_trains(way: list[str], tmp_path: Path) -> None:
    import trl_grpo

    folder = save_tiny_qwen(tmp_path / "model")
    sizes = ["--tasks", "2", "--steps", "1", "--group-size", "2", "--episode-tokens", "32"]
    trainer = trl_grpo.train(
        ["--model", str(folder), "--suite", "webshop", *way, *sizes, "--out", str(tmp_path / "run")]
    )
    assert trainer.state.global_step == 1
