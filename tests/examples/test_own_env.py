"""An environment of one's own: the two examples play, evaluate and train through every door."""

import json
import sys
from pathlib import Path

import gymnasium
import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

import sdar_envs
from sdar_agents.training.trainer import Trainer
from sdar_benchmarks.cli import main
from sdar_envs.prompt import style_of

EXAMPLES = Path(__file__).parents[2] / "examples"
ENV_IDS = ("own_env:acme/Numbers-v0", "gym_env:acme/Guess-v0")
every_example = pytest.mark.parametrize("env_id", ENV_IDS)


@pytest.fixture(autouse=True)
def in_the_folder_of_the_examples(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("own_env", "gym_env"):
        sys.modules.pop(name, None)
    for env_id in [known for known in gymnasium.registry if known.startswith("acme/")]:
        del gymnasium.registry[env_id]


@every_example
def test_it_keeps_the_contract(env_id):
    sdar_envs.check_env(sdar_envs.make_text_env(env_id))


@every_example
def test_random_commands_reach_the_goal_sometimes(env_id):
    envs = sdar_envs.make_vec(env_id, 32, autoreset_mode="SameStep")
    envs.action_space.seed(0)
    _, infos = envs.reset(seed=0)
    solved = 0
    for step in range(24):
        actions = [info["admissible_commands"][step * i % 3] for i, info in enumerate(envs.list_infos(infos))]
        _, rewards, *_, infos = envs.step(actions)
        solved += int(rewards.sum())
    assert solved > 0


@every_example
def test_the_command_line_evaluates_it(env_id, tmp_path, capsys):
    arguments = ["eval", env_id, "--agent", "random", "--limit", "2", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert env_id in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    sample = ("test/0000", "test/0027") if env_id == ENV_IDS[0] else ("default/0000", "default/0001")
    assert [row["task_id"] for row in rows] == [f"acme/{name}" for name in sample]
    assert all(row["error"] is None for row in rows)


@every_example
def test_the_command_line_describes_it(env_id, capsys):
    assert main(["info", env_id]) == 0
    assert "acme/" in capsys.readouterr().out


def test_it_brings_its_prompt_style():
    env = sdar_envs.make_text_env(ENV_IDS[0])
    env.reset(seed=0)
    assert style_of(env, env.task).role == "You change a number by commands."


@every_example
def test_a_method_without_skills_trains_on_it(env_id, tmp_path):
    config = run_config(
        save_tiny_chat(tmp_path / "model"),
        method="grpo",
        suite="alfworld",
        steps=1,
        rollout={"env_id": env_id, "env_kwargs": {"max_steps": 2, "split": "train"}},
    )
    Trainer(config, tmp_path / "run").run()
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["rollout/turns"] > 0
