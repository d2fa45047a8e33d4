import copy
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers.toy import CountingEnv

from sdar_envs.errors import EpisodeOver, InvalidAction, InvalidOption, UnknownName
from sdar_envs.vector import TextVectorEnv

MODES = list(AutoresetMode)
DISABLED = AutoresetMode.DISABLED
NONSENSE = "xyzzy"


class RicherEnv(CountingEnv):
    """Infos with every kind of value, some of them not always there."""

    def _extra_info(self):
        extra = {
            **super()._extra_info(),
            "vector": np.arange(3.0) + self._number,
            "small": np.float32(self._number),
            "nothing": None,
            "pair": (self._number, "x"),
            "deep": {"deeper": {"list": [self._number], "flag": self._number > 3}},
            "empty": {},
        }
        if self._number % 2:
            extra |= {"odd": self._number, "odd_text": "odd", "odd_dict": {"vector": np.ones(2)}, "odd_list": [1, 2]}
        return extra


def make(num_envs=4, cls=CountingEnv, **options):
    vector = {key: options.pop(key) for key in ("group_size", "autoreset_mode", "ignore_finished") if key in options}
    return TextVectorEnv([cls(**options) for _ in range(num_envs)], **vector)


def assert_equal(one, two, path=""):
    assert type(one) is type(two), path
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            assert_equal(one[key], two[key], f"{path}[{key!r}]")
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(two), path
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_equal(a, b, f"{path}[{i}]")
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype, path
        assert one.shape == two.shape, path
        if one.dtype == object:
            assert_equal(one.tolist(), two.tolist(), path)
        else:
            assert np.array_equal(one, two), path
    else:
        assert one == two, path


def containers(value):
    if isinstance(value, (dict, list, np.ndarray)):
        yield value
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        for item in items:
            yield from containers(item)


# -- the same as Gymnasium's ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cls", [CountingEnv, RicherEnv])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_equals_sync_vector_env(mode, cls, num_envs):
    ours = make(num_envs, cls, autoreset_mode=mode)
    theirs = SyncVectorEnv([cls] * num_envs, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    assert_equal(ours.reset(seed=3), theirs.reset(seed=3))
    assert_equal(ours.np_random_seed, theirs.np_random_seed)
    rng = np.random.default_rng(0)
    finished = 0
    for _ in range(120):
        actions = tuple(rng.choice(["up", "down", "double", NONSENSE], size=num_envs).tolist())
        mine = ours.step(actions)
        assert_equal(mine, theirs.step(actions))
        over = mine[2] | mine[3]
        finished += int(over.sum())
        if mode is DISABLED and over.any():
            assert_equal(ours.reset(options={"reset_mask": over}), theirs.reset(options={"reset_mask": over}))
    assert finished > 10


def test_equals_sync_vector_env_with_seed_lists_and_masks():
    ours, theirs = make(3), SyncVectorEnv([CountingEnv] * 3)
    assert_equal(ours.reset(seed=[5, 5, 9]), theirs.reset(seed=[5, 5, 9]))
    for seed in ([1, None, None], None, 4):
        mask = np.array([True, False, True])
        mine = ours.reset(seed=seed, options={"reset_mask": mask})
        assert_equal(mine, theirs.reset(seed=seed, options={"reset_mask": mask}))
        assert mine[1]["_step"].tolist() == [True, False, True]
    options = {"task_id": "toy/valid/0003"}
    assert_equal(ours.reset(options=options), theirs.reset(options=options))


def test_gymnasium_wrappers_take_it():
    infos = gymnasium.wrappers.vector.DictInfoToList(make(2)).reset(seed=0)[1]
    assert infos[0]["admissible_commands"] == ["double", "down", "up"]
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make(2))
    envs.reset(seed=0)
    for _ in range(8):
        infos = envs.step([NONSENSE] * 2)[-1]
    assert infos["episode"]["l"].tolist() == [8, 8]


