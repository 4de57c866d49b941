"""The charts of a page: SVG that follows the light or dark theme of the page.

Every chart is about as wide as a phone, so that its text keeps its size; a page arranges them in
columns. All text is escaped. Each chart has a title and a text alternative, which the caller
gives, since only the caller knows what matters.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fer_bench.report import plots
from fer_bench.report.pages.scales import Scale, percent
from fer_bench.report.pages.svg import (
    LEFT,
    LINE,
    RIGHT,
    TOP,
    WIDTH,
    Interval,
    Key,
    Plot,
    Series,
    curve,
    figure,
    tag,
    text_at,
)
from fer_bench.report.palette import BLUE, GREY

DASHES = ("", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Mark:
    """A vertical line at `place`, with a name at its top."""

    place: float
    name: str
    dash: str = "2 3"


def line_chart(
    series: Sequence[Series],
    scales: tuple[Scale, Scale],
    title: str,
    text: str,
    marks: Sequence[Mark] = (),
    height: int = 210,
) -> Markup:
    """Lines in a frame, with a legend below when there is more than one.

    Args:
        series: the lines.
        scales: of x and of y.
        title: of the figure.
        text: the text alternative.
        marks: vertical lines.
        height: of the frame.
    """
    plot = Plot(*scales, height, TOP + (LINE * _mark_rows(marks)))
    drawn = [
        plot.frame(),
        *_marks(plot, marks),
        *(part for entry in series for part in curve(plot, entry)),
    ]
    keys = [Key(entry.name, entry.colour, entry.dash) for entry in series]
    return figure(plot.picture(drawn, text), title, keys if len(series) > 1 else [])


def _marks(plot: Plot, marks: Sequence[Mark]) -> list[Markup]:
    parts = []
    rows = _mark_rows(marks)
    for number, mark in enumerate(marks):
        x, row = plot.x(mark.place), number % rows
        top = plot.top - LINE * (rows - row) + 4
        ends = {"y1": top, "y2": plot.top + plot.height}
        parts.append(tag("line", x1=x, x2=x, **ends, class_="mark", stroke_dasharray=mark.dash))
        right = x > plot.left + 0.72 * (WIDTH - RIGHT - plot.left)
        place = (x - 4, "end") if right else (x + 4, "start")
        parts.append(text_at(mark.name, place[0], top + 8, place[1], 11))
    return parts


def _mark_rows(marks: Sequence[Mark]) -> int:
    """The names of neighbours have different heights, so that they do not overlap."""
    return min(len(marks), 3)


@dataclass(frozen=True)
class Dots:
    """One row of an interval chart: a name, and for each series (value, low, high) or None."""

    name: str
    cells: Sequence[Interval | None]
    colours: Sequence[str]


def interval_chart(
    rows: Sequence[Dots], scale: Scale, title: str, text: str, keys: Sequence[Key] = ()
) -> Markup:
    """Values with their intervals, one row per name, from top to bottom.

    Short names are on the left, long ones above their row.

    Args:
        rows: at least one, all with the same number of cells.
        scale: of the values.
        title: of the figure.
        text: the text alternative.
        keys: the legend of the cells of a row, if there is more than one.
    """
    beside = max(len(row.name) for row in rows) <= 13
    cells = max(len(row.cells) for row in rows)
    step = 12 * cells + (10 if beside else 14 + LINE)
    plot = Plot(scale, None, step * len(rows), TOP, 92 if beside else 12)
    drawn = [plot.frame()]
    for index, row in enumerate(rows):
        top = plot.top + step * index
        middle = top + (step / 2 if beside else LINE + 4 + 6 * cells)
        place = (plot.left - 8, middle + 4) if beside else (plot.left + 2, top + LINE - 2)
        drawn.append(text_at(row.name, *place, anchor="end" if beside else "start"))
        for number, (cell, colour) in enumerate(zip(row.cells, row.colours, strict=True)):
            y = middle + 12 * (number - (cells - 1) / 2)
            drawn += _dot_with_interval(plot, cell, colour, y)
    return figure(plot.picture(drawn, text), title, keys)


def _dot_with_interval(
    plot: Plot, cell: Interval | None, colour: str, y: float
) -> Iterable[Markup]:
    if cell is None or not all(map(math.isfinite, cell)):
        return
    value, low, high = map(plot.x, cell)
    yield tag("line", x1=low, x2=high, y1=y, y2=y, stroke=colour, stroke_width=2.5)
    for end in (low, high):
        yield tag("line", x1=end, x2=end, y1=y - 3.5, y2=y + 3.5, stroke=colour, stroke_width=2)
    yield tag("circle", cx=value, cy=y, r=4, fill=colour)


@dataclass(frozen=True)
class Bar:
    """A class with its value in [0, 1] and its interval; NaN where one is not known."""

    name: str
    colour: str
    cell: Interval


def class_chart(bars: Sequence[Bar], title: str, text: str) -> Markup:
    """One bar per class, from 0 to its value, with its interval and the value beside it.

    Args:
        bars: at least one.
        title: of the figure.
        text: the text alternative.
    """
    step = 24
    plot = Plot(Scale(0, 1, "", percent), None, step * len(bars), TOP, 92)
    drawn = [plot.frame()]
    for place, bar in enumerate(bars):
        top = plot.top + step * place
        value, low, high = bar.cell
        drawn.append(text_at(bar.name, plot.left - 8, top + 16, anchor="end"))
        if not math.isfinite(value):
            drawn.append(text_at("not defined", plot.left + 4, top + 16, size=11))
            continue
        width = plot.x(value) - plot.left
        drawn.append(tag("rect", x=plot.left, y=top + 4, width=width, height=16, fill=bar.colour))
        if math.isfinite(low + high):
            drawn += _whisker(plot.x(low), plot.x(high), top + 12)
        drawn += _value_beside(plot, bar.cell, top + 16)
    return figure(plot.picture(drawn, text), title, [])


def _whisker(low: float, high: float, y: float) -> Iterable[Markup]:
    """An interval that is visible on a bar of any colour and beside it: dark on a light edge."""
    for colour, width in (("halo", 4), ("ink", 1.5)):
        yield tag("line", x1=low, x2=high, y1=y, y2=y, class_=colour, stroke_width=width)


def _value_beside(plot: Plot, cell: Interval, y: float) -> Iterable[Markup]:
    """The value to the right of its bar and interval or, if there is no room, on the bar."""
    end = plot.x(max(number for number in cell if math.isfinite(number)))
    room = WIDTH - RIGHT - end > 34
    x = end + 5 if room else plot.left + 5
    yield text_at(f"{cell[0]:.1%}", x, y, size=11, class_="" if room else "edged")


def bar_chart(
    names: Sequence[str],
    bars: Sequence[tuple[Key, Sequence[int]]],
    label: str,
    title: str,
    text: str,
) -> Markup:
    """Horizontal bars of counts as shares of their series, with the counts beside them.

    Args:
        names: of the rows.
        bars: (series, its count in each row).
        label: of the axis of shares.
        title: of the figure.
        text: the text alternative.
    """
    totals = [sum(counts) or 1 for _, counts in bars]
    largest = max((max(counts) / total for (_, counts), total in zip(bars, totals, strict=True)))
    step = 14 * len(bars) + 8
    scale = Scale(0, 1.25 * largest or 1, label, percent)
    plot = Plot(scale, None, step * len(names), TOP, 92)
    drawn = [plot.frame()]
    for place, name in enumerate(names):
        top = plot.top + step * place + 4
        drawn.append(text_at(name, plot.left - 8, top + 7 * len(bars) + 4, anchor="end"))
        for number, ((key, counts), total) in enumerate(zip(bars, totals, strict=True)):
            end = plot.x(counts[place] / total)
            y = top + 14 * number
            box = {"x": plot.left, "y": y + 1, "width": end - plot.left, "height": 12}
            drawn.append(tag("rect", **box, fill=key.colour))
            drawn.append(text_at(f"{counts[place]:,}", end + 4, y + 11, size=10))
    return figure(plot.picture(drawn, text), title, [key for key, _ in bars])


@dataclass(frozen=True)
class Point:
    """A point of a scatter chart; `number` is beside it, `name` appears on hovering."""

    number: int
    name: str
    x: float
    y: float
    low: float
    high: float
    leading: bool


def scatter_chart(
    points: Sequence[Point], scales: tuple[Scale, Scale], title: str, text: str
) -> Markup:
    """Numbered points with vertical intervals; the leading ones filled and joined in steps.

    Args:
        points: at least one.
        scales: of x and of y.
        title: of the figure.
        text: the text alternative.
    """
    plot = Plot(*scales, 250, TOP)
    drawn = [plot.frame(), *_front(plot, [point for point in points if point.leading])]
    for point in points:
        x, colour = plot.x(point.x), BLUE if point.leading else GREY
        ends = {"y1": plot.y(point.low), "y2": plot.y(point.high)}
        drawn += [
            tag("line", x1=x, x2=x, **ends, stroke=colour, stroke_width=1.5),
            tag(
                "circle",
                tag("title", f"{point.number} {point.name}"),
                cx=x,
                cy=plot.y(point.y),
                r=4.5,
                fill=colour,
                fill_opacity=1 if point.leading else 0.35,
                stroke=colour,
            ),
        ]
    drawn += _numbers_beside(plot, points)
    return figure(plot.picture(drawn, text), title, [])


def _front(plot: Plot, points: Sequence[Point]) -> list[Markup]:
    """The points joined in steps, from left to right."""
    places = [(plot.x(point.x), plot.y(point.y)) for point in sorted(points, key=lambda p: p.x)]
    if len(places) < 2:
        return []
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    for (_, before), (x, y) in itertools.pairwise(places):
        # Between two points the step is at the lower of them.
        path += f"H{x:.1f}V{y:.1f}" if y < before else f"V{y:.1f}H{x:.1f}"
    return [tag("path", d=path, fill="none", stroke=BLUE, stroke_dasharray="4 3")]


def _numbers_beside(plot: Plot, points: Sequence[Point]) -> Iterable[Markup]:
    """The number of each point, in a place that the numbers before it have left free."""
    taken: list[tuple[float, float]] = []
    for point in points:
        x, y = plot.x(point.x), plot.y(point.y) + 4
        around = [(x + 7, y), (x - 15, y), (x + 7, y - 11), (x + 7, y + 11), (x - 15, y - 11)]
        free = (
            place
            for place in around
            if all(abs(place[0] - a) > 12 or abs(place[1] - b) > 10 for a, b in taken)
        )
        taken.append(next(free, around[0]))
        yield text_at(str(point.number), *taken[-1], size=11)


def reliability_chart(
    series: Sequence[tuple[Key, Sequence[tuple[float, float, int]]]], title: str, text: str
) -> Markup:
    """Accuracy against confidence, and below the number of samples by confidence.

    Args:
        series: (entry of the legend, its (mean confidence, accuracy, samples) in each bin).
        title: of the figure.
        text: the text alternative.
    """
    axis = Scale(0, 1, "", percent)
    plot = Plot(axis, Scale(0, 1, "accuracy", percent), 250, TOP)
    diagonal = Series("", [(0, 0), (1, 1)], GREY, "2 3")
    drawn = [plot.frame(labels_below=False), *curve(plot, diagonal)]
    for key, bins in series:
        points = [(confidence, accuracy) for confidence, accuracy, n in bins if n]
        drawn += curve(plot, Series(key.name, points, key.colour, key.dash, dots=True))
    most = max((n for _, bins in series for *_, n in bins), default=1) or 1
    below = Plot(
        Scale(0, 1, "confidence of the predicted class", percent),
        Scale(0, 1.1 * most, "samples", lambda n: f"{n:,.0f}"),
        60,
        plot.top + plot.height + 10,
    )
    drawn.append(below.frame())
    for index, (key, bins) in enumerate(series):
        drawn += _columns(below, key.colour, [n for *_, n in bins], index, len(series))
    keys = [key for key, _ in series] if len(series) > 1 else []
    return figure(below.picture(drawn, text), title, keys)


def _columns(
    plot: Plot, colour: str, counts: Sequence[int], index: int, histograms: int
) -> list[Markup]:
    """The columns of one of several histograms, which are side by side in the same bins."""
    width = (WIDTH - RIGHT - plot.left) / len(counts)
    return [
        tag(
            "rect",
            x=plot.left + width * (number + 0.1 + 0.8 * index / histograms),
            y=plot.y(count),
            width=0.8 * width / histograms,
            height=plot.top + plot.height - plot.y(count),
            fill=colour,
        )
        for number, count in enumerate(counts)
        if count
    ]


def density_chart(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    labels: tuple[str, str],
    title: str,
    text: str,
) -> Markup:
    """The density of samples in the square from -1 to 1; darker cells have more.

    Args:
        x: shape (n,), in [-1, 1].
        y: the same for the other axis.
        labels: of both axes.
        title: of the figure.
        text: the text alternative.
    """
    scales = [Scale(-1, 1, label) for label in labels]
    plot = Plot(scales[0], scales[1], WIDTH - LEFT - RIGHT, TOP)
    drawn = [plot.frame(), *curve(plot, Series("", [(-1, -1), (1, 1)], GREY, "2 3"))]
    counts, _ = plots.density(x, y)
    # Five steps of a logarithmic scale: one path per step keeps the page small.
    steps = np.ceil(5 * np.log1p(counts) / np.log1p(max(counts.max(), 1))).astype(int)
    side = (WIDTH - LEFT - RIGHT) / plots.DENSITY_BINS
    for step in range(1, 6):
        corners = [
            (plot.left + side * i, plot.top + plot.height - side * (j + 1))
            for i, j in np.argwhere(steps == step)
        ]
        path = "".join(
            f"M{left:.1f} {top:.1f}h{side:.2f}v{side:.2f}h-{side:.2f}z" for left, top in corners
        )
        if path:
            drawn.append(tag("path", d=path, fill=BLUE, fill_opacity=0.2 * step))
    return figure(plot.picture(drawn, text), title, [])
