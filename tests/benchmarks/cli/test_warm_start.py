"""`sdar demos` and `sdar sft`: what they write, print and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sdar_benchmarks.cli.main import main

DEMOS = ("demos", "sdar/ALFWorld-v0", "--set", "rooms=small", "--terse", "--guesses", "--episodes", "6")


def test_demonstrations_then_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = str(tmp_path / "demos.jsonl"), tmp_path / "sft"
    assert main([*DEMOS, "--out", file, "--with-skills", "0.5", "--retriever", "home", "--noise", "0.1"]) == 0
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    assert capsys.readouterr().out == f"{file}: {len(rows)} rows of 6 episodes\n"
    assert {bool(row["skills"]) for row in rows} == {True, False}
    assert all(row["task_id"].startswith("alfworld/small_train/") for row in rows)
    settings = ("--set", "lr=1e-3", "--set", "batch_tokens=4000", "--set", "max_tokens=4000")
    assert main(["sft", "tiny-test", file, "--out", str(folder), "--device", "cpu", *settings]) == 0
    assert capsys.readouterr().out == f"{folder / 'model'}\n"
    assert json.loads((folder / "config.json").read_text())["lr"] == 1e-3
    assert main(["sft", "tiny-test", file, "--out", str(folder)]) == 2
    assert "already holds a run: choose another folder, or resume it" in capsys.readouterr().err


def test_a_file_is_only_replaced_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "demos.jsonl"
    file.write_text("precious\n")
    assert main([*DEMOS, "--out", str(file)]) == 2
    assert "exists: choose another file, or pass --overwrite" in capsys.readouterr().err
    assert main([*DEMOS, "--out", str(file), "--overwrite", "--expert", "explorre"]) == 2
    assert "Did you mean 'explorer'?" in capsys.readouterr().err
    assert file.read_text() == "precious\n"
    assert main([*DEMOS, "--out", str(file), "--overwrite"]) == 0
    assert file.read_text() != "precious\n"
    assert main([*DEMOS, "--out", str(tmp_path), "--overwrite"]) == 2
    assert "is a folder: name a file in it" in capsys.readouterr().err


def test_what_is_left_out_is_named_and_the_rest_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "demos.jsonl"
    arguments = ["demos", "sdar/WebShop-v0", "--expert", "oracle", "--episodes", "60", "--noise", "0"]
    assert main([*arguments, "--out", str(file)]) == 0
    named = re.search(r"left out, the expert has no plan: \d+ \((webshop/train/\d+)", capsys.readouterr().out)
    assert named is not None
    kept = {json.loads(line)["task_id"] for line in file.read_text().splitlines()}
    assert len(kept) > 45
    assert named[1] not in kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sdar/ALFWrld-v0",), "Did you mean 'sdar/ALFWorld-v0'?"),
        (("CartPole-v1",), "observation_space of CartPoleEnv is Box"),
        (("sdar/ALFWorld-v0", "--set", "romms=small"), "no argument 'romms'"),
        (("sdar/ALFWorld-v0", "--set", "rooms=smal"), "Did you mean 'small'?"),
        (("sdar/ALFWorld-v0", "--set", "rooms=small", "--split", "hom"), "Did you mean 'home'?"),
        (("sdar/ALFWorld-v0", "--noise", "2"), "noise is 2.0; wanted a number from 0 to 0.9"),
        (("sdar/ALFWorld-v0", "--episodes", "0"), "episodes is 0"),
        (("sdar/ALFWorld-v0", "-k", "0"), "k is 0"),
        (("sdar/ALFWorld-v0", "--with-skills", "1", "--retriever", "home"), "make the environment with rooms='small'"),
        (("sdar/WebShop-v0", "--with-skills", "1", "--retriever", "home"), "is not in a small room"),
        (("sdar/WebShop-v0", "--guesses"), "guesses is for ALFWorld's explorer, and the expert is 'rule'"),
        (("sdar/ALFWorld-v0", "--split", "valid_seen", "--first", "139"), "'valid_seen' has 140: lower episodes"),
    ],
)
def test_demonstrations_that_cannot_be_are_refused_by_name(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "demos.jsonl"
    assert main(["demos", "--episodes", "2", "--out", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "learning_rate=1"), "no setting 'learning_rate'"),
        (("--set", "lr=fast"), "SFTSettings.lr is 'fast'"),
        (("--set", "beta2=1"), "SFTSettings.beta2 is 1; wanted a number from 0 to 0.99999"),
        (("--set", "template_options=3"), "wanted a section with settings"),
        ((), "no demonstrations 'none.jsonl'"),
        (("--validation", "some.jsonl"), "no demonstrations 'none.jsonl'"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sft", "tiny-test", "none.jsonl", "--out", "run", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_fine_tuning_says_its_size_and_its_steps_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "demos.jsonl")
    assert main([*DEMOS, "--out", file]) == 0
    rows = len(Path(file).read_text().splitlines())
    monkeypatch.setattr("sdar_envs.storage._SECONDS_BETWEEN_LINES", 0.0)
    settings = ("--set", "batch_tokens=4000", "--set", "max_tokens=4000", "--set", "log_every=1000")
    assert main(["sft", "tiny-test", file, "--out", str(tmp_path / "sft"), "--device", "cpu", *settings]) == 0
    first, *lines = [line for line in capsys.readouterr().err.splitlines() if line[0].isdigit() or "sft" in line]
    size = re.fullmatch(rf"{rows} rows, ([\d,]+) tokens, (\d+) steps", first)
    assert size is not None
    assert {f"sft: {step} of {size[2]}" for step in range(int(size[2]) + 1)} <= {line.split(",")[0] for line in lines}
    assert re.match(rf"sft: {size[2]} of {size[2]}, loss [\d.]+  accuracy", lines[-1])
