from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import resumed_config, run_config

import sdar_envs
from sdar_agents.algorithms import make_algorithm
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.learner.learner import Learner
from sdar_agents.learner.weights import fingerprint
from sdar_agents.rollout.recording import read_trajectories
from sdar_agents.rollout.task_stream import TaskStream
from sdar_agents.training.evaluation import success_metrics
from sdar_agents.training.run.log import open_tracker
from sdar_agents.training.saving.checkpoints import Checkpoints
from sdar_agents.training.trainer import Trainer, read_run_config
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.trajectories import RunIndex
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, RunStopped, UnknownName
from sdar_skills import Ledger, Library

TESTS = Path(__file__).parents[2]
METHODS = ("grpo", "opsd", "grpo_opsd", "grpo_opsd_beta0", "skill_grpo", "rlsd", "skill_sd", "sdar")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def print_of(folder: Path) -> str:
    """The checksum of a checkpoint's weights."""
    return fingerprint(TransformersPolicy.load(str(folder / "model")).model)


# SDAR on all suites and each method on one; the rest, and the other methods (test_family_runs), are slow.
PLAYED = [
    pytest.param(method, suite, marks=() if "sdar" in method or suite == "alfworld" else pytest.mark.slow)
    for method in METHODS
    for suite in ("alfworld", "webshop", "search_qa")
]


@pytest.mark.parametrize(("method", "suite"), PLAYED)
def test_every_method_trains_on_every_suite(method: str, suite: str, model: Path, tmp_path: Path) -> None:
    config = run_config(model, suite, method=method, log={"trajectories_every": 1})
    trainer = Trainer(config, tmp_path)
    before = fingerprint(trainer.model)
    trainer.run()
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert fingerprint(trainer.model) != before
    assert print_of(tmp_path / "checkpoints" / "step-000003") == fingerprint(trainer.model)
    algorithm = make_algorithm(method, suite="alfworld")
    assert all(row["optimizer/updates"] == 2 and row["optimizer/skipped"] == 0 for row in rows)
    assert all(("distill/gap" in row) == algorithm.needs_teacher for row in rows)
    assert all(row["sampler/difference_max"] < 1e-4 for row in rows)
    # The student's prompt has skills in Skill-GRPO alone, and a teacher's prompt is the student's with skills.
    texts = [skill.text.strip().splitlines()[0] for skill in Library.load().select(suite)]
    for trajectory in read_trajectories(tmp_path):
        for turn in trajectory.turns:
            has_skill = any(text in turn.messages[-1]["content"] for text in texts)
            assert has_skill == algorithm.student_sees_skills
            assert (turn.teacher_prompt_ids is not None) == algorithm.needs_teacher
            if algorithm.needs_teacher:
                assert len(turn.teacher_prompt_ids or ()) > len(turn.prompt_ids)


def test_without_its_coefficient_sdar_is_grpo_bit_for_bit(model: Path, tmp_path: Path) -> None:
    prints = []
    for method, algorithm in (("grpo", {}), ("sdar", {"distill_coef": 0.0}), ("skill_sd", {"distill_coef": 0.0})):
        trainer = Trainer(run_config(model, method=method, algorithm=algorithm), tmp_path / method)
        trainer.run()
        prints.append(fingerprint(trainer.model))
    assert len(set(prints)) == 1


