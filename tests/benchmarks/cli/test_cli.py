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
from helpers.endpoints import act, serving
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import sdar_envs
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.cli.play import session
from sdar_benchmarks.evaluation.panels import evaluation_split
from sdar_benchmarks.evaluation.presets import PRESETS
from sdar_benchmarks.records.runs import read_config, read_episodes, read_summary
from sdar_envs import make_text_env
from sdar_envs.registry import sample_tasks

ALFWORLD, WEBSHOP = "sdar/ALFWorld-v0", "sdar/WebShop-v0"
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
    agents = ("oracle", "random", "openai", "transformers")
    assert all(re.search(rf"^{agent} ", out, flags=re.MULTILINE) for agent in agents)
    assert "The agent openai needs pip install 'sdar-envs[openai-compatible]'.\n" in out


def test_info(run) -> None:
    status, out, err = run("info", ALFWORLD, "--split", "valid_unseen")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == ALFWORLD
    assert lines[1].startswith("ALFWorld: find objects in a room")
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
    tasks = sample_tasks(make_text_env(ALFWORLD, split="valid_unseen").source, "valid_unseen", 12)
    types = sorted({task.task_type for task in tasks})
    assert [line.split()[0] for line in lines[2:]] == [*types, "all"]
    # 12 of 12: Wilson gives 1 / (1 + 1.96² / 12) = 75.8 %.
    assert lines[-1].split()[1:4] == ["12", "100.0%", "75.8-100.0"]
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in out


def test_eval_defaults_to_the_explorer_on_valid_unseen(run) -> None:
    _, out, _ = run("eval", ALFWORLD, "--limit", "1")
    assert out.startswith("explorer on sdar/ALFWorld-v0, split valid_unseen, seed 0\n")


