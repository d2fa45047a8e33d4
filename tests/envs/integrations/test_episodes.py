"""Scored episodes: what all adapters share."""

import json

import pytest
from helpers.toy import CountingEnv

from sdar_envs import ENV_IDS, task_rows
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.integrations.episodes import METRICS, ScoredEpisode

SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}


def test_it_counts():
    episode = ScoredEpisode(CountingEnv())
    assert episode.metrics() == dict.fromkeys(METRICS, 0.0)
    episode.reset(task_id="toy/valid/0001")
    target, start = episode.env.task.data["target"], episode.env.task.data["start"]
    episode.step("nothing")
    episode.step("<think></think><action>sideways</action>")
    episode.act("backwards")
    assert episode.metrics() == {"won": 0.0, "score": 0.0, "turns": 3.0, "malformed": 1.0, "invalid": 3.0}
    command = "up" if target > start else "down"
    while not episode.last.is_over:
        episode.step(f"<think></think><action>{command}</action>")
    assert (episode.episode_return, episode.metrics()["won"]) == (1.0, 1.0)
    episode.reset(task_id="toy/valid/0002")
    assert (episode.episode_return, episode.metrics()) == (0.0, dict.fromkeys(METRICS, 0.0))


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_row_makes_its_environment(env_id):
    (row,) = task_rows(env_id, split=SPLITS[env_id], limit=1, max_steps=5)
    episode = ScoredEpisode.from_row(row, mode="appended")
    step = episode.reset(task=row)
    assert (step.info["task_id"], episode.env.max_steps) == (row["task_id"], 5)
    assert ScoredEpisode.from_row(row, env_arguments={"max_steps": 6}).env.max_steps == 6
    bare = {"extra_info": {"task_id": row["task_id"], "split": row["split"]}}
    assert ScoredEpisode.from_row(bare, env_id=env_id).reset(task=bare).info == step.info


def test_rows_of_other_trainers_have_splits_of_their_own():
    row = {"question": "Q?", "golden_answers": ["Bonn"], "split": "validation"}
    assert ScoredEpisode.from_row(row, env_id="sdar/SearchQA-v0").reset(task=row).info["instruction"] == "Q?"


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ({}, InvalidOption, "the environment is None; wanted its id"),
        ({"env_id": 3}, InvalidOption, "the environment is 3"),
        ({"env_id": "sdar/WebShp-v0"}, UnknownName, "Did you mean 'sdar/WebShop-v0'"),
        ({"env_id": "sdar/WebShop-v0", "env_arguments": "{"}, InvalidOption, "no JSON"),
        ({"env_id": "sdar/WebShop-v0", "env_arguments": "[]"}, InvalidOption, "wanted a JSON object"),
        ({"env_id": "sdar/WebShop-v0", "env_arguments": {"max_step": 3}}, UnknownName, "Did you mean 'max_steps'"),
        ({"env_id": "sdar/WebShop-v0", "task_id": "x", "split": "tset"}, UnknownName, "Did you mean 'test'"),
    ],
)
def test_wrong_rows(row, error, message):
    with pytest.raises(error, match=message):
        ScoredEpisode.from_row(row)


def test_arguments_as_json_and_as_a_mapping():
    for arguments in (json.dumps({"max_steps": 3}), {"max_steps": 3}):
        row = {"env_id": "sdar/SearchQA-v0", "env_arguments": arguments}
        assert ScoredEpisode.from_row(row).env.max_steps == 3