@pytest.fixture(scope="module")
def runs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and two that were killed and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    Trainer(resumed_config(model), folder / "whole" / "run").run()
    killed = subprocess.run(
        [
            *(sys.executable, str(TESTS / "helpers" / "training_runs.py"), str(model)),
            *("between", str(folder / "between" / "run"), "during", str(folder / "during" / "run")),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert killed.stdout.split() == ["between", str(-signal.SIGKILL), "during", str(-signal.SIGKILL)]
    for name in ("between", "during"):
        assert [found.step for found in Checkpoints(folder / name / "run" / "checkpoints", keep=2).all()][-1] == 3
    leftovers = list((folder / "during" / "run" / "checkpoints").glob(".step-000004=*"))
    assert [(path / "model" / "model.safetensors").exists() for path in leftovers] == [True]
    for name in ("between", "during"):
        torch.manual_seed(77)  # another process has another state
        Trainer(resumed_config(model), folder / name / "run", resume=True).run()
    return folder


class TestResume:
    @pytest.mark.parametrize("name", ["between", "during"])
    def test_a_killed_run_ends_as_one_that_never_stopped(self, runs: Path, name: str) -> None:
        whole, resumed = (runs / which / "run" for which in ("whole", name))
        # With the first of the best, which here is the first that was evaluated.
        kept = [path.name for path in sorted((whole / "checkpoints").iterdir())]
        assert kept == ["step-000002", "step-000005", "step-000006"]
        assert [path.name for path in sorted((resumed / "checkpoints").iterdir())] == kept
        for step in kept:
            left, right = whole / "checkpoints" / step, resumed / "checkpoints" / step
            assert print_of(left) == print_of(right)
            tensors = [torch.load(path / "trainer.pt", weights_only=True) for path in (left, right)]
            torch.testing.assert_close(tensors[0], tensors[1], rtol=0, atol=0)

    @pytest.mark.parametrize("name", ["between", "during"])
    def test_its_records_are_the_same(self, runs: Path, name: str) -> None:
        whole, resumed = (runs / which / "run" for which in ("whole", name))
        for file in ("evaluations.jsonl", "trajectories.jsonl"):
            assert (whole / file).read_bytes() == (resumed / file).read_bytes()
        for left, right in zip(metrics(whole), metrics(resumed), strict=True):
            measured = {key for key in left if key.startswith(("time/", "tokens/", "memory/"))}
            assert {key: left[key] for key in left if key not in measured} == {
                key: right[key] for key in right if key not in measured
            }
        shown = []
        for folder in (whole, resumed):
            with Ledger(folder / "ledger.sqlite", create=False) as ledger:
                shown.append([showing._replace(time=None) for showing in ledger.showings()])
        assert shown[0] == shown[1]
        assert len(shown[0]) % 3 == 0  # three members, a skill each
        assert len(shown[0]) >= 9

    def test_a_finished_run_is_prolonged_but_not_changed(self, runs: Path, model: Path) -> None:
        folder = runs / "whole" / "run"
        config = read_run_config(folder)
        assert config == resumed_config(model).resolved()
        with pytest.raises(InvalidOption, match=r"another configuration: seed, learner\.lr changed"):
            Trainer(run_config_changed(config, seed=1, lr=1.0), folder, resume=True)
        with pytest.raises(InvalidOption, match="already holds a run"):
            Trainer(config, folder)


def run_config_changed(config: Any, *, seed: int, lr: float) -> Any:
    return replace(config, seed=seed, learner=replace(config.learner, lr=lr))


def test_a_run_without_checkpoint_begins_anew(model: Path, tmp_path: Path) -> None:
    config = run_config(
        model,
        skills={"retriever": "random", "varied": True, "k": 1},
        evaluation={"every": 1, "tasks": 1},
        log={"trajectories_every": 1},
    )
    broken = Trainer(config, tmp_path / "run")
    learn = broken.learner.learn

    def learn_once(rows: Any, step: int, **options: Any) -> Any:
        return learn(rows, step, **options) if step == 1 else 1 / 0

    broken.learner.learn = learn_once  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        broken.run()
    again = Trainer(config, tmp_path / "run", resume=True)
    again.run()
    assert [row["step"] for row in metrics(tmp_path / "run")] == [0, 1, 2, 3]
    other = Trainer(config, tmp_path / "other" / "run")
    other.run()
    assert fingerprint(other.model) == fingerprint(again.model)
    with Ledger(tmp_path / "run" / "ledger.sqlite", create=False) as ledger:
        steps = [showing.step for showing in ledger.showings()]
    with Ledger(tmp_path / "other" / "run" / "ledger.sqlite", create=False) as ledger:
        assert steps == [showing.step for showing in ledger.showings()] != []


def test_the_last_step_is_evaluated_and_saved_too(model: Path, tmp_path: Path) -> None:
    evaluation = {"every": 2, "tasks": 1, "at_start": False}
    Trainer(run_config(model, evaluation=evaluation, checkpoints={"every": 2, "keep": 9}), tmp_path).run()
    assert [row["step"] for row in metrics(tmp_path) if "eval/greedy/success" in row] == [2, 3]
    assert [found.step for found in Checkpoints(tmp_path / "checkpoints", keep=9).all()] == [2, 3]


def test_settings_reach_those_whom_they_concern(model: Path, tmp_path: Path) -> None:
    config = run_config(
        model,
        steps=2,
        seed=3,
        train_tasks=2,
        tasks_per_step=2,
        rollout={"temperature": 0.7},
        learner={"schedule": "linear", "autocast": True},
        log={"trajectories_every": 1},
    )
    trainer = Trainer(config, tmp_path / "run")
    assert isinstance(trainer.policy, TransformersPolicy)
    assert trainer.policy._autocast is torch.bfloat16
    learn, penalties = trainer.learner.learn, []

    def listen(rows: Any, *args: Any, **options: Any) -> Any:
        penalties.extend(row.invalid_penalty for row in rows if row.invalid_penalty)
        return learn(rows, *args, **options)

    trainer.learner.learn = listen  # type: ignore[method-assign]
    trainer.run()
    assert set(penalties) == {0.1}
    assert [row["optimizer/lr"] for row in metrics(tmp_path / "run")] == [1e-3, 5e-4]
    # At the same temperature, only bfloat16 is between sampler and trainer.
    assert all(row["sampler/difference_max"] < 0.1 for row in metrics(tmp_path / "run"))
    groups = [trajectory.group_id.split("/", 1) for trajectory in read_trajectories(tmp_path / "run")]
    known = {task.id for task in sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=2)}
    assert {(step, task) for step, task in groups} == {(step, task) for step in "12" for task in known}
    others = [Trainer(run_config(model, seed=seed), tmp_path / str(seed)) for seed in (4, 5)]
    assert isinstance(others[0].policy, TransformersPolicy)
    assert others[0].policy._autocast is None
    assert others[0].stream.tasks(1) != others[1].stream.tasks(1)
    for other in others:
        other.close()
    with pytest.raises(InvalidOption, match="another configuration: steps changed"):
        Trainer(replace(config, steps=3), tmp_path / "run", resume=True)


def test_the_best_checkpoint_and_the_latest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, value in enumerate((0.1, 0.5, 0.5, 0.3, None, 0.2), 1):
        checkpoints.save(step, lambda path: (path / "model").touch(), {}, {}, value=value)
    assert [found.step for found in checkpoints.all()] == [2, 5, 6]
    best = checkpoints.best()
    assert best is not None
    assert best.step == 2
    Checkpoints(tmp_path, keep=1).prune()
    assert [found.step for found in checkpoints.all()] == [2, 6]
    assert Checkpoints(tmp_path / "none", keep=1).best() is None


def test_another_start_is_refused_when_resuming(model: Path, tmp_path: Path) -> None:
    other = save_tiny_chat(tmp_path / "model", seed=1)
    Trainer(run_config(other, steps=1), tmp_path / "run").run()
    save_tiny_chat(tmp_path / "model", seed=2)
    with pytest.raises(InvalidOption, match="not the model that this run began with"):
        Trainer(run_config(other, steps=2), tmp_path / "run", resume=True)


class TestEvaluation:
    def test_it_is_repeatable_and_disturbs_nothing(self, model: Path, tmp_path: Path) -> None:
        prints = []
        for every in (0, 1):
            torch.manual_seed(5)
            random.seed(5)
            trainer = Trainer(
                run_config(model, evaluation={"every": every, "tasks": 2}, steps=2), tmp_path / str(every)
            )
            trainer.run()
            prints.append((fingerprint(trainer.model), torch.rand(1).item(), random.random()))
        assert prints[0] == prints[1]

    def test_two_evaluations_of_the_same_weights_are_equal(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, evaluation={"every": 1, "tasks": 3}), tmp_path)
        first, second = trainer.evaluation.run(), trainer.evaluation.run()
        assert first == second
        names = [f"alfworld/valid_unseen/{index:04d}" for index in (0, 83, 32)]
        assert [row["task_id"] for row in first[1]] == 3 * names
        assert {row["way"] for row in first[1]} == {"greedy", "sampled", "with_skills"}
        trainer.close()

    def test_skills_are_seen_in_the_diagnostic_alone(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, method="grpo", evaluation={"every": 1, "tasks": 1}), tmp_path)
        assert trainer.rollout.skills is None
        first = {
            way: rollout.collect(trainer.evaluation.panel, group_size=1, seed=0, step=0).trajectories[0].turns[0]
            for way, rollout in trainer.evaluation._ways.items()
        }
        assert not any((first["greedy"].skill_ids, first["sampled"].skill_ids))
        assert first["with_skills"].skill_ids
        assert (
            len(first["with_skills"].prompt_ids) > len(first["greedy"].prompt_ids) == len(first["sampled"].prompt_ids)
        )
        trainer.close()

    def test_its_settings_come_before_those_of_the_rollout(self, model: Path, tmp_path: Path) -> None:
        evaluation = {"every": 1, "tasks": 2, "split": "valid_seen", "env_kwargs": {"max_steps": 1}, "temperature": 0.6}
        trainer = Trainer(run_config(model, evaluation=evaluation), tmp_path)
        assert [task.split for task in trainer.evaluation.panel] == ["valid_seen"] * 2
        ways = {name: rollout.settings for name, rollout in trainer.evaluation._ways.items()}
        assert {name: way.greedy for name, way in ways.items()} == {
            "greedy": True,
            "sampled": False,
            "with_skills": True,
        }
        assert ways["sampled"].temperature == 0.6
        assert trainer.evaluation.run()[0]["eval/greedy/episode_turns"] == 1
        trainer.close()

    def test_kinds_of_tasks_have_their_own_rates(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, group_size=4), tmp_path)
        played = trainer.rollout.collect(trainer.stream.tasks(1), group_size=4, seed=0, step=1).trajectories
        kinds = [replace(played[0].task, task_type=name) for name in ("a", "a", "b", "b")]
        wins = (True, True, False, True)
        numbers = dict(
            success_metrics(
                [replace(t, task=task, success=won) for t, task, won in zip(played, kinds, wins, strict=True)]
            )
        )
        assert numbers["success"] == 0.75
        assert (numbers["success_by_type/a"], numbers["success_by_type/b"]) == (1.0, 0.5)
        trainer.close()

    def test_rates_have_their_interval(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, evaluation={"every": 1, "tasks": 2}), tmp_path)
        numbers, _ = trainer.evaluation.run()
        assert numbers["eval/greedy/success"] == 0.0
        assert numbers["eval/greedy/success_low"] == 0.0
        assert numbers["eval/greedy/success_high"] == pytest.approx(0.6576, abs=1e-4)
        trainer.close()


