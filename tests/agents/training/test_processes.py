"""Training runs of several processes: equal to one process, killed and resumed, read by other numbers of processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fake_vllm import fake_vllm
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import resumed_config, run_config

from sdar_agents.engines.transformers import load_model
from sdar_agents.training.config import TrainConfig
from sdar_agents.training.saving.checkpoints import Checkpoints
from sdar_agents.training.saving.export import export_checkpoint
from sdar_agents.training.trainer import Trainer
from sdar_benchmarks.cli.main import main
from sdar_envs.errors import InvalidOption, MissingData
from sdar_skills import Ledger

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
SECONDS = 900


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def start(
    config: TrainConfig, folder: Path, processes: int, *arguments: str, modules: Path = TESTS, **environment: str
) -> subprocess.Popen[str]:
    file = folder.parent / f"{folder.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_yaml())
    given = arguments or ("--config", str(file), "--out", str(folder))
    return subprocess.Popen(
        [sys.executable, "-m", "sdar_benchmarks.cli", "train", *given, "--processes", str(processes)],
        env={
            **os.environ,
            "PYTHONPATH": str(modules),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def train(config: TrainConfig, folder: Path, processes: int, *arguments: str) -> str:
    process = start(config, folder, processes, *arguments)
    told = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0, told
    return told


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "tokens/", "memory/"))}
        for row in rows
    ]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found, _ = load_model(str(checkpoint), device="cpu")
    return {name: parameter.detach() for name, parameter in found.named_parameters()}


def config_of(model: Path) -> TrainConfig:
    """Everything that has a state, on three tasks."""
    return replace(resumed_config(model), tasks_per_step=3)


@pytest.fixture(scope="module")
def runs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one and in two processes."""
    folder = tmp_path_factory.mktemp("runs")
    Trainer(config_of(model), folder / "one" / "run").run()
    train(config_of(model), folder / "two" / "run", 2)
    return folder


def same(ours: Path, theirs: Path, *, precision: float) -> None:
    left, right = weights(export_checkpoint(ours)), weights(export_checkpoint(theirs))
    for name, tensor in right.items():
        torch.testing.assert_close(left[name], tensor, atol=precision, rtol=0)


