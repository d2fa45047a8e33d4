"""Runs that are resumed from another folder than they were begun in, or from a folder that holds no run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.training.run.folder import read_run_config
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.runs import read_config, read_episodes
from sdar_envs.alfworld.export import export_game

Run = Callable[..., tuple[int, str, str]]

AGENT = """
from pathlib import Path

class Agent:
    path_arguments = {"plan": ()}

    def __init__(self, plan):
        self.command = Path(plan).read_text().strip()

    def reset(self, env, observation, info, seed):
        pass

    def act(self, observation, info):
        return self.command
"""
REWARD = """
def shaped(trajectory):
    return 0.5 * sum(turn.is_action_valid for turn in trajectory.turns) + len(trajectory.turns[0].completion.text) % 3
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Two folders, the first the working one; modules that are imported there are forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.chdir(first)
    yield first, second
    forget()


def forget() -> None:
    """Forget the modules of the test, and where they were found, as a new process would."""
    for name in ("plan_agent", "own_reward"):
        sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if not entry.endswith(("/first", "/second"))]


def begin_eval(run: Run, folder: Path) -> tuple[str, ...]:
    (folder / "plan_agent.py").write_text(AGENT)
    (folder / "plan.txt").write_text("look\n")
    for index in range(2):
        export_game("valid_unseen", index, folder / "games")
    command = (
        *("eval", "sdar/ALFWorld-v0", "--data", "official", "--data-dir", "games", "--split", "valid_unseen"),
        *("--max-steps", "2", "--agent", "plan_agent:Agent", "--agent-set", "plan=plan.txt"),
    )
    status, _, err = run(*command, "--out", "runs/one")
    assert (status, err) == (0, "")
    return command


def cut_in_half(out: Path) -> None:
    for name in ("episodes.jsonl", "trajectories.jsonl"):
        lines = (out / name).read_text().splitlines(keepends=True)
        (out / name).write_text("".join(lines[: len(lines) // 2]))


def test_an_evaluation_keeps_absolute_paths_and_resumes_from_another_folder(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folders
    begin_eval(run, first)
    out = first / "runs" / "one"
    config = read_config(out)
    assert config["panels"][0]["env_kwargs"]["data_dir"] == str(first / "games")
    assert config["agent"]["settings"] == {"plan": str(first / "plan.txt")}
    assert config["directory"] == str(first)
    cut_in_half(out)
    monkeypatch.chdir(second)
    forget()
    status, printed, err = run("eval", "--resume", "--out", "../first/runs/one")
    named = "importing an agent, 'plan_agent:Agent', which '../first/runs/one/config.json' names: its code runs here\n"
    assert (status, err) == (0, named)
    assert printed.startswith("plan_agent:Agent on sdar/ALFWorld-v0, split valid_unseen")
    assert len(read_episodes(out)) == 2


def test_a_resumed_evaluation_takes_the_same_arguments_as_seen_from_another_folder(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folders
    command = begin_eval(run, first)
    monkeypatch.chdir(second)
    forget()
    moved = [{"games": "../first/games", "plan=plan.txt": "plan=../first/plan.txt"}.get(part, part) for part in command]
    status, _, err = run(*moved, "--out", "../first/runs/one", "--resume")
    assert (status, err) == (0, "")


def test_an_evaluation_begun_with_paths_as_given_still_resumes(run: Run, folders: tuple[Path, Path]) -> None:
    first, _ = folders
    command = begin_eval(run, first)
    path = first / "runs" / "one" / "config.json"
    config = json.loads(path.read_text())
    config["panels"][0]["env_kwargs"]["data_dir"] = "games"
    del config["directory"]
    path.write_text(json.dumps(config))
    status, _, err = run(*command, "--out", "runs/one", "--resume")
    assert (status, err) == (0, "")


def test_what_a_resumed_evaluation_has_already_is_not_given_again(run: Run, folders: tuple[Path, Path]) -> None:
    begin_eval(run, folders[0])
    status, _, err = run("eval", "--resume", "--out", "runs/one", "--limit", "1")
    assert status == 2
    assert "--limit was given with --resume and no environment" in err


def test_an_agent_that_is_gone_is_one_line(run: Run, folders: tuple[Path, Path]) -> None:
    first, _ = folders
    begin_eval(run, first)
    forget()
    (first / "plan_agent.py").unlink()
    status, _, err = run("eval", "--resume", "--out", "runs/one")
    assert status == 2
    assert err.count("\n") == 2  # with the notice that it is imported
    assert "'plan_agent:Agent' cannot be imported" in err


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "--resume", "--out"),
        ("eval", "sdar/ALFWorld-v0", "--limit", "1", "--resume", "--out"),
        ("eval", "--preset", "quick", "--limit", "1", "--resume", "--out"),
        ("train", "--resume"),
        ("sft", "tiny-1m", "demos.jsonl", "--resume", "--out"),
    ],
    ids=["eval", "eval with its arguments", "preset", "train", "sft"],
)
def test_resuming_a_folder_that_holds_no_run_begins_none_and_names_the_closest(
    command: tuple[str, ...], run: Run, folders: tuple[Path, Path]
) -> None:
    first, _ = folders
    (first / "demos.jsonl").touch()
    name = {"train": "config.yaml"}.get(command[0], "config.json")
    inner = "default" if "--preset" in command else ""
    (first / "runs" / "baseline" / inner).mkdir(parents=True)
    (first / "runs" / "baseline" / inner / name).write_text("{}")
    status, _, err = run(*command, "runs/basline")
    assert status == 2
    assert err.count("\n") == 1
    assert "runs/basline holds no run to resume" in err
    assert "Did you mean 'baseline'?" in err
    assert not (first / "runs" / "basline").exists()


def test_a_training_run_keeps_absolute_paths_and_resumes_from_another_folder(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folders
    save_tiny_chat(first / "model")
    (first / "own_reward.py").write_text(REWARD)
    for index in range(3):
        export_game("train", index, first / "games")
    config = run_config(
        Path("model"),
        rollout={
            "env_kwargs": {"data": "official", "data_dir": "games", "max_steps": 2},
            "reward": "own_reward:shaped",
        },
        method="grpo",
        steps=2,
        checkpoints={"every": 1},
    )
    (first / "small.yaml").write_text(config.to_yaml())
    status, _, err = run("train", "--config", "small.yaml", "--out", "runs/one", "--steps", "1")
    assert status == 0, err
    assert err.count("importing a reward function, 'own_reward:shaped', which 'small.yaml' names") == 1
    kept = read_run_config(first / "runs" / "one")
    assert kept.model.path == str(first / "model")
    assert kept.rollout.env_kwargs["data_dir"] == str(first / "games")
    assert json.loads((first / "runs" / "one" / "run.json").read_text())["directory"] == str(first)
    monkeypatch.chdir(second)
    forget()
    status, _, err = run("train", "--resume", "../first/runs/one", "--steps", "2")
    assert status == 0, err
    assert (
        err.count("importing a reward function, 'own_reward:shaped', which '../first/runs/one/config.yaml' names") == 1
    )
    rows = [json.loads(line) for line in (first / "runs" / "one" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    facts = json.loads((first / "runs" / "one" / "run.json").read_text())
    assert (facts["directory"], facts["resumed"][0]["directory"]) == (str(first), str(second))
