"""Ledgers of others: values of other types, rows without an arm, files that are none."""

from __future__ import annotations

import math
import os
import sqlite3
from contextlib import nullcontext
from pathlib import Path

import pytest

from sdar_envs.errors import CorruptData
from sdar_skills.evidence.ledger import Ledger, LedgerUnavailable, Showing
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.skill import Arm

ARM = Arm("alfworld/look", "1.0.0", "ab" * 32)
VALUES = ("text", b"\xff", math.inf, -math.inf, 1e308, -5, 2**62, b"", "9" * 400)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.append([Showing(ARM, "alfworld", "pick", "t", "r", 1, "ucb", 0.5, 0.25)] * 2)
    return tmp_path / "ledger"


@pytest.mark.parametrize("column", ["arm", "context", "step", "reward", "baseline", "gap"])
def test_rows_that_do_not_fit_are_left_out(path: Path, column: str) -> None:
    connection = sqlite3.connect(path)
    for value in VALUES:
        connection.execute(
            "INSERT INTO entry (arm, context, task, run, step, strategy, reward, baseline, gap, time) SELECT arm, "
            "context, task, run, step, strategy, reward, baseline, gap, time FROM entry WHERE id = 1"
        )
        connection.execute(f"UPDATE entry SET {column} = ? WHERE id = (SELECT max(id) FROM entry)", (value,))
    connection.commit()
    connection.close()
    with Ledger(path, create=False) as ledger:
        statistics = Statistics(ledger)
        # A reward of -5 or of 2^62 is one; such steps and arms are not.
        fitting = 2 if column in ("reward", "baseline", "gap") else 0
        assert statistics.context("alfworld", "pick")[ARM].showings == 2 + fitting
        assert ledger.left_out() == len(VALUES) - fitting
        assert len(ledger.showings()) == 2 + fitting
        assert math.isfinite(statistics.context("alfworld", "pick")[ARM].mean_reward)


@pytest.mark.parametrize("table", ["arm", "context", "entry", "identity", "rewind"])
def test_a_ledger_without_a_table_or_its_rows(path: Path, table: str) -> None:
    for statement in (f"DELETE FROM {table}", f"DROP TABLE {table}"):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()
        is_usable = statement.startswith("DELETE") and table != "identity"
        refusal = pytest.raises((CorruptData, LedgerUnavailable), match="ledger")
        with nullcontext() if is_usable else refusal, Ledger(path, create=False) as ledger:
            Statistics(ledger)


@pytest.mark.parametrize("content", [b"", b"\xff" * 5000, b"SQLite format 3\x00" + bytes(5000)])
def test_files_that_are_no_ledgers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(content)
    if content:
        with pytest.raises((CorruptData, LedgerUnavailable), match="ledger"):
            Ledger(path, create=False)


def test_a_pipe_and_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises((CorruptData, LedgerUnavailable), match="ledger"):
            Ledger(path, create=False)
