"""The measuring of HTTP itself, with few queries: what it measures, not how fast it is."""

from sdar_benchmarks.throughput import http
from sdar_benchmarks.throughput.figures import Figures


def test_every_way_is_measured(monkeypatch):
    monkeypatch.setattr(http, "_QUERIES", 40)
    said = []
    http.measure(figures := Figures("sdar/SearchQA-v0"), said.append)
    assert len(said) == 3
    assert [figure.what for figure in figures] == [
        f"{way}: {part}" for way in said for part in ("CPU of the client", "CPU of the server", "elapsed")
    ]
    assert all(0 < figure.value < 1e6 for figure in figures)