# -- groups and tasks -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("seed", [7, None])
def test_members_of_a_group_play_the_same_tasks_though_at_other_times(mode, seed):
    envs = make(6, group_size=3, split="train", autoreset_mode=mode)
    _, infos = envs.reset(seed=seed)
    played = [[task] for task in infos["task_id"]]
    rng = np.random.default_rng(1)
    for _ in range(100):
        commands = ["up", "up", "down", "double", "up", NONSENSE]
        infos = envs.step([commands[i] if rng.random() < 0.7 else "down" for i in range(6)])[-1]
        for i in range(6):
            if infos["step"][i] == 0:
                played[i].append(infos["task_id"][i])
    if seed is not None:
        assert len({len(tasks) for tasks in played[:3]}) > 1, "the members should be at different episodes"
    for group in (played[:3], played[3:]):
        count = min(map(len, group))
        assert count > 5
        assert group[0][:count] == group[1][:count] == group[2][:count]
    assert played[0][:5] != played[3][:5]
    if seed is not None:
        assert envs.get_attr("np_random_seed") == (7, 7, 7, 8, 8, 8)


def test_groups_without_a_seed_share_tasks_also_when_reset_one_by_one():
    envs = make(4, group_size=2, split="train")
    first = envs.reset(options={"reset_mask": np.array([True, False, True, False])})[1]["task_id"]
    second = envs.reset(options={"reset_mask": np.array([False, True, False, True])})[1]["task_id"]
    assert (first[0], first[2]) == (second[1], second[3])
    assert first[0] != first[2]
    assert len(set(make(4, split="train").reset()[1]["task_id"])) == 4


def test_seeds_and_task_ids_for_each_group_or_each_environment():
    envs = make(4, group_size=2)
    assert envs.num_groups == 2
    ids = ["toy/valid/0001", "toy/valid/0002"]
    for seed in ([3, 4], [3, 3, 4, 4], (3, 4), np.array([3, 4])):
        envs.reset(seed=seed)
        assert envs.np_random_seed == (3, 3, 4, 4)
    assert envs.reset(options={"task_id": ids})[1]["task_id"].tolist() == [ids[0], ids[0], ids[1], ids[1]]
    assert envs.reset(options={"task_id": ids * 2})[1]["task_id"].tolist() == ids * 2
    assert set(envs.reset(options={"task_id": ids[1]})[1]["task_id"]) == {ids[1]}


def test_task_ids_with_a_mask_and_untouched_options():
    envs = make(3)
    before, _ = envs.reset(seed=0)
    mask = np.array([False, True, False])
    options = {"task_id": [None, "toy/valid/0007", None], "reset_mask": mask}
    kept = copy.deepcopy(options)
    observations, infos = envs.reset(options=options)
    assert infos["task_id"].tolist() == [None, "toy/valid/0007", None]
    assert (observations[0], observations[2]) == (before[0], before[2])
    assert options.keys() == kept.keys()
    assert options["task_id"] == kept["task_id"]


# -- frozen environments --------------------------------------------------------------------


def test_a_finished_environment_is_frozen_where_autoreset_is_disabled():
    envs = make(2, autoreset_mode=DISABLED)
    envs.reset(options={"task_id": ["toy/valid/0000", "toy/valid/0001"]})
    target = envs.envs[0].task.data["target"]
    envs.envs[0]._number = target - 1
    last = envs.step(["up", NONSENSE])
    assert last[2].tolist() == [True, False]
    for _ in range(3):
        for value in containers([last[4]["admissible_commands"][0], last[4]["trace"]]):
            if isinstance(value, list):
                value.clear()  # what the caller does to its info is no matter
        observations, rewards, terminations, truncations, infos = envs.step([None, NONSENSE])
        assert observations[0] == f"It is {target}."
        assert (rewards[0], terminations[0], truncations[0]) == (0.0, True, False)
        assert infos["admissible_commands"][0] == ["double", "down", "up"]
        assert (infos["step"][0], infos["is_success"][0], infos["number"][0]) == (1, True, target)
        assert infos["_step"].all()
        last = observations, rewards, terminations, truncations, infos
    with pytest.raises(EpisodeOver, match=r"environment 0 is over, and actions\[0\] is 'up': give it None"):
        envs.step(["up", NONSENSE])
    with pytest.raises(InvalidAction, match=r"actions\[1\] is None"):
        envs.step([None, None])
    assert envs.step([None, NONSENSE])[-1]["step"].tolist() == [1, 5], "refused batches stepped nothing"
    envs.step([None, NONSENSE])
    assert envs.step([None, NONSENSE])[-1]["step"].tolist() == [1, 7]
    assert envs.step([None, NONSENSE])[3].tolist() == [False, True]
    assert envs.step([None, None])[-1]["step"].tolist() == [1, 8]
    envs.reset(seed=0)
    assert envs.step(["up", "up"])[-1]["step"].tolist() == [1, 1]


