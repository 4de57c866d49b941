"""Charts inside a page: SVG that follows the page's light or dark theme.

Every chart is about as wide as a phone, one unit a CSS pixel, so that its text keeps its size;
a page lays them out in columns. Whatever stands in them is escaped, and each has a text
alternative that is given, since only who draws it knows what matters.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fer_bench.report.palette import BLUE, GREY

WIDTH = 380
LINE = 16
# Between the frame of a plot and the edge of its picture: on the left for ticks of up to six
# characters and the name of the axis beside them, below for ticks.
LEFT, RIGHT, TOP, BOTTOM = 54, 18, 8, 20
DASHES = ("", "7 3", "2 3", "9 3 2 3")

Interval = tuple[float, float, float]


def plain(value: float) -> str:
    """A tick as a plain number: `0.25`."""
    return f"{value:g}"


def percent(value: float) -> str:
    """A tick as a percentage: `25%`."""
    return f"{round(100 * value, 6):g}%"


@dataclass(frozen=True)
class Scale:
    """How the values from `low` to `high` lie along an axis.

    Attributes:
        label: what the axis shows, with its unit.
        written: how a tick is written.
        logarithmic: equal steps are equal ratios; `low` must be above 0.
    """

    low: float
    high: float
    label: str
    written: Callable[[float], str] = plain
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`, cut there."""
        low, high, value = (self._measure(number) for number in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def _measure(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value

    def ticks(self) -> list[float]:
        """About five round values between `low` and `high`."""
        decades = self.logarithmic and self.high >= 5 * self.low
        return _powers(self.low, self.high) if decades else _steps(self.low, self.high)


def _steps(low: float, high: float) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * place for place in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 100 * low else (1,)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in values if 0.999 * low <= value <= 1.001 * high]


def scale_around(
    values: Iterable[float],
    label: str,
    written: Callable[[float], str] = plain,
    within: tuple[float, float] = (-math.inf, math.inf),
    logarithmic: bool = False,
) -> Scale:
    """A scale that holds all finite `values` with some room, cut to `within`."""
    known = [value for value in values if math.isfinite(value)] or [0.1 if logarithmic else 0.0]
    low, high = min(known), max(known)
    if logarithmic:
        room = max((high / low) ** 0.12, 1.25)
        return Scale(low / room, high * room, label, written, logarithmic=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(max(low - room, within[0]), min(high + room, within[1]), label, written)


@dataclass(frozen=True)
class Series:
    """A line: its points (x, y) in order, of which those that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at `place`, with a name at its top."""

    place: float
    name: str
    dash: str = "2 3"


@dataclass(frozen=True)
class Dots:
    """One line of an interval chart: a name, and for each series (value, low, high) or None."""

    name: str
    cells: Sequence[Interval | None]
    colours: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """A class with its value in [0, 1] and its interval; NaN where one is not known."""

    name: str
    colour: str
    cell: Interval


@dataclass(frozen=True)
class Point:
    """A point of a scatter chart; `number` stands beside it, `name` appears on hovering."""

    number: int
    name: str
    x: float
    y: float
    low: float
    high: float
    leading: bool


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    name: str
    colour: str
    dash: str = ""


# Charts ----------------------------------------------------------------------------------------


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
        title: stands above.
        text: the text alternative.
        marks: vertical lines.
        height: of the frame.
    """
    plot = _Plot(*scales, height, TOP + (LINE * _mark_rows(marks)))
    drawn = [
        plot.frame(),
        *_marks(plot, marks),
        *(part for entry in series for part in _line(plot, entry)),
    ]
    keys = [Key(entry.name, entry.colour, entry.dash) for entry in series]
    return _figure(plot.picture(drawn, text), title, keys if len(series) > 1 else [])


def interval_chart(
    rows: Sequence[Dots], scale: Scale, title: str, text: str, keys: Sequence[Key] = ()
) -> Markup:
    """Values with their intervals, one row a name, the first on top.

    Short names stand on the left, long ones above their row.

    Args:
        rows: at least one, all with as many cells.
        scale: of the values.
        title: stands above.
        text: the text alternative.
        keys: what the cells of a row are, where there is more than one.
    """
    beside = max(len(row.name) for row in rows) <= 13
    cells = max(len(row.cells) for row in rows)
    step = 12 * cells + (10 if beside else 14 + LINE)
    plot = _Plot(scale, None, step * len(rows), TOP, 92 if beside else 12)
    drawn = [plot.frame()]
    for place, row in enumerate(rows):
        top = plot.top + step * place
        middle = top + (step / 2 if beside else LINE + 4 + 6 * cells)
        label = (plot.left - 8, middle + 4) if beside else (plot.left + 2, top + LINE - 2)
        drawn.append(_text(row.name, *label, anchor="end" if beside else "start"))
        for number, (cell, colour) in enumerate(zip(row.cells, row.colours, strict=True)):
            y = middle + 12 * (number - (cells - 1) / 2)
            drawn += _dot_with_interval(plot, cell, colour, y)
    return _figure(plot.picture(drawn, text), title, keys)


def class_chart(bars: Sequence[Bar], title: str, text: str) -> Markup:
    """A bar a class, from 0 to its share, with its interval and its value beside it.

    Args:
        bars: at least one.
        title: stands above.
        text: the text alternative.
    """
    step = 24
    plot = _Plot(Scale(0, 1, "", percent), None, step * len(bars), TOP, 92)
    drawn = [plot.frame()]
    for place, bar in enumerate(bars):
        top = plot.top + step * place
        value, low, high = bar.cell
        drawn.append(_text(bar.name, plot.left - 8, top + 16, anchor="end"))
        if not math.isfinite(value):
            drawn.append(_text("not defined", plot.left + 4, top + 16, size=11))
            continue
        width = plot.x(value) - plot.left
        drawn.append(_tag("rect", x=plot.left, y=top + 4, width=width, height=16, fill=bar.colour))
        if math.isfinite(low + high):
            drawn += _whisker(plot.x(low), plot.x(high), top + 12)
        drawn += _value_beside(plot, bar.cell, top + 16)
    return _figure(plot.picture(drawn, text), title, [])


def bar_chart(
    names: Sequence[str],
    bars: Sequence[tuple[Key, Sequence[int]]],
    label: str,
    title: str,
    text: str,
) -> Markup:
    """Horizontal bars of counts, as shares of their own series; the counts stand beside them.

    Args:
        names: of the rows.
        bars: (series, its count in each row).
        label: of the axis of shares.
        title: stands above.
        text: the text alternative.
    """
    totals = [sum(counts) or 1 for _, counts in bars]
    largest = max((max(counts) / total for (_, counts), total in zip(bars, totals, strict=True)))
    step = 14 * len(bars) + 8
    scale = Scale(0, 1.25 * largest or 1, label, percent)
    plot = _Plot(scale, None, step * len(names), TOP, 92)
    drawn = [plot.frame()]
    for place, name in enumerate(names):
        top = plot.top + step * place + 4
        drawn.append(_text(name, plot.left - 8, top + 7 * len(bars) + 4, anchor="end"))
        for number, ((key, counts), total) in enumerate(zip(bars, totals, strict=True)):
            end = plot.x(counts[place] / total)
            y = top + 14 * number
            box = {"x": plot.left, "y": y + 1, "width": end - plot.left, "height": 12}
            drawn.append(_tag("rect", **box, fill=key.colour))
            drawn.append(_text(f"{counts[place]:,}", end + 4, y + 11, size=10))
    return _figure(plot.picture(drawn, text), title, [key for key, _ in bars])


def scatter_chart(
    points: Sequence[Point], scales: tuple[Scale, Scale], title: str, text: str
) -> Markup:
    """Numbered points with vertical intervals; the leading ones filled and joined in steps.

    Args:
        points: at least one.
        scales: of x and of y.
        title: stands above.
        text: the text alternative.
    """
    plot = _Plot(*scales, 250, TOP)
    drawn = [plot.frame(), *_front(plot, [point for point in points if point.leading])]
    for point in points:
        x, colour = plot.x(point.x), BLUE if point.leading else GREY
        ends = {"y1": plot.y(point.low), "y2": plot.y(point.high)}
        drawn += [
            _tag("line", x1=x, x2=x, **ends, stroke=colour, stroke_width=1.5),
            _tag(
                "circle",
                _tag("title", f"{point.number} {point.name}"),
                cx=x,
                cy=plot.y(point.y),
                r=4.5,
                fill=colour,
                fill_opacity=1 if point.leading else 0.35,
                stroke=colour,
            ),
        ]
    drawn += _numbers_beside(plot, points)
    return _figure(plot.picture(drawn, text), title, [])


def reliability_chart(
    series: Sequence[tuple[Key, Sequence[tuple[float, float, int]]]], title: str, text: str
) -> Markup:
    """Accuracy against confidence, with how many samples have which confidence below.

    Args:
        series: (entry of the legend, its (mean confidence, accuracy, samples) in each bin).
        title: stands above.
        text: the text alternative.
    """
    axis = Scale(0, 1, "", percent)
    plot = _Plot(axis, Scale(0, 1, "accuracy", percent), 250, TOP)
    diagonal = Series("", [(0, 0), (1, 1)], GREY, "2 3")
    drawn = [plot.frame(labels_below=False), *_line(plot, diagonal)]
    for key, bins in series:
        points = [(confidence, accuracy) for confidence, accuracy, n in bins if n]
        drawn += _line(plot, Series(key.name, points, key.colour, key.dash, dots=True))
    most = max((n for _, bins in series for *_, n in bins), default=1) or 1
    below = _Plot(
        Scale(0, 1, "confidence of the predicted class", percent),
        Scale(0, 1.1 * most, "samples", lambda n: f"{n:,.0f}"),
        60,
        plot.top + plot.height + 10,
    )
    drawn.append(below.frame())
    for place, (key, bins) in enumerate(series):
        drawn += _columns(below, key.colour, [n for *_, n in bins], (place, len(series)))
    keys = [key for key, _ in series] if len(series) > 1 else []
    return _figure(below.picture(drawn, text), title, keys)


def density_chart(
    across: NDArray[np.float64],
    up: NDArray[np.float64],
    labels: tuple[str, str],
    title: str,
    text: str,
) -> Markup:
    """How many samples lie where in the square from -1 to 1, darker where more do.

    Args:
        across: shape (n,), in [-1, 1].
        up: the same for the other axis.
        labels: of both axes.
        title: stands above.
        text: the text alternative.
    """
    scales = [Scale(-1, 1, label) for label in labels]
    plot = _Plot(scales[0], scales[1], WIDTH - LEFT - RIGHT, TOP)
    drawn = [plot.frame(), *_line(plot, Series("", [(-1, -1), (1, 1)], GREY, "2 3"))]
    counts, _, _ = np.histogram2d(across, up, bins=41, range=[[-1, 1], [-1, 1]])
    # Five steps of a logarithmic scale: one path each keeps the page small.
    steps = np.ceil(5 * np.log1p(counts) / np.log1p(max(counts.max(), 1))).astype(int)
    side = (WIDTH - LEFT - RIGHT) / 41
    for step in range(1, 6):
        corners = [
            (plot.left + side * i, plot.top + plot.height - side * (j + 1))
            for i, j in np.argwhere(steps == step)
        ]
        path = "".join(f"M{x:.1f} {y:.1f}h{side:.2f}v{side:.2f}h-{side:.2f}z" for x, y in corners)
        if path:
            drawn.append(_tag("path", d=path, fill=BLUE, fill_opacity=0.2 * step))
    return _figure(plot.picture(drawn, text), title, [])


# Pieces ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plot:
    """A frame in a picture: what turns values into places. `across` is x, `up` is y."""

    across: Scale
    up: Scale | None
    height: float
    top: float
    left: float = LEFT

    def x(self, value: float) -> float:
        return self.left + (WIDTH - RIGHT - self.left) * self.across.share(value)

    def y(self, value: float) -> float:
        share = self.up.share(value) if self.up else 0.0
        return self.top + self.height * (1 - share)

    def frame(self, labels_below: bool = True) -> Markup:
        """The grid with its ticks and the names of the axes."""
        bottom, right = self.top + self.height, WIDTH - RIGHT
        parts = []
        for tick in self.across.ticks():
            x = self.x(tick)
            parts.append(_tag("line", x1=x, x2=x, y1=self.top, y2=bottom, class_="grid"))
            if labels_below:
                parts.append(_text(self.across.written(tick), x, bottom + 14, "middle", 11))
        for tick in self.up.ticks() if self.up else ():
            y = self.y(tick)
            parts.append(_tag("line", x1=self.left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(_text(self.up.written(tick), self.left - 5, y + 4, "end", 11))  # type: ignore[union-attr]
        if labels_below and self.across.label:
            middle = (self.left + right) / 2
            parts.append(_text(self.across.label, middle, bottom + 31, "middle", 12))
        if self.up and self.up.label:
            place = (10, self.top + self.height / 2)
            turned = f"rotate(-90 {place[0]:g} {place[1]:g})"
            parts.append(_text(self.up.label, *place, "middle", 12, transform=turned))
        return Markup("").join(parts)

    def picture(self, parts: Iterable[Markup], text: str) -> Markup:
        height = round(self.top + self.height + BOTTOM + (18 if self.across.label else 0))
        box = f"0 0 {WIDTH} {height}"
        return _tag(
            "svg", Markup("").join(parts), viewBox=box, role="img", aria_label=text, width=WIDTH
        )


def _figure(picture: Markup, title: str, keys: Sequence[Key]) -> Markup:
    entries = Markup("").join(
        Markup("<li>{} {}</li>").format(_swatch(key), key.name) for key in keys
    )
    legend = Markup('<ul class="legend">{}</ul>').format(entries) if keys else ""
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}{}</figure>').format(
        title, picture, legend
    )


def _swatch(key: Key) -> Markup:
    dash = {"stroke_dasharray": key.dash} if key.dash else {}
    line = _tag("line", x1=0, x2=26, y1=5, y2=5, stroke=key.colour, stroke_width=4, **dash)
    return _tag("svg", line, viewBox="0 0 26 10", width=26, height=10, aria_hidden="true")


def _line(plot: _Plot, series: Series) -> list[Markup]:
    known = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    places = [(plot.x(x), plot.y(y)) for x, y in known]
    dash = {"stroke_dasharray": series.dash} if series.dash else {}
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = _tag("polyline", points=path, fill="none", stroke=series.colour, stroke_width=2, **dash)
    # A line of a single point would not be seen.
    dots = places if series.dots or len(places) == 1 else []
    return [line, *(_tag("circle", cx=x, cy=y, r=3, fill=series.colour) for x, y in dots)]


def _marks(plot: _Plot, marks: Sequence[Mark]) -> list[Markup]:
    parts = []
    rows = _mark_rows(marks)
    for number, mark in enumerate(marks):
        x, row = plot.x(mark.place), number % rows
        top = plot.top - LINE * (rows - row) + 4
        ends = {"y1": top, "y2": plot.top + plot.height}
        parts.append(_tag("line", x1=x, x2=x, **ends, class_="mark", stroke_dasharray=mark.dash))
        right = x > plot.left + 0.72 * (WIDTH - RIGHT - plot.left)
        place = (x - 4, "end") if right else (x + 4, "start")
        parts.append(_text(mark.name, place[0], top + 8, place[1], 11))
    return parts


def _mark_rows(marks: Sequence[Mark]) -> int:
    """Neighbours stand on different heights, so that short stages don't write over each other."""
    return min(len(marks), 3)


def _dot_with_interval(
    plot: _Plot, cell: Interval | None, colour: str, y: float
) -> Iterable[Markup]:
    if cell is None or not all(map(math.isfinite, cell)):
        return
    value, low, high = map(plot.x, cell)
    yield _tag("line", x1=low, x2=high, y1=y, y2=y, stroke=colour, stroke_width=2.5)
    for end in (low, high):
        yield _tag("line", x1=end, x2=end, y1=y - 3.5, y2=y + 3.5, stroke=colour, stroke_width=2)
    yield _tag("circle", cx=value, cy=y, r=4, fill=colour)


def _whisker(low: float, high: float, y: float) -> Iterable[Markup]:
    """An interval that is seen on a bar of any colour and beside it: dark on a light edge."""
    for colour, width in (("halo", 4), ("ink", 1.5)):
        yield _tag("line", x1=low, x2=high, y1=y, y2=y, class_=colour, stroke_width=width)


def _value_beside(plot: _Plot, cell: Interval, y: float) -> Iterable[Markup]:
    """The value to the right of its bar and interval or, where there is no room, at the left."""
    end = plot.x(max(number for number in cell if math.isfinite(number)))
    room = WIDTH - RIGHT - end > 34
    x = end + 5 if room else plot.left + 5
    yield _text(f"{cell[0]:.1%}", x, y, size=11, class_="" if room else "edged")


def _front(plot: _Plot, points: Sequence[Point]) -> list[Markup]:
    """The points joined in steps, from left to right."""
    places = [(plot.x(point.x), plot.y(point.y)) for point in sorted(points, key=lambda p: p.x)]
    if len(places) < 2:
        return []
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    for (_, before), (x, y) in itertools.pairwise(places):
        # Between two points stands what can be had: the lower of them.
        path += f"H{x:.1f}V{y:.1f}" if y < before else f"V{y:.1f}H{x:.1f}"
    return [_tag("path", d=path, fill="none", stroke=BLUE, stroke_dasharray="4 3")]


def _numbers_beside(plot: _Plot, points: Sequence[Point]) -> Iterable[Markup]:
    """The number of each point, where the numbers before it have left room."""
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
        yield _text(str(point.number), *taken[-1], size=11)


def _columns(
    plot: _Plot, colour: str, counts: Sequence[int], share: tuple[int, int]
) -> list[Markup]:
    """The columns of one of several histograms that stand side by side in the same bins."""
    place, of = share
    width = (WIDTH - RIGHT - plot.left) / len(counts)
    return [
        _tag(
            "rect",
            x=plot.left + width * (number + 0.1 + 0.8 * place / of),
            y=plot.y(count),
            width=0.8 * width / of,
            height=plot.top + plot.height - plot.y(count),
            fill=colour,
        )
        for number, count in enumerate(counts)
        if count
    ]


def _text(
    content: str, x: float, y: float, anchor: str = "start", size: int = 12, **more: str
) -> Markup:
    return _tag("text", content, x=x, y=y, text_anchor=anchor, font_size=size, **more)


def _tag(name: str, content: str = "", /, **attributes: str | float) -> Markup:
    """An element; what is not Markup is escaped. `class_` is `class`, `a_b` is `a-b`."""
    written = Markup("").join(
        Markup(' {}="{}"').format(_attribute(key), _number(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, content)


def _attribute(key: str) -> str:
    return key.removesuffix("_").replace("_", "-")


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
