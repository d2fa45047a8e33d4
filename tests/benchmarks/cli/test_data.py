"""`sdar data check`: what it prints, and its status."""

import pytest

from sdar_benchmarks.cli.main import main
from sdar_envs.alfworld import data_check
from sdar_envs.alfworld.export import export_game


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """A machine without official data and with a cache of its own."""
    for name in ("ALFWORLD_DATA", "WEBSHOP_DATA", "SEARCH_QA_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("suite", ["alfworld", "webshop", "search_qa"])
def test_missing_data_is_said_line_by_line_with_status_1(suite, capsys):
    assert main(["data", "check", suite]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("missing ")
    assert all(line.startswith(("ok      ", "missing ", "        ")) for line in lines)


def test_complete_data_has_status_0(tmp_path, capsys, monkeypatch):
    export_game("valid_seen", 0, tmp_path / "json_2.1.1", wording="put")
    monkeypatch.setattr(data_check, "PUBLISHED", {"valid_seen": 1})
    assert main(["data", "check", "alfworld", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ok      valid_seen, games: 1, as published\n" in out
    assert "missing" not in out


def test_a_folder_whose_name_is_no_text_can_be_printed(tmp_path, capsys):
    odd = str(tmp_path) + "/caf\udce9"
    assert main(["data", "check", "alfworld", odd]) == 1
    assert "caf\\udce9" in capsys.readouterr().out


def test_an_unknown_suite_is_one_line(capsys):
    assert main(["data", "check", "alfwrld"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Did you mean 'alfworld'" in err
    assert err.count("\n") == 1
