"""The retriever of `examples/own_skill_retriever.py` in Python, `sdar skills check`, `sdar demos` and a training."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

import sdar_envs
from sdar_agents.training.trainer import Trainer
from sdar_benchmarks.cli.main import main
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills import Ledger, Library, make_retriever

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "own_skill_retriever:ShortestFirst"


@pytest.fixture(autouse=True)
def in_the_folder_of_the_examples(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))


def words(skill):
    return len(skill.text.split())


def test_it_shows_short_skills_those_of_the_task_first():
    task = sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=1)[0]
    found = make_retriever(NAME, Library.load(), longest=170).retrieve(task, 9, None, random.Random(0))
    own, *general = [item.skill for item in found]
    assert own.task_type == task.task_type
    assert {skill.task_type for skill in general} == {None}
    assert list(map(words, general)) == sorted(map(words, general))
    assert max(map(words, general)) <= 170 < max(map(words, Library.load().select("alfworld")))


def test_run_as_a_program_it_prints_the_skills_of_a_task():
    done = subprocess.run([sys.executable, "own_skill_retriever.py"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 4


def test_skills_check_measures_its_coverage(capsys):
    assert main(["skills", "check", "--suite", "alfworld", "--limit", "2", "--strategy", NAME]) == 0
    assert f"{NAME}  2 (100.0%)" in capsys.readouterr().out
    assert main(["skills", "check", "--suite", "alfworld", "--strategy", f"{NAME}s"]) == 2
    assert "Did you mean 'ShortestFirst'" in capsys.readouterr().err


def test_demonstrations_show_its_skills(tmp_path):
    path = tmp_path / "demos.jsonl"
    arguments = ["--episodes", "1", "--with-skills", "1", "-k", "2", "--retriever", NAME, "--out", str(path)]
    assert main(["demos", "sdar/ALFWorld-v0", *arguments]) == 0
    shown = json.loads(path.read_text().splitlines()[0])["skills"]
    assert shown == ["alfworld/clean-in-the-sinkbasin@1.0.0", "alfworld/open-what-is-closed@1.0.0"]


def test_a_training_shows_its_skills_to_the_teacher(tmp_path):
    model = save_tiny_chat(tmp_path / "model")
    skills = {"retriever": NAME, "options": {"longest": 170}}
    trainer = Trainer(run_config(model, steps=1, method="sdar", skills=skills), tmp_path / "run")
    assert "distill/gap" in trainer.run()
    with pytest.raises(UnknownName, match=r"no setting 'longes'.*Did you mean 'longest'"):
        Trainer(run_config(model, method="sdar", skills={**skills, "options": {"longes": 1}}), tmp_path / "other")


def test_a_training_gives_its_statistics_to_a_retriever_that_learns(tmp_path, monkeypatch):
    (tmp_path / "my_bandit.py").write_text(
        "from sdar_skills.retrieval.bandits import UcbRetriever\n\nclass Greedy(UcbRetriever):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    model = save_tiny_chat(tmp_path / "model")
    skills = {"retriever": "my_bandit:Greedy", "options": {"c": 0.0}}
    with pytest.raises(InvalidOption, match=r"set skills\.varied, or skills\.control_members"):
        Trainer(run_config(model, steps=1, method="skill_grpo", skills=skills), tmp_path / "run")
    skills["varied"] = True
    trainer = Trainer(run_config(model, steps=1, method="skill_grpo", skills=skills), tmp_path / "run")
    trainer.run()
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert {showing.strategy for showing in ledger.showings()} == {"my_bandit:Greedy"}
