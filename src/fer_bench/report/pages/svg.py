"""The parts of a chart: frame, lines, legend and text as escaped SVG elements.

One unit is one CSS pixel.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fer_bench.report.pages.scales import Scale

WIDTH = 380
LINE = 16
# Between the frame of a plot and the edge of the picture: on the left for ticks of up to six
# characters and the name of the axis, below for ticks.
LEFT, RIGHT, TOP, BOTTOM = 54, 18, 8, 20

Interval = tuple[float, float, float]


def interval(cell: Mapping[str, float | None] | None) -> Interval | None:
    """A cell of a metrics file as (value, low, high); None if a part of it is not defined."""
    if not cell:
        return None
    value, low, high = (cell.get(part) for part in ("value", "low", "high"))
    return None if value is None or low is None or high is None else (value, low, high)


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    name: str
    colour: str
    dash: str = ""


@dataclass(frozen=True)
class Series:
    """A line through points (x, y) in order; points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Plot:
    """The frame of a plot, which turns values into places in the picture.

    Attributes:
        across: the scale of x.
        up: the scale of y; None for rows of names.
        height: of the frame, as `top` and `left` in pixels.
    """

    across: Scale
    up: Scale | None
    height: float
    top: float
    left: float = LEFT

    def x(self, value: float) -> float:
        """The horizontal place of a value."""
        return self.left + (WIDTH - RIGHT - self.left) * self.across.share(value)

    def y(self, value: float) -> float:
        """The vertical place of a value."""
        share = self.up.share(value) if self.up else 0.0
        return self.top + self.height * (1 - share)

    def frame(self, labels_below: bool = True) -> Markup:
        """The grid with its ticks and the names of the axes."""
        bottom, right = self.top + self.height, WIDTH - RIGHT
        parts = []
        for tick, written in self.across.written_ticks():
            x = self.x(tick)
            parts.append(tag("line", x1=x, x2=x, y1=self.top, y2=bottom, class_="grid"))
            if labels_below:
                parts.append(text_at(written, x, bottom + 14, "middle", 11))
        for tick, written in self.up.written_ticks() if self.up else ():
            y = self.y(tick)
            parts.append(tag("line", x1=self.left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(text_at(written, self.left - 5, y + 4, "end", 11))
        if labels_below and self.across.label:
            middle = (self.left + right) / 2
            parts.append(text_at(self.across.label, middle, bottom + 31, "middle", 12))
        if self.up and self.up.label:
            place = (10, self.top + self.height / 2)
            turned = f"rotate(-90 {place[0]:g} {place[1]:g})"
            parts.append(text_at(self.up.label, *place, "middle", 12, transform=turned))
        return Markup("").join(parts)

    def picture(self, parts: Iterable[Markup], text: str) -> Markup:
        """The complete SVG of `parts`, with its text alternative."""
        height = round(self.top + self.height + BOTTOM + (18 if self.across.label else 0))
        box = f"0 0 {WIDTH} {height}"
        return tag(
            "svg", Markup("").join(parts), viewBox=box, role="img", aria_label=text, width=WIDTH
        )


def figure(picture: Markup, title: str, keys: Sequence[Key]) -> Markup:
    """A picture with its title and, unless `keys` is empty, a legend."""
    entries = Markup("").join(
        Markup("<li>{} {}</li>").format(_swatch(key), key.name) for key in keys
    )
    legend = Markup('<ul class="legend">{}</ul>').format(entries) if keys else ""
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}{}</figure>').format(
        title, picture, legend
    )


def _swatch(key: Key) -> Markup:
    dash = {"stroke_dasharray": key.dash} if key.dash else {}
    sample = tag("line", x1=0, x2=26, y1=5, y2=5, stroke=key.colour, stroke_width=4, **dash)
    return tag("svg", sample, viewBox="0 0 26 10", width=26, height=10, aria_hidden="true")


def curve(plot: Plot, series: Series) -> list[Markup]:
    """The line of a series, with its dots where it has some."""
    known = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    places = [(plot.x(x), plot.y(y)) for x, y in known]
    dash = {"stroke_dasharray": series.dash} if series.dash else {}
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = tag("polyline", points=path, fill="none", stroke=series.colour, stroke_width=2, **dash)
    # The line of a single point is invisible without its dot.
    dots = places if series.dots or len(places) == 1 else []
    return [line, *(tag("circle", cx=x, cy=y, r=3, fill=series.colour) for x, y in dots)]


def text_at(
    content: str, x: float, y: float, anchor: str = "start", size: int = 12, **more: str
) -> Markup:
    """Text whose `anchor` is at (x, y): its start, middle or end."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, font_size=size, **more)


def tag(name: str, content: str = "", /, **attributes: str | float) -> Markup:
    """An element; everything but Markup is escaped. `class_` is `class`, `a_b` is `a-b`."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.removesuffix("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, content)


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
