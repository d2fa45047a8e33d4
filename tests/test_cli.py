"""The command line: what it prints, what it refuses, and how it says so."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import sdar_envs
from sdar_benchmarks.cli import main

ALFWORLD = "sdar/ALFWorld-v0"
TASK = "alfworld/valid_unseen/0007"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a command line with lines on standard input; return its status, output and errors."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, lines: tuple[str, ...] = ()) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def oracle_plan(task_id: str = TASK, **kwargs: str) -> tuple[str, ...]:
    env = gym.make(ALFWORLD, **kwargs).unwrapped
    assert isinstance(env, sdar_envs.TextEnv)
    env.reset(options={"task_id": task_id})
    return env.oracle_plan()


# -- list and info ----------------------------------------------------------------------------


def test_list(run) -> None:
    status, out, err = run("list")
    assert (status, err) == (0, "")
    assert re.search(r"sdar/ALFWorld-v0\s+train \(endless\), valid_seen \(140\), valid_unseen \(134\)", out)
    assert re.search(r"^explorer .*what a player sees\.", out, flags=re.MULTILINE)
    assert all(re.search(rf"^{agent} ", out, flags=re.MULTILINE) for agent in ("oracle", "random"))


def test_info(run) -> None:
    status, out, err = run("info", ALFWORLD, "--split", "valid_unseen")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == ALFWORLD
    assert lines[1].startswith("Find things in a room")
    assert "  observation Unicode()" in lines
    assert "  max_steps=50" in lines
    assert "  data='embedded'" in lines
    assert any(line.startswith("Example: alfworld/valid_unseen/") for line in lines)
    assert any(line.startswith("  Your task is to: ") for line in lines)
    assert max(map(len, lines)) <= 100


def test_info_of_a_task_is_json(run) -> None:
    _, out, _ = run("info", ALFWORLD, "--task", TASK)
    task = sdar_envs.Task.from_json(json.loads(out))
    assert task == sdar_envs.tasks(ALFWORLD, split="valid_unseen", limit=8)[7]


# -- eval -------------------------------------------------------------------------------------


def test_eval_prints_a_table(run) -> None:
    status, out, err = run("eval", ALFWORLD, "--agent", "oracle", "--limit", "12", "--wording", "put")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "oracle on sdar/ALFWorld-v0, split valid_unseen, seed 0"
    tasks = sdar_envs.tasks(ALFWORLD, split="valid_unseen", limit=12)
    types = sorted({task.task_type for task in tasks})
    assert [line.split()[0] for line in lines[2:]] == [*types, "all"]
    # 12 of 12: Wilson gives 1 / (1 + 1.96² / 12) = 75.8 %.
    assert lines[-1].split()[1:4] == ["12", "100.0%", "75.8-100.0"]
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in out


def test_eval_defaults_to_the_explorer_on_valid_unseen(run) -> None:
    _, out, _ = run("eval", ALFWORLD, "--limit", "1")
    assert out.startswith("explorer on sdar/ALFWorld-v0, split valid_unseen, seed 0\n")


def test_eval_writes_a_file_once(run, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    command = ("eval", ALFWORLD, "--agent", "random", "--limit", "2", "--max-steps", "5", "--output", str(path))
    status, out, err = run(*command)
    assert (status, err) == (0, f"wrote {path}\n")
    assert "random on" in out
    content = json.loads(path.read_text())
    assert content["config"]["env_kwargs"]["max_steps"] == 5
    assert [row["task_id"] for row in content["episodes"]] == [f"alfworld/valid_unseen/000{i}" for i in range(2)]

    path.write_text("precious")
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {path} exists")
    assert path.read_text() == "precious"
    assert run(*command, "--overwrite")[0] == 0
    assert json.loads(path.read_text())["format"] == 1


# -- play -------------------------------------------------------------------------------------


def test_play_to_the_end(run) -> None:
    plan = oracle_plan()
    status, out, err = run("play", ALFWORLD, "--task", TASK, lines=("dance", *plan, "look", ":hint"))
    assert (status, err) == (0, "")
    assert f"Task {TASK} (" in out
    assert "\n> dance\nNothing happens.\n" in out
    assert f"\nWon after {len(plan) + 1} steps. The oracle needs {len(plan)}.\n" in out
    assert "\n> look\nThe episode is over: :new plays another task" in out
    assert "\n> :hint\nThere is no hint: the episode is over.\n" in out
    assert "Left after" not in out


def test_play_speaks_the_wording_that_was_asked_for(run) -> None:
    plan = oracle_plan(wording="put")
    assert any(command.startswith("put ") for command in plan)
    _, out, _ = run("play", ALFWORLD, "--task", TASK, "--wording", "put", lines=plan)
    assert "Won after" in out


def test_play_hints_win(run) -> None:
    plan = oracle_plan()
    lines = [line for command in plan for line in (":hint", command)]
    _, out, _ = run("play", ALFWORLD, "--task", TASK, lines=lines)
    assert re.findall(r"^Hint: (.*)$", out, flags=re.MULTILINE) == list(plan)
    assert "Won after" in out


def test_play_undo_goes_back_even_from_the_end(run) -> None:
    plan = oracle_plan()
    _, out, _ = run("play", ALFWORLD, "--task", TASK, lines=(":undo", *plan, ":undo", ":undo", *plan[-2:]))
    assert "There is nothing to undo." in out
    assert f"Back after {len(plan) - 1} step" in out
    assert f"Back after {len(plan) - 2} step" in out
    assert out.count(f"Won after {len(plan)} steps.") == 2


def test_play_out_of_steps(run) -> None:
    _, out, _ = run("play", ALFWORLD, "--task", TASK, "--max-steps", "2", lines=("look", "look", "look"))
    assert f"Out of steps after 2 steps. The oracle needs {len(oracle_plan())}." in out
    assert out.count("The episode is over") == 1


def test_play_lists_commands_and_corrects(run) -> None:
    status, out, _ = run("play", ALFWORLD, "--task", TASK, lines=("?", "", ":hnt", ":quit", "look"))
    assert status == 0
    assert "\n  inventory\n" in out
    assert "\n  :hint  show the oracle's next command\n" in out
    assert "No command ':hnt'; there are ?, :hint, :undo, :new, :quit. Did you mean ':hint'?" in out
    assert out.endswith("\nLeft after 0 steps.\n")
    assert "> look" not in out


def test_play_seed_and_new_follow_the_stream_of_the_environment(run) -> None:
    env = gym.make(ALFWORLD, split="valid_seen")
    wanted = [env.reset(seed=4)[1]["task_id"], env.reset()[1]["task_id"], env.reset()[1]["task_id"]]
    _, out, _ = run("play", ALFWORLD, "--split", "valid_seen", "--seed", "4", lines=(":new", "look", ":new"))
    assert re.findall(r"^Task (\S+) ", out, flags=re.MULTILINE) == wanted


def test_play_goes_on_in_the_split_of_the_task(run) -> None:
    _, out, _ = run("play", ALFWORLD, "--task", TASK, lines=(":new",) * 3)
    assert len(re.findall(r"^Task alfworld/valid_unseen/", out, flags=re.MULTILINE)) == 4


def test_play_completes_and_leaves_politely_in_a_terminal(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.play._in_terminal", lambda console: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("dance\r:hint\r:undo\r:undo\r\x04")  # \x04 is Ctrl-D
        status, out, err = run("play", ALFWORLD, "--task", TASK)
    assert (status, err) == (0, "")
    assert "Nothing happens." in out
    assert f"Hint: {oracle_plan()[0]}" in out
    assert "There is nothing to undo." in out
    assert out.endswith("Left after 0 steps.\n")


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("info", "sdar/ALFWrld-v0"), r"no environment 'sdar/ALFWrld-v0'.* Did you mean 'sdar/ALFWorld-v0'\?"),
        (("info", "CartPole-v1"), r"CartPoleEnv; wanted a sdar_envs\.TextEnv"),
        (("info", ALFWORLD, "--task", "alfworld/valid_unsen/0007"), r"Did you mean 'alfworld/valid_unseen/00"),
        (("play", ALFWORLD, "--task", "alfworld/valid_unseen/7"), r"'alfworld/valid_unseen/' and 0000 to 0133"),
        (("play", ALFWORLD, "--seed", "-1"), r"-1"),
        (("play", ALFWORLD, "--max-steps", "0"), r"max_steps is 0"),
        (("eval", ALFWORLD, "--agent", "orcale"), r"no agent 'orcale'.* Did you mean 'oracle'\?"),
        (("eval", ALFWORLD, "--split", "valid_unsene"), r"no split 'valid_unsene'.* Did you mean 'valid_unseen'\?"),
        (("eval", ALFWORLD, "--split", "train"), r"without end"),
        (("eval", ALFWORLD, "--limit", "0"), r"limit is 0"),
        (("eval", ALFWORLD, "--wording", "putt"), r"wording is 'putt'.* Did you mean 'put'\?"),
        (("eval", ALFWORLD, "--data-dir", "somewhere"), r"data='official'"),
        (("eval", ALFWORLD, "--data", "official", "--data-dir", "no/such/folder"), r"no/such/folder"),
        (("eval", ALFWORLD, "--limit", "1", "--output", "."), r"is a folder"),
    ],
)
def test_refusals_are_one_line(run, arguments: tuple[str, ...], match: str) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert re.match(rf"error: .*{match}", err), err
    assert err.count("\n") == 1


def test_an_argument_of_another_environment(run) -> None:
    gym.register(id="toy/PlayedCounting-v0", entry_point="toy:CountingEnv")
    try:
        _, _, err = run("play", "toy/PlayedCounting-v0", "--wording", "put")
        assert err.startswith("error: toy/PlayedCounting-v0 has no argument 'wording'; its arguments are split,")
        # Without an oracle there is no hint, and no plan to be compared with.
        status, out, _ = run("play", "toy/PlayedCounting-v0", "--max-steps", "1", lines=(":hint", "nothing"))
        assert status == 0
        assert "There is no hint: no plan is known." in out
        assert out.endswith("Out of steps after 1 step.\n")
    finally:
        del gym.registry["toy/PlayedCounting-v0"]


@pytest.mark.parametrize("arguments", [(), ("evaluate",), ("eval",), ("eval", ALFWORLD, "--limit", "many")])
def test_misspelt_arguments_are_explained(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sdar")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"sdar-envs {version('sdar-envs')}\n"


def test_interruption_is_not_a_traceback(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdar_benchmarks.commands.evaluate", interrupt)
    assert run("eval", ALFWORLD) == (130, "", "interrupted\n")


# -- a real process ---------------------------------------------------------------------------


def test_play_from_a_pipe() -> None:
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "play", ALFWORLD, "--task", TASK]
    done = subprocess.run(command, input=b"look\n\xff\ninventory", capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode()
    assert "\n> look\nYou are in the middle of a room." in out
    assert "\n> \N{REPLACEMENT CHARACTER}\nNothing happens.\n" in out
    assert "\n> inventory\nYou are not carrying anything." in out
    assert out.endswith("\nLeft after 3 steps.\n")


def test_help_does_not_wait_for_gymnasium() -> None:
    code = (
        "import sys; from sdar_benchmarks.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('gymnasium' in sys.modules, 'rich' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("usage: sdar")
    assert out.endswith("False False\n")


def test_a_reader_who_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "info", ALFWORLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("env_id", "agent", "split"),
    [("sdar/ALFWorld-v0", "explorer", "valid_unseen"), ("sdar/WebShop-v0", "rule", "test")],
)
def test_eval_knows_who_plays_what_by_default(
    env_id: str, agent: str, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", env_id, "--limit", "3"]) == 0
    assert capsys.readouterr().out.startswith(f"{agent} on {env_id}, split {split}, seed 0\n")


def test_settings_reach_the_environment(tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    settings = ["--set", "goals=human", "--set", "max_steps=7", "--set", "reward_scale=10.0"]
    assert main(["eval", "sdar/WebShop-v0", "--limit", "2", "--output", str(output), *settings]) == 0
    config = json.loads(output.read_text())["config"]
    assert {name: config["env_kwargs"][name] for name in ("goals", "max_steps", "reward_scale", "split")} == {
        "goals": "human",
        "max_steps": 7,
        "reward_scale": 10.0,
        "split": "test",
    }


@pytest.mark.parametrize("setting", ["goals", "=human", ""])
def test_settings_have_a_name_and_a_value(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "sdar/WebShop-v0", "--set", setting])
    assert "NAME=VALUE" in capsys.readouterr().err
