"""Scores by hand: exact match's relatives, and the reward for format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.search_qa.scoring import (
    em_with_format,
    exact_match,
    f1,
    is_well_formed,
    normalize,
    shows_answer,
    sub_exact_match,
)

THOUGHT = "<think>a</think>"
FOUND = '<search>q</search>\n\n<information>Doc 1(Title: "T") The answer is Paris.</information>\n\n'


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("the red fox", ["red fox"], 1.0),
        ("red", ["red fox"], 2 / 3),  # precision 1, recall 1/2
        ("a red dog ran", ["red fox", "dog"], 0.5),  # against "dog": precision 1/3, recall 1
        ("red red", ["red"], 2 / 3),  # repetitions count
        ("blue", ["red"], 0.0),
        ("", ["red"], 0.0),
        ("the", ["a"], 1.0),  # nothing is left of either
        ("x", [], 0.0),
    ],
)
def test_f1(prediction, answers, score):
    assert f1(prediction, answers) == pytest.approx(score, abs=1e-12)


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_what_follows_from_an_exact_match(prediction, answers):
    if exact_match(prediction, answers):
        assert f1(prediction, answers) == sub_exact_match(prediction, answers) == 1.0
    assert 0.0 <= f1(prediction, answers) <= 1.0
    assert normalize(normalize(prediction)) == normalize(prediction)


@pytest.mark.parametrize(
    ("transcript", "is_formed"),
    [
        (f"{THOUGHT}<answer>x</answer>", True),
        (f"{THOUGHT}\n{FOUND}{THOUGHT} <answer>x</answer>\n", True),
        (f"{THOUGHT}{FOUND}{THOUGHT}{FOUND}{THOUGHT}<answer>x</answer>", True),
        ("<answer>x</answer>", False),  # no thought
        (f"{THOUGHT}{FOUND}<answer>x</answer>", False),  # no thought after the information
        (f"{THOUGHT} so <answer>x</answer>", False),  # words between the blocks
        (f"{THOUGHT}<search>q</search>{THOUGHT}<answer>x</answer>", False),  # nothing was shown
        (f"{THOUGHT}<answer>x</answer>{THOUGHT}", False),  # goes on after the end
        (f"{THOUGHT}<answer>x", False),
        (THOUGHT, False),
        ("", False),
    ],
)
def test_well_formed_transcripts(transcript, is_formed):
    assert is_well_formed(transcript) == is_formed


def test_a_passage_that_shows_the_answer():
    assert shows_answer(FOUND, ["Lyon", "PARIS!"])
    assert not shows_answer(FOUND, ["Lyon"])
    assert not shows_answer("<search>Paris</search>", ["Paris"])


@pytest.mark.parametrize(
    ("em", "well_formed", "shows", "reward"),
    [
        (1.0, True, True, 1.0),
        (1.0, True, False, 1.0),
        (1.0, False, True, 0.8),
        (0.0, True, True, 0.3),
        (0.0, True, False, 0.2),
        (0.0, False, True, 0.1),
        (None, True, True, 0.3),
        (None, True, False, 0.2),
        (None, False, True, 0.0),
    ],
)
def test_the_reward_for_format(em, well_formed, shows, reward):
    assert em_with_format(em=em, well_formed=well_formed, shows=shows) == reward
