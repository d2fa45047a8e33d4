"""Scores by hand: exact match's relatives, and the reward for format."""

from __future__ import annotations

import random
import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.search_qa.scoring import (
    contains_whole_answer,
    em_with_format,
    exact_match,
    f1_hotpot,
    f1_squad,
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
    assert f1_squad(prediction, answers) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "answers", "squad", "hotpot"),
    [
        ("yes it is", ["yes"], 0.5, 0.0),
        ("yes", ["yes they were"], 0.5, 0.0),
        ("no", ["no"], 1.0, 1.0),
        ("noanswer", ["noanswer given"], 2 / 3, 0.0),
        ("no", ["yes", "no way"], 2 / 3, 0.0),
        ("the", ["a"], 1.0, 0.0),
        ("red", ["red fox"], 2 / 3, 2 / 3),
    ],
)
def test_the_two_published_forms_of_f1_differ(prediction, answers, squad, hotpot):
    assert f1_squad(prediction, answers) == pytest.approx(squad, abs=1e-12)
    assert f1_hotpot(prediction, answers) == pytest.approx(hotpot, abs=1e-12)


# The published functions, from their definitions: four steps of normalisation, tokens by white space, precision and
# recall of the multiset of common tokens.


def _published_normalisation(text):
    kept = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def _published_squad(prediction, answer):
    wanted, found = _published_normalisation(answer).split(), _published_normalisation(prediction).split()
    common = sum((Counter(wanted) & Counter(found)).values())
    if len(wanted) == 0 or len(found) == 0:
        return int(wanted == found)
    if common == 0:
        return 0
    precision, recall = common / len(found), common / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def _published_hotpot(prediction, answer):
    found, wanted = _published_normalisation(prediction), _published_normalisation(answer)
    if found in ["yes", "no", "noanswer"] and found != wanted:
        return 0
    if wanted in ["yes", "no", "noanswer"] and found != wanted:
        return 0
    common = sum((Counter(found.split()) & Counter(wanted.split())).values())
    if common == 0:
        return 0
    precision, recall = common / len(found.split()), common / len(wanted.split())
    return (2 * precision * recall) / (precision + recall)


def test_both_forms_of_f1_equal_the_published_functions_on_2000_pairs():
    draw = random.Random(20261130)
    words = [
        "yes",
        "no",
        "noanswer",
        "Yes.",
        "No,",
        "the",
        "a",
        "The",
        "red",
        "fox",
        "red,",
        "Émile",
        "U.S.A.",
        "1,000",
    ]

    def text():
        return " ".join(draw.choices(words, k=draw.choice((0, 1, 1, 1, 2, 3, 5))))

    differ = 0
    for _ in range(2_000):
        prediction, answers = text(), [text() for _ in range(draw.choice((1, 1, 2, 4)))]
        squad = max(_published_squad(prediction, answer) for answer in answers)
        hotpot = max(_published_hotpot(prediction, answer) for answer in answers)
        assert f1_squad(prediction, answers) == pytest.approx(squad, abs=1e-12), (prediction, answers)
        assert f1_hotpot(prediction, answers) == pytest.approx(hotpot, abs=1e-12), (prediction, answers)
        differ += squad != hotpot
    assert differ > 100


def test_an_answer_stands_in_a_passage_by_whole_words():
    assert contains_whole_answer('"Art"\nThe U.S.A. is big.', ["the USA"])
    assert not contains_whole_answer("A party.", ["art"])
    assert not contains_whole_answer("A party.", ["The", ""])


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_what_follows_from_an_exact_match(prediction, answers):
    if exact_match(prediction, answers):
        assert f1_squad(prediction, answers) == sub_exact_match(prediction, answers) == 1.0
        assert f1_hotpot(prediction, answers) == float(normalize(prediction) != "")
    assert 0.0 <= f1_hotpot(prediction, answers) <= f1_squad(prediction, answers) <= 1.0
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
