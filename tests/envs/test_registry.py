"""Names of environments, their construction, and lists of tasks."""

import itertools
import subprocess
import sys

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode
from helpers.toy import CountingEnv

import sdar_envs
from sdar_envs.core import text_env
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName
from sdar_envs.registry import env_arguments, make_text_env, open_split, suite_of

MODULE = """
import gymnasium
from helpers.toy import CountingEnv
from sdar_envs import Unicode

class Echo(gymnasium.Env):
    observation_space = action_space = Unicode()
    metadata = {"render_modes": ["ansi"]}
    def __init__(self, mood="calm", render_mode=None):
        self.mood, self.render_mode = mood, render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"{self.mood} {seed}", {}
    def step(self, action):
        return action, 1.0, True, False, {}

def halved():
    return gymnasium.wrappers.TransformReward(CountingEnv(), lambda reward: reward / 2)

def counting(max_steps=4):
    return CountingEnv(max_steps=max_steps)

for name, maker in {"Echo": Echo, "Halved": halved, "Counting": counting}.items():
    gymnasium.register(f"acme/{name}-v0", entry_point=maker)
"""


@pytest.fixture
def doors(tmp_path, monkeypatch):
    """A module `own_doors` in the working directory, which registers three environments."""
    (tmp_path / "own_doors.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_doors"
    sys.modules.pop("own_doors", None)
    for env_id in [known for known in gymnasium.registry if known.startswith("acme/")]:
        del gymnasium.registry[env_id]


def python(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_gymnasium_finds_the_ids_after_an_import_and_by_module_name_only():
    found = python("import gymnasium; gymnasium.make('sdar_envs:sdar/WebShop-v0')")
    assert found.returncode == 0, found.stderr
    found = python("import gymnasium, sdar_envs; gymnasium.make('sdar/WebShop-v0')")
    assert found.returncode == 0, found.stderr
    # Gymnasium 1.x has no hook for plugins. Should this fail one day, it has one again: use it.
    missing = python("import gymnasium; gymnasium.make('sdar/WebShop-v0')")
    assert "NamespaceNotFound" in missing.stderr


@pytest.mark.parametrize("env_id", sdar_envs.ENV_IDS)
def test_gymnasium_makes_our_vector(env_id):
    envs = gymnasium.make_vec(
        env_id,
        num_envs=4,
        vectorization_mode="vector_entry_point",
        group_size=2,
        autoreset_mode=AutoresetMode.DISABLED,
        max_steps=7,
    )
    assert type(envs) is sdar_envs.TextVectorEnv
    assert (envs.num_envs, envs.group_size, envs.autoreset_mode) == (4, 2, AutoresetMode.DISABLED)
    assert {(env.spec.id, env.max_steps) for env in envs.envs} == {(env_id, 7)}
    assert envs.spec.id == env_id
    _, infos = envs.reset(seed=5)
    assert list(infos["task_id"]) == list(sdar_envs.make_vec(env_id, 4, group_size=2).reset(seed=5)[1]["task_id"])


def test_tasks_are_made_one_by_one(monkeypatch):
    made = []
    source = make_text_env("sdar/ALFWorld-v0").source
    task = type(source).task
    monkeypatch.setattr(type(source), "task", lambda self, split, index: made.append(index) or task(self, split, index))
    iterator = sdar_envs.iter_tasks("sdar/ALFWorld-v0", split="train")
    assert made == []
    first = tuple(itertools.islice(iterator, 3))
    assert made == [0, 1, 2]
    assert first == sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=3)
    assert tuple(sdar_envs.iter_tasks("sdar/ALFWorld-v0", split="train", limit=3)) == first
    assert sum(1 for _ in sdar_envs.iter_tasks("sdar/WebShop-v0", split="test")) == 500
    with pytest.raises(InvalidOption, match="limit is -1"):
        sdar_envs.iter_tasks("sdar/ALFWorld-v0", split="train", limit=-1)
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        sdar_envs.iter_tasks("sdar/ALFWorld-v0", split="trian")


def test_an_environment_of_ones_own_is_named_by_its_module(doors):
    env = make_text_env(f"{doors}:acme/Echo-v0", mood="glad", split="dev", n_tasks=3)
    observation, info = env.reset(options={"task_id": "acme/dev/0002"})
    assert observation == f"glad {env.task.data['seed']}"
    assert (info["task_id"], info["split"]) == ("acme/dev/0002", "dev")
    assert [task.id for task in sdar_envs.tasks(f"{doors}:acme/Echo-v0", split="dev", limit=2)] == [
        "acme/dev/0000",
        "acme/dev/0001",
    ]
    # A function may make a TextEnv, which takes its own arguments and none of from_gym's.
    assert make_text_env(f"{doors}:acme/Counting-v0", max_steps=3).max_steps == 3
    with pytest.raises(UnknownName, match="has no argument 'split'; its arguments are max_steps"):
        make_text_env(f"{doors}:acme/Counting-v0", split="dev")


def test_facts_about_an_environment_by_name(doors):
    assert [suite_of(env_id) for env_id in sdar_envs.ENV_IDS] == ["alfworld", "webshop", "search_qa"]
    assert suite_of(f"{doors}:acme/Echo-v0") == "acme"
    arguments = env_arguments(f"{doors}:acme/Echo-v0")
    assert (arguments["mood"], arguments["split"], arguments["max_steps"]) == ("calm", "default", None)


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"task_id": "no such task"}])
@pytest.mark.parametrize("name", ["Echo", "Counting"])
def test_a_first_reset_that_fails_breaks_no_environment_of_ones_own(doors, name, options):
    env = make_text_env(f"{doors}:acme/{name}-v0")
    with pytest.raises(UnknownName):
        env.reset(options=options)
    with pytest.raises(EpisodeOver):
        env.step("up")
    env.reset(seed=1)
    assert env.step("up")[-1]["step"] == 1


