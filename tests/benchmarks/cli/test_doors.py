"""An environment of one's own, named `module:ID`, in every verb that takes an environment."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from helpers.skill_toys import make_skill

from sdar_benchmarks.cli.main import main
from sdar_skills import save_skill

MODULE = """
import gymnasium
from helpers.toy import CountingEnv

class UpEnv(CountingEnv):
    "A counter."

    suite = "toy"
    evaluation_split = "valid"

    def oracle_plan(self):
        missing = self.task.data["target"] - self._number
        return ("up",) * missing if missing > 0 else ("down",) * -missing or ("up", "down")

gymnasium.register("acme/Up-v0", entry_point=UpEnv)
"""
ENV = "own_counter:acme/Up-v0"


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_counter.py").write_text(MODULE)
    (tmp_path / "broken_counter.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    gym.registry.pop("acme/Up-v0", None)
    sys.modules.pop("own_counter", None)


def test_info(capsys) -> None:
    assert main(["info", ENV]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{ENV}\nA counter.\n")
    assert "train (endless), valid (30)" in out
    assert main(["info", ENV, "--task", "toy/valid/0003"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "toy/valid/0003"


def test_play(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("up\n:hint\n"))
    assert main(["play", ENV, "--task", "toy/valid/0003"]) == 0
    assert "\n> up\nIt is " in capsys.readouterr().out


def test_eval_and_its_run_folder(capsys) -> None:
    assert main(["eval", ENV, "--agent", "oracle", "--limit", "3", "--out", "run"]) == 0
    assert capsys.readouterr().out.startswith(f"oracle on {ENV}, split valid, seed 0\n")
    assert json.loads(Path("run/config.json").read_text())["revision"] is not None
    assert main(["report", "run"]) == 0
    assert main(["eval", ENV, "--agent", "oracle", "--limit", "3", "--out", "run", "--resume"]) == 0


def test_demonstrations(capsys) -> None:
    assert main(["demos", ENV, "--expert", "oracle", "--episodes", "2", "--split", "valid", "--out", "d.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("d.jsonl").read_text().splitlines()]
    assert {row["task_id"] for row in rows} <= {"toy/valid/0000", "toy/valid/0019"}
    assert rows


def test_skills_check(capsys, tmp_path) -> None:
    save_skill(make_skill("climb", "count_up"), tmp_path / "library")
    line = ("skills", "check", "--env", ENV, "--library", str(tmp_path / "library"), "--no-builtin", "--summary")
    assert main([*line, "--strategy", "keyword"]) == 1
    assert f"30 tasks of {ENV}, split valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("own_counter:acme/Upp-v0", "no environment 'acme/Upp-v0'"),
        ("own_counter:acme/Upp-v0", "Did you mean 'acme/Up-v0'?"),
        ("own_countr:acme/Up-v0", "the module of 'own_countr:acme/Up-v0' cannot be imported (ModuleNotFoundError"),
        ("broken_counter:acme/Up-v0", "No module named 'no_such_package'"),
        ("acme/Up-v0", "no environment 'acme/Up-v0'; the environments are sdar/ALFWorld-v0"),
        ("acme/Up-v0", "module:"),
    ],
)
@pytest.mark.parametrize("verb", ["info", "play", "eval", "demos"])
def test_what_cannot_be_found_is_one_line(verb: str, env_id: str, says: str, capsys) -> None:
    assert main([verb, env_id, *(("--out", "d.jsonl") if verb == "demos" else ())]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_ids_of_others_that_are_registered_are_listed(capsys) -> None:
    assert main(["info", ENV]) == 0
    capsys.readouterr()
    assert main(["info", "acme/Pu-v0"]) == 2
    err = capsys.readouterr().err
    assert "acme/Up-v0" in re.search("the environments are ([^ ]*(, [^ ]*)*)", err)[1]
    assert "CartPole" not in err


def test_a_retriever_of_ones_own_is_checked_too(capsys, tmp_path) -> None:
    (tmp_path / "own_retriever.py").write_text(
        "class Nothing:\n"
        "    def __init__(self, library): pass\n"
        "    def retrieve(self, task, k, budget, rng): return ()\n"
    )
    line = ("skills", "check", "--suite", "alfworld", "--limit", "2", "--strategy", "own_retriever:Nothing")
    assert main(line) == 1
    assert "own_retriever:Nothing nothing" in capsys.readouterr().out


def test_check_wants_either_a_suite_or_an_environment(capsys) -> None:
    for line in ((), ("--suite", "alfworld", "--env", ENV)):
        with pytest.raises(SystemExit):
            main(["skills", "check", *line])
        assert "wanted either --suite NAME" in capsys.readouterr().err
