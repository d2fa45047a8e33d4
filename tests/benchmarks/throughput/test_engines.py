"""The comparison of engines: an untied copy of a model, CPU seconds of a process tree, the phases of a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny_chat import save_tiny_chat

from sdar_agents.engines.transformers import load_model
from sdar_benchmarks.throughput.engines import main, measure_engine, save_untied, tree_seconds
from sdar_benchmarks.throughput.figures import Figures


def test_an_untied_copy_has_the_same_weights_and_a_head_of_its_own(tmp_path: Path) -> None:
    tied, _ = load_model(str(save_tiny_chat(tmp_path / "tied", tie_word_embeddings=True)), device="cpu")
    save_untied(str(tmp_path / "tied"), tmp_path / "untied")
    untied, _ = load_model(str(tmp_path / "untied"), device="cpu")
    assert not untied.config.tie_word_embeddings
    ids = torch.tensor([[1, 5, 7]])
    with torch.no_grad():
        assert torch.equal(untied(input_ids=ids).logits, tied(input_ids=ids).logits)
        untied.get_input_embeddings().weight.zero_()
    assert torch.equal(untied.get_output_embeddings().weight, tied.get_input_embeddings().weight)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_seconds_of_a_process_that_was_started_count() -> None:
    before = tree_seconds()
    work = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", work], check=True)
    assert tree_seconds() - before >= 0.25


@pytest.mark.slow
def test_the_phases_of_both_methods_are_measured(tmp_path: Path) -> None:
    model = save_tiny_chat(tmp_path / "model", tie_word_embeddings=False)
    figures = Figures("it")
    measure_engine(figures, "transformers", {}, model=model, folder=tmp_path / "runs", tasks_per_step=1)
    names = [figure.what for figure in figures]
    wanted = [("grpo", ("rollout", "update", "new tokens")), ("sdar", ("rollout", "teacher", "update", "new tokens"))]
    assert names == [f"{method}: {phase}" for method, phases in wanted for phase in phases]
    assert all(figure.value > 0 for figure in figures)


def test_the_file_to_write_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "error: 0 arguments came; wanted one: the file to write.\n"
