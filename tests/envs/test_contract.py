"""The contract, over every environment id."""

import copy
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import sdar_envs
from sdar_envs.checker import check_env, episode_digest
from sdar_envs.errors import EpisodeOver, InvalidAction, InvalidOption, UnknownName
from sdar_envs.registry import make_text_env

# What seeds play, for ever: the embedded task of seeds 0, 1, 2 in each split, and the digest of one episode.
SEEDED = {
    "sdar/ALFWorld-v0": {
        "train": ["alfworld/train/1826701615", "alfworld/train/1016164991", "alfworld/train/1798679648"],
        "valid_seen": ["alfworld/valid_seen/0119", "alfworld/valid_seen/0066", "alfworld/valid_seen/0117"],
        "valid_unseen": ["alfworld/valid_unseen/0113", "alfworld/valid_unseen/0063", "alfworld/valid_unseen/0112"],
    },
    "sdar/WebShop-v0": {
        "train": ["webshop/train/5279", "webshop/train/2937", "webshop/train/5198"],
        "valid": ["webshop/valid/0850", "webshop/valid/0473", "webshop/valid/0837"],
        "test": ["webshop/test/0425", "webshop/test/0236", "webshop/test/0418"],
    },
    "sdar/SearchQA-v0": {
        "train": [f"search_qa/invented/train/{number}" for number in ("2144", "1192", "2111")],
        "dev": [f"search_qa/invented/dev/{number}" for number in ("0253", "0141", "0249")],
        "test": [f"search_qa/invented/test/{number}" for number in ("0450", "0250", "0443")],
        "test_paths": [f"search_qa/invented/test_paths/{number}" for number in ("0402", "0223", "0396")],
        "test_hops": [f"search_qa/invented/test_hops/{number}" for number in ("0321", "0178", "0316")],
        "test_worlds": [f"search_qa/invented/test_worlds/{number}" for number in ("0425", "0236", "0418")],
    },
}
every_id = pytest.mark.parametrize("env_id", sdar_envs.ENV_IDS)
every_split = pytest.mark.parametrize(
    ("env_id", "split"), [(env_id, split) for env_id in sdar_envs.ENV_IDS for split in SEEDED[env_id]]
)


@every_id
def test_checker_passes(env_id):
    check_env(gymnasium.make(env_id))


@every_id
@pytest.mark.parametrize("arguments", [{"max_steps": 3}, {"reward_scale": 10.0}, {"render_mode": "ansi"}])
def test_checker_passes_with_arguments(env_id, arguments):
    check_env(gymnasium.make(env_id, **arguments))


@every_split
def test_seeds_play_the_same_tasks_for_ever(env_id, split):
    env = gymnasium.make(env_id, split=split)
    assert [env.reset(seed=seed)[1]["task_id"] for seed in range(3)] == SEEDED[env_id][split]


@every_id
def test_a_seed_is_the_same_episode_under_any_hash_seed(env_id):
    actions = ["look", "go to cabinet 1", "nonsense", "inventory"]
    script = f"import sdar_envs.checker as c; print(c.episode_digest({env_id!r}, 7, {actions!r}))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("0", "1", "12345")
    }
    assert digests == {episode_digest(env_id, 7, actions)}


@every_split
def test_tasks_are_listed_in_a_fixed_order_without_repetition(env_id, split):
    tasks = sdar_envs.tasks(env_id, split=split, limit=40)
    assert len({task.id for task in tasks}) == len(tasks) == 40
    assert tasks == sdar_envs.tasks(env_id, split=split, limit=40)
    env = gymnasium.make(env_id)
    for task in tasks[:5]:
        assert (task.env, task.split) == (env_id, split)
        assert sdar_envs.Task.from_json(json.loads(json.dumps(task.to_json()))) == task
        _, info = env.reset(options={"task_id": task.id})
        assert (info["task_id"], info["task_type"], info["instruction"], info["split"]) == (
            task.id,
            task.task_type,
            task.instruction,
            split,
        )


@every_split
def test_a_stream_without_end_wants_a_limit(env_id, split):
    size = gymnasium.make(env_id, split=split, disable_env_checker=True).unwrapped.source.splits[split]
    if size is None:
        with pytest.raises(InvalidOption, match="with a limit"):
            sdar_envs.tasks(env_id, split=split)
    else:
        assert len(sdar_envs.tasks(env_id, split=split)) == size


