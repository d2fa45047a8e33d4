"""verl-agent's environment managers over our engines, with a stand-in for its code; the real code with `peer`."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.pages import blocks, run_block
from helpers.verl_agent_stand_in import config, forget_package, make_envs, write_package

from sdar_envs import task_rows, tasks
from sdar_envs.errors import InvalidOption, MissingData, UnknownName, UnsolvableGame
from sdar_envs.integrations import verl_agent

KEYS = {"task_id", "task_type", "won", "score", "is_action_valid", "step"}
OWN = {
    "alfworld": {"admissible_commands", "extra.gamefile"},
    "webshop": {"available_actions", "task_score"},
    "search": {"data_source"},
}
SUITES = {"alfworld": "alfworld/AlfredTWEnv", "webshop": "Webshop", "search": "search"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    write_package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    verl_agent.install(search_qa={"retriever": "embedded"})
    yield
    forget_package()


def search_rows(count, split="test"):
    """Return rows of verl-agent's data: one by our id, the others with question and golden answers."""
    named, *others = tasks("sdar/SearchQA-v0", split=split, limit=count)
    rows = [{"question": named.instruction, "data_source": "facts", "task_id": named.id}]
    return rows + [
        {
            "question": task.instruction,
            "ground_truth": {"target": np.array(task.data["answers"])},
            "data_source": "searchR1_nq",
        }
        for task in others
    ]


def play(manager, rows, steps=30):
    """Let the oracle play; finished environments get text to the end."""
    texts, infos = manager.reset(kwargs=rows)
    count = len(texts)
    rewards = np.zeros(count)
    over = np.zeros(count, dtype=bool)
    last = list(texts)
    all_infos, active = [[] for _ in texts], [[] for _ in texts]
    for _ in range(steps):
        actions = ["[nonsense]" if over[i] else f"[{plan(manager.envs._envs[i])}]" for i in range(count)]
        texts, reward, dones, infos = manager.step(actions)
        assert (len(texts), reward.shape, dones.shape, len(infos)) == (count, (count,), (count,), count)
        for i in range(count):
            all_infos[i].append(infos[i])
            active[i].append(not over[i])
            if over[i]:
                assert (texts[i], reward[i], dones[i]) == (last[i], 0.0, True)
        rewards += reward
        over |= dones
        last = texts
    return rewards, manager.success(all_infos, active), all_infos


def plan(env):
    try:
        if env.task.id.startswith("search_qa/rows/"):
            return f"answer[{env.task.data['answers'][0]}]"
        return env.oracle_plan()[0]
    except UnsolvableGame:
        return "click[nothing]"


@pytest.mark.parametrize("suite", SUITES)
def test_unchanged_managers_play_our_environments(installed, suite):
    envs, val_envs = make_envs(config(SUITES[suite], train=3, val=4, group_n=2))
    rows = None if suite != "search" else [row for row in search_rows(3) for _ in range(2)]
    rewards, success, infos = play(envs, rows)
    won = [row[-1]["won"] for row in infos]
    assert rewards.tolist() == [won_ * (1.0 if suite == "search" else 10.0) for won_ in won]
    assert success["success_rate"] == np.mean(won) > 0
    ids = [row[-1]["task_id"] for row in infos]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == 3
    for row in infos:
        for info in row:
            assert set(info) == KEYS | OWN[suite]
            json.dumps(info)
    _, success, infos = play(val_envs, None if suite != "search" else search_rows(4))
    assert len({row[-1]["task_id"] for row in infos}) == 4
    assert len(success) > 1
    second = [info["task_id"] for info in val_envs.reset(kwargs=None if suite != "search" else search_rows(4))[1]]
    assert (set(second) == {row[-1]["task_id"] for row in infos}) == (suite == "search")
    envs.envs.close()


def test_the_splits_that_are_played(installed):
    for suite, wanted in (("alfworld", ("train", "valid_unseen")), ("webshop", ("train", "test"))):
        made = make_envs(config(SUITES[suite], train=2, val=2, group_n=1))
        splits = tuple({info["task_id"].split("/")[1] for info in manager.reset(kwargs=None)[1]} for manager in made)
        assert splits == tuple({split} for split in wanted)


