"""Contexts, controls and costs in training runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.contexts import CONTEXTS, Review, View
from sdar_agents.learner import Learner, LearnResult
from sdar_agents.learner.weights import fingerprint
from sdar_agents.rollout.recording import read_trajectories
from sdar_agents.training.config import TrainConfig, load_config
from sdar_agents.training.controls import CONTEXT_CONTROLS, CONTROLS, parse_control
from sdar_agents.training.trainer import Trainer, read_run_config
from sdar_agents.types import make_rows
from sdar_benchmarks.cli import main
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills.context import ContextTooLong

TESTS = Path(__file__).parents[2]
HERE = "agents.training.test_run_context"
SCRIPTED = {"engine": "helpers.scripted_engine:HalfOracle"}
LITTLE = {"tasks_per_step": 1, "algorithm": {"kl_coef": 0.0}, "learner": {"mini_batches": 1}}
ROOMS = {"env_kwargs": {"rooms": "small", "max_steps": 12}, "max_new_tokens": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


@pytest.fixture
def _no_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps end before the update, which takes most of their time."""
    monkeypatch.setattr(Learner, "learn", lambda self, rows, step, **options: LearnResult({}, {}))


def config_of(path: Path, **settings: Any) -> TrainConfig:
    """Runs whose episodes are solved and unsolved by turns."""
    return run_config(
        path,
        **{
            "model": {"path": str(path), **SCRIPTED},
            "rollout": ROOMS,
            "split": "valid_seen",
            "steps": 1,
            "tasks_per_step": 2,
            "log": {"trajectories_every": 1},
            **settings,
        },
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def decoded(trainer: Trainer, folder: Path) -> dict[tuple[str, int], str | None]:
    """The teacher's prompt of each turn."""
    return {
        (trajectory.episode_id, index): None
        if turn.teacher_prompt_ids is None
        else trainer._decode(turn.teacher_prompt_ids)
        for trajectory in read_trajectories(folder)
        for index, turn in enumerate(trajectory.turns)
    }


# -- contexts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sibling", "Another attempt at this task succeeded"),
        ("future", "What this attempt will show after turn"),
        ("analyst", "written by somebody who saw how the attempt ended"),
        ("reflection", "What earlier attempts at this task have shown:"),
        ("expert", "An expert who knows everything would go on"),
    ],
)
@pytest.mark.usefixtures("_no_learning")
def test_a_context_reaches_the_teacher_alone(name: str, words: str, model: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(model, context={"name": name}), tmp_path)
    trainer.run()
    [row] = metrics(tmp_path)
    prompts = decoded(trainer, tmp_path)
    taught = [prompt for prompt in prompts.values() if prompt is not None]
    assert all(words in prompt for prompt in taught)
    assert (row["context/views"], row["context/missing"]) == (len(taught), len(prompts) - len(taught))
    assert len(taught) > len(prompts) / 3
    assert "skills/prompts" not in row
    students = [turn.messages[-1]["content"] for t in read_trajectories(tmp_path) for turn in t.turns]
    assert not any(words in student for student in students)
    is_asked = name in ("analyst", "reflection")
    assert (row["cost/analyst_tokens"] > 0) == is_asked
    assert row.get("context/failures", 0.0) == 0.0


def test_a_context_teaches(model: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(model, context={"name": "sibling"}, **LITTLE), tmp_path)
    before = fingerprint(trainer.model)
    trainer.run()
    assert fingerprint(trainer.model) != before
    [row] = metrics(tmp_path)
    assert row["distill/gap"] != 0
    assert row["optimizer/skipped"] == 0


