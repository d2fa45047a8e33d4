"""Plain Gymnasium text environments behind the contract."""

import sys
from types import SimpleNamespace

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Text
from helpers.toy import CountingEnv

import sdar_envs
from sdar_envs import Unicode, check_env, from_gym
from sdar_envs.errors import ContractViolation, EpisodeOver, InvalidOption, UnknownName


class Climb(gymnasium.Env):
    """Climb `seed % 3 + 2` stairs with `up`; what the infos hold is an argument."""

    def __init__(self, reset_info=None, step_info=None, reward=1.5):
        self.observation_space = self.action_space = Unicode()
        self.reset_info, self.step_info, self.reward = reset_info or {}, step_info or {}, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 5))
        return f"{self.left} stairs. Climb them.", dict(self.reset_info)

    def step(self, action):
        self.left -= action == "up"
        return f"{self.left} left.", self.reward * (self.left == 0), self.left == 0, False, dict(self.step_info)


class Uncopied(Climb):
    def __deepcopy__(self, memo):
        raise TypeError("it holds a socket")


def climb(env, actions=("up",) * 6):
    for action in actions:
        *answer, info = env.step(action)
        if answer[2] or answer[3]:
            break
    return (*answer, info)


def test_the_contract_holds():
    check_env(from_gym(Climb(), max_steps=20))
    check_env(from_gym(Climb(*[{"admissible_commands": ["up", "rest"]}] * 2), max_steps=20))


def test_a_task_is_a_seed_and_splits_have_different_ones():
    seeds = {}
    for split in ("default", "train", "test"):
        source = from_gym(Climb(), split=split).source
        seeds[split] = [source.task(split, index).data["seed"] for index in range(50)]
    assert seeds["default"] == list(range(50))
    assert len({seed for split in seeds.values() for seed in split}) == 150
    assert seeds["train"][:2] == [1036155810, 3986236840]  # for ever
    env = from_gym(Climb(), suite="acme", split="stairs", n_tasks=20)
    tasks = [env.source.task("stairs", index) for index in range(20)]
    assert (tasks[7].id, tasks[7].suite) == ("acme/stairs/0007", "acme")
    assert env.source.find("acme/stairs/0007") == tasks[7]
    for task in tasks:
        observation, info = env.reset(seed=1, options={"task_id": task.id})
        assert observation == Climb().reset(seed=task.data["seed"])[0]
        assert (info["task_id"], info["task_type"]) == (task.id, "default")
    with pytest.raises(UnknownName, match="acme/stairs/0007"):
        env.reset(options={"task_id": "acme/stairs/7"})
    with pytest.raises(UnknownName, match="ids look like 'acme/stairs/0007'"):
        env.reset(options={"task_id": "acme/default/0007"})


def test_rewards_pass_and_a_positive_last_one_is_success():
    env = from_gym(Climb(), reward_scale=2)
    env.reset(seed=0)
    assert env.step("rest")[1:3] == (0.0, False)
    _, reward, terminated, truncated, info = climb(env)
    assert (reward, terminated, truncated, info["is_success"], info["score"]) == (3.0, True, False, True, 1.0)
    env = from_gym(Climb(reward=-1.0))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = climb(env)
    assert (reward, terminated, truncated, info["is_success"], info["score"]) == (-1.0, True, False, False, 0.0)


def test_success_is_what_the_environment_or_the_caller_says(monkeypatch):
    told = from_gym(Climb(step_info={"is_success": False, "score": 0.25, "is_action_valid": False}))
    told.reset(seed=0)
    info = climb(told)[-1]
    assert (info["is_success"], info["score"], info["is_action_valid"]) == (False, 0.25, False)
    asked = from_gym(Climb(reward=-1.0), success=lambda reward, terminated, info: reward == -1.0)
    asked.reset(seed=0)
    assert climb(asked)[-1]["is_success"] is True
    judge = SimpleNamespace(always=lambda reward, terminated, info: True)
    monkeypatch.setitem(sys.modules, "own_judge", judge)
    named = from_gym(Climb(), success="own_judge:always")
    named.reset(seed=0)
    assert named.step("rest")[-1]["is_success"] is True
    for wrong in (3, "operator:no_such_function"):
        with pytest.raises((InvalidOption, UnknownName)):
            from_gym(Climb(), success=wrong)


def test_the_instruction_is_given_told_or_the_first_observation():
    for env, expected in [
        (from_gym(Climb(), instruction="Climb."), "Climb."),
        (from_gym(Climb({"instruction": "Go up."})), "Go up."),
        (from_gym(Climb()), Climb().reset(seed=3)[0]),
    ]:
        _, info = env.reset(options={"task_id": "climb/default/0003"})
        assert info["instruction"] == env.task.instruction == expected