def test_the_sizes_of_the_published_runs(installed):
    for suite in ("alfworld", "webshop"):
        envs, val_envs = make_envs(config(SUITES[suite], train=16, val=128, group_n=8))
        ids = [info["task_id"] for info in envs.reset(kwargs=None)[1]]
        assert len(ids) == 128
        assert [len(set(ids[group : group + 8])) for group in range(0, 128, 8)] == [1] * 16
        assert len({info["task_id"] for info in val_envs.reset(kwargs=None)[1]}) == 128
        val_envs.step(["[look]"] * 128)


def test_seeds_decide_what_is_played():
    def ids(seed):
        envs = verl_agent.build_alfworld_envs(None, seed, 4, 1, is_train=False, env_kwargs={})
        return [[info["task_id"] for info in envs.reset()[2]] for _ in range(2)]

    assert ids(1) == ids(1) != ids(2)
    assert len({task_id for reset in ids(1) for task_id in reset}) == 8


def test_the_goals_that_verl_agent_draws():
    arguments = {"protocol": "verl-agent"}
    envs = verl_agent.build_webshop_envs(seed=1000, env_num=3, group_n=1, is_train=False, **arguments)
    texts, infos = envs.reset()
    from sdar_envs.webshop.verl_agent import VerlAgentWebShop

    theirs = VerlAgentWebShop(seed=0, is_train=False, env_num=3, group_n=1)
    assert texts == list(theirs.reset()[0])
    assert [info["task_id"].split("/")[1] for info in infos] == ["valid"] * 3
    with pytest.raises(InvalidOption, match="plus 1000"):
        verl_agent.build_webshop_envs(seed=0, env_num=3, group_n=1, is_train=False, **arguments)


def test_human_goals_and_arguments_are_passed_on():
    build = verl_agent.build_webshop_envs
    envs = build(0, 1, 1, env_kwargs={"human_goals": True})
    assert "human" in envs.reset()[1][0]["task_id"]
    with pytest.raises(UnknownName, match="Did you mean 'quirks'"):
        build(0, 1, 1, quirk="fixed")


def test_the_search_configuration_is_read():
    search = SimpleNamespace(search_url=["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"], topk=2)
    envs = verl_agent.build_search_envs(0, 1, 2, env_config=SimpleNamespace(max_steps=6, search=search))
    assert [(env.max_steps, env.topk, env.compat) for env in envs._envs] == [(6, 2, "sdar")] * 2
    assert [env._arguments["retriever"] for env in envs._envs] == search.search_url
    assert envs._envs[0].blocks_on_io
    assert not verl_agent.build_search_envs(retriever="embedded")._envs[0].blocks_on_io


def test_fewer_rows_than_environments_and_more():
    envs = verl_agent.build_search_envs(0, 4, 1, retriever="embedded")
    texts, infos = envs.reset(kwargs=search_rows(2))
    assert (len(texts), len(infos)) == (2, 2)
    texts, _, dones, infos = envs.step(["<search>Rome</search>", "<answer>x</answer>"])
    assert (len(texts), dones, infos[0]["is_action_valid"]) == (2, [False, True], True)
    assert texts[0].startswith("<information>")
    assert len(envs.reset(kwargs=np.array(search_rows(4), dtype=object))[0]) == 4
    for rows in ([], search_rows(5)):
        with pytest.raises(InvalidOption, match="wanted 1 to 4, the environments"):
            envs.reset(kwargs=rows)
    with pytest.raises(InvalidOption, match="holds no question"):
        envs.reset(kwargs=[{"data_source": "nq"}])


def test_the_page(tmp_path, monkeypatch):
    write_package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    drop_in, parquet, fork = blocks("verl-agent.md")
    try:
        names = run_block(drop_in, config=config("search", train=2, val=3, group_n=1))
        assert len(names["val_envs"].reset(kwargs=search_rows(3))[0]) == 3
    finally:
        forget_package()
    assert len(run_block(fork)["texts"]) == 128
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="Parquet files need pyarrow")
    run_block(parquet)
    kwargs = [row["env_kwargs"] for row in pyarrow.read_table("test.parquet").to_pylist()]
    envs = verl_agent.build_search_envs(0, 128, 1, retriever="embedded")
    assert envs.reset(kwargs=kwargs)[0] == [row["question"] for row in kwargs]