def test_eval_keeps_a_run_and_goes_on_with_it(run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ("eval", ALFWORLD, "--agent", "random", "--limit", "2", "--max-steps", "5", "--seeds", "2", "--seed", "7")
    status, out, err = run(*command, "--out", str(folder))
    assert (status, err) == (0, "")
    assert out.startswith("random on sdar/ALFWorld-v0, split valid_unseen, seeds 7, 8\n")
    assert "pass@2" in out
    assert re.search(rf"^report: {folder}/report\.(md|html)$", out.splitlines()[-1])
    config = read_config(folder)
    assert config["panels"][0]["env_kwargs"]["max_steps"] == 5
    assert config["command"] == f"sdar {' '.join(command)} --out {folder}"
    assert [row.task_id for row in read_episodes(folder)] == [f"alfworld/valid_unseen/{i:04d}" for i in (0, 83)] * 2

    status, again, err = run(*command, "--out", str(folder))
    assert (status, again) == (2, "")
    assert err.startswith(f"error: {folder} holds a run already")
    assert run(*command, "--out", str(folder), "--resume") == (0, out, "")


def test_eval_of_several_suites(run) -> None:
    status, out, err = run("eval", ALFWORLD, "sdar/WebShop-v0", "--limit", "2")
    assert (status, err) == (0, "")
    assert out.startswith("explorer on sdar/ALFWorld-v0, split valid_unseen, seed 0\n")
    assert "\nrule on sdar/WebShop-v0, split test, seed 0\n" in out
    assert re.search(r"^mean over panels: won [\d.]+%, score [\d.]+; over episodes: ", out.splitlines()[-1])


def test_the_quick_preset(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("eval", "--preset", "quick", "--limit", "3")
    assert (status, err) == (0, "")
    [folder] = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"quick-\d{8}-\d{6}", folder.name)
    lines = out.splitlines()
    agents = ("default", "random", "oracle")

    def panel(env_id: str) -> str:
        return ("invented/" if env_id == "sdar/SearchQA-v0" else "") + evaluation_split(env_id)

    assert [line.split()[:3] for line in lines[1:-1]] == [
        [f"{agent},", env_id, panel(env_id)] for agent in agents for env_id in sdar_envs.ENV_IDS
    ]
    # The last line leads to all runs side by side, and that to the report of each.
    assert lines[-1] == f"report: runs/{folder.name}/report.html"
    page = (folder / "report.html").read_text()
    for agent in agents:
        assert f'<a href="{agent}/report.html">{agent}</a>' in page
        assert (folder / agent / "report.html").exists()
        assert read_summary(folder / agent)["total"]["episodes"] == 3 * len(sdar_envs.ENV_IDS)


def test_the_paper_preset_knows_panels_and_sampling(run, tmp_path: Path) -> None:
    with serving(lambda body: act("look")) as server:
        agent = ("--agent", "openai", "--model", "tiny", "--base-url", server.url, "--temperature", "0.7")
        status, _, err = run(
            "eval", ALFWORLD, "--preset", "paper", *agent, "--limit", "2", "--out", str(tmp_path / "p")
        )
    assert (status, err) == (0, "")
    config = read_config(tmp_path / "p" / "ALFWorld-v0")
    settings = config["agent"]["settings"]
    assert (settings["temperature"], settings["history_length"], settings["max_tokens"]) == (0.7, 2, 512)
    assert config["panels"][0]["split"] == "valid_seen"
    assert len(server.requests) == 100
    assert {(body["temperature"], body["max_tokens"]) for _, body in server.requests} == {(0.7, 512)}
    runs = {run.name: run.panels[0] for run in PRESETS["paper"](sdar_envs.ENV_IDS)}
    assert (runs["ALFWorld-v0"].limit, runs["WebShop-v0"].limit, runs["WebShop-v0"].split) == (128, 128, "test")
    assert len(runs) == len(sdar_envs.ENV_IDS)


def test_errors_are_told_at_the_end(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moody.py").write_text(
        "class Moody:\n"
        "    def reset(self, env, observation, info, seed): self.id = info['task_id']\n"
        "    def act(self, observation, info): return 'look' if self.id.endswith('0') else 1 / 0\n"
    )
    command = ("eval", ALFWORLD, "--agent", "moody:Moody", "--limit", "3", "--max-steps", "2")
    status, out, err = run(*command)
    assert status == 2
    assert err == (
        "error: 2 episodes ended in an error and count as failures: with --out, they can be tried again later.\n"
    )
    assert out.splitlines()[-2].split()[-1] == "2"
    # Each episode is tried twice.
    assert out.splitlines()[-1] == (
        "4 attempts at episodes ended in agent_error (2 in the result): ZeroDivisionError: division by zero"
    )
    assert "errors" in out.splitlines()[1]


def test_compare(run, tmp_path: Path) -> None:
    for agent in ("random", "oracle"):
        assert run("eval", ALFWORLD, "--agent", agent, "--limit", "12", "--out", str(tmp_path / agent))[0] == 0
    status, out, err = run("compare", str(tmp_path / "random"), str(tmp_path / "oracle"))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [f"A: {tmp_path / 'random'}", f"B: {tmp_path / 'oracle'}"]
    assert lines[3].split() == f"{ALFWORLD}, success 12 0.000 1.000 +1.000 +0.328 to +1.000 0.0005".split()
    run("eval", ALFWORLD, "--agent", "oracle", "--limit", "5", "--out", str(tmp_path / "short"))
    status, out, err = run("compare", str(tmp_path / "random"), str(tmp_path / "short"))
    assert status == 0
    assert err.startswith("warning: the panels differ: 7 episodes are in the first run alone")
    assert run("compare", str(tmp_path), str(tmp_path / "short"))[2].startswith(f"error: {tmp_path} has no config.json")


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
    assert "No command ':hnt'; there are ?, :help, :hint, :undo, :new, :quit. Did you mean ':hint'?" in out
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
    monkeypatch.setattr("sdar_benchmarks.cli.play.session._in_terminal", lambda console: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("dance\r:hint\r:undo\r:undo\r\x04")  # \x04 is Ctrl-D
        status, out, err = run("play", ALFWORLD, "--task", TASK)
    assert (status, err) == (0, "")
    assert "Nothing happens." in out
    assert f"Hint: {oracle_plan()[0]}" in out
    assert "There is nothing to undo." in out
    assert out.endswith("Left after 0 steps.\n")


def test_play_clears_a_line_before_it_leaves(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.cli.play.session._in_terminal", lambda console: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("dan\x03look\r\x03inventory\r")  # \x03 is Ctrl-C
        status, out, _ = run("play", ALFWORLD, "--task", TASK)
    assert status == 0
    assert "You are in the middle of a room." in out
    # The first only cleared its line, the second left.
    assert "Nothing happens." not in out
    assert out.endswith("Left after 1 step.\n")


def test_play_explains_itself(run) -> None:
    _, out, _ = run("play", ALFWORLD, "--task", TASK, lines=(":help",))
    assert "\nThe task: " in out
    assert "Ctrl-C clears a line" in out
    assert "\n  :undo  take the last command back\n" in out
    assert out.endswith("Left after 0 steps.\n")


def test_play_shows_pages_within_80_columns(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.setenv("TERM", "dumb")
    plan = gym.make(WEBSHOP, split="test")
    plan.reset(options={"task_id": "webshop/test/0007"})
    commands = plan.unwrapped.oracle_plan()
    _, out, _ = run("play", WEBSHOP, "--task", "webshop/test/0007", lines=(*commands[:-1], ":undo", *commands[-2:]))
    assert "[SEP]" not in out
    assert "\nPage 1 (Total results: 50)\n" in out
    assert "[Back to Search] [< Prev] [Description] [Features] [Reviews] [Buy Now]\n" in out
    assert "\n  score: 1.0\n" in out
    shown = [line for line in out.splitlines() if not line.startswith("> ")]
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize(
    ("task", "shown"), [("short", "short  (step 3 of 9)"), ("w " * 60, "w w w w w…  (step 3 of 9)")]
)
def test_status_line_keeps_the_step(task: str, shown: str) -> None:
    assert session._fitting(f"{task}  (step 3 of 9)", 25) == shown


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("info", "sdar/ALFWrld-v0"), r"no environment 'sdar/ALFWrld-v0'.* Did you mean 'sdar/ALFWorld-v0'\?"),
        (("info", "CartPole-v1"), "observation_space of CartPoleEnv is Box.*wanted text"),
        (("info", ALFWORLD, "--task", "alfworld/valid_unsen/0007"), r"Did you mean 'alfworld/valid_unseen/00"),
        (("play", ALFWORLD, "--task", "alfworld/valid_unseen/7"), r"'alfworld/valid_unseen/' and 0000 to 0133"),
        (("play", ALFWORLD, "--seed", "-1"), r"-1"),
        (("play", ALFWORLD, "--max-steps", "0"), r"max_steps is 0"),
        (("eval", ALFWORLD, "--agent", "orcale"), r"no agent 'orcale'.* Did you mean 'oracle'\?"),
        (("eval", ALFWORLD, "--split", "valid_unsene"), r"split is 'valid_unsene'; .* Did you mean 'valid_unseen'\?"),
        (("eval", ALFWORLD, "--split", "train"), r"without end"),
        (("eval", ALFWORLD, "--limit", "0"), r"limit is 0"),
        (("eval", ALFWORLD, "--wording", "putt"), r"wording is 'putt'.* Did you mean 'put'\?"),
        (("eval", ALFWORLD, "--data-dir", "somewhere"), r"data='official'"),
        (("eval", ALFWORLD, "--data", "official", "--data-dir", "no/such/folder"), r"no/such/folder"),
        (("eval", ALFWORLD, "--limit", "1", "--out", "."), r"\. exists and is no run folder"),
        (("eval", ALFWORLD, "--agent", "openai"), r"given no model: name one with --model"),
        (("eval", ALFWORLD, "--agent", "random", "--model", "x"), r"no setting 'model'"),
        (("eval", ALFWORLD, "--agent", "openai", "--model", "x", "--agent-set", "api_key=y"), r"looks like a secret"),
        (("eval", ALFWORLD, "--resume"), r"--resume goes on with .*name the folder with --out"),
        (("eval", ALFWORLD, "--seeds", "0"), r"the seeds are \[\]"),
        (("eval", ALFWORLD, "--episode-seconds", "0"), r"episode_seconds is 0"),
        (("eval", ALFWORLD, ALFWORLD), r"each split of each once"),
        (("eval", "sdar/WebShop-v0", "--agent", "explorer"), r"no explorer for 'sdar/WebShop-v0'"),
        (("eval", "--preset", "quick", "--split", "valid_unseen"), r"split is 'valid_unseen'; the environment has"),
        (("compare", "no/such/run", "."), r"no/such/run has no config\.json"),
    ],
)
def test_refusals_are_one_line(run, arguments: tuple[str, ...], match: str) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert re.match(rf"error: .*{match}", err), err
    assert err.count("\n") == 1


def test_an_argument_of_another_environment(run) -> None:
    gym.register(id="toy/PlayedCounting-v0", entry_point="helpers.toy:CountingEnv")
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND (see `sdar --help`)"),
        (("evl",), "Did you mean 'eval'?"),
        (("skills", "chek"), "Did you mean 'check'? (see `sdar skills --help`)"),
        (("eval", ALFWORLD, "--limit", "many"), "argument --limit: invalid int value: 'many' (see `sdar eval --help`)"),
        (("eval", ALFWORLD, "--splt", "test"), "unrecognized arguments: --splt test. Did you mean '--split'?"),
        (("eval", ALFWORLD, "--preset", "papr"), "Did you mean 'paper'?"),
        (
            ("skills", "show", "alfworld/look", "--libary=DIR"),
            "Did you mean '--library'? (see `sdar skills show --help`)",
        ),
    ],
)
def test_misspelt_arguments_are_explained_in_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert message in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"sdar-envs {version('sdar-envs')}\n"


def test_interruption_is_not_a_traceback(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdar_benchmarks.evaluation.evaluate.evaluate", interrupt)
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
        "import sys; from sdar_benchmarks.cli.main import main\n"
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
    settings = ["--set", "goals=human", "--set", "max_steps=7", "--set", "reward_scale=10.0"]
    assert main(["eval", "sdar/WebShop-v0", "--limit", "2", "--out", str(tmp_path / "run"), *settings]) == 0
    [suite] = read_config(tmp_path / "run")["panels"]
    assert {name: suite["env_kwargs"][name] for name in ("goals", "max_steps", "reward_scale", "split")} == {
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


@pytest.mark.parametrize("ends_by", [KeyboardInterrupt, None], ids=["interrupted", "in a background job"])
def test_a_server_that_was_stopped_says_so(ends_by, monkeypatch, capsys):
    def serve(*_, ready, **__):
        ready("http://127.0.0.1:1/")
        # uvicorn raises the signal again, and a background job of a shell ignores it.
        if ends_by is not None:
            raise ends_by

    monkeypatch.setattr("sdar_envs.http.serving.serve", serve)
    assert main(["serve", "webshop"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("WebShop at http://127.0.0.1:1/ ")
    assert captured.err == "stopped\n"