def test_before_a_reset_in_next_step_mode_the_action_is_not_read():
    envs = make(2, max_steps=1)
    envs.reset(seed=0)
    envs.step([NONSENSE, NONSENSE])
    assert envs.step([None, "whatever"])[-1]["step"].tolist() == [0, 0]
    with pytest.raises(InvalidAction, match=r"actions\[0\] is None"):
        envs.step([None, "up"])


@pytest.mark.parametrize("mode", MODES)
def test_calls_share_no_objects(mode):
    envs = make(3, RicherEnv, autoreset_mode=mode, max_steps=2)
    results = [envs.reset(seed=0)]
    for _ in range(4):
        over = [t or u for t, u in zip(envs._terminated, envs._truncated, strict=True)]
        results.append(envs.step([None if mode is DISABLED and o else NONSENSE for o in over]))
    seen = {}
    for number, result in enumerate(results):
        for value in containers(result):
            assert seen.setdefault(id(value), number) == number


# -- snapshots, attributes, closing ---------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_snapshot_and_restore(mode):
    envs = make(2, autoreset_mode=mode, max_steps=3)
    envs.reset(seed=0)
    envs.step([NONSENSE] * 2)
    saved = envs.snapshot(0)
    expected = [envs.step([NONSENSE, NONSENSE]) for _ in range(2)]
    assert expected[-1][3].all()
    for index in (0, 1):
        observation, info = envs.restore(index, saved)
        assert (observation, info["step"]) == (f"{NONSENSE!r} is no command.", 1)
    again = [envs.step([NONSENSE, NONSENSE]) for _ in range(2)]
    for one, two in zip(expected, again, strict=True):
        assert_equal(one[1:4], two[1:4])
        assert one[4]["step"][0] == two[4]["step"][1]
        if mode is not AutoresetMode.SAME_STEP:  # there the last observation is of the stream's next task
            assert_equal(one[0], two[0])


def test_a_finished_snapshot_is_finished_after_restore():
    envs = make(2, autoreset_mode=DISABLED, max_steps=1)
    envs.reset(seed=0)
    envs.step([NONSENSE] * 2)
    saved = envs.snapshot(0)
    envs.reset(seed=1)
    envs.restore(1, saved)
    _, _, terminations, truncations, infos = envs.step([NONSENSE, None])
    assert (terminations[1], truncations[1], infos["step"][1]) == (False, True, 1)
    with pytest.raises(InvalidOption, match="the snapshot is of a finished episode"):
        make(2, autoreset_mode=AutoresetMode.SAME_STEP).restore(0, saved)


def test_call_attributes_render_close():
    envs = make(2, render_mode="ansi")
    envs.reset(seed=0)
    assert envs.call("snapshot")[0] == envs.snapshot(0)
    assert envs.get_attr("max_steps") == (8, 8)
    envs.set_attr("max_steps", 4)
    envs.set_attr("split", ["train", "valid"])
    assert envs.get_attr("max_steps") == (4, 4)
    assert envs.get_attr("split") == ("train", "valid")
    with pytest.raises(InvalidOption, match="3 values for 2 environments"):
        envs.set_attr("max_steps", [1, 2, 3])
    envs.step(["up", "down"])
    assert [frame.split("\n")[0] for frame in envs.render()] == ["> up", "> down"]
    closed = []
    for env in envs.envs:
        env.close = lambda: closed.append(1)
    envs.close()
    envs.close()
    assert len(closed) == 2