@pytest.mark.parametrize("number", [0, None, True, "16"])
def test_wrong_numbers(number):
    with pytest.raises(InvalidOption, match="env_num is"):
        verl_agent.build_alfworld_envs(None, 0, number, 8)


def test_what_a_model_or_a_row_may_not_see():
    rows = [{"task_id": row["task_id"]} for row in task_rows("sdar/SearchQA-v0", split="test", limit=3)]
    envs = verl_agent.build_search_envs(0, 3, 1, retriever="embedded", reveal_answers=True)
    seen = [envs.reset(kwargs=rows), envs.step(["<search>Rome</search>"] * 3), envs.step(["<answer>No</answer>"] * 3)]
    for *_, infos in seen:
        for info in infos:
            assert not {"golden_answers", "supporting_hit", "supporting_found", "passage_ids", "metrics"} & set(info)
    envs = verl_agent.build_webshop_envs(0, 2, 1)
    for *_, infos in (envs.reset(), envs.step(["search[shoes]"] * 2)):
        assert all("reward_info" not in info for info in infos)


def test_without_verl_agent(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingData, match=r"no agent_system/environments/env_package on sys.path: run in the folder"):
        verl_agent.install()


def test_forks_with_fewer_suites(monkeypatch, tmp_path):
    write_package(tmp_path)
    (tmp_path / "agent_system/environments/env_package/search/projection.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        verl_agent.install(alfworld={"max_steps": 7})
        assert "agent_system.environments.env_package.search" not in sys.modules
        module = sys.modules["agent_system.environments.env_package.alfworld"]
        assert module.build_alfworld_envs(None, 0, 1, 1)._envs[0].max_steps == 7
    finally:
        forget_package()


@pytest.mark.peer
@pytest.mark.skipif("SDAR_VERL_AGENT" not in os.environ, reason="SDAR_VERL_AGENT names no clone of verl-agent")
@pytest.mark.parametrize("suite", SUITES)
def test_the_real_code(suite, monkeypatch):
    """Needs torch and omegaconf, and of verl-agent the folder `agent_system`."""
    conf = pytest.importorskip("omegaconf").OmegaConf
    monkeypatch.syspath_prepend(os.environ["SDAR_VERL_AGENT"])
    verl_agent.install(search_qa={"retriever": "embedded"})
    # Their sleep waits for processes that there are none of.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    try:
        from agent_system.environments.env_manager import make_envs as theirs

        made = theirs(conf.create(real_config(SUITES[suite])))
        for manager, count in zip(made, (128, 128), strict=True):
            rows = [row for row in search_rows(16) for _ in range(8)] if suite == "search" else None
            observations, infos = manager.reset(rows)
            assert len(observations["text"]) == count
            over = np.zeros(count, dtype=bool)
            steps = []
            for _ in range(12):
                envs = manager.envs._envs
                actions = [
                    f"<think>So.</think>{tagged(suite, 'look' if over[i] else plan(envs[i]))}" for i in range(count)
                ]
                _, _, dones, infos = manager.step(actions)
                steps.append((infos, ~over))
                over |= dones.astype(bool)
            success = manager.success_evaluator(
                total_infos=[[infos[i] for infos, _ in steps] for i in range(count)],
                total_batch_list=[[{"active_masks": active[i]} for _, active in steps] for i in range(count)],
                episode_rewards=None,
                episode_lengths=None,
            )
            assert np.mean(success["success_rate"]) > 0.5
            assert len(success) > 1
    finally:
        forget_package()


def tagged(suite, command):
    if suite != "search":
        return f"<action>{command}</action>"
    tag, _, text = command.partition("[")
    return f"<{tag}>{text[:-1]}</{tag}>"


def real_config(env_name):
    return {
        "env": {
            "env_name": env_name,
            "seed": 0,
            "max_steps": 50,
            "history_length": 2,
            "rollout": {"n": 8},
            "resources_per_worker": {"num_cpus": 0.1},
            "alfworld": {"eval_dataset": "eval_in_distribution"},
            "webshop": {"use_small": True, "human_goals": False},
            "search": {"search_url": "http://127.0.0.1:9", "topk": 3},
        },
        "data": {"train_batch_size": 16, "val_batch_size": 128},
    }