@every_id
def test_unknown_names_suggest_the_nearest(env_id):
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        gymnasium.make(env_id, split="trian")
    env = gymnasium.make(env_id)
    task = sdar_envs.tasks(env_id, split="train", limit=1)[0]
    with pytest.raises(UnknownName, match=f"Did you mean '{task.id}'"):
        env.reset(options={"task_id": task.id.replace("train", "trian")})
    with pytest.raises(UnknownName, match="Did you mean 'task_id'"):
        env.reset(options={"task_ids": task.id})


@every_id
def test_a_task_and_rows_that_name_one_are_played(env_id):
    env = gymnasium.make(env_id)
    first, second = sdar_envs.tasks(env_id, split="train", limit=2)
    wanted = env.reset(options={"task_id": second.id})
    again = sdar_envs.Task.from_json(json.loads(json.dumps(second.to_json())))
    foreign = {"id": 7, "prompt": [{"role": "user", "content": "?"}], "data_source": "mine", "answer": None}
    for given in (
        second,
        again,
        {"task_id": second.id},
        {**foreign, "env_kwargs": {"task_id": second.id}},
        {**foreign, "extra_info": {"index": 0, "task_id": second.id}, "env_kwargs": None},
        *[row for row in sdar_envs.task_rows(env_id, split="train", limit=2) if row["task_id"] == second.id],
    ):
        env.reset(options={"task_id": first.id})
        assert env.reset(options={"task": given}) == wanted
    for given, error, message in (
        (dataclasses.replace(second, env="acme/Up-v0"), InvalidOption, f"is of 'acme/Up-v0', this .* '{env_id}'"),
        ({"task_id": second.id, "env_id": "acme/Up-v0"}, InvalidOption, "is of 'acme/Up-v0'"),
        ({"task_id": second.id, "instruction": "Sleep."}, InvalidOption, "says 'Sleep.', but the one of that id here"),
        (dataclasses.replace(second, instruction="Sleep."), InvalidOption, re.escape(repr(second.id))),
        ({"task_id": second.id[:-1] + "x"}, UnknownName, "no task"),
        (second.id, InvalidOption, r"\(str\); wanted a sdar_envs.Task or a row.*is options\['task_id'\]"),
    ):
        with pytest.raises(error, match=message):
            env.reset(options={"task": given})


@every_id
def test_a_vector_plays_tasks_and_rows(env_id):
    tasks = sdar_envs.tasks(env_id, split="train", limit=2)
    envs = sdar_envs.make_vec(env_id, 4, group_size=2)
    wanted = envs.reset(options={"task_id": [task.id for task in tasks]})[0]
    assert envs.reset(options={"task": list(tasks)})[0] == wanted
    rows = list(sdar_envs.task_rows(env_id, split="train", limit=2))
    assert envs.reset(options={"task": rows})[0] == wanted
    assert envs.reset(options={"task": tasks[1]})[0] == (wanted[2],) * 4
    assert envs.reset(options={"task": rows[1], "reset_mask": np.array([1, 0, 0, 0], bool)})[0] == (wanted[2],) * 4


@every_id
def test_unhelpful_text_is_answered_and_non_text_is_refused(env_id):
    env = gymnasium.make(env_id, disable_env_checker=True, max_steps=9)
    _, before = env.reset(seed=0)
    for text in ("x" * 100_000, "🙂", "\x00\x1b[31m\x07", "", " \n\t ", "go to \ud800"):
        observation, reward, terminated, _, info = env.step(text)
        assert isinstance(observation, str)
        assert (reward, terminated, info["is_action_valid"]) == (0.0, False, False)
        assert info["admissible_commands"] == before["admissible_commands"]
    for other in (None, 3, b"look", ["look"]):
        with pytest.raises(InvalidAction, match=type(other).__name__):
            env.step(other)


@every_id
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasium_sync_vector_env(env_id, mode):
    envs = SyncVectorEnv([lambda: gymnasium.make(env_id, max_steps=2)] * 3, autoreset_mode=mode)
    observations, infos = envs.reset(seed=1)
    assert len(observations) == 3
    assert len(set(infos["task_id"])) == 3
    for _ in range(2):
        observations, *_ = envs.step(("look", "inventory", "look"))
    assert all(isinstance(observation, str) for observation in observations)