@pytest.mark.parametrize("mode", [5, "human", ["ansi"]])
def test_an_unknown_render_mode_of_a_plain_environment_is_refused_in_words(doors, mode):
    for make in (make_text_env, lambda env_id, **arguments: sdar_envs.make_vec(env_id, 2, **arguments)):
        with pytest.raises(InvalidOption, match=r"^render_mode is .*; wanted None or one of ansi, ansi_list"):
            make(f"{doors}:acme/Echo-v0", render_mode=mode)
    assert make_text_env(f"{doors}:acme/Echo-v0", render_mode="ansi").env.unwrapped.render_mode == "ansi"


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    [
        ("sdar/ALFWrld-v0", {}, "Did you mean 'sdar/ALFWorld-v0'.*module:id"),
        ("no_such_module:acme/Up-v0", {}, "cannot be imported"),
        ("{doors}:acme/Ecko-v0", {}, "Did you mean 'acme/Echo-v0'"),
        ("{doors}:acme/Echo-v0", {"moood": "sad"}, "Did you mean 'mood'"),
        ("{doors}:acme/Echo-v0", {"n_taks": 3}, "Did you mean 'n_tasks'"),
        ("sdar/ALFWorld-v0", {"roms": "small"}, "Did you mean 'rooms'"),
    ],
)
def test_unknown_names_say_what_there_is(doors, env_id, arguments, message):
    with pytest.raises(UnknownName, match=message):
        make_text_env(env_id.format(doors=doors), **arguments)


@pytest.mark.parametrize(
    ("env_id", "given", "plays"),
    [
        ("sdar/ALFWorld-v0", ({}, "eval_in_distribution", None), ("valid_seen", "valid_seen")),
        ("sdar/ALFWorld-v0", ({"split": "train"}, None, None), ("valid_unseen", "valid_unseen")),
        ("sdar/ALFWorld-v0", ({}, None, "train"), ("train", "train")),
        ("{doors}:acme/Echo-v0", ({}, None, None), ("default", "default")),
        ("{doors}:acme/Echo-v0", ({}, None, "train"), ("train", "train")),
        ("{doors}:acme/Echo-v0", ({"mood": "glad"}, "dev", None), ("dev", "dev")),
        # No argument of that name: it is made with its own split, and reset to tasks of the other one.
        ("{doors}:acme/Counting-v0", ({}, "train", None), ("valid", "train")),
    ],
)
def test_an_environment_is_made_for_a_split(doors, env_id, given, plays):
    arguments, split, usual = given
    env, name = open_split(env_id.format(doors=doors), arguments, split, usual=usual)
    assert (env.split, name) == plays


@pytest.mark.parametrize(
    ("env_id", "arguments", "split", "message"),
    [
        ("sdar/ALFWorld-v0", {}, "tset", "panel.split is 'tset'; the environment has train, valid_seen"),
        ("{doors}:acme/Counting-v0", {}, "vaild", "panel.split is 'vaild'.*Did you mean 'valid'"),
        ("{doors}:acme/Counting-v0", {}, None, "acme/Counting-v0 has no split 'test'; set panel.split to one of train"),
        # The split is right, and something else is not.
        ("sdar/ALFWorld-v0", {"roms": "small"}, "train", "has no argument 'roms'"),
    ],
)
def test_a_split_that_is_not_there_is_named_with_its_setting(doors, env_id, arguments, split, message):
    with pytest.raises(UnknownName, match=message):
        open_split(env_id.format(doors=doors), arguments, split, setting="panel.split")


def test_a_wrapper_that_changes_episodes_is_refused(doors):
    with pytest.raises(InvalidOption, match=r"in the wrapper TransformReward, which changes rewards.*_reward"):
        make_text_env(f"{doors}:acme/Halved-v0")
    wrappers = gymnasium.wrappers
    env = CountingEnv()
    for harmless in (wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, wrappers.RecordEpisodeStatistics):
        assert text_env(harmless(env)) is env
    assert text_env(type("Named", (gymnasium.Wrapper,), {"name": "mine"})(env)) is env
    for wrapped, reason in [
        (wrappers.TimeLimit(env, 3), "pass max_steps"),
        (wrappers.OrderEnforcing(wrappers.ClipReward(env, 0, 1)), "ClipReward, which changes rewards"),
        (wrappers.NormalizeReward(env), "NormalizeReward, which has a step or reset of its own"),
        (wrappers.TransformAction(env, str.lower, env.action_space), "TransformAction, which changes actions"),
        (wrappers.TransformObservation(env, str.lower, env.observation_space), "which changes observations"),
        (wrappers.FrameStackObservation(env, 2), "FrameStackObservation, which has a step"),
    ]:
        with pytest.raises(InvalidOption, match=reason):
            text_env(wrapped)
    with pytest.raises(InvalidOption, match=r"CartPoleEnv; wanted a sdar_envs\.TextEnv"):
        text_env(gymnasium.make("CartPole-v1"))
