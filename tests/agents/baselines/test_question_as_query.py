"""Players of Search-QA on the embedded questions: the oracle, and the question as its own query."""

from __future__ import annotations

import json

import gymnasium
import pytest

import sdar_envs
from sdar_agents import AGENTS, default_agent, make_agent
from sdar_agents.baselines.question_as_query import QuestionAsQuery
from sdar_envs.errors import UnknownName

SEARCH_QA = "sdar/SearchQA-v0"


@pytest.fixture(scope="module")
def env():
    return gymnasium.make(SEARCH_QA, corpus="facts", split="dev", reveal_answers=True, disable_env_checker=True)


def play(env, agent, task):
    observation, info = env.reset(options={"task_id": task.id})
    agent.reset(env, observation, info, 0)
    actions = []
    over = False
    while not over:
        actions.append(agent.act(observation, info))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        over = terminated or truncated
    return actions, info


def test_the_oracle_answers_every_question_hop_by_hop(env):
    for task in sdar_envs.tasks(SEARCH_QA, corpus="facts", split="dev")[::10]:
        actions, info = play(env, make_agent("oracle"), task)
        assert info["won"], task
        hops = len(task.data["queries"])
        assert (len(actions), info["searches"], info["supporting_found"]) == (hops + 1, hops, hops)


def test_the_oracle_needs_no_search_for_what_was_found(env):
    task = next(
        task for task in sdar_envs.tasks(SEARCH_QA, corpus="facts", split="dev") if len(task.data["queries"]) == 3
    )
    inner = env.unwrapped
    inner.reset(options={"task_id": task.id})
    plan = inner.oracle_plan()
    assert [action.partition("[")[0] for action in plan] == ["search"] * 3 + ["answer"]
    inner.step(plan[1])
    assert inner.oracle_plan() == (plan[0], plan[2], plan[3])
    inner.step("nonsense")
    assert inner.oracle_plan() == (plan[0], plan[2])  # two turns are left


def test_the_oracle_answers_nothing_that_it_was_not_shown(env):
    task = next(
        task for task in sdar_envs.tasks(SEARCH_QA, corpus="facts", split="dev") if len(task.data["queries"]) == 3
    )
    short = sdar_envs.make_text_env(SEARCH_QA, corpus="facts", max_steps=3)
    actions, info = play(short, make_agent("oracle"), task)
    assert [action.partition("[")[0] for action in actions] == ["search"] * 3
    assert (info["won"], info["metrics"]["evidence"]) == (False, 1.0)
    blind = sdar_envs.make_text_env(SEARCH_QA, corpus="facts", retriever="off")
    actions, info = play(blind, make_agent("oracle"), task)
    assert actions[1:] == ["answer[unknown]"]
    assert (info["won"], info["metrics"]["hops_solved"]) == (False, 0.0)


def test_an_oracle_that_is_missing_is_told_at_the_first_reset(tmp_path):
    row = {"id": "1", "question": "Q?", "golden_answers": ["x"], "data_source": "nq"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    official = gymnasium.make(
        SEARCH_QA, data="official", data_dir=str(tmp_path), split="test", retriever="embedded", disable_env_checker=True
    )
    observation, info = official.reset(seed=0)
    with pytest.raises(UnknownName, match="knows no plan"):
        make_agent("oracle").reset(official, observation, info, 0)


def test_the_question_is_the_query(env):
    assert default_agent(SEARCH_QA) == "question-as-query"
    won = {}
    for task in sdar_envs.tasks(SEARCH_QA, corpus="facts", split="dev")[::10]:
        actions, info = play(env, make_agent("question-as-query"), task)
        assert actions[0] == f"search[{task.instruction}]"
        assert len(actions) == 2
        won.setdefault(task.task_type, []).append(info["won"])
    share = {kind: sum(of) / len(of) for kind, of in won.items()}
    # It reads what it finds, guesses between two, and cannot take a second hop.
    assert share["entity_attribute_lookup"] > 0.4
    assert 0.3 < share["compare"] < 0.7
    assert share["multi_hop_reasoning"] < 0.1


def test_other_suites_have_no_use_for_it():
    env = gymnasium.make("sdar/ALFWorld-v0")
    observation, info = env.reset(seed=0)
    with pytest.raises(LookupError, match=f"there is one for {SEARCH_QA}"):
        AGENTS["question-as-query"]().reset(env, observation, info, 0)


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        (
            "Which city is the capital of Peru?",
            ("Capital of Peru", "The capital of Peru is Lima. Other Towns are small."),
            "Lima",
        ),
        ("In which year was Peru founded?", ("Peru", "Peru has 25 regions and was founded in 1821."), "1821"),
        ("How many regions has Peru?", ("Peru", "Peru has 25 regions."), "25"),
        ("Which is larger, Peru or Chile?", ("Area of Chile", "Chile covers 756,102."), "Chile"),
        ("where is lima", ("Lima", "Lima lies in Peru."), "Peru"),
        ("Which country is it?", ("Côte d'Ivoire", "the country lies in Côte d'Ivoire."), "Côte d'Ivoire"),
    ],
)
@pytest.mark.parametrize("compat", ["fixed", "sdar", "search-r1"])
def test_what_looks_like_an_answer(question, passage, answer, compat):
    from sdar_envs.search_qa.blocks import BLOCKS
    from sdar_envs.search_qa.retrieval.retriever import Hit, Passage

    player = QuestionAsQuery()
    player.reset(question, {"instruction": question})
    assert player.act(question, {}) == f"search[{question}]"
    title, text = passage
    block = BLOCKS[compat]([Hit(Passage("1", f'"{title}"\n{text}'), 1.0), Hit(Passage("2", '"Z"\nno.'), 0.5)])
    assert player.act(block, {}) == f"answer[{answer}]"


def test_nothing_found_is_answered_too():
    player = QuestionAsQuery()
    player.reset("x", {"instruction": "x"})
    player.act("x", {})
    assert player.act("<information>\nNo passage found.\n</information>", {}) == "answer[unknown]"