def test_the_first_step_of_two_processes_is_that_of_one(runs: Path) -> None:
    one, two = (metrics(runs / name / "run") for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for ours, theirs in zip(two[:2], one[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-3), key
    with Ledger(runs / "one" / "run" / "ledger.sqlite", create=False) as ledger:
        wanted = [showing._replace(time=None, gap=None) for showing in ledger.showings()]
    with Ledger(runs / "two" / "run" / "ledger.sqlite", create=False) as ledger:
        assert [showing._replace(time=None, gap=None) for showing in ledger.showings()][:9] == wanted[:9]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_whose_process_was_killed_ends_as_one_that_never_stopped(
    victim: int, runs: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(config_of(model), folder, 2)
    end = time.monotonic() + SECONDS
    while not (folder / "checkpoints" / "step-000003").is_dir():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(children(process.pid)[victim], signal.SIGKILL)
    told = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2
    assert told.splitlines()[-1].startswith(f"error: process {victim} of 2 was killed by SIGKILL")
    kept = [found.step for found in Checkpoints(folder / "checkpoints", keep=2).all()]
    assert kept[-1] in (3, 4, 5)
    train(config_of(model), folder, 2, "--resume", str(folder))
    whole = runs / "two" / "run"
    assert metrics(folder) == metrics(whole)
    same(folder, whole, precision=0.0)
    assert not list((folder / "checkpoints").glob(".*"))


KILLER = """
import os, signal

left = int(os.environ.get("KILL_AT", "0")) if os.environ.get("RANK") == "0" else 0


def counted(rename):
    def count(source, target, **options):
        global left
        if "checkpoints" in str(source):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return rename(source, target, **options)

    return count


os.rename, os.replace = counted(os.rename), counted(os.replace)
"""


def test_a_kill_at_each_rename_of_a_sharded_save_leaves_a_whole_checkpoint(model: Path, tmp_path: Path) -> None:
    """Of the parts' index, of the folder, of the folder that is deleted: two saves, one kept."""
    config = run_config(model, steps=2, tasks_per_step=2, checkpoints={"every": 1, "keep": 1})
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sitecustomize.py").write_text(KILLER)
    train(config, tmp_path / "whole", 2)
    killed = 0
    while True:
        folder = tmp_path / f"killed-{killed + 1}"
        modules = tmp_path / "modules"
        process = start(config, folder, 2, modules=modules, KILL_AT=str(killed + 1))
        process.communicate(timeout=SECONDS)
        if process.returncode == 0:
            break
        killed += 1
        found = Checkpoints(folder / "checkpoints", keep=1).all()
        for checkpoint in found:
            checkpoint.read_tensors()
        train(config, folder, 2, "--resume", str(folder))
        assert metrics(folder) == metrics(tmp_path / "whole")
        same(folder, tmp_path / "whole", precision=0.0)
        assert [each.name for each in (folder / "checkpoints").iterdir()] == ["step-000002"]
    assert killed >= 5


def children(pid: int) -> list[int]:
    """The processes of a launcher, in the order of their ranks."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ranks = {}
    for each in found:
        environment = Path(f"/proc/{each}/environ").read_bytes().split(b"\0")
        for pair in environment:
            if pair.startswith(b"RANK="):
                ranks[int(pair[5:])] = int(each)
    return [ranks[rank] for rank in sorted(ranks)]


@pytest.mark.parametrize("processes", [1, 3])
def test_a_checkpoint_of_two_processes_is_read_by_one_and_by_three(
    processes: int, runs: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    short = replace(config_of(model), steps=4)
    train(short, folder, 2)
    longer = ("--resume", str(folder), "--steps", "6")
    train(short, folder, processes, *longer)
    # Two steps of AdamW after a state that was read exactly.
    whole = metrics(runs / "two" / "run")
    for ours, theirs in zip(metrics(folder), whole, strict=True):
        for key in ("optimizer/gradient_norm", "distill/gap", "loss/total"):
            assert ours.get(key, 0.0) == pytest.approx(theirs.get(key, 0.0), rel=0.02, abs=1e-3), (theirs["step"], key)
    last = Checkpoints(folder / "checkpoints", keep=1).all()[-1]
    assert last.is_sharded == (processes > 1)


def test_a_checkpoint_of_one_process_is_read_by_two(runs: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    short = replace(config_of(model), steps=4)
    Trainer(short, folder).run()
    train(short, folder, 2, "--resume", str(folder), "--steps", "6")
    for ours, theirs in zip(metrics(folder), metrics(runs / "one" / "run"), strict=True):
        for key in ("optimizer/gradient_norm", "distill/gap", "loss/total"):
            assert ours.get(key, 0.0) == pytest.approx(theirs.get(key, 0.0), rel=0.02, abs=1e-3), (theirs["step"], key)


def test_lora_is_saved_in_parts_and_exported_as_adapters(model: Path, tmp_path: Path) -> None:
    config = run_config(model, model={"lora": {"rank": 2}}, tasks_per_step=2, checkpoints={"every": 1})
    train(config, tmp_path / "run", 2)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    Trainer(config, tmp_path / "one").run()
    other = Checkpoints(tmp_path / "one" / "checkpoints", keep=1).all()[-1].model
    left, right = weights(tmp_path / "out"), weights(other)
    for name, tensor in right.items():
        # Three steps of AdamW with a learning rate of 1e-3.
        assert float((left[name] - tensor).abs().mean()) < 1e-4, name


def test_a_rollout_ahead_is_played_by_two_processes_as_by_one(model: Path, tmp_path: Path) -> None:
    with fake_vllm(model) as server:
        engine = {"engine": "vllm", "engine_options": {"servers": [server.url], "dtype": "float32"}}
        config = run_config(model, model=engine, tasks_per_step=2, max_staleness=1, checkpoints={"every": 1})
        Trainer(config, tmp_path / "one").run()
    with fake_vllm(model) as server:
        engine = {"engine": "vllm", "engine_options": {"servers": [server.url], "dtype": "float32"}}
        train(replace(config, model=replace(config.model, **engine)), tmp_path / "two", 2)
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    assert [row["rollout/staleness"] for row in two] == [0.0, 1.0, 1.0]
    for ours, theirs in zip(two[:2], one[:2], strict=True):
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-3), key
    last = Checkpoints(tmp_path / "two" / "checkpoints", keep=2).all()
    assert [found.read_tensors()["ahead"] is None for found in last] == [False, True]


def test_two_machines_are_two_agents_of_torchrun(runs: Path, model: Path, tmp_path: Path) -> None:
    """On this one, as two `torchrun --nnodes 2` that meet at one address."""
    file = tmp_path / "config.yaml"
    file.write_text(config_of(model).to_yaml())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    line = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "two"]
    what = ["-m", "sdar_benchmarks.cli", "train", "--config", str(file), "--out", str(tmp_path / "run")]
    agents = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *line, "--rdzv-endpoint", f"127.0.0.1:{port}", *what],
            env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [agent.communicate(timeout=SECONDS)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told
    assert metrics(tmp_path / "run") == metrics(runs / "two" / "run")


def test_what_cannot_be_exported_is_said(runs: Path) -> None:
    with pytest.raises(MissingData, match="no checkpoint of step 99; there are those of the steps"):
        export_checkpoint(runs / "two" / "run", step=99)
    with pytest.raises(InvalidOption, match="choose a new folder"):
        export_checkpoint(runs / "two" / "run", out=runs)


def test_an_error_of_all_processes_is_told_once(model: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("mine")
    process = start(run_config(model), tmp_path / "run", 2)
    told = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2
    lines: list[Any] = [line for line in told.splitlines() if line.startswith("error")]
    assert lines == [f"error: {tmp_path / 'run'} exists and is no training run: choose another folder."]
