from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdar_benchmarks.throughput import gpu_check

ROOT = Path(__file__).parents[3]


def record(path: Path) -> dict[str, object]:
    return {row["what"]: row["value"] for row in map(json.loads, path.read_text().splitlines())}


@pytest.mark.slow
def test_the_check_runs_whole_at_tiny_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    out = tmp_path / "record.jsonl"
    assert gpu_check.main(["--device", "cpu", "--tiny", "--out", str(out)]) == 0, capsys.readouterr()
    found = record(out)
    assert found["float32: log-probs and entropies, largest difference to the CPU"] == 0.0
    assert found["float32: gradient, relative difference to the CPU"] == 0.0
    assert 0 < float(str(found["bfloat16: log-probs, mean difference to float32"])) < 0.05
    for what in ("generation, a copy in bfloat16", "update", "learning of sdar over grpo"):
        assert float(str(found[f"tiny: {what}"])) > 0
    # The teacher reads three times as much as the student.
    assert float(str(found["tiny: learning of sdar over grpo"])) > 1.02
    assert str(found["vllm"]).startswith("left out") or "tiny: vllm: generation" in found


@pytest.mark.slow
def test_a_section_that_fails_is_a_line_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    for name in ("_correctness", "_generation", "_update", "_methods", "_vllm"):
        monkeypatch.setattr(gpu_check.Check, name, broken if name == "_generation" else lambda *_: None)
    out = tmp_path / "record.jsonl"
    assert gpu_check.main(["--device", "cpu", "--tiny", "--out", str(out)]) == 1
    found = record(out)
    assert found["PROBLEM: tiny: generation"] == "RuntimeError: out of memory"
    assert found["torch"] == torch.__version__


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "there is no NVIDIA GPU" in capsys.readouterr().err
    assert gpu_check.main(["--shapes", "3B"]) == 2
    assert "no shape '3B'" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_from_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    """In a Python that knows the packages of this one, but not this project."""
    packages = next(path for path in sys.path if (Path(path) / "torch").is_dir())
    script = ROOT / "benchmarks" / "sdar_benchmarks" / "throughput" / "gpu_check.py"
    out = tmp_path / "record.jsonl"
    found = subprocess.run(
        [sys.executable, "-S", str(script), "--device", "cpu", "--tiny", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "tiny: update" in record(out)
