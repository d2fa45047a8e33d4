"""`sdar demos` and `sdar sft`: what they write, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdar_benchmarks.cli import main

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
    assert "holds a run already: choose another folder, or resume it" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "learning_rate=1"), "no setting 'learning_rate'"),
        (("--set", "lr=fast"), "SFTSettings.lr is 'fast'"),
        ((), "no demonstrations 'none.jsonl'"),
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
