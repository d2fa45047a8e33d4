"""The SkyRL-Gym environment, through `skyrl_gym.make` itself."""

import json

import pytest
from helpers.pages import blocks, run_block

from sdar_envs import ENV_IDS, ChatEpisode, make_text_env, task_rows, tasks
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.prompt import render_completion, style_of

skyrl_gym = pytest.importorskip("skyrl_gym")
pytestmark = pytest.mark.plugs

SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
every_id = pytest.mark.parametrize("env_id", ENV_IDS)


@pytest.fixture(autouse=True)
def registered():
    import sdar_envs.integrations.skyrl  # noqa: F401


def completions(env_id, task_id):
    """Return the oracle's completions."""
    env = make_text_env(env_id)
    env.reset(options={"task_id": task_id})
    style = style_of(env, env.task)
    return [render_completion(style, command, "So.") for command in env.oracle_plan()]


@every_id
def test_two_episodes_as_the_trainer_plays_them(env_id):
    for row in task_rows(env_id, split=SPLITS[env_id], limit=2):
        env = skyrl_gym.make("sdar", env_config={}, extras={**row, "max_turns": 3, "data_source": "x"})
        chat, meta = env.init([{"role": "user", "content": "of the data set"}])
        assert meta["task_id"] == row["task_id"]
        episode = ChatEpisode(env_id, mode="appended")
        assert chat == episode.reset(task_id=row["task_id"]).messages
        reward, done = 0.0, False
        for completion in completions(env_id, row["task_id"]):
            assert not done
            output = env.step(completion)
            step = episode.step(completion)
            assert output["observations"] == step.new_messages
            assert output["metadata"]["is_action_valid"]
            reward += output["reward"]
            done = output["done"]
            chat = [*chat, {"role": "assistant", "content": completion}, *output["observations"]]
        assert (reward, done, output["observations"], output["metadata"]["truncated"]) == (1.0, True, [], False)
        metrics = env.get_metrics()
        assert metrics == {
            "won": 1.0,
            "score": 1.0,
            "turns": float(step.info["step"]),
            "malformed": 0.0,
            "invalid": 0.0,
        }
        assert env.max_turns == env._episode.env.max_steps
        env.close()


def test_the_step_limit_ends_an_episode():
    config = {"env_id": "sdar/ALFWorld-v0", "env_arguments": {"max_steps": 2}}
    env = skyrl_gym.make("sdar", env_config=config, extras={"task_id": "alfworld/valid_seen/0003"})
    env.init([])
    assert not env.step("no")["done"]
    output = env.step("no")
    assert (output["done"], output["reward"], output["metadata"]["truncated"]) == (True, 0.0, True)
    assert env.get_metrics()["malformed"] == 2.0


def test_nothing_that_gives_the_answer_away_comes_out():
    for row, task in zip(
        task_rows("sdar/SearchQA-v0", split="test", limit=3),
        tasks("sdar/SearchQA-v0", split="test", limit=3),
        strict=True,
    ):
        row["env_arguments"] = json.dumps({"reveal_answers": True})
        env = skyrl_gym.make("sdar", extras=row)
        out = [
            env.init([]),
            env.step("<think></think><search>x</search>"),
            env.step("<think></think><answer>x</answer>"),
        ]
        text = json.dumps(out) + json.dumps(env.get_metrics())
        for name in ("golden_answers", "supporting", "passage_ids", "oracle", "metrics"):
            assert f'"{name}' not in text
        if task.data["answers"][0] not in task.instruction + str(env._episode.conversation.past):
            assert task.data["answers"][0] not in text


def test_rows_that_name_nothing():
    with pytest.raises(InvalidOption, match="wanted its id"):
        skyrl_gym.make("sdar", extras={})
    with pytest.raises(UnknownName, match="Did you mean 'sdar/WebShop-v0'"):
        skyrl_gym.make("sdar", env_config={"env_id": "sdar/WebShp-v0"})
    env = skyrl_gym.make("sdar", env_config={"env_id": "sdar/WebShop-v0"}, extras={"prompt": []})
    with pytest.raises(InvalidOption, match="the row names no task; it has prompt"):
        env.init([])


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("skyrl.md"):
        names |= run_block(code, **{name: value for name, value in names.items() if name != "__name__"})
    assert capsys.readouterr().out.count("alfworld/valid_unseen/") == 3
    env = skyrl_gym.make("sdar", extras=names["table"][0])
    assert env.init([])[1]["task_id"] == names["table"][0]["task_id"]
