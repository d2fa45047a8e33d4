"""Precision of matrix products."""

from __future__ import annotations

import pytest
import torch

from sdar_agents.scoring.precision import is_bfloat16_emulated, warn_if_emulated


@pytest.mark.parametrize(("capability", "is_emulated"), [("AVX2", True), ("AVX512", False), ("SVE256", False)])
def test_a_processor_without_bfloat16_is_named_with_the_setting(
    capability: str, is_emulated: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert is_bfloat16_emulated(torch.device("cpu")) is is_emulated
    assert not is_bfloat16_emulated(torch.device("cuda"))
    warn_if_emulated(torch.device("cpu"), "learner.autocast")
    assert [record.getMessage().startswith("learner.autocast computes in bfloat16") for record in caplog.records] == (
        [True] if is_emulated else []
    )
