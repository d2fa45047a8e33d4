"""Inspect's `eval` on each suite, in both prompt modes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers.pages import blocks, run_block

from sdar_envs import tasks
from sdar_envs.integrations.episodes import ScoredEpisode
from sdar_envs.prompt import render_completion

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}


class Watched(ScoredEpisode):
    """An episode that remembers the latest one, and its prompts."""

    latest: ScoredEpisode
    prompts: ClassVar[list[Any]] = []
    given: ClassVar[list[Any]] = []

    def reset(self, **kwargs: Any) -> Any:
        Watched.latest = self
        step = super().reset(**kwargs)
        Watched.prompts.append(step.messages)
        return step

    def step(self, *args: Any, **kwargs: Any) -> Any:
        step = super().step(*args, **kwargs)
        if step.messages:
            Watched.prompts.append(step.messages)
        return step


def expert(messages: list[Any], *_: Any) -> Any:
    """The expert of the episode in play: a well-formed completion, with usage, which spares Inspect a tokenizer."""
    from inspect_ai.model import ModelOutput, ModelUsage

    Watched.given.append([{"role": message.role, "content": message.text} for message in messages])
    command = Watched.latest.env.oracle_plan()[0]
    output = ModelOutput.from_content("mockllm/model", render_completion(Watched.latest.style, command, "So."))
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def evaluate(task: Any, outputs: Any, folder: Path) -> Any:
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import get_model

    model = get_model("mockllm/model", custom_outputs=outputs)
    [log] = inspect_eval(task, model=model, log_dir=str(folder), display="none", max_samples=1)
    assert log.status == "success", log.error
    return log


@pytest.mark.parametrize("mode", ["windowed", "appended"])
@pytest.mark.parametrize("env_id", SPLITS)
def test_an_expert_solves_the_tasks(env_id: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdar_envs.integrations import inspect

    monkeypatch.setattr(inspect, "ScoredEpisode", Watched)
    monkeypatch.setattr(Watched, "prompts", [])
    monkeypatch.setattr(Watched, "given", [])
    # As the original draws them, some goals cannot be reached.
    arguments = {"quirks": "fixed"} if env_id == "sdar/WebShop-v0" else {}
    log = evaluate(inspect.text_env(env_id=env_id, limit=5, mode=mode, env_args=arguments), expert, tmp_path)
    means = {score.name: score.metrics["mean"].value for score in log.results.scores}
    assert set(means) == {"won", "score", "reward", "turns", "malformed", "invalid"}
    assert (means["won"], means["reward"], means["malformed"]) == (1.0, 1.0, 0.0)
    listed = tasks(env_id, split=SPLITS[env_id], limit=5)
    assert [sample.id for sample in log.samples] == [task.id for task in listed]
    # The model was given the episode's prompts, each as a whole.
    assert Watched.given == Watched.prompts
    assert means["turns"] * 5 == len(Watched.given)


def test_nonsense_is_scored(tmp_path: Path) -> None:
    from inspect_ai.model import ModelOutput, ModelUsage

    from sdar_envs.integrations.inspect import text_env

    def nonsense(*_: Any) -> Any:
        output = ModelOutput.from_content("mockllm/model", "I'd rather not.")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    log = evaluate(text_env(env_id="sdar/ALFWorld-v0", limit=1, env_args={"max_steps": 3}), nonsense, tmp_path)
    means = {score.name: score.metrics["mean"].value for score in log.results.scores}
    assert means == {"won": 0.0, "score": 0.0, "reward": 0.0, "turns": 3.0, "malformed": 3.0, "invalid": 3.0}


def test_reasoning_that_comes_apart_is_read(tmp_path: Path) -> None:
    """ALFWorld's format wants a thought; a model whose reasoning is apart has one."""
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput, ModelUsage

    from sdar_envs.integrations.inspect import text_env

    def apart(*_: Any) -> Any:
        content = [ContentReasoning(reasoning="I look."), ContentText(text="<action>look</action>")]
        output = ModelOutput.from_message(ChatMessageAssistant(content=content))
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    log = evaluate(text_env(env_id="sdar/ALFWorld-v0", limit=1, env_args={"max_steps": 2}), apart, tmp_path)
    assert {s.name: s.metrics["mean"].value for s in log.results.scores}["malformed"] == 0.0


def test_nothing_of_a_log_tells_answers(tmp_path: Path) -> None:
    from inspect_ai.model import ModelOutput, ModelUsage

    from sdar_envs.integrations.inspect import text_env

    def nonsense(*_: Any) -> Any:
        output = ModelOutput.from_content("mockllm/model", "<think>?</think><search>x</search>")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    log = evaluate(text_env(env_id="sdar/SearchQA-v0", limit=2, env_args={"reveal_answers": True}), nonsense, tmp_path)
    # The argument of the environment is named in the log, which a model does not see.
    text = json.dumps(log.model_dump(mode="json")).replace("reveal_answers", "")
    for name in ("golden", "supporting_hit", "passage_ids", "answers", "oracle"):
        assert name not in text


# Inspect counts what its mock model writes by a tokenizer that it would fetch.
_COUNTED = """
from inspect_ai.model import ModelUsage
from inspect_ai.model._providers.mockllm import MockLLM

async def count(self, output, *_):
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)

MockLLM._ensure_default_usage = count
"""


def test_the_command_line(tmp_path: Path) -> None:
    line = ["eval", "sdar_envs/text_env", "--model", "mockllm/model", "--log-dir", str(tmp_path), "--display", "plain"]
    settings = ["-T", "env_id=sdar/SearchQA-v0", "-T", "limit=2", "-T", "env_args={max_steps: 1}"]
    done = subprocess.run(
        [sys.executable, "-c", f"{_COUNTED}\nfrom inspect_ai._cli.main import main\nmain()", *line, *settings],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "malformed" in done.stdout, done.stdout + done.stderr


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.model._providers.mockllm import MockLLM

    monkeypatch.setattr(MockLLM, "_ensure_default_usage", MockLLM._ensure_default_usage)  # is put back afterwards
    exec(_COUNTED, {})
    monkeypatch.chdir(tmp_path)
    first, second = blocks("inspect.md")
    scope = run_block(first, {"openai/MODEL": "mockllm/model", "limit=30": "limit=1, env_args={'max_steps': 1}"})
    assert scope["log"].status == "success"
    assert len(run_block(second)["mine"].dataset) == 5
