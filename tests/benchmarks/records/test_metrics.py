"""Training metrics: what is read, and how curves are smoothed."""

from __future__ import annotations

import math

import pytest
from helpers.run_folders import write_lines

from sdar_benchmarks.records.metrics import read_metrics, smoothed, thinned
from sdar_envs.errors import CorruptData


def test_sparse_rows(tmp_path) -> None:
    write_lines(
        tmp_path / "metrics.jsonl",
        [{"step": 1, "a": 1, "b": 2.5}, {"step": 2, "a": True, "name": "text", "b": math.nan}, {"step": 3, "a": 0}],
    )
    assert read_metrics(tmp_path) == {"a": [(1, 1.0), (2, 1.0), (3, 0.0)], "b": [(1, 2.5)]}


def test_no_metrics(tmp_path) -> None:
    assert read_metrics(tmp_path) == {}


def test_a_step_that_was_repeated_counts_as_it_was_written_last(tmp_path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [{"step": 2, "a": 9}, {"step": 1, "a": 1}, {"step": 2, "a": 2}])
    assert read_metrics(tmp_path) == {"a": [(1, 1.0), (2, 2.0)]}


def test_a_torn_last_line_waits(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "a": 1}\n{"step": 2, "a"')
    assert read_metrics(tmp_path) == {"a": [(1, 1.0)]}


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"a": 1}', b'{"step": "one"}', b'{"step": NaN}', b"\xff"])
def test_other_lines_are_refused_by_their_number(tmp_path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(CorruptData, match=r"metrics\.jsonl, line 2"):
        read_metrics(tmp_path)


def test_smoothing_by_hand() -> None:
    # w = exp(-1 / span); s_2 = (w y_1 + y_2) / (w + 1), and a gap of two steps fades by w².
    w = math.exp(-0.5)
    made = smoothed([(0, 1.0), (1, 0.0), (3, 2.0)], span=2.0)
    assert [y for _, y in made] == pytest.approx([1.0, w / (1 + w), (w**3 + 2) / (w**3 + w**2 + 1)], rel=1e-12)


def test_smoothing_keeps_constants_and_its_absence_keeps_all() -> None:
    assert [y for _, y in smoothed([(x, 0.25) for x in range(50)], 7.0)] == pytest.approx([0.25] * 50)
    assert smoothed([(0, 1.0), (1, 5.0)], 0) == [(0, 1.0), (1, 5.0)]
    assert smoothed([], 3.0) == []


def test_thinning_keeps_the_mean_and_the_end() -> None:
    points = [(float(x), float(x)) for x in range(10_000)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert few[-1] == points[-1]
    assert sum(y for _, y in few[:-1]) / 99 == pytest.approx(4999.5, rel=0.02)
    assert thinned(points[:100], 100) == points[:100]


def test_the_old_name_of_the_share_of_malformed_completions_is_read(tmp_path) -> None:
    rows = [
        {"step": 1, "rollout/invalid": 0.5, "eval/student/invalid": 0.25, "a/b": 1.0},
        {"step": 2, "rollout/malformed": 0.1, "rollout/invalid": 0.2},
    ]
    write_lines(tmp_path / "metrics.jsonl", rows)
    assert read_metrics(tmp_path) == {
        "a/b": [(1, 1.0)],
        "eval/student/malformed": [(1, 0.25)],
        "rollout/invalid": [(2, 0.2)],
        "rollout/malformed": [(1, 0.5), (2, 0.1)],
    }
