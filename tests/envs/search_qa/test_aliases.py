"""Other right spellings of the embedded answers: what they accept, and what they leave as it was."""

from __future__ import annotations

import re

import gymnasium
import pytest

import sdar_envs
from sdar_envs.search_qa import aliases, embedded
from sdar_envs.search_qa.scoring import fold, normalize
from sdar_envs.search_qa.tasks import question_of

ID = "sdar/SearchQA-v0"
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def by_question():
    """All tasks by the id of their question."""
    return {
        task.data["question_id"]: task for split in SPLITS for task in sdar_envs.tasks(ID, corpus="facts", split=split)
    }


def scored(task, answer, **arguments):
    env = gymnasium.make(ID, corpus="facts", **arguments)
    env.reset(options={"task_id": task.id})
    return env.step(f"answer[{answer}]")[4]["metrics"]["em"]


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("lookup/country.adjective/CI", ["Ivorian", "ivoirian"], ["Ivory"]),
        ("lookup/country.adjective/KP", ["North Korean", "Korean"], ["South Korean"]),
        ("hops/country.anthem/adjective/KR", ["South Korean", "Korean"], ["North Korean"]),
        ("lookup/country.capital/CM", ["Yaoundé", "YAOUNDE"], ["Yaoundi"]),
        ("lookup/country.capital/TG", ["Lomé"], ["Lom"]),
        ("lookup/country.capital/GD", ["St. George's", "St George’s", "Saint George's"], ["George"]),
        ("lookup/country.capital/KI", ["South Tarawa", "Tarawa"], ["South"]),
        ("lookup/country.language/MY", ["Malay", "Bahasa Malaysia"], ["Malayalam"]),
        ("lookup/country.capital/VU", ["Port Vila", "Port-Vila"], ["Vila"]),
        ("which/country.tld/TT", ["Trinidad & Tobago"], ["Tobago"]),
        ("which/county.county_fips/12075", ["Levy", "Levy County"], ["Levi"]),
    ],
)
def test_other_spellings_are_right_and_other_answers_are_not(by_question, question, right, wrong):
    task = by_question[f"facts/{question}"]
    assert {answer: scored(task, answer) for answer in (*right, *wrong)} == {
        **dict.fromkeys(right, 1.0),
        **dict.fromkeys(wrong, 0.0),
    }


def test_the_compat_modes_know_only_the_golden_answers(by_question):
    task = by_question["facts/lookup/country.capital/CM"]
    assert [scored(task, "Yaoundé", compat=compat) for compat in ("fixed", "sdar", "search-r1")] == [1.0, 0.0, 0.0]


def test_every_entry_of_the_table_is_used_and_adds_something(by_question):
    used = set()
    for task in by_question.values():
        question = question_of(task)
        relation = aliases._asked(question.id)
        if question.answers[0] in aliases._ALIASES.get(relation, {}):
            used.add((relation, question.answers[0]))
    listed = {(relation, name) for relation, of in aliases._ALIASES.items() for name in of}
    assert listed - used == set()
    for of in aliases._ALIASES.values():
        for name, others in of.items():
            assert normalize(fold(name)) not in {normalize(fold(other)) for other in others}


def test_no_alias_is_a_golden_answer_of_another_question_of_the_same_kind():
    owners = {}
    # A county may be called like a state, an airport like a city.
    rows = [
        row
        for of in embedded.questions().values()
        for row in of
        if not re.search(r"(which|compare)[/.](county|airport)", row["id"])
    ]
    for row in rows:
        relation = aliases._asked(row["id"])
        for answer in row["golden_answers"]:
            owners.setdefault((relation, normalize(fold(answer))), set()).add(frozenset(row["golden_answers"]))
    for row in rows:
        relation = aliases._asked(row["id"])
        for alias in aliases.aliases_of(row["id"], row["golden_answers"], row["metadata"]["supporting"]):
            assert owners.get((relation, normalize(fold(alias))), set()) <= {frozenset(row["golden_answers"])}, (
                row,
                alias,
            )


def test_ids_and_answers_of_the_tasks_are_those_of_the_file(by_question):
    # The digest of the questions, which published results name, is of these.
    rows = {row["id"]: row for of in embedded.questions().values() for row in of}
    assert {name: task.data["answers"] for name, task in by_question.items()} == {
        name: row["golden_answers"] for name, row in rows.items()
    }