@every_id
def test_gymnasium_async_vector_env(env_id):
    # Gymnasium's shared memory has no place for text of any length.
    envs = AsyncVectorEnv([lambda: gymnasium.make(env_id)] * 2, shared_memory=False)
    try:
        asynchronous, infos = envs.reset(seed=3)
        synchronous = [gymnasium.make(env_id).reset(seed=3 + i)[0] for i in range(2)]
        assert list(asynchronous) == synchronous
        assert len(infos["admissible_commands"]) == 2
    finally:
        envs.close()


@every_id
def test_make_vec_groups_share_their_tasks(env_id):
    envs = sdar_envs.make_vec(env_id, 6, group_size=3, max_steps=2)
    _, infos = envs.reset(seed=5)
    single = gymnasium.make(env_id)
    expected = [single.reset(seed=seed)[1]["task_id"] for seed in (5, 6)]
    assert list(infos["task_id"]) == [expected[0]] * 3 + [expected[1]] * 3
    assert envs.spec.id == env_id


@every_id
def test_gymnasium_wrappers_work(env_id):
    env = gymnasium.wrappers.FrameStackObservation(gymnasium.make(env_id), 3, padding_type="zero")
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.wrappers.TimeLimit(env, 2))
    env.reset(seed=0)
    env.step("look")
    *_, truncated, info = env.step("look")
    assert truncated
    assert info["episode"]["l"] == 2


@every_id
def test_rendering(env_id, capsys):
    env = gymnasium.make(env_id, render_mode="human")
    first, _ = env.reset(seed=0)
    second, *_ = env.step("look")
    assert capsys.readouterr().out == f"{first}\n> look\n{second}\n"
    env = gymnasium.make(env_id, render_mode="ansi")
    env.reset(seed=0)
    env.step("look")
    assert env.render() == f"> look\n{second}"
    assert capsys.readouterr().out == ""


FAILING_OPTIONS = [
    {"nonsense": 1},
    {"task_id": "no such task"},
    {"task_id": 5},
    "text",
    {"task": "a task id"},
    {"task": {}},
    {"task": {"id": "mine", "prompt": []}},
    {"task": {"task_id": "no such task"}},
    {"task": {"task_id": "x"}, "task_id": "x"},
]


@every_id
@pytest.mark.parametrize("options", FAILING_OPTIONS)
def test_a_first_reset_that_fails_breaks_nothing(env_id, options):
    plain = gymnasium.make(env_id)
    expected = [plain.reset(seed=3)[0], plain.step("look")[0], plain.step("inventory")[0]]
    vectors = [
        gymnasium.make_vec(env_id, 1, vectorization_mode=mode).envs[0] for mode in ("sync", "vector_entry_point")
    ]
    for env in (gymnasium.make(env_id, render_mode="ansi"), make_text_env(env_id), *vectors):
        with pytest.raises((InvalidOption, UnknownName)):
            env.reset(options=options)
        with pytest.raises(EpisodeOver):
            env.step("look")
        env.render()
        assert [env.reset(seed=3)[0], env.step("look")[0], env.step("inventory")[0]] == expected


@every_id
@pytest.mark.parametrize("mode", [5, True, "rgb_array", "ansi_list", "", ["ansi"], {}, np.array(["ansi"])], ids=repr)
def test_an_unknown_render_mode_is_refused_in_words(env_id, mode):
    makers = [
        gymnasium.make,
        make_text_env,
        lambda env_id, **arguments: sdar_envs.make_vec(env_id, 2, **arguments),
        lambda env_id, **arguments: gymnasium.make_vec(env_id, 2, **arguments),
        lambda env_id, **arguments: gymnasium.make_vec(env_id, 2, vectorization_mode="sync", **arguments),
    ]
    for make in makers:
        with pytest.raises(InvalidOption, match=r"^render_mode is .*; wanted None or one of ansi, human\."):
            make(env_id, render_mode=mode)


