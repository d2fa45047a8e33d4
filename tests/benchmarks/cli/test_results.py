"""`sdar report`, `sdar view` and `sdar leaderboard` as they are typed. `sdar bench` is in tests/test_throughput.py."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from helpers.run_folders import ALFWORLD, episode, write_run

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.leaderboard.tables import BEGIN, END


def test_the_report_of_a_run_goes_into_its_folder(tmp_path, capsys) -> None:
    folder = write_run(tmp_path / "run", [episode(0)])
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert (folder / "report.html").exists()


def test_the_report_of_several_runs_goes_where_it_is_told(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name, [episode(0)])
    assert main(["report", "a", "b"]) == 0
    assert main(["report", "a", "b", "--out", "there/both.html"]) == 0
    assert capsys.readouterr().out == "comparison.html\nthere/both.html\n"
    assert (tmp_path / "comparison.html").read_text() == (tmp_path / "there" / "both.html").read_text()


def test_an_evaluation_ends_with_its_report(tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert main(["eval", ALFWORLD, "--agent", "oracle", "--limit", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {out / 'report.html'}\n")
    assert "oracle on sdar/ALFWorld-v0" in (out / "report.html").read_text()


def test_from_an_evaluation_to_the_leaderboard(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.evaluation.evaluate.revision", lambda: "0123456789abcdef" * 2 + "01234567")
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    root = ("--root", str(tmp_path))
    out = str(tmp_path / "run")
    assert main(["eval", ALFWORLD, "--agent", "oracle", "--limit", "3", "--seeds", "2", "--out", out]) == 0
    assert main(["leaderboard", "add", out, *root]) == 0
    assert main(["leaderboard", "render", "--check", *root]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert main(["leaderboard", "render", *root]) == 0
    assert main(["leaderboard", "render", "--check", *root]) == 0
    assert (
        "only 3 tasks | oracle (ceiling) | 100.0% (43.9–100.0) | 1.000 | 3 × 2 |"
        in (tmp_path / "README.md").read_text()
    )
    assert capsys.readouterr().err == "the tables are current\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("report", "nothing"), "no config.json"),
        (("report", "run", "--out", "x.html"), "--out is for several runs"),
        (("report", "run", "other", "--out", "notes.txt"), "wanted the name of a .html file"),
        (("report", "run", "run"), "wanted at least two"),
        (("view", "nothing"), "no run folder"),
        (("view", "run", "--host", "203.0.113.1"), "cannot listen on"),
        (("leaderboard", "add", "nothing"), "no config.json"),
        (("leaderboard", "render", "--root", "nothing"), "there is no leaderboard in nothing"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments: tuple[str, ...], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "other"):
        write_run(tmp_path / name, [episode(0)])
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: .*\n", err)
    assert says in err


def test_the_viewer_serves_until_it_is_interrupted(tmp_path) -> None:
    folder = write_run(tmp_path / "run", [episode(0)])
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(rf"{re.escape(str(folder))} at (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", line)[
            1
        ]
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert "alfworld/valid_unseen/0000" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "stopped\n")


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys; from sdar_benchmarks.cli.main import main\n"
        "try: main(['view', '--help'])\n"
        "except SystemExit: print(json.dumps(sorted({'gymnasium', 'numpy', 'starlette'} & set(sys.modules))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(out.splitlines()[-1]) == []
