"""The engine vllm against a server that speaks as vLLM does; a real one is in tests/vllm_servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fake_vllm import FakeVllm, fake_vllm
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.servers.vllm import VllmPolicy
from sdar_agents.engines.transformers import TransformersPolicy, load_model
from sdar_agents.learner.sharding import whole_weights
from sdar_agents.learner.weights import fingerprint
from sdar_agents.rollout.recording import read_trajectories
from sdar_agents.rollout.rollout import RolloutResult
from sdar_agents.settings.reader import merge
from sdar_agents.training.run.ahead import RolloutAhead, check_versions
from sdar_agents.training.trainer import Trainer
from sdar_agents.types import Completion, Trajectory, Turn
from sdar_envs import Task
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


@pytest.fixture
def server(model: Path) -> Iterator[FakeVllm]:
    with fake_vllm(model) as fake:
        yield fake


def vllm(model: Path, *servers: FakeVllm, **settings: Any) -> VllmPolicy:
    options = {"dtype": "float32", "servers": [fake.url for fake in servers], "request_seconds": 5.0} | settings
    return VllmPolicy(*load_model(str(model), device="cpu", dtype="float32"), **options)


def requests(policy: VllmPolicy, count: int) -> list[Request]:
    prompts = [policy.encode(policy.render([{"role": "user", "content": f"{i} apples"}])) for i in range(count)]
    return [Request(prompt, 1000 + i) for i, prompt in enumerate(prompts)]


def test_ids_and_logprobs_are_those_of_the_model_in_this_process(server: FakeVllm, model: Path) -> None:
    policy, local = vllm(model, server), TransformersPolicy.load(str(model), device="cpu", dtype="float32")
    for sampling in (Sampling(12, 0.7, stop=("e",)), Sampling(3), Sampling(6, greedy=True)):
        found = policy.generate(requests(policy, 6), sampling)
        wanted = [local.generate([request], sampling)[0] for request in requests(policy, 6)]
        assert [replace(each, version=None) for each in found] == wanted
    assert {each.stop_reason for each in policy.generate(requests(policy, 9), Sampling(40, stop=("e",)))} >= {"stop"}
    policy.close()


def test_two_servers_share_the_requests(server: FakeVllm, model: Path) -> None:
    server.slowest = 0.05
    with fake_vllm(model, slowest=0.05) as other:
        policy = vllm(model, server, other)
        assert len(policy.generate(requests(policy, 16), Sampling(2))) == 16
        assert server.completions + other.completions == 16
        assert min(server.completions, other.completions) >= 5
        policy.close()


def test_weights_are_loaded_while_requests_are_held(server: FakeVllm, model: Path) -> None:
    policy = vllm(model, server)
    trained, _ = load_model(str(model), device="cpu", dtype="float32")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    written = []
    for version in (1, 2):
        policy.load_weights(whole_weights(trained), version=version)
        written.append(policy._written)
    assert server.calls == 2 * ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert fingerprint(server.policy.model) == fingerprint(trained)
    assert [path.is_dir() for path in written if path] == [False, True]
    assert policy.generate(requests(policy, 1), Sampling(2))[0].version == 2
    policy.close()
    assert not policy._folder.exists()


def test_a_probe_refuses_a_server_that_keeps_an_old_head(model: Path) -> None:
    with fake_vllm(model, stale=("model.embed_tokens.weight",)) as server:
        policy = vllm(model, server)
        trained, tokenizer = load_model(str(model), device="cpu", dtype="float32")
        same = TransformersPolicy(trained, tokenizer)

        def wanted() -> list[float]:
            ids = torch.tensor([policy.probe_ids()])
            with torch.no_grad():
                logprobs = same.model(input_ids=ids).logits[0].log_softmax(-1)
            return [float(logprobs[i, token]) for i, token in enumerate(ids[0, 1:])]

        assert policy.check_probe(wanted()) < 1e-5
        with torch.no_grad():
            trained.get_input_embeddings().weight.mul_(1.1)
        policy.load_weights(whole_weights(trained), version=1)
        tied = "vLLM does not reload tied embeddings" if trained.config.tie_word_embeddings else "other weights"
        with pytest.raises(RunStopped, match=tied):
            policy.check_probe(wanted())
        policy.close()


def test_what_does_not_answer_as_vllm_is_an_error_in_a_line(server: FakeVllm, model: Path) -> None:
    policy = vllm(model, server)
    server.broken_at = 1
    with pytest.raises(EndpointError, match=r"answered 500 .*EngineDeadError"):
        policy.generate(requests(policy, 1), Sampling(2))
    policy.recover()
    assert policy.generate(requests(policy, 1), Sampling(2))
    policy.close()
    with pytest.raises(InvalidOption, match="either servers"):
        vllm(model)
    with pytest.raises(InvalidOption, match="wanted one of float32"):
        vllm(model, server, dtype="int4")
    with pytest.raises(InvalidOption, match="without a user name"):
        vllm(model, server, servers=["http://me:secret@example.org"])


def trained(model: Path, folder: Path, *servers: FakeVllm, **settings: Any) -> Trainer:
    engine = {"servers": [server.url for server in servers], "dtype": "float32", "request_seconds": 5.0}
    config = run_config(
        model,
        model={"engine": "vllm", "engine_options": engine},
        rollout={"env_kwargs": {"max_steps": 3}},
        group_size=3,
        tasks_per_step=2,
        checkpoints={"every": 1},
        log={"trajectories_every": 1, "trajectory_groups": None},
        **settings,
    )
    return Trainer(config, folder, resume=(folder / "config.yaml").exists())


@pytest.mark.slow
def test_servers_score_for_teacher_and_reference_what_the_learner_would(
    server: FakeVllm, model: Path, tmp_path: Path
) -> None:
    """Two steps, so that the teacher's servers have other weights than those of the reference."""
    shared = {"steps": 2, "algorithm": {"kl_coef": 0.01}, "learner": {"lr": 1e-2}}
    trained(model, tmp_path / "learner", server, **shared).run()
    with fake_vllm(model) as generating, fake_vllm(model) as first:
        scores = {
            "teacher_scores": "engine",
            "reference_engine": {"servers": [first.url], "dtype": "float32", "request_seconds": 5.0},
        }
        trainer = trained(model, tmp_path / "engine", generating, **merge(shared, {"learner": scores}))
        assert trainer.learner.initial is None
        trainer.run()
        assert first.completions == 0
    found, wanted = (records(tmp_path / name)[1] for name in ("engine", "learner"))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert found[1]["loss/kl"] > 1e-4
    assert abs(found[1]["distill/gap"]) > 1e-3


