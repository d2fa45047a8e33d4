"""SVG charts for HTML pages: line charts with bands, histograms, a rate with its interval.

Colours are classes of the pages' style sheet, so a chart follows the light, dark and print styles. Coordinates are
rounded to a tenth of a unit, so equal data give equal text. Every chart has a text alternative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import NamedTuple

from markupsafe import Markup

from sdar_benchmarks.reports.markup import Table, attribute, render

__all__ = ["Series", "curves", "histogram", "interval_bar", "number", "ticks"]

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 42
_COLOURS = 6
_BINS = 24

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart.

    Attributes:
        label: name in the legend.
        points: (x, y), by rising x.
        raw: the unsmoothed points, drawn faintly.
        band: (x, low, high) of the uncertainty, drawn as an area.
        note: text after the label, such as the last value.
    """

    label: str
    points: Sequence[Point]
    raw: Sequence[Point] = ()
    band: Sequence[tuple[float, float, float]] = ()
    note: str = ""


def number(value: float) -> str:
    """Return a number for people: integers in full, others with about three significant digits."""
    if not math.isfinite(value):
        return "–"
    if value == int(value):
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.01:
        return f"{value:.3g}"
    return f"{value:.1e}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Axis ticks from at most `low` to at least `high`, in steps of 1, 2, 2.5 or 5 times a power of 10.

    Limits that differ by less than a billionth, or by less than 1e-290, are treated as equal.

    Args:
        low: finite.
        high: finite, at least `low`.
        most: approximate number of ticks.
    """
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-9 * largest, 1e-290):
        half = largest / 2 if largest > 1e-290 else 0.5
        low, high = low - half, high + half
    step = (high - low) / max(1, most - 1)
    exponent = math.floor(math.log10(step))
    power = 10.0**exponent
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 2 - exponent) for i in range(first, last + 1)]


@dataclass(slots=True)
class _Plot:
    """Axes of a chart and the elements drawn in them."""

    x_range: Point
    y_ticks: Sequence[float]
    x_label: str
    y_label: str
    is_share: bool = False
    marks: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def line(self, points: Sequence[Point], class_: str) -> None:
        drawn = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.marks.append(f'<polyline class="{class_}" points="{drawn}"/>')

    def area(self, band: Sequence[tuple[float, float, float]], class_: str) -> None:
        outline = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        drawn = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in outline)
        self.marks.append(f'<polygon class="{class_}" points="{drawn}"/>')

    def column(self, left: float, right: float, height: float, class_: str) -> None:
        x, y = self.x(left), self.y(height)
        width = max(0.5, self.x(right) - x - 1)
        self.marks.append(
            f'<rect class="{class_}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{self.y(self.y_ticks[0]) - y:.1f}"/>'
        )

    def svg(self, says: str) -> str:
        bottom = _HEIGHT - _BOTTOM
        parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{attribute(says)}">']
        for value, label in zip(self.y_ticks, _labels(self.y_ticks, is_share=self.is_share), strict=True):
            y = f"{self.y(value):.1f}"
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{label}</text>')
        x_ticks = ticks(*self.x_range)
        for value, label in zip(x_ticks, _labels(x_ticks), strict=True):
            if not self.x_range[0] <= value <= self.x_range[1]:
                continue
            x = f"{self.x(value):.1f}"
            parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>')
            anchor = "end" if self.x(value) > _WIDTH - _RIGHT - 16 else "middle"
            parts.append(f'<text class="tick" x="{x}" y="{bottom + 17}" text-anchor="{anchor}">{label}</text>')
        parts += self.marks
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        place = f'x="{middle:.1f}" y="{_HEIGHT - 6}"'
        parts.append(f'<text class="label" {place} text-anchor="middle">{attribute(self.x_label)}</text>')
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<text class="label" transform="translate(10 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{attribute(self.y_label)}</text>"
        )
        return "".join([*parts, "</svg>"])


def curves(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    is_share: bool = False,
    from_zero: bool = False,
    numbers: Table | None = None,
) -> Markup:
    """Line chart: several series in one pair of axes.

    Args:
        title: caption of the figure.
        series: at least one point in all of them together.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis.
        is_share: the values are shares, 0 to 1, shown in per cent; the axis covers all of that range.
        from_zero: whether the horizontal axis begins at 0.
        numbers: the values as a table, folded below the chart.
    """
    points = [point for line in series for point in (*line.points, *line.raw)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left = 0.0 if from_zero else min(xs)
    x_range = (left, max(xs) if max(xs) > left else left + 1)
    y_ticks = ticks(0.0, 1.0) if is_share else ticks(min(ys), max(ys))
    plot = _Plot(x_range, y_ticks, x_label, y_label, is_share)
    for i, line in enumerate(series):
        if line.band:
            plot.area(line.band, f"band c{i % _COLOURS}")
    for i, line in enumerate(series):
        if line.raw:
            plot.line(line.raw, f"raw c{i % _COLOURS}")
    for i, line in enumerate(series):
        plot.line(line.points, f"line c{i % _COLOURS} d{i % _COLOURS}")
    said = [f"{line.label}: {_course(line.points, is_share=is_share)}" for line in series if line.points]
    legend = [_Key(i % _COLOURS, line.label, line.note) for i, line in enumerate(series)]
    named = len(series) > 1 or any(line.note for line in series)
    return _figure(title, plot.svg(f"{title}. {'; '.join(said)}."), legend if named else [], numbers)


def histogram(title: str, samples: Mapping[str, Sequence[float]], *, x_label: str, is_whole: bool = False) -> Markup:
    """Histogram of one sample, as columns, or of several, as outlines.

    A long tail is gathered in the last column, and the legend says so.

    Args:
        title: caption of the figure.
        samples: values by name, at least one in all of them together; none negative.
        x_label: label of the horizontal axis, with the unit.
        is_whole: whether the values are integers.
    """
    values = sorted(value for sample in samples.values() for value in sample)
    top, tail = values[-1], values[int(0.98 * (len(values) - 1))]
    cut = tail if top > 3 * tail > 0 else top
    edges = ticks(0.0, max(cut, 1.0 if is_whole else 1e-9), _BINS)
    if is_whole and edges[1] < 1:
        edges = [float(edge) for edge in range(int(max(cut, 1)) + 2)]
    if is_whole and edges[-1] <= cut:
        # The largest whole number needs a column of its own to the right of its edge.
        edges.append(2 * edges[-1] - edges[-2])
    step, last = edges[1] - edges[0], len(edges) - 2
    shares: dict[str, list[float]] = {}
    for name, sample in samples.items():
        counts = [0] * (last + 1)
        for value in sample:
            counts[min(last, int(value / step + 1e-9))] += 1
        shares[name] = [count / max(1, len(sample)) for count in counts]
    y_ticks = ticks(0.0, max(max(heights) for heights in shares.values()), 5)
    plot = _Plot((edges[0], edges[-1]), y_ticks, x_label, "share of episodes", is_share=True)
    for i, heights in enumerate(shares.values()):
        if len(shares) == 1:
            for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
                if height:
                    plot.column(left, right, height, f"column c{i}")
        else:
            outline = [
                (edge, h)
                for left, right, h in zip(edges[:-1], edges[1:], heights, strict=True)
                for edge in (left, right)
            ]
            plot.line([(edges[0], 0.0), *outline, (edges[-1], 0.0)], f"line c{i % _COLOURS} d{i % _COLOURS}")
    said = {name: _spread(sample) for name, sample in samples.items() if sample}
    beyond = sum(value > edges[-1] for value in values)
    rest = f" The last column holds {beyond} beyond the axis, up to {number(top)}." if beyond else ""
    if len(shares) == 1:
        legend = [_Key(None, f"{next(iter(said.values()))}.{rest}")]
    else:
        legend = [_Key(i % _COLOURS, name, said.get(name, "nothing")) for i, name in enumerate(samples)]
        legend += [_Key(None, rest)] if rest else []
    words = "; ".join(f"{name}: {spread}" for name, spread in said.items())
    return _figure(title, plot.svg(f"{title}. {words}.{rest}"), legend)


def interval_bar(value: float, low: float, high: float) -> Markup:
    """Small bar of a share, 0 to 1, with its interval, for a table that also has the numbers."""
    width = 120
    middle, left, right = (f"{1 + share * (width - 2):.1f}" for share in (value, low, high))
    return Markup(
        f'<svg class="share" viewBox="0 0 {width} 14" width="{width}" height="14" aria-hidden="true">'
        f'<rect class="rail" x="1" y="3" width="{width - 2}" height="8"/>'
        f'<rect class="column c0" x="1" y="3" width="{float(middle) - 1:.1f}" height="8"/>'
        f'<path class="whisker" d="M{left} 7H{right}M{left} 3V11M{right} 3V11"/></svg>'
    )


class _Key(NamedTuple):
    """An entry of a legend; `colour` None has no line before it."""

    colour: int | None
    label: str
    note: str = ""


def _figure(title: str, svg: str, legend: Sequence[_Key], numbers: Table | None = None) -> Markup:
    return Markup(render("figure.html", title=title, svg=Markup(svg), legend=legend, numbers=numbers))


def _labels(values: Sequence[float], *, is_share: bool = False) -> list[str]:
    """Return the labels of an axis, all with the smallest number of decimals that tells them apart."""
    factor, unit = (100.0, "%") if is_share else (1.0, "")
    step = (values[1] - values[0]) * factor
    largest = max(abs(value) for value in values) * factor
    if largest >= 1e6 or step < 1e-4:
        return [f"{value * factor:.3g}{unit}" for value in values]
    decimals = next(d for d in range(6) if abs(round(step, d) - step) < 1e-9 * max(1.0, step) or d == 5)
    return [f"{value * factor:,.{decimals}f}{unit}" for value in values]


def _course(points: Sequence[Point], *, is_share: bool) -> str:
    def say(value: float) -> str:
        return f"{value:.1%}" if is_share else number(value)

    (first_x, first), (last_x, last) = points[0], points[-1]
    return f"from {say(first)} at {number(first_x)} to {say(last)} at {number(last_x)}"


def _spread(sample: Sequence[float]) -> str:
    return f"median {number(median(sample))}, mean {number(fmean(sample))}, most {number(max(sample))}"
