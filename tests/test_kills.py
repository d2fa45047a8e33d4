"""Recovery from SIGKILL: placed at every fsync, rename, delete and appended row, and drawn over the whole run.

Each time the folder can be read at once, the next start ends as one that was never killed, and nothing is left over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.killing import Killer, Outcome, killer
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.rollout.recording import read_trajectories as read_training
from sdar_agents.training.saving.checkpoints import Checkpoints
from sdar_benchmarks.records import runs
from sdar_envs.errors import MissingData
from sdar_envs.files.lines import read_rows
from sdar_envs.search_qa.retrieval.index import open_index
from sdar_skills import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
]

DRAWN = 12
PLACED = 48
MODULES = ("sdar_benchmarks.cli.main", "sdar_benchmarks.evaluation.evaluate", "sdar_benchmarks.reports.report")
ENVIRONMENTS = ("sdar_envs.webshop.shop", "sdar_envs.search_qa.session", "gymnasium", "sdar_skills")
TRAINING = ("sdar_agents.training.trainer", "sdar_agents.sft.warm_start", "sdar_benchmarks.records.provenance")


class Kind:
    """A kind of work in a folder `run`, which a start begins or resumes, as a user would."""

    def __init__(self, killer: Killer, folder: Path) -> None:
        self.killer, self.folder, self.run = killer, folder, folder / "run"

    def clear(self) -> None:
        """Make the state before the first start."""
        shutil.rmtree(self.run, ignore_errors=True)

    def start(self, **kill: Any) -> Outcome:
        raise NotImplementedError

    def read(self) -> None:
        """Read what a kill has left, as other processes may at any time."""

    def result(self) -> Any:
        raise NotImplementedError


def survive(kind: Kind) -> None:
    draw = random.Random(7)
    kind.clear()
    whole = kind.start()
    assert whole.status == 0, whole.output
    wanted = kind.result()
    assert not remains(kind.folder)
    moments: list[dict[str, Any]] = [{"kill_at": at} for at in placed(whole.points)]
    moments += [{"kill_after": whole.seconds * draw.random()} for _ in range(DRAWN)]
    for number, moment in enumerate(moments):
        kind.clear()
        killed = kind.start(**moment)
        assert killed.was_killed or "kill_after" in moment or killed.status == 0, killed.output
        kind.read()
        if number % 5 == 0:  # again, while it recovers
            kind.start(kill_at=draw.randrange(1, len(whole.points) + 1))
            kind.read()
        last = kind.start()
        assert last.status == 0, (moment, last.output)
        assert kind.result() == wanted, moment
        assert not remains(kind.folder), moment
    print(f"{type(kind).__name__}: {kind.killer.kills} kills, {len(whole.points)} points, {whole.seconds:.2f} s a run")
    assert kind.killer.kills >= 30


def placed(points: list[str]) -> list[int]:
    """Return the points to be killed at: all, or of very many those of renames and an even sample of the others."""
    kept = [at for at, call in enumerate(points, 1) if call in ("rename", "replace")]
    others = [at for at, call in enumerate(points, 1) if call not in ("rename", "replace")]
    return sorted([*kept, *others[:: math.ceil(len(others) / PLACED)]])


def remains(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".*") if re.search(r"=[0-9a-f]{16}(-old)?$|\.lock$", path.name)]


def timeless(value: Any) -> Any:
    """Return JSON without what is measured: times, speeds, memory."""
    if isinstance(value, dict):
        measured = re.compile(r".*seconds.*|(time|tokens|memory)/.*|created|finished|resumed")
        return {key: timeless(inner) for key, inner in value.items() if not measured.fullmatch(key)}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


# -- evaluation -----------------------------------------------------------------------------


class Evaluation(Kind):
    def start(self, **kill: Any) -> Outcome:
        resume = ["--resume"] if (self.run / runs.CONFIG).exists() else []
        panel = ["sdar/ALFWorld-v0", "--agent", "random", "--limit", "6", "--seeds", "2", "--max-steps", "6"]
        return self.killer.run("sdar", "eval", *panel, "--concurrency", "2", "--out", self.run, *resume, **kill)

    def read(self) -> None:
        if (self.run / runs.CONFIG).exists():
            runs.read_config(self.run)
        if (self.run / runs.SUMMARY).exists():
            runs.read_summary(self.run)
        for read in (runs.read_episodes, lambda folder: list(runs.read_trajectories(folder))):
            rows = read(self.run)
            assert len(rows) <= 12

    def result(self) -> Any:
        rows = [timeless(episode.to_json()) for episode in runs.read_episodes(self.run)]
        rows += [timeless(row) for row in runs.read_trajectories(self.run)]
        assert runs.read_config(self.run)["finished"]
        return sorted(map(json.dumps, rows)), timeless(runs.read_summary(self.run)), sorted(os.listdir(self.run))


def test_evaluation(tmp_path: Path) -> None:
    with killer(tmp_path, *MODULES, *ENVIRONMENTS) as process:
        survive(Evaluation(process, tmp_path))


# -- training -------------------------------------------------------------------------------


class Training(Kind):
    def start(self, **kill: Any) -> Outcome:
        begun = (self.run / "config.yaml").exists()
        how = ["--resume", self.run] if begun else ["--config", self.folder / "config.yaml", "--out", self.run]
        return self.killer.run("sdar", "train", *how, **kill)

    def read(self) -> None:
        for checkpoint in Checkpoints(self.run / "checkpoints", keep=1).all():
            assert checkpoint.read_state()["step"] == checkpoint.step
            checkpoint.read_tensors()
            assert (checkpoint.model / "model.safetensors").stat().st_size
        list(read_rows(self.run / "metrics.jsonl"))
        list(read_rows(self.run / "evaluations.jsonl"))
        if (self.run / "trajectories.jsonl").exists():
            list(read_training(self.run))

    def result(self) -> Any:
        found: dict[str, Any] = {"metrics": [timeless(row) for row in read_rows(self.run / "metrics.jsonl")]}
        for name in ("evaluations.jsonl", "trajectories.jsonl"):
            found[name] = (self.run / name).read_bytes()
        for checkpoint in Checkpoints(self.run / "checkpoints", keep=1).all():
            found[f"weights {checkpoint.step}"] = digest(checkpoint.model / "model.safetensors")
            found[f"tensors {checkpoint.step}"] = repr(plain(checkpoint.read_tensors()))
        with Ledger(self.run / "ledger.sqlite", create=False) as ledger:
            found["ledger"] = [showing._replace(time=None) for showing in ledger.showings()]
        return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: Any) -> Any:
    """Return a state with lists for tensors, so that it can be compared bit by bit."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def test_training(tmp_path: Path) -> None:
    config = run_config(
        save_tiny_chat(tmp_path / "model"),
        steps=2,
        group_size=3,
        skills={"retriever": "ucb", "k": 1, "varied": True},
        learner={"teacher": "ema"},
        evaluation={"every": 2, "tasks": 1, "with_skills": False},
        checkpoints={"every": 1, "keep": 1},
        log={"trajectories_every": 1},
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    with killer(tmp_path, *MODULES, *ENVIRONMENTS, *TRAINING) as process:
        survive(Training(process, tmp_path))


# -- ledger, index, first start -------------------------------------------------------------


class LedgerRun(Kind):
    def start(self, **kill: Any) -> Outcome:
        self.run.mkdir(exist_ok=True)
        return self.killer.run("ledger", self.run, **kill)

    def read(self) -> None:
        if (self.run / "ledger.sqlite").exists():
            self._batches()

    def _batches(self) -> list[int]:
        """Return the steps of the showings: six of each batch, without a gap and whole."""
        with Ledger(self.run / "ledger.sqlite") as ledger:
            steps = [showing.step for showing in ledger.showings()]
        assert steps == [step for step in range(len(steps) // 6) for _ in range(6)]
        return steps

    def result(self) -> Any:
        with Ledger(self.run / "ledger.sqlite", create=False) as ledger:
            return [showing._replace(time=None) for showing in ledger.showings()]


def test_ledger(tmp_path: Path) -> None:
    with killer(tmp_path, "sdar_skills") as process:
        survive(LedgerRun(process, tmp_path))


class NewIndex(Kind):
    corpus = "new.jsonl"

    def start(self, **kill: Any) -> Outcome:
        overwrite = ["--overwrite"] if self.run.exists() else []
        corpus = self.folder / self.corpus
        return self.killer.run("sdar", "index", "build", corpus, "--out", self.run, *overwrite, **kill)

    def read(self) -> None:
        try:
            assert self.result()[0] == 50
        except MissingData:
            assert type(self) is NewIndex

    def result(self) -> Any:
        index = open_index(self.run)
        manifest = json.loads((self.run / "index.json").read_text())
        return len(index.search(["tea lamp"], 80)[0]), manifest


class ReplacedIndex(NewIndex):
    def clear(self) -> None:
        super().clear()
        shutil.copytree(self.folder / "old", self.run)


@pytest.mark.parametrize("kind", [NewIndex, ReplacedIndex])
def test_index(kind: Callable[[Killer, Path], NewIndex], tmp_path: Path) -> None:
    for name, word in (("old", "old"), ("new", "lamp")):
        rows = [{"id": str(i), "contents": f'"{word} {i}"\ntea {word} lamp number {i}.'} for i in range(50)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with killer(tmp_path, *MODULES, "sdar_envs.search_qa.retrieval.index") as process:
        built = process.run("sdar", "index", "build", tmp_path / "old.jsonl", "--out", tmp_path / "old")
        assert built.status == 0, built.output
        survive(kind(process, tmp_path))


class FirstStart(Kind):
    def start(self, **kill: Any) -> Outcome:
        (self.folder / "answers.json").unlink(missing_ok=True)
        env = {"SDAR_CACHE_DIR": str(self.run)}
        return self.killer.run("first_start", self.folder / "answers.json", env=env, **kill)

    def result(self) -> Any:
        cached = {str(path.relative_to(self.run)): digest(path) for path in self.run.rglob("*") if path.is_file()}
        return (self.folder / "answers.json").read_text(), cached


def test_first_start(tmp_path: Path) -> None:
    with killer(tmp_path, *ENVIRONMENTS) as process:
        survive(FirstStart(process, tmp_path))
