"""The update beside TRL's, on few rows: what is measured, not how fast it is."""

from __future__ import annotations

import pytest

from sdar_benchmarks.throughput import trl_update
from sdar_benchmarks.throughput.figures import Figures

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]


def test_both_updates_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install '.[peer]'")
    for name, value in {"_ROWS": 8, "_MICRO": 4, "_GROUP": 4, "_PROMPT": 8, "_RESPONSE": 4, "_REPEATS": 1}.items():
        monkeypatch.setattr(trl_update, name, value)
    figures = Figures("trainer")
    trl_update.measure(figures)
    kinds = ("rows of 8 + 4 tokens", "rows of 2 to 16 + 1 to 8")
    assert [figure.what for figure in figures] == [
        f"{what}, {kind}" for kind in kinds for what in ("update", "TRL's update", "update over TRL's")
    ]
    assert all(figure.value > 0 for figure in figures)
