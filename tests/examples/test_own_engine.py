"""The example of one's own engine runs as a script, in an evaluation, and gives what the built-in engine gives."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_models import tiny_policy

from sdar_agents import Request, Sampling, make_engine
from sdar_benchmarks.cli import main
from sdar_benchmarks.records.runs import read_config, read_episodes

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "own_engine:PlainEngine"


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_engine", raising=False)


def test_it_runs_as_a_script(capsys: Any) -> None:
    runpy.run_path("own_engine.py", run_name="__main__")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "alfworld/train/0000",
        "alfworld/train/0001",
    ]


@pytest.mark.parametrize("stop", [(), ("e",)])
def test_greedy_completions_are_those_of_the_built_in_engine(stop: tuple[str, ...]) -> None:
    built_in = tiny_policy()
    own = make_engine(NAME, built_in.model, built_in.tokenizer, {"template_options": {}})
    messages = [{"role": "user", "content": "Say hello to the others."}]
    assert own.encode(own.render(messages)) == built_in.encode(built_in.render(messages))
    requests = [Request(own.encode(own.render([{"role": "user", "content": text}])), 0) for text in "abc"]
    sampling = Sampling(20, greedy=True, stop=stop)
    for mine, theirs in zip(own.generate(requests, sampling), built_in.generate(requests, sampling), strict=True):
        assert (mine.token_ids, mine.text, mine.stop_reason) == (theirs.token_ids, theirs.text, theirs.stop_reason)
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_the_command_line_plays_with_it(tmp_path: Path, capsys: Any) -> None:
    policy = tiny_policy()
    policy.model.save_pretrained(tmp_path / "model")
    policy.tokenizer.save_pretrained(tmp_path / "model")
    settings = ["--agent-set", f"engine={NAME}", "--max-tokens", "2", "--max-steps", "1", "--limit", "1"]
    model = ["--agent", "transformers", "--model", str(tmp_path / "model")]
    assert main(["eval", "sdar/ALFWorld-v0", *model, *settings, "--out", str(tmp_path / "run")]) == 0
    assert read_config(tmp_path / "run")["agent"]["settings"]["engine"] == NAME
    [episode] = read_episodes(tmp_path / "run")
    assert (episode.status, episode.steps, episode.completion_tokens) == ("ok", 1, 2)
