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
    env = SearchQAEnv(split="test", retriever=NAME)
    solved = 0
    for number in range(20):
        env.reset(options={"task_id": f"search_qa/test/{number:04d}"})
        for action in env.oracle_plan():
            *_, info = env.step(action)
        solved += info["supporting_hit"]
    assert solved >= 15


def test_the_command_line_evaluates_with_it(capsys):
    assert main(["eval", "sdar/SearchQA-v0", "--limit", "3", "--set", f"retriever={NAME}", "--agent", "oracle"]) == 0
    assert "3  100.0%" in capsys.readouterr().out


def test_a_misspelt_class_is_one_line_with_the_right_name(capsys):
    assert main(["eval", "sdar/SearchQA-v0", "--limit", "3", "--set", "retriever=own_retriever:WordOverlp"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Did you mean 'WordOverlap'?" in error