class TestTrajectories:
    def test_a_run_can_be_viewed_with_the_teachers_prompt_gaps_and_gates(self, model: Path, tmp_path: Path) -> None:
        log = {"trajectories_every": 2, "trajectory_groups": 1}
        Trainer(run_config(model, steps=2, tasks_per_step=2, log=log), tmp_path).run()
        index = RunIndex(tmp_path)
        entries = index.refresh()
        assert index.notes == []
        rows = [index.trajectory(entry) for entry in entries]
        # One group of two members of the second step.
        assert [(row["step"], row["group_id"]) for row in rows] == [(2, rows[0]["group_id"])] * 2
        for trajectory, row in zip(read_trajectories(tmp_path), rows, strict=True):
            for turn, written in zip(trajectory.turns, row["turns"], strict=True):
                skill = Library.load()[turn.skill_ids[0].split("@")[0]]
                assert skill.text.strip() in written["teacher_prompt"]
                assert skill.text.strip() not in turn.messages[-1]["content"]
                tokens = written["tokens"]
                assert len(tokens) == len(turn.completion.token_ids) > 0
                for token in tokens:
                    assert token["gate"] == pytest.approx(1 / (1 + math.exp(-5 * token["gap"])), abs=1e-5)
                assert len({token["gap"] for token in tokens}) > 1 or len(tokens) == 1
        assert json.loads((tmp_path / "run.json").read_text())["format"] == 2

    def test_a_method_without_a_teacher_writes_neither(self, model: Path, tmp_path: Path) -> None:
        Trainer(run_config(model, steps=1, method="grpo", log={"trajectories_every": 1}), tmp_path).run()
        index = RunIndex(tmp_path)
        turns = [turn for entry in index.refresh() for turn in index.trajectory(entry)["turns"]]
        assert turns
        assert all("teacher_prompt" not in turn and "tokens" not in turn for turn in turns)

    def test_all_groups_are_written_if_asked_for(self, model: Path, tmp_path: Path) -> None:
        log = {"trajectories_every": 1, "trajectory_groups": None}
        Trainer(run_config(model, steps=1, tasks_per_step=4, log=log), tmp_path).run()
        assert len({trajectory.group_id for trajectory in read_trajectories(tmp_path)}) == 4