def test_servers_of_the_reference_must_have_the_weights_that_the_run_begins_with(
    server: FakeVllm, model: Path, tmp_path: Path
) -> None:
    other = save_tiny_chat(tmp_path / "other", seed=1)
    with fake_vllm(other) as wrong:
        engine = {"algorithm": {"kl_coef": 0.01}, "learner": {"reference_engine": {"servers": [wrong.url]}}}
        with pytest.raises(RunStopped, match="Start it with the model that the run begins with"):
            trained(model, tmp_path / "run", server, **engine)
    empty = {"algorithm": {"kl_coef": 0.01}, "learner": {"reference_engine": {"dtype": "float32"}}}
    with pytest.raises(InvalidOption, match=r"^learner\.reference_engine: servers is empty"):
        trained(model, tmp_path / "run", server, **empty)


def records(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = ("time/", "tokens/", "memory/")
    kept = [{name: value for name, value in row.items() if not name.startswith(measured)} for row in rows]
    return (folder / "trajectories.jsonl").read_bytes(), kept


@pytest.mark.slow
def test_a_run_with_late_answers_is_resumed_row_for_row_and_survives_a_failure(model: Path, tmp_path: Path) -> None:
    with fake_vllm(model) as server:
        whole = trained(model, tmp_path / "whole", server, steps=3)
        whole.run()
    with fake_vllm(model, slowest=0.02) as server, fake_vllm(model, slowest=0.02) as other:
        server.broken_at = 7
        trained(model, tmp_path / "again", server, other, steps=2).run()
        assert server.completions > 7
        resumed = trained(model, tmp_path / "again", server, other, steps=3)
        resumed.run()
    assert records(tmp_path / "again") == records(tmp_path / "whole")
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    rows = records(tmp_path / "whole")[1]
    assert all(row["sampler/probe_difference"] < 1e-5 for row in rows)
    assert all(row["sampler/difference_max"] < 1e-4 for row in rows)


STALE = {
    "max_staleness": 1,
    "learner": {"lr": 1e-2},
    "skills": {"retriever": "ucb", "k": 1, "varied": True},
    "evaluation": {"every": 2, "tasks": 1, "at_start": False, "with_skills": False},
}


@pytest.mark.slow
def test_a_rollout_ahead_is_one_step_stale_and_is_resumed_row_for_row(model: Path, tmp_path: Path) -> None:
    """With a bandit, whose ledger the next rollout must not see early, evaluations between, and a failing server."""
    with fake_vllm(model) as server:
        whole = trained(model, tmp_path / "whole", server, steps=4, **STALE)
        whole.run()
    with fake_vllm(model, slowest=0.02) as server, fake_vllm(model, slowest=0.02) as other:
        server.broken_at = 9
        killed = trained(model, tmp_path / "again", server, other, steps=4, **STALE)
        finish = killed._finish_step

        def finish_or_stop(metrics: dict[str, float], bar: Any) -> None:
            finish(metrics, bar)
            if killed.step == 2:
                raise KeyboardInterrupt

        killed._finish_step = finish_or_stop  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            killed.run()
        assert server.completions > 9
        resumed = trained(model, tmp_path / "again", server, other, steps=4, **STALE)
        resumed.run()
    (found, ours), (wanted, rows) = records(tmp_path / "again"), records(tmp_path / "whole")
    assert found == wanted
    # The evaluation after step 2 has brought the weights to the servers of the one run; the other's process is new.
    assert ours[2].pop("sampler/probe_difference") < 1e-5
    assert ours == rows
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    assert [row["rollout/staleness"] for row in rows] == [0.0, 1.0, 1.0, 1.0]
    # Whoever trains on stale tokens sees it.
    assert rows[0]["sampler/difference_max"] < 1e-4
    assert rows[1]["sampler/difference_max"] > 1e-3
    versions = {turn.completion.version for each in read_trajectories(tmp_path / "whole") for turn in each.turns}
    assert versions == {0, 1, 2}


def test_what_is_stale_by_more_than_is_allowed_stops_the_run() -> None:
    completion = Completion((1,), (-1.0,), "a", "eos", version=3)
    turn = Turn("", (), (1,), completion, "look", 0.0, True, True)
    played = Trajectory(Task("a/b/0", "a", "b", "c", "d"), 0, "g", "e", (turn,), False, "terminated")
    result = RolloutResult((played,), {}, {})
    assert check_versions(result, 5, 1) == {"rollout/staleness": 1.0}
    assert check_versions(result, 4, 0) == {}
    for step, allowed in ((5, 0), (6, 1), (3, 1)):
        with pytest.raises(RunStopped, match="another run uses the same servers"):
            check_versions(result, step, allowed)


def test_a_rollout_ahead_that_fails_is_told_by_the_wait_and_ends_with_the_run() -> None:
    def fail(step: int, go_on: Any) -> RolloutResult:
        raise EndpointError(f"step {step}")

    ahead = RolloutAhead(fail)
    ahead.begin(3)
    with pytest.raises(EndpointError, match="step 3"):
        ahead.wait()
    ahead.wait()
    turns = []

    def play_on(step: int, go_on: Any) -> RolloutResult:
        while True:
            turns.append(step)
            go_on(0, 1)

    endless = RolloutAhead(play_on)
    endless.begin(1)
    endless.close()
    with pytest.raises(RunStopped, match="the run has ended before"):
        endless.wait()
    assert turns