# -- wrong inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TextVectorEnv([]), "no environments; wanted at least one"),
        (lambda: TextVectorEnv([CountingEnv]), r"envs\[0\] is .*; wanted an environment \(not a function"),
        (lambda: TextVectorEnv([CountingEnv()] * 2), "same environment object came twice"),
        (lambda: make(6, group_size=4), "group_size is 4 with 6 environments.*one of 1, 2, 3, 6"),
        (lambda: make(6, group_size=0), "group_size is 0"),
        (lambda: make(6, group_size=True), "group_size is True"),
        (lambda: make(6, group_size=2.0), "group_size is 2.0"),
        (lambda: make(2, autoreset_mode="next"), "autoreset_mode is 'next'; wanted one of AutoresetMode.NEXT_STEP"),
        (lambda: TextVectorEnv([CountingEnv(), gymnasium.make("FrozenLake-v1")]), r"envs\[1\] has other spaces"),
    ],
)
def test_wrong_constructions(build, message):
    with pytest.raises(InvalidOption, match=message):
        build()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": [1, 2, 3]}, InvalidOption, r"seed is 3 values; wanted an integer, None, or a list of 4 or 2 \(one"),
        ({"seed": "7"}, InvalidOption, r"seed is '7' \(str\)"),
        ({"seed": 1.5}, InvalidOption, r"seed is 1.5"),
        ({"seed": True}, InvalidOption, "seed is True"),
        ({"seed": [1, "a"]}, InvalidOption, r"seed holds 'a' \(str\)"),
        ({"options": {"task_ids": "x"}}, UnknownName, "no reset option 'task_ids'.*Did you mean 'task_id'"),
        (
            {"options": {"task": "x"}},
            InvalidOption,
            r"'task'\] is 'x' \(str\); wanted a Task or a row of a data set, or",
        ),
        (
            {"options": {"task": [{}, "x"]}},
            InvalidOption,
            "'x' for environment 2; wanted a Task or a row of a data set",
        ),
        ({"options": {"task": {}, "task_id": "x"}}, InvalidOption, "'task_id' and 'task'; wanted one of them"),
        ({"options": {3: "x"}}, UnknownName, "no reset option 3"),
        ({"options": {"task_id": ["toy/valid/0001"] * 3}}, InvalidOption, "3 values; wanted a task id, or a list of 4"),
        ({"options": {"task_id": 5}}, InvalidOption, r"task_id'\] is 5 \(int\)"),
        ({"options": {"task_id": ["toy/valid/0001", None]}}, InvalidOption, "None for environment 2"),
        ({"options": {"task_id": "toy/valid/9999"}}, UnknownName, "no task 'toy/valid/9999'"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, InvalidOption, "wanted 4 booleans"),
        ({"options": {"reset_mask": np.zeros(4, bool)}}, InvalidOption, "at least one of them True"),
        ({"options": {"reset_mask": np.ones(4)}}, InvalidOption, "wanted 4 booleans"),
    ],
)
def test_wrong_resets(arguments, error, message):
    with pytest.raises(error, match=message):
        make(4, group_size=2).reset(**arguments)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("up", r"actions is 'up' \(str\); wanted a list of 2 commands"),
        (b"up", r"\(bytes\)"),
        (None, r"actions is None \(NoneType\)"),
        (7, r"actions is 7 \(int\)"),
        ({"up", "down"}, r"\(set\)"),
        ((a for a in ("up", "down")), r"\(generator\)"),
        (["up"], "actions has 1 elements; wanted a list of 2 commands"),
        (["up"] * 3, "actions has 3 elements"),
        (["up", 3], r"actions\[1\] is 3 \(int\); wanted a command as str"),
        (["up", None], r"actions\[1\] is None \(NoneType\)"),
        ("x" * 1000, r"x\.\.\. \(str\)"),
    ],
)
def test_wrong_actions_step_nothing(actions, message):
    envs = make(2)
    envs.reset(seed=0)
    with pytest.raises(InvalidAction, match=message):
        envs.step(actions)
    assert envs.step(["up", "up"])[-1]["step"].tolist() == [1, 1]


