"""Rows of data sets for trainers, and the Parquet files that verl and verl-agent read."""

import itertools
import json
import sys
from types import GeneratorType

import pytest

import sdar_envs
from sdar_envs import ChatEpisode, make_text_env, task_rows, tasks, to_parquet
from sdar_envs.errors import InvalidOption, MissingExtra, UnknownName
from sdar_envs.rows import ROW_KEYS

SUITES = {"sdar/ALFWorld-v0": "valid_seen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
every_suite = pytest.mark.parametrize(("env_id", "split"), SUITES.items())


@every_suite
def test_a_row_names_its_task(env_id, split):
    rows = list(task_rows(env_id, split=split, limit=3, max_steps=7))
    listed = tasks(env_id, split=split, limit=3)
    for row, task in zip(rows, listed, strict=True):
        assert tuple(row) == ROW_KEYS
        assert all(isinstance(value, str) for value in row.values())
        named = (row["task_id"], row["suite"], row["split"], row["task_type"], row["instruction"])
        assert named == (task.id, task.suite, task.split, task.task_type, task.instruction)
        env = make_text_env(row["env_id"], **json.loads(row["env_arguments"]))
        assert env.reset(options={"task": row})[0] == env.reset(options={"task_id": task.id})[0]
        assert env.max_steps == 7


@every_suite
def test_a_row_holds_nothing_of_the_tasks_data(env_id, split):
    for row, task in zip(task_rows(env_id, split=split, limit=20), tasks(env_id, split=split, limit=20), strict=True):
        text = json.dumps(row)
        for name, value in task.data.items():
            # A number or a short text may occur in an instruction by chance.
            if name not in ("data_set", "question_id") and len(json.dumps(value)) > 25:
                assert json.dumps(value) not in text, name
        for answer in task.data.get("answers", ()):
            assert answer in task.instruction or answer not in text


def test_the_data_set_of_a_question_is_its_source():
    assert next(task_rows("sdar/SearchQA-v0", split="test"))["data_source"] == "invented"
    assert next(task_rows("sdar/WebShop-v0", split="test"))["data_source"] == "webshop"


def test_rows_are_made_when_they_are_asked_for(monkeypatch):
    made = []
    source = type(make_text_env("sdar/ALFWorld-v0").source)
    task = source.task

    def counted(self, split, index):
        made.append(index)
        return task(self, split, index)

    monkeypatch.setattr(source, "task", counted)
    rows = task_rows("sdar/ALFWorld-v0", split="train")
    assert isinstance(rows, GeneratorType)
    assert len(list(itertools.islice(rows, 3))) == 3
    assert made == [0, 1, 2]


def test_wrong_arguments_are_refused_before_the_first_row():
    with pytest.raises(UnknownName, match="Did you mean 'test'"):
        task_rows("sdar/WebShop-v0", split="tset")
    with pytest.raises(InvalidOption, match="limit is -1"):
        task_rows("sdar/WebShop-v0", split="test", limit=-1)
    with pytest.raises(InvalidOption, match=r"retriever cannot be written into a row .*as module:name"):
        task_rows("sdar/SearchQA-v0", split="test", retriever=Retriever())
    with pytest.raises(InvalidOption, match=r"'token_env' .*looks like a secret"):
        task_rows("sdar/SearchQA-v0", split="test", token_env="sk-" + "A1b2C3d4" * 5)


class Retriever:
    fingerprint = "none"

    def search(self, queries, k):
        return [() for _ in queries]


# -- Parquet --------------------------------------------------------------------------------------


@every_suite
@pytest.mark.parametrize("layout", ["verl", "verl-agent"])
def test_a_parquet_file(env_id, split, layout, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet files need pyarrow")
    monkeypatch.setattr("sdar_envs.rows._BATCH", 2)
    path = tmp_path / "new" / "test.parquet"
    assert to_parquet(path, env_id, split=split, layout=layout, limit=5, max_steps=3) == 5
    read = parquet.read_table(path).to_pylist()
    listed = tasks(env_id, split=split, limit=5)
    assert [row["prompt"] for row in read] == [[{"role": "user", "content": task.instruction}] for task in listed]
    assert [row["extra_info"]["index"] for row in read] == list(range(5))
    assert {row["reward_model"]["ground_truth"] for row in read} == {""}
    assert {row["ability"] for row in read} == {"agent"}
    for row, task in zip(read, listed, strict=True):
        if layout == "verl":
            assert (row["agent_name"], row["env_id"], row["task_id"]) == ("sdar", env_id, task.id)
            assert json.loads(row["env_arguments"]) == {"max_steps": 3}
            assert list(row)[5:] == ["agent_name", "env_id", "task_id", "env_arguments"]
        else:
            assert row["env_kwargs"]["question"] == task.instruction
            assert list(row)[5:] == ["env_kwargs"]
        episode = ChatEpisode(env_id)
        assert episode.reset(task=row).info["task_id"] == task.id
        for answer in task.data.get("answers", ()):
            assert answer in task.instruction or answer not in json.dumps(row)


def test_parquet_files_that_are_refused(tmp_path):
    path = tmp_path / "x.parquet"
    for arguments, error, message in (
        ({"split": "train", "layout": "verl"}, InvalidOption, "say how many with a limit"),
        ({"split": "valid_seen", "layout": "verl_agent"}, InvalidOption, "Did you mean 'verl-agent'"),
        ({"split": "valid_seen", "layout": "verl", "limit": 0}, InvalidOption, "wanted at least 1"),
        ({"split": "valid_sen", "layout": "verl"}, UnknownName, "Did you mean 'valid_seen'"),
    ):
        with pytest.raises(error, match=message):
            to_parquet(path, "sdar/ALFWorld-v0", **arguments)
        assert not path.exists()


def test_without_pyarrow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sdar-envs\[parquet\]'"):
        to_parquet(tmp_path / "x.parquet", "sdar/ALFWorld-v0", split="valid_seen", layout="verl")


def test_they_are_public():
    assert {"task_rows", "to_parquet"} <= set(sdar_envs.__all__)
