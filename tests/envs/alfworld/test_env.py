"""What is particular to `sdar/ALFWorld-v0`."""

import gymnasium
import pytest

from sdar_envs.alfworld.env import ALFWorldEnv
from sdar_envs.errors import EpisodeOver, InvalidOption

ID = "sdar/ALFWorld-v0"


@pytest.fixture
def env():
    return gymnasium.make(ID, split="valid_seen").unwrapped


def test_splits_have_the_official_sizes(env):
    assert dict(env.source.splits) == {"train": None, "valid_seen": 140, "valid_unseen": 134}


def test_won_episode(env):
    env.reset(options={"task_id": "alfworld/valid_seen/0000"})
    plan = env.oracle_plan()
    for number, command in enumerate(plan, 1):
        assert command in env._info()["admissible_commands"]
        _, reward, terminated, truncated, info = env.step(command)
        assert info["step"] == number
        assert terminated == info["won"] == info["is_success"] == (number == len(plan))
        assert reward == info["score"] == float(terminated)
        assert not truncated
    assert env.oracle_plan() == ()
    with pytest.raises(EpisodeOver, match=r"reset\(\)"):
        env.step("look")


def test_reward_scale():
    env = gymnasium.make(ID, reward_scale=10.0).unwrapped
    env.reset(seed=0)
    rewards = [env.step(command)[1] for command in env.oracle_plan()]
    assert rewards == [0.0] * (len(rewards) - 1) + [10.0]


def test_step_limit_truncates_and_counts_useless_commands():
    env = gymnasium.make(ID, max_steps=3).unwrapped
    env.reset(seed=0)
    ends = [env.step(command)[2:4] for command in ("look", "nonsense", "look")]
    assert ends == [(False, False), (False, False), (False, True)]


def test_winning_with_the_last_step_is_no_truncation():
    env = gymnasium.make(ID).unwrapped
    env.reset(seed=0)
    plan = env.oracle_plan()
    env = gymnasium.make(ID, max_steps=len(plan)).unwrapped
    env.reset(seed=0)
    *_, (_, reward, terminated, truncated, _) = [env.step(command) for command in plan]
    assert (reward, terminated, truncated) == (1.0, True, False)


def test_commands_are_exact_but_for_blanks_around_them(env):
    env.reset(seed=0)
    command = env._info()["admissible_commands"][0]
    for unclear in (command.upper(), command.replace(" ", "  ", 1), command + "."):
        assert env.step(unclear)[0] == "Nothing happens."
    assert env.step(f" \t{command}\n")[4]["is_action_valid"]


def test_going_to_where_one_is_does_nothing(env):
    env.reset(seed=0)
    command = next(c for c in env._info()["admissible_commands"] if c.startswith("go to "))
    observation, *_ = env.step(command)
    assert observation.startswith(f"You arrive at {command.removeprefix('go to ')}.")
    observation, *_, info = env.step(command)
    assert observation == "Nothing happens."
    assert command not in info["admissible_commands"]


@pytest.mark.parametrize(
    ("wording", "put", "has_help"), [("move", "move {} to {}", True), ("put", "put {} in/on {}", False)]
)
def test_wordings(wording, put, has_help):
    env = gymnasium.make(ID, split="valid_seen", wording=wording).unwrapped
    env.reset(options={"task_id": "alfworld/valid_seen/0002"})
    observation, *_ = env.step("help")
    assert (observation != "Nothing happens.") == has_help
    start = put.split()[0]
    plan = env.oracle_plan()
    assert any(command.startswith(f"{start} ") for command in plan) or env.game.goal.receptacle_type is None
    observation, *_ = env.step(next(command for command in plan if command.startswith("go to ")))
    assert observation.startswith("You arrive at loc ") == (wording == "put")


def test_a_snapshot_restores_in_another_environment_and_branches(env):
    env.reset(seed=1)
    plan = env.oracle_plan()
    for command in plan[:2]:
        env.step(command)
    saved = env.snapshot()
    rest = [env.step(command) for command in plan[2:]]
    other = gymnasium.make(ID, split="valid_seen").unwrapped
    observation, info = other.restore(saved)
    assert (info["step"], info["task_id"]) == (2, env.task.id)
    assert [other.step(command) for command in plan[2:]] == rest
    env.restore(saved)
    for _ in range(3):
        env.step("look")
    assert env.restore(saved)[0] == observation
    assert env.oracle_plan() == plan[2:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "offical"}, "Did you mean 'official'"),
        ({"wording": "old"}, "auto, move, put"),
        ({"max_steps": 0}, "at least 1"),
        ({"max_steps": 2.5}, "at least 1"),
        ({"render_mode": "rgb_array"}, "ansi"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidOption, match=message):
        ALFWorldEnv(**arguments)


def test_nothing_to_play_before_reset():
    env = gymnasium.make(ID).unwrapped
    for use in (lambda: env.task, lambda: env.game, env.oracle_plan, env.snapshot, lambda: env.step("look")):
        with pytest.raises(EpisodeOver, match="reset"):
            use()