def test_a_reward_function_of_ones_own_trains_and_leaves_the_evaluation_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lengths.py").write_text("def short(t):\n    return -float(len(t.turns[0].completion.token_ids))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rollout = {"reward": "lengths:short"}
    config = run_config(model, steps=1, method="grpo", rollout=rollout, evaluation={"every": 1, "tasks": 1})
    trainer = Trainer(config, tmp_path / "run")
    last = trainer.run()
    assert last["rollout/return"] < 0 == last["rollout/env_return"]
    assert all(way.settings.reward is None for way in trainer.evaluation._ways.values())
    assert "reward: lengths:short" in (tmp_path / "run" / "config.yaml").read_text()


def test_an_engine_of_ones_own_generates_with_the_weights_that_are_trained(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine_of_mine.py").write_text(
        "from sdar_agents.engines.transformers import TransformersPolicy\n"
        "class Counting(TransformersPolicy):\n"
        "    def __init__(self, model, tokenizer, *, calls):\n"
        "        super().__init__(model, tokenizer)\n"
        "        self.calls = calls\n"
        "    def generate(self, requests, sampling):\n"
        "        self.calls += 1\n"
        "        return super().generate(requests, sampling)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    plain = Trainer(run_config(model), tmp_path / "plain")
    engine = {"engine": "engine_of_mine:Counting", "engine_options": {"calls": 100}}
    own = Trainer(run_config(model, model=engine), tmp_path / "own")
    assert own.policy.model is own.model  # type: ignore[attr-defined]
    plain.run()
    own.run()
    assert own.policy.calls > 100  # type: ignore[attr-defined]
    assert fingerprint(own.model) == fingerprint(plain.model)
    assert "engine: engine_of_mine:Counting" in (tmp_path / "own" / "config.yaml").read_text()
    with pytest.raises(UnknownName, match="Did you mean 'transformers'"):
        Trainer(run_config(model, model={"engine": "transformer"}), tmp_path / "no")


class TestTaskStream:
    def test_a_pass_shows_each_task_once(self) -> None:
        source = sdar_envs.make_vec("sdar/ALFWorld-v0", 1).envs[0].source
        stream = TaskStream(source, "valid_unseen", per_step=4, seed=1, limit=12)
        first = [task.id for step in (1, 2, 3) for task in stream.tasks(step)]
        second = [task.id for step in (4, 5, 6) for task in stream.tasks(step)]
        assert len(set(first)) == 12
        assert set(first) == set(second)
        assert first != second
        assert stream.tasks(2) == TaskStream(source, "valid_unseen", per_step=4, seed=1, limit=12).tasks(2)
        assert stream.tasks(2) != TaskStream(source, "valid_unseen", per_step=4, seed=2, limit=12).tasks(2)

    def test_a_split_without_end(self) -> None:
        source = sdar_envs.make_vec("sdar/ALFWorld-v0", 1).envs[0].source
        stream = TaskStream(source, "train", per_step=8, seed=0)
        seen = {task.id for step in range(1, 5) for task in stream.tasks(step)}
        assert len(seen) == 32

    def test_too_few_tasks(self) -> None:
        source = sdar_envs.make_vec("sdar/ALFWorld-v0", 1).envs[0].source
        with pytest.raises(InvalidOption, match="a step needs 4 different tasks, and there are 3"):
            TaskStream(source, "valid_unseen", per_step=4, seed=1, limit=3)


class TestTrouble:
    def test_gradients_that_stay_broken_stop_the_run_with_its_state_saved(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, steps=9, learner={"stop_after_skips": 3}), tmp_path)
        weight = next(trainer.model.parameters())
        weight.register_hook(lambda grad: grad * math.nan)
        before = fingerprint(trainer.model)
        with pytest.raises(RunStopped, match=r"4 optimiser steps in a row .* stopped at step 2"):
            trainer.run()
        assert [row["optimizer/skipped"] for row in metrics(tmp_path)] == [2, 2]
        assert print_of(tmp_path / "checkpoints" / "step-000002") == before

    def test_a_full_disk_leaves_the_checkpoint_before(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, checkpoints={"every": 1}, steps=2), tmp_path)
        save = trainer.save

        def save_on_a_small_disk(value: float | None = None) -> Any:
            if trainer.step < 2:
                return save(value)
            with limited_files(20_000):
                return save(value)

        trainer.save = save_on_a_small_disk  # type: ignore[method-assign]
        with pytest.raises(RunStopped, match=r"cannot be written .* the one of step 1 is untouched"):
            trainer.run()
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
        resumed = Trainer(run_config(model, checkpoints={"every": 1}, steps=2), tmp_path, resume=True)
        resumed.run()
        assert [row["step"] for row in metrics(tmp_path)] == [1, 2]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
    @pytest.mark.parametrize("settings", [{}, {"log": {"trajectories_every": 1}}, {"log": {"tracker": "tensorboard"}}])
    def test_records_that_cannot_be_written_stop_the_run(
        self, settings: dict[str, Any], model: Path, tmp_path: Path
    ) -> None:
        if settings.get("log", {}).get("tracker"):
            pytest.importorskip("tensorboard")
        trainer = Trainer(run_config(model, steps=1, **settings), tmp_path)
        with limited_files(100), pytest.raises(RunStopped, match=r"records .* cannot be written .* from the beginning"):
            trainer.run()
        Trainer(run_config(model, steps=1, **settings), tmp_path, resume=True).run()
        assert [row["step"] for row in metrics(tmp_path)] == [1]

    def test_a_start_that_failed_is_tried_again(self, model: Path, tmp_path: Path) -> None:
        skills = {"retriever": "random", "varied": True, "k": 1}
        with pytest.raises(UnknownName, match=r"evaluation\.split is 'valid_sen'"):
            Trainer(run_config(model, skills=skills, evaluation={"every": 1, "split": "valid_sen"}), tmp_path / "run")
        Trainer(run_config(model, skills=skills, steps=1), tmp_path / "run").run()

    def test_a_damaged_checkpoint_says_what_to_do(self, model: Path, tmp_path: Path) -> None:
        config = run_config(model, steps=1)
        Trainer(config, tmp_path).run()
        (tmp_path / "checkpoints" / "step-000001" / "trainer.pt").write_bytes(b"nothing")
        with pytest.raises(CorruptData, match="delete it to continue from the one before"):
            Trainer(config, tmp_path, resume=True)

    def test_folders_that_hold_something_else(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(InvalidOption, match="is no training run"):
            Trainer(run_config(model), tmp_path)
        with pytest.raises(MissingData, match="holds no run to resume"):
            Trainer(run_config(model), tmp_path, resume=True)

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidOption, match="cannot be loaded"):
            Trainer(run_config(tmp_path / "nowhere"), tmp_path / "run")

    def test_a_model_without_chat_template(self, tmp_path: Path) -> None:
        folder = save_tiny_chat(tmp_path / "model")
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(InvalidOption, match="no chat template"):
            Trainer(run_config(folder), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_bandits_want_something_to_compare(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidOption, match=r"set skills\.varied, or skills\.control_members"):
            Trainer(run_config(model, skills={"retriever": "ucb"}), tmp_path / "run")

    def test_skills_that_fit_no_budget(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, skills={"max_prompt_tokens": 40}), tmp_path / "run")
        with pytest.raises(ValueError, match="no room for even the best skill"):
            trainer.run()