def test_commands_are_known_where_the_environment_lists_them():
    env = from_gym(Climb(*[{"admissible_commands": ("up", "rest")}] * 2))
    assert env.reset(seed=0)[1]["admissible_commands"] == ["up", "rest"]
    assert [env.step(action)[-1]["is_action_valid"] for action in ("rest", "fly")] == [True, False]
    env = from_gym(Climb())
    assert env.reset(seed=0)[1]["admissible_commands"] == []
    assert env.step("fly")[-1]["is_action_valid"] is True


def test_wrappers_and_time_limits_are_part_of_what_is_played():
    env = from_gym(gymnasium.wrappers.TransformReward(gymnasium.wrappers.TimeLimit(Climb(), 3), lambda r: r - 0.5))
    env.reset(seed=0)
    assert [env.step("rest")[1:4] for _ in range(3)] == [(-0.5, False, False)] * 2 + [(-0.5, False, True)]
    env = from_gym(Climb(), max_steps=2)
    env.reset(seed=0)
    assert [env.step("rest")[3] for _ in range(2)] == [False, True]
    # A TextEnv in a wrapper that changes its episodes plays without its tasks.
    halved = from_gym(gymnasium.wrappers.TransformReward(CountingEnv(), lambda r: r / 2))
    assert halved.reset(seed=0)[1]["task_id"].startswith("countingenv/default/")


def test_snapshots_copy_the_environment_or_say_that_they_cannot():
    env = from_gym(Climb())
    env.reset(seed=0)
    saved = env.snapshot()
    first = climb(env)
    env.restore(saved)
    assert climb(env) == first
    env = from_gym(Uncopied())
    env.reset(seed=0)
    with pytest.raises(InvalidOption, match=r"uncopied/Uncopied cannot be copied.*it holds a socket.*deepcopy"):
        env.snapshot()
    with pytest.raises(UnknownName, match="no oracle"):
        env.oracle_plan()


def test_groups_of_a_vector_play_the_same_seeds():
    envs = sdar_envs.TextVectorEnv([from_gym(Climb()) for _ in range(4)], group_size=2)
    observations, infos = envs.reset(seed=3)
    assert observations[0] == observations[1]
    assert infos["task_id"][0] == infos["task_id"][1] != infos["task_id"][2]


def test_what_is_no_text_environment_is_refused():
    class Short(Climb):
        def reset(self, *, seed=None, options=None):
            return 3, {}

    assert from_gym(type("Spaced", (Climb,), {"observation_space": Text(9)})()).reset(seed=0)
    with pytest.raises(ContractViolation, match=r"observation of reset is 3 \(int\); wanted a str"):
        from_gym(Short()).reset(seed=0)
    for build, message in [
        (lambda: from_gym(gymnasium.make("CartPole-v1")), "observation_space of CartPoleEnv is Box.*wanted text"),
        (lambda: from_gym(CountingEnv()), "CountingEnv is a TextEnv already"),
        (lambda: from_gym("acme/Up-v0"), "wanted a gymnasium.Env"),
        (lambda: from_gym(Climb(), split="a/b"), "split is 'a/b'"),
        (lambda: from_gym(Climb(), suite=""), "suite is ''"),
        (lambda: from_gym(Climb(), n_tasks=0), "n_tasks is 0"),
        (lambda: from_gym(Climb(), max_steps=0), "max_steps is 0"),
    ]:
        with pytest.raises(InvalidOption, match=message):
            build()


def no_server(self, **_):
    raise ConnectionError("the server is down")


def test_a_first_reset_that_fails_breaks_nothing(monkeypatch):
    spec = EnvSpec("acme/Climb-v0", entry_point=Climb, max_episode_steps=30)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    plain = gymnasium.make("acme/Climb-v0")  # in Gymnasium's checker
    assert isinstance(plain.env.env, gymnasium.wrappers.PassiveEnvChecker)
    env = from_gym(plain)
    for options in ({"nonsense": 1}, {"task_id": "no such task"}):
        with pytest.raises(UnknownName):
            env.reset(options=options)
    with monkeypatch.context() as patch:
        patch.setattr(Climb, "reset", no_server)
        with pytest.raises(ConnectionError):
            env.reset(seed=1)
    with pytest.raises(EpisodeOver):
        env.step("up")
    env.reset(seed=1)
    assert climb(env)[-1]["is_success"]
    assert env.max_steps == 30
