"""Training with real vLLM servers on a CPU: log-probabilities, weight sync, the probe, a killed server. `make vllm`."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.servers.vllm import VllmPolicy
from sdar_agents.engines.transformers import TransformersPolicy, load_model
from sdar_agents.learner.sharding import whole_weights
from sdar_agents.learner.weights import fingerprint
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.training.trainer import Trainer
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption, RunStopped

pytestmark = pytest.mark.vllm

# A request with a seed stops a server that prefills in chunks, on a CPU.
OPTIONS = [
    *("--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "32768"),
    *("--max-model-len", "4096", "--max-num-seqs", "32"),
]

# vLLM's attention on a CPU wants heads of 32 or more.
WIDTH = {"hidden_size": 128, "intermediate_size": 128}


@pytest.fixture(scope="module", autouse=True)
def for_a_cpu() -> None:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"), tie_word_embeddings=False, **WIDTH)


def engine(**more: Any) -> dict[str, Any]:
    # Another Python than that of the tests may have vLLM.
    python = os.environ.get("SDAR_VLLM_PYTHON")
    found = {} if python is None else {"python": python}
    return {"start": 1, "dtype": "float32", "server_options": OPTIONS, **found, **more}


def config_of(model: Path, suite: str, **settings: Any) -> Any:
    options = settings.pop("engine", engine())
    return run_config(
        model,
        suite,
        model={"engine": "vllm", "engine_options": options},
        group_size=4,
        rollout={"max_new_tokens": 8},
        log={"trajectories_every": 1, "trajectory_groups": None},
        **settings,
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("suite", ["alfworld", "webshop", "search_qa"])
def test_three_steps_of_sdar_have_the_log_probs_of_the_trainer(suite: str, model: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(model, suite, learner={"lr": 1e-2}), tmp_path / "run")
    before = fingerprint(trainer.model)
    trainer.run()
    assert fingerprint(trainer.model) != before
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["sampler/difference_max"] < 1e-3
        assert row["sampler/probe_difference"] < 1e-4
        assert row["optimizer/updates"] == 2


def test_scores_of_given_tokens_are_the_learners_before_and_after_a_sync(model: Path) -> None:
    loaded, tokenizer = load_model(str(model), device="cpu", dtype="float32")
    policy = VllmPolicy(loaded, tokenizer, **engine())
    rng = random.Random(0)
    prompts, responses = (
        [[rng.randrange(900) for _ in range(rng.randrange(1, longest))] for _ in range(12)] for longest in (200, 40)
    )
    for version in range(2):
        if version:
            with torch.no_grad():
                for parameter in loaded.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
            policy.load_weights(whole_weights(loaded), version=version)
        found = policy.score(prompts, responses)
        batch = make_batch([Row(tuple(a), tuple(b)) for a, b in zip(prompts, responses, strict=True)], pad_id=0)
        wanted = score_rows(loaded, batch.student, batch.mask, ScoringOptions(), max_tokens=4096).logprobs
        for ours, theirs, response in zip(found, wanted.tolist(), responses, strict=True):
            assert ours == pytest.approx(theirs[: len(response)], abs=1e-4)
    with pytest.raises(InvalidOption, match="vLLM scores given tokens at temperature 1 only"):
        policy.score(prompts, responses, temperature=0.7)
    policy.close()


def test_servers_score_for_teacher_and_reference_in_each_step_what_the_learner_would(
    model: Path, tmp_path: Path
) -> None:
    initial, tokenizer = load_model(str(model), device="cpu", dtype="float32")
    first = VllmPolicy(initial, tokenizer, **engine())
    servers = {"servers": first.addresses, "dtype": "float32"}
    learner = {"lr": 1e-2, "teacher_scores": "engine", "reference_engine": servers}
    trainer = Trainer(
        config_of(model, "alfworld", steps=2, learner=learner, algorithm={"kl_coef": 0.01}), tmp_path / "run"
    )
    differences: dict[str, list[float]] = {"_teacher": [], "_reference": []}
    for name, weights in ("_teacher", trainer.model), ("_reference", initial):
        scorer: Any = getattr(trainer.learner, name)

        def compare(
            sequences: Any,
            mask: Any,
            options: Any,
            *,
            name: str = name,
            weights: Any = weights,
            ask: Any = scorer.logprobs,
            **rest: Any,
        ) -> Any:
            found = ask(sequences, mask, options, **rest)
            wanted = score_rows(weights, sequences, mask, options, max_tokens=4096).logprobs
            differences[name].append(float((found - wanted).abs().max()))
            return found

        scorer.logprobs = compare
    trainer.run()
    first.close()
    assert {name: len(found) for name, found in differences.items()} == {"_teacher": 2, "_reference": 2}
    assert max(max(found) for found in differences.values()) < 1e-4
    # In the second step teacher and reference have other weights.
    assert metrics(tmp_path / "run")[1]["loss/kl"] > 1e-4


def test_a_rollout_beside_the_learner_is_resumed_row_for_row(model: Path, tmp_path: Path) -> None:
    stale = {"max_staleness": 1, "learner": {"lr": 1e-2}, "checkpoints": {"every": 1}}
    whole = Trainer(config_of(model, "alfworld", **stale), tmp_path / "whole")
    whole.run()
    stopped = Trainer(config_of(model, "alfworld", **stale), tmp_path / "again")
    finish = stopped._finish_step

    def finish_or_stop(*arguments: Any) -> None:
        finish(*arguments)
        if stopped.step == 2:
            raise KeyboardInterrupt

    stopped._finish_step = finish_or_stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = Trainer(config_of(model, "alfworld", **stale), tmp_path / "again", resume=True)
    resumed.run()
    names = [tmp_path / name / "trajectories.jsonl" for name in ("again", "whole")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    assert [row["rollout/staleness"] for row in metrics(tmp_path / "again")] == [0.0, 1.0, 1.0]


def test_a_tied_model_is_refused_by_the_probe(tmp_path: Path) -> None:
    tied = save_tiny_chat(tmp_path / "model", tie_word_embeddings=True, **WIDTH)
    trainer = Trainer(config_of(tied, "alfworld", learner={"lr": 1e-2}), tmp_path / "run")
    with pytest.raises(RunStopped, match="vLLM does not reload tied embeddings"):
        trainer.run()


def test_a_killed_server_costs_nothing_but_time(model: Path, tmp_path: Path) -> None:
    whole = Trainer(config_of(model, "alfworld", learner={"lr": 1e-2}), tmp_path / "whole")
    whole.run()
    struck = Trainer(config_of(model, "alfworld", learner={"lr": 1e-2}), tmp_path / "struck")
    policy: Any = struck.policy
    complete, asked = policy._complete, []

    async def complete_or_kill(request: Request, sampling: Sampling) -> Any:
        asked.append(request)
        if len(asked) == 11:
            os.kill(policy._own[0]._process.pid, signal.SIGKILL)
        return await complete(request, sampling)

    policy._complete = complete_or_kill
    struck.run()
    assert len(asked) > 24
    assert (tmp_path / "whole" / "trajectories.jsonl").read_bytes() == (
        tmp_path / "struck" / "trajectories.jsonl"
    ).read_bytes()
    assert fingerprint(struck.model) == fingerprint(whole.model)


def test_two_servers_share_the_load(model: Path) -> None:
    loaded = load_model(str(model), device="cpu", dtype="float32")
    policy = VllmPolicy(*loaded, **engine(start=2))
    local = TransformersPolicy(*loaded)
    prompts = [policy.encode(policy.render([{"role": "user", "content": f"{i} apples"}])) for i in range(12)]
    requests = [Request(prompt, i) for i, prompt in enumerate(prompts)]
    greedy = Sampling(8, greedy=True)
    found = policy.generate(requests, greedy)
    assert [each.token_ids for each in found] == [each.token_ids for each in local.generate(requests, greedy)]
    sampled = [policy.generate(requests, Sampling(8, 0.7)) for _ in range(2)]
    assert sampled[0] == sampled[1]
    for number in range(2):
        log = (policy._folder / f"server-{number}.log").read_text()
        assert log.count("POST /v1/completions") >= 8
    policy.close()
