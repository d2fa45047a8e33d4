"""Questions that come in the rows of other trainers' data sets."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from sdar_envs import ChatEpisode, Task, make_vec, tasks
from sdar_envs.checker import check_env
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.tasks import question_of

ROWS = Path(__file__).parent / "data" / "rows"

VERL_AGENT = {"ground_truth": {"target": np.array(["Ottawa"])}, "question": "Capital of Canada?", "data_source": "nq"}
FORMS = [
    VERL_AGENT,
    {"id": "test_3", "question": "Capital of Canada?", "golden_answers": ["Ottawa"], "data_source": "nq"},
    {"prompt": [], "env_kwargs": VERL_AGENT, "extra_info": {"index": 4, "split": "val"}, "data_source": "searchR1_nq"},
    {
        "data_source": "searchR1_nq",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Ottawa"]}},
        "extra_info": {"index": 9, "question": "Capital of Canada?"},
        "env_class": "search",
    },
]


@pytest.mark.parametrize("row", FORMS)
@pytest.mark.parametrize("compat", ["fixed", "sdar", "search-r1"])
def test_a_question_in_a_row_is_played(row, compat):
    env = SearchQAEnv(compat=compat, reveal_answers=True)
    observation, info = env.reset(options={"task": row})
    assert "Capital of Canada?" in observation
    assert (info["data_set"], info["task_type"], info["split"], info["golden_answers"]) == (
        "nq",
        "direct_retrieval",
        "rows",
        ["Ottawa"],
    )
    # The same question is the same task, in whatever form it comes.
    assert info["task_id"] == SearchQAEnv().reset(options={"task": FORMS[0]})[1]["task_id"]
    answer = "<answer>ottawa</answer>" if compat == "search-r1" else "answer[ottawa]"
    assert env.step(answer)[1:4] == (1.0, True, False)


@pytest.mark.parametrize("path", sorted(ROWS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_rows_of_other_projects_are_played_one_by_one(path):
    env = SearchQAEnv()
    for line in path.read_text().splitlines():
        row = json.loads(line)
        observation, info = env.reset(options={"task": row})
        assert (observation, info["instruction"]) == (row["extra_info"]["question"],) * 2


def test_other_answers_are_another_task():
    env = SearchQAEnv()
    ids = {
        env.reset(options={"task": {**FORMS[1], **changed}})[1]["task_id"]
        for changed in ({}, {"golden_answers": ["Toronto"]}, {"question": "Which?"}, {"data_source": "hotpotqa"})
    }
    assert len(ids) == 4
    assert env.reset(options={"task": {"question": "Q?", "golden_answers": "Bonn"}})[1]["task_type"] == "unclassified"


def test_a_given_question_branches_and_is_copied():
    env = SearchQAEnv()
    env.reset(options={"task": FORMS[0]})
    env.step("search[Canada]")
    saved = env.snapshot()
    first = env.step("answer[Ottawa]")
    for other in (SearchQAEnv(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        other.restore(saved)
        assert other.step("answer[Ottawa]") == first
    seen = SearchQAEnv(split="dev")
    wanted = [SearchQAEnv(split="dev").reset(seed=3)[1]["task_id"]]
    assert [seen.reset(seed=3)[1]["task_id"]] == wanted
    seen.reset(options={"task": FORMS[0]})  # and leaves the place in the order as it is
    after = SearchQAEnv(split="dev")
    after.reset(seed=3)
    assert seen.reset()[1]["task_id"] == after.reset()[1]["task_id"]
    check_env(seen)


def test_a_task_of_other_data_is_played_as_it_is():
    held = tasks("sdar/SearchQA-v0", split="test", limit=1)[0]
    foreign = dataclasses.replace(held, id="search_qa/test/nq/0007", data={**held.data, "answers": ["Ottawa"]})
    env = SearchQAEnv()
    assert env.reset(options={"task": foreign})[1]["task_id"] == foreign.id
    assert env.step("answer[Ottawa]")[1] == 1.0
    with pytest.raises(UnknownName):
        env.reset(options={"task_id": foreign.id})
    with pytest.raises(InvalidOption, match="differs from the one of that id in this environment's data"):
        env.reset(options={"task": dataclasses.replace(foreign, id=held.id)})
    with pytest.raises(InvalidOption, match=r"hold no question \(KeyError: 'question_id'\)"):
        env.reset(options={"task": dataclasses.replace(foreign, data={"goal": 3})})
    empty = Task("x/y/z", "sdar/SearchQA-v0", "test", "compare", "Which?", {"question_id": "1"})
    with pytest.raises(InvalidOption, match="hold no question"):
        env.reset(options={"task": empty})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "'question' is None; wanted a text"),
        ({"question": "Q?"}, "it has no answers"),
        ({"question": "Q?", "golden_answers": []}, "no golden answer"),
        ({"question": "Q?", "golden_answers": ["The"]}, "empty after normalisation"),
        ({"question": 3, "golden_answers": ["x"]}, "'question' is 3"),
        ({"question": "Q?", "golden_answers": 5}, "the answer is 5"),
    ],
)
def test_rows_that_hold_no_question(row, message):
    with pytest.raises(InvalidOption, match=f"^the row holds no question that can be played: .*{message}.*'task_id'"):
        SearchQAEnv().reset(options={"task": row})
    if "The" in str(row):
        SearchQAEnv(compat="sdar").reset(options={"task": row})


def test_the_kind_of_questions_that_name_none(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps(FORMS[1]))
    given = {"data": "official", "data_dir": str(tmp_path), "retriever": "embedded", "split": "test"}
    env = SearchQAEnv(**given, question_type="compare")
    assert env.reset(options={"task": {"question": "Q?", "golden_answers": "Bonn"}})[1]["task_type"] == "compare"


def test_vectors_and_chats_play_rows():
    vector = make_vec("sdar/SearchQA-v0", 4, group_size=2)
    texts, infos = vector.reset(options={"task": FORMS[:2]})
    assert texts == ("Capital of Canada?",) * 4
    assert len(set(infos["task_id"])) == 1
    episode = ChatEpisode("sdar/SearchQA-v0", mode="appended")
    step = episode.reset(task=FORMS[2])
    assert "Capital of Canada?" in step.messages[0]["content"]
    assert episode.step("<think>So.</think><answer>Ottawa</answer>").reward == 1.0


def test_a_task_with_another_instruction_is_another_question():
    task = tasks("sdar/SearchQA-v0", corpus="facts", split="dev", limit=1)[0]
    changed = dataclasses.replace(task, instruction="Which river flows through Lima?")
    assert question_of(task).text == task.instruction
    assert question_of(changed) == dataclasses.replace(question_of(task), text="Which river flows through Lima?")
    assert question_of(pickle.loads(pickle.dumps(task))) == question_of(task)
