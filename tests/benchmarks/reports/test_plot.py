"""Charts: their ticks, where things are drawn, what they say in words."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdar_benchmarks.reports.plot import Series, curves, histogram, interval_bar, number, ticks

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


def svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r'<svg class="chart".*?</svg>', figure, flags=re.DOTALL)[0])


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 50, [0, 10, 20, 30, 40, 50]),
        (-0.16, 0.07, [-0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1]),
        (0, 1234, [0, 250, 500, 750, 1000, 1250]),
        (3, 3, [1.5, 2.25, 3, 3.75, 4.5]),
        (0, 4e-14, [0, 1e-14, 2e-14, 3e-14, 4e-14]),
    ],
)
def test_ticks(low: float, high: float, wanted: list[float]) -> None:
    if low == high:
        made = ticks(low, high)
        assert made[0] <= low <= made[-1]
    else:
        assert ticks(low, high) == wanted


@given(FINITE, FINITE)
@example(0.0, 5e-324)
@example(1e6, 1e6 + 1e-9)
@example(-1e-200, 1e-200)
def test_ticks_span_the_values_in_equal_steps(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    made = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert 2 <= len(made) <= 14
    assert made[0] <= low + slack
    assert made[-1] >= high - slack
    steps = [y - x for x, y in pairwise(made)]
    assert min(steps) > 0
    assert max(steps) - min(steps) <= 1e-6 * max(abs(made[0]), abs(made[-1]))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(17, "17"), (12345, "12,345"), (0.0, "0"), (0.1234, "0.123"), (9.876, "9.88"), (12.34, "12.3"), (1234.5, "1,234"),
     (0.00012, "1.2e-04"), (math.nan, "–"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers(value: float, wanted: str) -> None:
    assert number(value) == wanted


def test_a_curve_is_where_its_values_are() -> None:
    figure = curves("Won", [Series("a", [(0, 0.0), (10, 1.0)])], x_label="turns", y_label="won", is_share=True)
    [line] = list(svg(figure).iter("polyline"))
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in line.get("points").split())
    grid = {e.get("y1") for e in svg(figure).iter("line") if e.get("class") == "grid"}
    # 0 % and 100 % lie on the lowest and the highest line of the grid.
    assert {f"{y0:.1f}", f"{y1:.1f}"} <= grid
    assert y0 == max(map(float, grid))
    assert y1 == min(map(float, grid))
    assert x0 < x1
    assert svg(figure).get("aria-label") == "Won. a: from 0.0% at 0 to 100.0% at 10."
    assert [e.text for e in svg(figure).iter("text") if e.get("text-anchor") == "end"][:2] == ["0%", "20%"]


def test_a_single_point_and_equal_values_can_be_drawn() -> None:
    for points in ([(3.0, 5.0)], [(0.0, 0.0), (1.0, 0.0)], [(1.0, 1e-12), (2.0, 1e12)], [(5.0, -1e-7), (6.0, -2e-7)]):
        text = curves("t", [Series("a", points)], x_label="x", y_label="y")
        assert "nan" not in text
        svg(text)


def test_every_line_has_a_name_a_colour_and_a_dash() -> None:
    lines = [Series(f"run {i}", [(0, i), (1, i)], note="last 1") for i in range(3)]
    figure = curves("t", lines, x_label="x", y_label="y")
    assert [e.get("class") for e in svg(figure).iter("polyline")] == ["line c0 d0", "line c1 d1", "line c2 d2"]
    assert re.findall(r"</svg> (run \d) <span", figure) == ["run 0", "run 1", "run 2"]


def test_columns_have_the_heights_of_their_shares() -> None:
    figure = histogram("Steps", {"a": [1, 1, 1, 3]}, x_label="steps", is_whole=True)
    columns = [float(e.get("height")) for e in svg(figure).iter("rect")]
    assert columns == [pytest.approx(3 * min(columns), abs=0.2), min(columns)]
    assert "median 1, mean 1.5, most 3" in figure


@given(st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=50), st.booleans())
def test_every_value_is_in_a_column(values: list[float], is_whole: bool) -> None:
    sample = [float(int(value)) for value in values] if is_whole else values
    figure = histogram("t", {"a": sample}, x_label="x", is_whole=is_whole)
    heights = [float(e.get("height")) for e in svg(figure).iter("rect")]
    top = max(float(e.get("y1")) for e in svg(figure).iter("line") if e.get("class") == "grid")
    bottom = min(float(e.get("y1")) for e in svg(figure).iter("line") if e.get("class") == "grid")
    labels = [e.text for e in svg(figure).iter("text") if e.get("text-anchor") == "end" and e.text.endswith("%")]
    scale = float(labels[-1].rstrip("%")) / 100 / (top - bottom)
    assert sum(heights) * scale == pytest.approx(1, abs=0.01 * len(heights))


def test_a_long_tail_is_gathered_and_said() -> None:
    figure = histogram("Time", {"a": [1.0] * 99 + [1000.0]}, x_label="s")
    assert "The last column holds 1 beyond the axis, up to 1,000." in figure


def test_samples_of_several_runs_are_outlines() -> None:
    figure = histogram("Time", {"a": [1.0, 2.0], "b": [], "c": [3.0]}, x_label="s")
    assert len(list(svg(figure).iter("polyline"))) == 3
    assert list(svg(figure).iter("rect")) == []
    assert ">nothing</span>" in figure


def test_an_interval_bar_is_drawn_to_scale() -> None:
    bar = ElementTree.fromstring(interval_bar(0.5, 0.25, 1.0))
    filled = [e for e in bar if e.get("class") == "column c0"]
    assert float(filled[0].get("width")) == pytest.approx(59, abs=0.1)
    assert [e.get("d") for e in bar if e.tag == "path"] == ["M30.5 7H119.0M30.5 3V11M119.0 3V11"]
    assert bar.get("aria-hidden") == "true"
