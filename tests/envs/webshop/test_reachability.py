"""The share of reachable goals, as a command."""

from pathlib import Path

import pytest

from sdar_envs.webshop.reachability import _main

EDGE = Path(__file__).parent / "data" / "catalogue_edge200"


def test_official_data_and_both_versions_of_thefuzz(capsys):
    for version in ("0.22", "0.19"):
        _main(["--data", "official", "--data-dir", str(EDGE), "--goals", "human", "--thefuzz", version, "--name"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("quirks=original: ")
        assert lines[0].endswith(" of 154 human goals can reach 1.0")
        assert lines[2].startswith("quirks=fixed: ")
        assert 0 < len(lines[1].split()) < 154


def test_missing_data_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^error: "):
        _main(["--data", "official", "--data-dir", str(tmp_path)])
