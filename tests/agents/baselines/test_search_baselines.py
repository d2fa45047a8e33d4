"""Search-QA baselines that know something: what each may use, and what it may not."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import sdar_envs
from sdar_agents import AGENTS, make_agent
from sdar_agents.baselines.search_baselines import SEARCH_BASELINES, last_relation
from sdar_envs.errors import UnknownName
from sdar_envs.search_qa.scoring import normalize

SEARCH_QA = "sdar/SearchQA-v0"


@pytest.fixture(scope="module")
def env():
    return sdar_envs.make_text_env(SEARCH_QA, split="test")


@pytest.fixture(scope="module")
def tasks(env):
    return [env.source.task("test", number) for number in range(0, 500, 9)]


def play(env, name, task, seed=0):
    agent = make_agent(name)
    observation, info = env.reset(options={"task_id": task.id})
    agent.reset(env, observation, info, seed)
    actions = []
    while True:
        actions.append(agent.act(observation, info))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        if terminated or truncated:
            return actions, info


def test_all_are_agents_by_name():
    assert set(SEARCH_BASELINES) <= set(AGENTS)


def test_constants_are_the_most_common_answers_of_training(env, tasks):
    train = [env.source.task("train", number) for number in range(env.source.splits["train"])]
    answers = Counter(normalize(task.data["answers"][0]) for task in train)
    by_relation = {}
    for task in train:
        by_relation.setdefault(last_relation(task), Counter())[normalize(task.data["answers"][0])] += 1
    for task in tasks[:10]:
        (action,), _ = play(env, "constant", task)
        assert answers[normalize(action[7:-1])] == max(answers.values())
        (action,), _ = play(env, "relation-constant", task)
        of = by_relation[last_relation(task)]
        assert of[normalize(action[7:-1])] == max(of.values())


def test_without_training_the_constant_is_of_the_split_that_is_played(tmp_path):
    for split, answer in (("dev", "Oslo"), ("test", "Bergen")):
        row = {"id": "1", "question": "Q?", "golden_answers": [answer], "data_source": "nq"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row))
    given = {"data": "official", "data_dir": str(tmp_path), "retriever": "off"}
    for split, answer in (("dev", "Oslo"), ("test", "Bergen")):
        official = sdar_envs.make_text_env(SEARCH_QA, split=split, **given)
        assert play(official, "constant", official.source.task(split, 0))[0] == [f"answer[{answer}]"]


def test_environments_of_a_corpus_share_their_tasks(env):
    assert sdar_envs.make_text_env(SEARCH_QA, split="dev").source is env.source


def test_a_random_option_is_a_name_in_the_question(env, tasks):
    for task in tasks:
        (action,), _ = play(env, "random-option", task)
        assert action[7:-1] in task.instruction
    task = next(task for task in tasks if task.data["kind"] == "which of several")
    assert len({play(env, "random-option", task, seed)[0][0] for seed in range(40)}) >= 4


def test_one_search_never_shows_the_evidence_of_several_hops(env, tasks):
    for task in tasks:
        actions, info = play(env, "one-search", task)
        assert [action.partition("[")[0] for action in actions] == ["search", "answer"]
        hops = len(task.data["supporting"])
        assert (info["metrics"]["evidence"] == 1.0) == (hops == 1 and info["won"])


def test_names_alone_answer_only_what_they_showed(env, tasks):
    won = 0
    for task in tasks:
        actions, info = play(env, "name-only", task)
        searched = [action[7:-1] for action in actions if action.startswith("search[")]
        assert searched == [name for name in task.data["name_queries"] if name in searched][: len(searched)]
        assert info["won"] == (info["metrics"]["evidence"] == 1.0)
        won += info["won"]
    assert 0 < won < len(tasks)


def test_the_oracle_wins_with_evidence_and_loses_without_turns(env, tasks):
    for task in tasks[:20]:
        actions, info = play(env, "oracle", task)
        assert info["won"]
        assert info["metrics"]["evidence"] == 1.0
        assert len(actions) <= len(task.data["supporting"]) + 1
    task = max(tasks, key=lambda task: len(task.data["supporting"]))
    short = sdar_envs.make_text_env(SEARCH_QA, split="test", max_steps=len(task.data["supporting"]) - 1)
    actions, info = play(short, "oracle", task)
    assert not info["won"]
    assert not any(action.startswith("answer") for action in actions)


def test_what_they_do_not_know_is_told(tmp_path):
    facts = sdar_envs.make_text_env(SEARCH_QA, corpus="facts", split="test")
    observation, info = facts.reset(seed=0)
    with pytest.raises(UnknownName, match="tells no name_queries"):
        make_agent("name-only").reset(facts, observation, info, 0)
    row = {"id": "1", "question": "Q?", "golden_answers": ["x"], "data_source": "nq"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    official = sdar_envs.make_text_env(
        SEARCH_QA, data="official", data_dir=str(tmp_path), split="test", retriever="off"
    )
    observation, info = official.reset(seed=0)
    with pytest.raises(UnknownName, match="tells no supporting"):
        make_agent("one-search").reset(official, observation, info, 0)
    assert play(official, "constant", official.task)[1]["won"], "without a training split, of what is played"
    other = sdar_envs.make_text_env("sdar/ALFWorld-v0")
    observation, info = other.reset(seed=0)
    with pytest.raises(UnknownName, match="there is one for sdar/SearchQA-v0"):
        make_agent("constant").reset(other, observation, info, 0)