class TestLedger:
    SKILLS = {"retriever": "ucb", "varied": True, "k": 1}  # noqa: RUF012

    def test_a_run_may_be_moved(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        begun = Trainer(run_config(model, skills=self.SKILLS, group_size=3, steps=2), Path())
        begun.run()
        assert begun.skills.statistics is not None
        assert begun.skills.statistics.now == 1  # what step 2 has chosen by
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here").rename(tmp_path / "there")
        moved = Trainer(run_config(model, skills=self.SKILLS, group_size=3, steps=3), tmp_path / "there", resume=True)
        assert moved.skills.statistics is not None
        moved.skills.statistics.refresh()
        assert moved.skills.statistics.contexts()
        moved.run()
        with Ledger(tmp_path / "there" / "ledger.sqlite", create=False) as ledger:
            assert {showing.run for showing in ledger.showings()} == {"here"}
            assert {showing.step for showing in ledger.showings()} <= {1, 2, 3}

    def test_who_was_shown_nothing_because_nothing_was_played_is_no_control(self, model: Path, tmp_path: Path) -> None:
        trainer = Trainer(run_config(model, skills={**self.SKILLS, "control_members": 1}, group_size=3), tmp_path)
        result = trainer.rollout.collect(trainer.stream.tasks(1), group_size=3, seed=0, step=1)
        first, second, control = result.trajectories
        shown = {**result.shown, second.episode_id: result.shown[first.episode_id]}
        assert trainer.skills.ledger is not None
        for turns, count in (((), 0), (control.turns, 3)):
            trajectories = (first, second, replace(control, turns=turns))
            trainer.skills.record(replace(result, trajectories=trajectories, shown=shown), 1, {})
            assert len(trainer.skills.ledger.showings()) == count
        trainer.close()

    def test_a_bandit_has_nothing_to_learn_where_nobody_reads(self, model: Path, tmp_path: Path) -> None:
        skills = {"retriever": "ucb", "k": 1}
        trainer = Trainer(
            run_config(model, method="grpo", skills=skills, steps=1, evaluation={"every": 1, "tasks": 1}), tmp_path
        )
        assert "eval/with_skills/success" in trainer.run()
        assert not (tmp_path / "ledger.sqlite").exists()


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may grow beyond this: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_lora_trains_adapters_alone_and_resumes(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    lora = {"rank": 2, "alpha": 4, "targets": "q_proj, v_proj"}
    config = run_config(model, model={"lora": lora}, learner={"teacher": "frozen"}, steps=2)
    whole = Trainer(config, tmp_path / "whole")
    whole.run()
    trained = [name for name, parameter in whole.model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert {name.split(".")[-4] for name in trained} == {"q_proj", "v_proj"}
    half = run_config(model, model={"lora": lora}, learner={"teacher": "frozen"}, steps=1)
    Trainer(half, tmp_path / "half").run()
    resumed = Trainer(config, tmp_path / "half", resume=True)
    resumed.run()
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    assert metrics(tmp_path / "whole")[0]["kl/ref"] == pytest.approx(0.0, abs=1e-3)


def test_who_interrupts_a_run_is_told_how_to_go_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "mine.yaml", tmp_path / "run"
    file.write_text(run_config(model, checkpoints={"every": 2}).to_yaml())
    learn = Learner.learn

    def interrupted(self: Learner, rows: Any, step: int, **options: Any) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return learn(self, rows, step, **options)

    monkeypatch.setattr(Learner, "learn", interrupted)
    assert main(["train", "--config", str(file), "--out", str(run)]) == 130
    assert f"stopped after step 2; sdar train --resume {run} goes on after step 2" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["train", "--resume", str(run)]) == 0
    assert [row["step"] for row in metrics(run)] == [1, 2, 3]


def test_the_default_tracker_gets_the_metrics(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Trainer(run_config(model, steps=1, log={"tracker": "tensorboard"}), tmp_path).run()
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


def test_what_a_resumed_run_does_anew_is_taken_off_the_board(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after, steps, value in ((-1, (1, 2, 3), 0.0), (2, (3, 4), 1.0)):
        tracker = open_tracker("tensorboard", tmp_path, project="p", config={}, after=after)
        for step in steps:
            tracker.log({"a": value}, step)
        tracker.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(point.step, point.value) for point in board.Scalars("a")] == [(1, 0), (2, 0), (3, 1), (4, 1)]


def test_a_tracker_that_is_not_there_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(ModuleNotFoundError, match=r"pip install wandb, or set log\.tracker to none"):
        Trainer(run_config(model, log={"tracker": "wandb"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_trains_resumes_and_its_run_can_be_reported(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "mine.yaml", tmp_path / "run"
    file.write_text(run_config(model, steps=1).to_yaml())
    assert main(["train", "--config", str(file), "--method", "rlsd", "--out", str(run), "--learner.lr", "2e-3"]) == 0
    assert read_run_config(run).learner.lr == 2e-3
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 0
    assert [row["step"] for row in metrics(run)] == [1, 2]
    assert main(["train", "--resume", str(run), "--seed", "9"]) == 2
    assert "another configuration: seed changed" in capsys.readouterr().err
    assert main(["report", str(run)]) == 0
    assert "distill/gap" in (run / "report.html").read_text()
    facts = json.loads((run / "run.json").read_text())
    assert facts["command"].startswith("sdar train --config")
    assert [once["command"].split()[2] for once in facts["resumed"]] == ["--resume"]