class Counting:
    """A context of one's own with a state: how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    def review(self, groups: Any, ask: Any, *, step: int, seed: int) -> Review:
        self.count += 1
        views = {
            (episode.episode_id, index): (View((f"Call {self.count}.",)),)
            for group in groups
            for episode in group
            for index in range(len(episode.turns))
        }
        return Review(views, metrics={"count": float(self.count)})

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_a_resumed_run_has_the_state_of_its_context_and_its_costs(model: Path, tmp_path: Path) -> None:
    own = {"context": {"name": f"{HERE}:Counting"}, "tasks_per_step": 1, "learner": {"mini_batches": 1}}
    ends = []
    for name, steps in (("whole", (2,)), ("parts", (1, 2))):
        for number, until in enumerate(steps):
            config = run_config(model, steps=until, log={"trajectories_every": 1}, **own)
            trainer = Trainer(config, tmp_path / name, resume=number > 0)
            trainer.run()
        rows = metrics(tmp_path / name)
        kept = [{key: row[key] for key in row if not key.startswith(("time/", "tokens/", "memory/"))} for row in rows]
        ends.append((fingerprint(trainer.model), kept))
    assert ends[0] == ends[1]
    assert [row["context/count"] for row in metrics(tmp_path / "parts")] == [1.0, 2.0]
    totals = [row["time/total"] for row in metrics(tmp_path / "parts")]
    assert totals == sorted(set(totals))


@pytest.mark.usefixtures("_no_learning")
def test_a_context_that_never_fits_stops_the_run(model: Path, tmp_path: Path) -> None:
    config = config_of(model, context={"name": "future", "max_prompt_tokens": 40})
    with pytest.raises(ContextTooLong, match="do not fit into a teacher's prompt of 40 tokens"):
        Trainer(config, tmp_path / "run").run()
    config = config_of(model, context={"name": "future", "max_prompt_tokens": 4090})
    with pytest.raises(InvalidOption, match=r"context\.max_prompt_tokens is 4090 and rollout\.max_new_tokens 64"):
        Trainer(config, tmp_path / "other")


@pytest.mark.usefixtures("_no_learning")
def test_the_teachers_own_success_is_an_evaluation(model: Path, tmp_path: Path) -> None:
    evaluation = {"every": 1, "tasks": 2, "at_start": False, "split": "valid_unseen", "context_group": 2}
    trainer = Trainer(config_of(model, context={"name": "sibling"}, evaluation=evaluation), tmp_path)
    shown: list[str] = []
    build = trainer.evaluation._ways["with_context"].prompts.build
    trainer.evaluation._ways["with_context"].prompts.build = lambda *given: _keep(shown, build(*given))  # type: ignore[method-assign]
    trainer.run()
    [row] = metrics(tmp_path)
    assert row["eval/with_context/views"] == 1.0
    assert {name for name in row if name.startswith("eval/with_context/success_by_type/")}
    assert shown
    assert all("Another attempt at this task succeeded" in text for text in shown)
    other = Trainer(config_of(model, context={"name": "future"}, evaluation=evaluation), tmp_path / "other")
    assert set(other.evaluation._ways) == {"greedy", "sampled", "with_skills"}
    other.close()


def _keep(shown: list[str], prompt: Any) -> Any:
    shown.append(prompt.messages[-1]["content"])
    return prompt


# -- mixed rollouts ---------------------------------------------------------------------------

MIXED = {"mixed": True, "control_members": 1, "k": 1}


@pytest.mark.usefixtures("_no_learning")
def test_a_mixed_rollout_keeps_the_prompt_of_the_other_branch(model: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(model, skills=MIXED), tmp_path)
    trainer.run()
    heading = "What is known about tasks of this kind:"
    for trajectory in read_trajectories(tmp_path):
        acts = trajectory.episode_id.endswith("/1")
        for turn in trajectory.turns:
            assert turn.teacher_prompt_ids is not None
            student, teacher = (trainer._decode(ids) for ids in (turn.prompt_ids, turn.teacher_prompt_ids))
            assert (heading in student, heading in teacher) == (acts, not acts)
            assert bool(turn.skill_ids) == acts
            without = min(student, teacher, key=len)
            assert [line for line in max(student, teacher, key=len).splitlines() if line in without.splitlines()]
            assert set(without.splitlines()) <= set(max(student, teacher, key=len).splitlines())


def test_pairs_add_rows_that_are_distilled_alone(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    learn = Learner.learn

    def listen(self: Learner, rows: Any, step: int, **options: Any) -> LearnResult:
        given.extend(rows)
        return learn(self, rows, step, **options)

    monkeypatch.setattr(Learner, "learn", listen)
    config = config_of(model, method="ucob", skills=MIXED, context={"name": "pairs"}, **LITTLE)
    Trainer(config, tmp_path).run()
    [row] = metrics(tmp_path)
    extra = [each for each in given if not each.is_trained]
    assert len(extra) == row["context/pairs"] > 0
    assert all(each.teacher_prompt_ids is None for each in given if each.is_trained)
    assert all(each.teacher_prompt_ids is not None for each in extra)
    assert row["cost/teacher_tokens"] == sum(len(r.teacher_prompt_ids) + len(r.response_ids) for r in extra)
    assert row["optimizer/skipped"] == 0


# -- controls ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_learning")
@pytest.mark.parametrize("name", ["library", "sibling"])
def test_controls_of_the_library_and_of_a_context(name: str, model: Path, tmp_path: Path) -> None:
    prompts: dict[str | None, dict[tuple[str, int], str | None]] = {}
    for control in (None, *CONTEXT_CONTROLS):
        folder = tmp_path / str(control)
        trainer = Trainer(config_of(model, control=control, context={"name": name}, skills={"k": 2}), folder)
        trainer.run()
        prompts[control] = decoded(trainer, folder)
        assert json.loads((folder / "run.json").read_text()).get("control") == control
        assert read_run_config(folder).control == control
    lengths = {
        control: [len(trainer.policy.encode(text)) for text in found.values() if text is not None]
        for control, found in prompts.items()
    }
    assert len({tuple(found) for found in prompts.values()}) == 1
    assert len({tuple(found.values()) for found in prompts.values()}) == 4
    assert all(short < whole for short, whole in zip(lengths["empty-skills"], lengths[None], strict=True))
    assert all("The river rises" in text for text in prompts["neutral-text"].values() if text is not None)
    if name == "sibling":  # names of skills are replaced too
        assert all(0 <= b - a < 12 for a, b in zip(lengths["neutral-text"], lengths[None], strict=True))
    for found in (prompts["empty-skills"], prompts["neutral-text"]):
        assert [text is None for text in found.values()] == [text is None for text in prompts[None].values()]


@pytest.mark.usefixtures("_no_learning")
def test_extra_steps_are_more_steps(model: Path, tmp_path: Path) -> None:
    config = config_of(model, steps=2, control="extra-steps=0.5", method="grpo")
    assert config.all_steps == 3
    trainer = Trainer(config, tmp_path)
    trainer.run()
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3]
    assert read_run_config(tmp_path).all_steps == 3
    assert parse_control("extra-steps=0.25") == ("extra-steps", 0.25)
    assert config_of(model, steps=150, control="extra-steps=0.1").all_steps == 165


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "grpo", "context": {"name": "sibling"}}, "grpo has no teacher that could read it"),
        ({"method": "skill_grpo", "context": {"name": "sibling"}}, "skill_grpo has no teacher"),
        ({"group_size": 1, "context": {"name": "reflection"}}, "compares the members of a group, and group_size is 1"),
        ({"context": {"name": "pairs"}}, "set skills.mixed and skills.control_members"),
        ({"skills": MIXED, "context": {"name": "sibling"}}, "the teacher would read one or the other"),
        ({"skills": {"mixed": True}}, r"skills\.control_members is 0"),
        ({"method": "grpo", "skills": MIXED}, "no teacher that could read the other prompt"),
        ({"context": {"options": {"turns": 1}}}, r"context\.options is .*, and the context is library"),
        ({"context": {"name": "future", "analyst": {"options": {"retries": 1}}}}, r"context\.analyst\.options is"),
        ({"method": "grpo", "control": "neutral-text"}, "grpo reads no context: it would change nothing"),
        ({"method": "grpo", "control": "no-sign"}, "grpo has no teacher: it would change nothing"),
        ({"control": "no-sign=2"}, "wanted no-sign without a value"),
        ({"control": "extra-steps"}, "wanted a share above 0, such as extra-steps=0.5"),
        ({"control": "extra-steps=-1"}, "wanted a share above 0"),
        ({"control": "wrong-skills", "context": {"name": "future"}, "tasks_per_step": 1}, "tasks_per_step is 1"),
        ({"control": "empty-skills", "skills": {"retriever": "ucb", "varied": True}}, "the strategy ucb learns from"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], words: str, model: Path) -> None:
    with pytest.raises(InvalidOption, match=words):
        config_of(model, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"control": "wrong-skill"}, r"control is 'wrong-skill'; wanted one of .*Did you mean 'wrong-skills'\?"),
        ({"context": {"name": "futur"}}, r"context: no context 'futur'.*Did you mean 'future'\?"),
        ({"context": {"name": f"{HERE}:config_of"}}, "is a function; wanted a class"),
    ],
)
def test_names_that_do_not_exist_are_refused(settings: dict[str, Any], words: str, model: Path) -> None:
    with pytest.raises(UnknownName, match=words):
        config_of(model, **settings)


def test_the_help_names_all_contexts_and_controls(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}," in told for name in CONTEXTS)
    assert all(name in told.replace("- ", "-") for name in CONTROLS)


def test_options_are_checked_before_the_first_step(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"context\.turns is 0|turns is 0"):
        Trainer(config_of(model, context={"name": "future", "options": {"turns": 0}}), tmp_path)


# -- costs ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_learning")
def test_costs_are_what_was_played_and_scored(model: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(model, steps=2, log={"trajectories_every": 1, "trajectory_groups": None}), tmp_path)
    trainer.run()
    rows, played = metrics(tmp_path), list(read_trajectories(tmp_path))
    for step, row in enumerate(rows, 1):
        turns = [turn for t in played if t.group_id.startswith(f"{step}/") for turn in t.turns]
        generated = sum(len(turn.completion.token_ids) for turn in turns)
        read = sum(len(turn.prompt_ids) for turn in turns)
        scored = generated + sum(len(turn.teacher_prompt_ids or ()) for turn in turns)
        assert row["cost/student_tokens"] == generated
        assert row["cost/prompt_tokens"] == read
        assert row["cost/teacher_tokens"] == scored
        assert row["cost/analyst_tokens"] == 0
        assert row["cost/tokens"] == generated + read + scored
        assert row["cost/environment_steps"] == len(turns)
    for name in ("student_tokens", "teacher_tokens", "tokens", "environment_steps"):
        assert rows[1][f"cost_total/{name}"] == rows[0][f"cost/{name}"] + rows[1][f"cost/{name}"]
    assert rows[1]["time/total"] == pytest.approx(rows[0]["time/step"] + rows[1]["time/step"], rel=0.01)


@pytest.mark.usefixtures("_no_learning")
def test_an_expert_costs_the_steps_of_its_replay(model: Path, tmp_path: Path) -> None:
    Trainer(config_of(model, context={"name": "expert"}), tmp_path).run()
    [row] = metrics(tmp_path)
    episodes = row["rollout/episodes"]
    assert row["cost/environment_steps"] == 2 * row["rollout/turns"] - episodes


@pytest.mark.usefixtures("_no_learning")
def test_a_method_without_a_teacher_scores_nothing(model: Path, tmp_path: Path) -> None:
    Trainer(config_of(model, method="grpo"), tmp_path).run()
    assert metrics(tmp_path)[0]["cost/teacher_tokens"] == 0


def test_configurations_without_these_sections_are_read(model: Path) -> None:
    config = load_config("alfworld_sdar_tiny", ["--model.path", str(model)])
    assert (config.context.name, config.control, config.all_steps) == ("library", None, config.steps)
    assert make_rows  # the rows of such runs are those of before


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["alfworld", "webshop", "search_qa"])
@pytest.mark.parametrize(
    ("method", "context"),
    [
        ("sdar", "future"),
        ("grsd", "reflection"),
        ("opid", "analyst"),
        ("ocsd", "future_blanked"),
        ("sdpo", "sibling"),
        ("stepopsd", "sibling"),
        ("opsd", "expert"),
        ("ucob", "pairs"),
    ],
)
def test_methods_train_with_their_contexts(method: str, context: str, suite: str, model: Path, tmp_path: Path) -> None:
    options = {"routing": "both"} if context == "analyst" else {}
    config = run_config(
        model,
        suite,
        method=method,
        model={"path": str(model), **SCRIPTED},
        rollout={"env_kwargs": {"max_steps": 6}, "max_new_tokens": 64},
        context={"name": context, "options": options},
        skills=MIXED if context == "pairs" else {},
        steps=3,
    )
    trainer = Trainer(config, tmp_path)
    trainer.run()
    rows = metrics(tmp_path)
    assert len(rows) == 3
    assert all(row["optimizer/skipped"] == 0 for row in rows)
    assert sum(row["cost/teacher_tokens"] for row in rows) > 0


@pytest.mark.slow
@pytest.mark.parametrize("context", ["reflection", "expert"])
def test_two_processes_make_the_context_of_one(context: str, model: Path, tmp_path: Path) -> None:
    config = config_of(model, steps=2, context={"name": context}, method="grsd")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    found = []
    for processes in ("1", "2"):
        command = [sys.executable, "-m", "sdar_benchmarks.cli", "train", "--config", str(tmp_path / "config.yaml")]
        subprocess.run(
            [*command, "--out", str(tmp_path / processes), "--processes", processes],
            env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            check=True,
            timeout=600,
        )
        rows = metrics(tmp_path / processes)
        found.append([{name: row[name] for name in row if name.startswith(("context/", "cost"))} for row in rows])
        found.append([row["distill/gap"] for row in rows])
    assert found[0] == found[2]
    assert found[1] == pytest.approx(found[3], abs=1e-5)
    assert found[0][0]["context/views"] > 0
