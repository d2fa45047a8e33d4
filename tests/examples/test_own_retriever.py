"""A retriever of one's own: the example, named as module:Class in Python and on the command line."""

import sys
from pathlib import Path

import pytest

from sdar_benchmarks.cli import main
from sdar_envs.search_qa.env import SearchQAEnv

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "own_retriever:WordOverlap"


@pytest.fixture(autouse=True)
def in_the_folder_of_the_examples(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_retriever", None)


def test_it_finds_what_the_question_is_about():
    env = SearchQAEnv(corpus="facts", split="test", retriever=NAME, reveal_answers=True)
    solved = 0
    for number in range(20):
        env.reset(options={"task_id": env.source.task("test", number).id})
        for action in env.oracle_plan():
            *_, info = env.step(action)
        solved += info["supporting_hit"]
    assert solved >= 15


def test_the_command_line_evaluates_with_it(capsys):
    named = ["--set", "corpus=facts", "--set", f"retriever={NAME}"]
    assert main(["eval", "sdar/SearchQA-v0", "--limit", "3", *named, "--agent", "oracle"]) == 0
    assert "3  100.0%" in capsys.readouterr().out


def test_a_misspelt_class_is_one_line_with_the_right_name(capsys):
    assert main(["eval", "sdar/SearchQA-v0", "--limit", "3", "--set", "retriever=own_retriever:WordOverlp"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Did you mean 'WordOverlap'?" in error