@pytest.mark.parametrize("actions", [("up", "down"), ["up", "down"], np.array(["up", "down"])])
def test_sequences_of_any_kind_are_actions(actions):
    envs = make(2)
    envs.reset(seed=0)
    assert envs.step(actions)[-1]["is_action_valid"].all()


@pytest.mark.parametrize("mode", MODES)
def test_step_before_reset(mode):
    with pytest.raises(EpisodeOver, match="before reset"):
        make(2, autoreset_mode=mode).step(["up", "up"])


@pytest.mark.parametrize("mode", MODES)
def test_infos_as_plain_dictionaries_are_those_of_the_single_environments(mode):
    envs, singles = make(3, autoreset_mode=mode), [CountingEnv() for _ in range(3)]
    _, infos = envs.reset(seed=4)
    expected = [single.reset(seed=4 + i)[1] for i, single in enumerate(singles)]
    assert envs.list_infos(infos) == json.loads(json.dumps(envs.list_infos(infos))) == expected
    *_, infos = envs.step(["double", NONSENSE, NONSENSE])
    expected = [single.step(action)[-1] for single, action in zip(singles, ["double", NONSENSE, NONSENSE], strict=True)]
    assert_equal(envs.list_infos(infos), expected)
    _, infos = envs.reset(seed=4, options={"reset_mask": np.array([False, True, False])})
    assert envs.list_infos(infos)[0] == envs.list_infos(infos)[2] == {}
    assert envs.list_infos(infos)[1]["step"] == 0


def test_plain_infos_hold_final_infos_and_leave_out_what_an_environment_lacks():
    envs = make(2, RicherEnv, autoreset_mode=AutoresetMode.SAME_STEP, max_steps=1)
    envs.reset(options={"task_id": ["toy/valid/0000", "toy/valid/0001"]})
    *_, infos = envs.step([NONSENSE, NONSENSE])
    for info in envs.list_infos(infos):
        assert info["final_obs"] == f"{NONSENSE!r} is no command."
        final = info["final_info"]
        assert (final["step"], info["step"]) == (1, 0)
        assert ("odd" in final) is (final["number"] % 2 == 1)
        assert final["vector"] == [final["number"], final["number"] + 1.0, final["number"] + 2.0]
        assert type(final["small"]) is float
        json.dumps(info)


def test_commands_for_finished_environments_are_ignored_where_that_is_asked_for():
    envs = make(2, autoreset_mode=DISABLED, ignore_finished=True)
    envs.reset(options={"task_id": ["toy/valid/0000", "toy/valid/0001"]})
    for env in envs.envs:
        env.max_steps = 1 if env is envs.envs[0] else 9
    observations, _, terminated, truncated, infos = envs.step([NONSENSE, NONSENSE])
    assert list(terminated | truncated) == [True, False]
    after = envs.step(["up", "up"])
    assert after[0][0] == observations[0]
    assert (after[1][0], after[2][0], after[3][0]) == (0.0, terminated[0], truncated[0])
    assert envs.list_infos(after[4])[0] == envs.list_infos(infos)[0]
    assert list(after[4]["step"]) == [1, 2]
    envs.step([None, "up"])
    with pytest.raises(EpisodeOver, match=r"actions\[0\] is 3"):
        envs.step([3, "up"])
    frozen = make(2, autoreset_mode=DISABLED, max_steps=1)
    frozen.reset(seed=0)
    frozen.step([NONSENSE, NONSENSE])
    with pytest.raises(EpisodeOver, match="ignore_finished=True"):
        frozen.step(["up", None])