@every_id
def test_a_reset_that_fails_leaves_nothing_to_step(env_id):
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.raises(UnknownName):
        env.reset(options={"task_id": "no such task"})
    with pytest.raises(EpisodeOver):
        env.step("look")


@every_id
def test_restoring_shows_no_command_and_other_kinds_are_refused(env_id):
    env = gymnasium.make(env_id, render_mode="ansi").unwrapped
    first, _ = env.reset(seed=0)
    saved = env.snapshot()
    env.step("look")
    env.restore(saved)
    assert env.render() == first
    foreign = dataclasses.replace(saved, task=dataclasses.replace(saved.task, env="other/Env-v0"))
    with pytest.raises(InvalidOption, match="other/Env-v0"):
        env.restore(foreign)


@every_id
def test_numbers_of_numpy_are_numbers(env_id):
    env = gymnasium.make(env_id, max_steps=np.int64(2)).unwrapped
    assert env.reset(seed=np.int64(5))[1]["task_id"] == env.reset(seed=5)[1]["task_id"]
    assert sdar_envs.make_vec(env_id, np.int64(2)).num_envs == 2


@every_id
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reward_scale": float("nan")}, InvalidOption),
        ({"reward_scale": "10"}, InvalidOption),
        ({"max_steps": True}, InvalidOption),
        ({"split": ["train"]}, UnknownName),
        ({"max_episode_steps": 3}, InvalidOption),
    ],
)
def test_arguments_out_of_range(env_id, arguments, error):
    with pytest.raises(error):
        sdar_envs.make_vec(env_id, 1, **arguments)
    with pytest.raises(InvalidOption, match="options"):
        gymnasium.make(env_id).unwrapped.reset(options=["task_id"])


@every_id
def test_a_listed_task_cannot_be_changed_and_survives_pickling(env_id):
    (task,) = sdar_envs.tasks(env_id, split="train", limit=1)
    with pytest.raises(TypeError, match="cannot be changed"):
        task.data["more"] = 1
    assert pickle.loads(pickle.dumps(task)) == task == copy.deepcopy(task)


@every_split
def test_tasks_say_their_suite_and_old_files_without_it_are_read(env_id, split):
    (task,) = sdar_envs.tasks(env_id, split=split, limit=1)
    suites = {"sdar/ALFWorld-v0": "alfworld", "sdar/WebShop-v0": "webshop", "sdar/SearchQA-v0": "search_qa"}
    assert task.suite == make_text_env(env_id).suite == suites[env_id]
    fields = task.to_json()
    del fields["suite"]
    assert sdar_envs.Task.from_json(fields) == task


FINITE = pytest.mark.parametrize(
    ("env_id", "split"),
    [
        ("sdar/ALFWorld-v0", "valid_unseen"),
        ("sdar/ALFWorld-v0", "valid_seen"),
        ("sdar/WebShop-v0", "test"),
        ("sdar/SearchQA-v0", "dev"),
    ],
)


def walked(env, count):
    return [env.reset()[1]["task_id"] for _ in range(count)]


@FINITE
def test_resets_without_a_seed_visit_each_task_once_before_any_again(env_id, split):
    env = make_text_env(env_id, split=split)
    size = env.source.splits[split]
    first, second = walked(env, size), walked(env, size)
    assert len(set(first)) == len(set(second)) == size
    assert first != second
    assert walked(make_text_env(env_id, split=split), 20) != first[:20], "another order without a seed"


@FINITE
def test_what_follows_a_seeded_reset_is_the_rest_of_the_split_in_an_order_of_the_seed(env_id, split):
    env, other = make_text_env(env_id, split=split), make_text_env(env_id, split=split)
    size = env.source.splits[split]
    start = env.reset(seed=5)[1]["task_id"]
    assert start == make_text_env(env_id, split=split).reset(seed=5)[1]["task_id"]
    rest = walked(env, size - 1)
    assert len({start, *rest}) == size
    other.reset()
    other.reset(seed=5)
    other.step("look")
    assert walked(other, 20) == rest[:20]
    env.reset(seed=6)
    assert walked(env, 20) != rest[:20]


@FINITE
def test_a_task_id_a_snapshot_and_a_refused_reset_leave_the_place_in_the_order(env_id, split):
    env, other = (make_text_env(env_id, split=split) for _ in range(2))
    env.reset(seed=3)
    expected = walked(env, 6)
    other.reset(seed=3)
    saved = other.snapshot()
    assert walked(other, 2) == expected[:2]
    other.restore(saved)
    other.reset(options={"task_id": saved.task.id})
    with pytest.raises(UnknownName):
        other.reset(options={"task_id": "nowhere"})
    assert walked(other, 2) == expected[2:4]
    other = pickle.loads(pickle.dumps(other))
    assert walked(copy.deepcopy(other), 2) == walked(other, 2) == expected[4:]
    # A seed with a task of its own leaves the seed's own task for later.
    env.reset(seed=3, options={"task_id": saved.task.id})
    assert walked(env, 3) == [saved.task.id, *expected[:2]]


@every_id
def test_a_generator_that_is_set_decides_the_tasks(env_id):
    split = {"sdar/ALFWorld-v0": "valid_seen"}.get(env_id, "test")
    envs = [make_text_env(env_id, split=split) for _ in range(2)]
    envs[0].reset()
    for env in envs:
        env.np_random = np.random.default_rng(11)
    assert walked(envs[0], 5) == walked(envs[1], 5)


@every_id
def test_members_of_a_group_walk_together(env_id):
    split = {"sdar/ALFWorld-v0": "valid_seen"}.get(env_id, "test")
    envs = sdar_envs.make_vec(env_id, 4, group_size=2, split=split, autoreset_mode=AutoresetMode.DISABLED)
    for seed in (None, 4):
        ids = [envs.reset(seed=seed)[1]["task_id"], *(envs.reset()[1]["task_id"] for _ in range(9))]
        for first, second in ((0, 1), (2, 3)):
            assert [row[first] for row in ids] == [row[second] for row in ids]
            assert len({row[first] for row in ids}) == 10, "no task twice"
        assert [row[0] for row in ids] != [row[2] for row in ids]
    single = make_text_env(env_id, split=split)
    single.reset(seed=5)
    assert [row[2] for row in ids][1:] == walked(single, 9)


@FINITE
def test_a_vector_without_a_seed_visits_each_task_once_before_any_again(env_id, split):
    size = make_text_env(env_id, split=split).source.splits[split]
    for num_envs, group_size in ((10, 1), (20, 2)):
        envs = sdar_envs.make_vec(
            env_id, num_envs, group_size=group_size, split=split, autoreset_mode=AutoresetMode.DISABLED
        )
        played = []
        while len(played) + 10 <= size:
            played += envs.reset()[1]["task_id"][::group_size].tolist()
        assert len(set(played)) == len(played)
        again = sdar_envs.make_vec(env_id, 10, split=split)
        assert again.reset()[1]["task_id"].tolist() != played[:10], "another order without a seed"


@every_id
def test_members_of_an_unseeded_group_share_tasks_whenever_each_is_reset(env_id):
    split = {"sdar/ALFWorld-v0": "valid_seen"}.get(env_id, "test")
    envs = sdar_envs.make_vec(env_id, 4, group_size=2, split=split, autoreset_mode=AutoresetMode.DISABLED)
    rows = []
    for mask in ([1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1]):
        rows.append(envs.reset(options={"reset_mask": np.array(mask, dtype=bool)})[1]["task_id"].tolist())
    first = [rows[0][0], rows[1][0], rows[3][0]]
    second = [rows[2][1], rows[3][1], rows[4][1]]
    assert first == second
    others = [rows[0][2], rows[1][2], rows[3][2]]
    assert len({*first, *others}) == 6
    assert envs.envs[0].np_random_seed == envs.envs[1].np_random_seed != envs.envs[2].np_random_seed
    copies = pickle.loads(pickle.dumps(envs.envs[1]))
    assert copies.reset()[1]["task_id"] == envs.envs[1].reset()[1]["task_id"]


def test_a_split_without_end_goes_on_with_independent_random_tasks():
    env = make_text_env("sdar/ALFWorld-v0", split="train")
    assert env.reset(seed=0)[1]["task_id"] == SEEDED["sdar/ALFWorld-v0"]["train"][0]
    following = walked(env, 3)
    assert len(set(following)) == 3
    env.reset(seed=0)
    assert walked(env, 3) == following
