"""Charts: ticks and points inside their frame, escaped names, and a text alternative each."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import Bar, Dots, Mark, Point
from fer_bench.report.pages.scales import Scale, percent, scale_around
from fer_bench.report.pages.svg import WIDTH, Key, Series

TEXT = 'what "it" shows & says'
NAME = "<b>name"
finite = st.floats(-1e6, 1e6)


@given(finite, finite)
def test_ticks_are_few_rising_and_inside(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = Scale(low, high, "x").ticks()
    assert len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    room = 1e-6 * max(high - low, abs(low), abs(high))
    assert all(low - room <= tick <= high + room for tick in ticks)
    if high - low > 1e-3:
        assert len(ticks) >= 3


@given(st.floats(1e-8, 1e8), st.floats(1, 1e8))
def test_logarithmic_ticks_are_inside(low: float, ratio: float) -> None:
    ticks = Scale(low, low * ratio, "x", logarithmic=True).ticks()
    assert 1 <= len(ticks) <= 18 or ratio < 10
    assert all(0.99 * low <= tick <= 1.01 * low * ratio for tick in ticks)


@given(st.lists(finite, min_size=1, max_size=9))
def test_a_scale_holds_its_values_in_order(values: list[float]) -> None:
    scale = scale_around(values, "x")
    shares = [scale.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert scale.low < scale.high


def test_a_scale_stays_within_its_bounds() -> None:
    scale = scale_around([0.99, 1.0, math.nan], "accuracy", within=(0, 1))
    assert scale.high == 1
    assert scale.low < 0.99


def lines() -> Markup:
    series = [Series(NAME, [(1, 0.5), (2, math.nan), (3, 0.75)], "#000"), Series("b", [], "#111")]
    scales = (Scale(1, 3, "epoch"), Scale(0, 1, "loss"))
    return charts.line_chart(series, scales, NAME, TEXT, [Mark(2.5, NAME), Mark(1, "x")])


def scatter() -> Markup:
    points = [Point(i, NAME, 10.0**i, 0.5, 0.4, 0.6, leading=i < 3) for i in range(1, 5)]
    scales = (Scale(1, 1e5, "cost", logarithmic=True), Scale(0, 1, "accuracy"))
    return charts.scatter_chart(points, scales, NAME, TEXT)


def intervals() -> Markup:
    rows = [Dots(NAME, [(0.5, 0.4, 0.6), None], ["#000", "#111"])]
    return charts.interval_chart(rows, Scale(0, 1, "share"), NAME, TEXT, [Key(NAME, "#000")])


def reliability() -> Markup:
    bins = [(0.2, 0.1, 30), (math.nan, math.nan, 0), (0.9, 0.8, 70)]
    return charts.reliability_chart([(Key(NAME, "#000"), bins)] * 2, NAME, TEXT)


def density() -> Markup:
    across = np.random.default_rng(0).uniform(-1, 1, 500)
    return charts.density_chart(across, -across, (NAME, "b"), NAME, TEXT)


ALL: list[Callable[[], Markup]] = [
    lines,
    scatter,
    intervals,
    reliability,
    density,
    lambda: charts.bar_chart([NAME, "b"], [(Key(NAME, "#000"), [5, 0])], "share", NAME, TEXT),
    lambda: charts.class_chart(
        [Bar(NAME, "#000", (0.5, math.nan, math.nan)), Bar("b", "#111", (math.nan,) * 3)],
        NAME,
        TEXT,
    ),
]


@pytest.mark.parametrize("draw", ALL)
def test_a_chart_is_escaped_and_has_a_text_alternative(draw: Callable[[], Markup]) -> None:
    chart = draw()
    assert "<b>" not in chart
    assert "&lt;b&gt;name" in chart
    assert 'aria-label="what &#34;it&#34; shows &amp; says"' in chart
    assert 'role="img"' in chart
    assert "nan" not in chart


@pytest.mark.parametrize("draw", ALL)
def test_everything_drawn_is_inside_the_picture(draw: Callable[[], Markup]) -> None:
    chart = draw()
    height = float(re.findall(r'viewBox="0 0 380 (\d+)"', chart)[0])
    for attribute, largest in (("c?x[12]?", WIDTH), ("c?y[12]?", height)):
        for number in re.findall(rf' {attribute}="(-?[\d.]+)"', chart):
            assert 0 <= float(number) <= largest


def test_the_name_of_an_axis_is_beside_its_ticks() -> None:
    scales = (Scale(0, 1, ""), Scale(0.42, 0.56, "accuracy", percent))
    point = Point(1, "run", 0.5, 0.5, 0.48, 0.52, leading=True)
    chart = charts.scatter_chart([point], scales, "t", TEXT)
    ticks = re.findall(r'x="([\d.]+)"[^>]*"end" font-size="11">([^<]+)<', chart)
    assert "47.5%" in [tick for _, tick in ticks]
    (name,) = re.findall(r'x="([\d.]+)"[^>]*>accuracy<', chart)
    # A character of a tick is 6 to 7 px wide; a quarter of the turned name lies below its line.
    assert all(float(end) - 6.5 * len(tick) > float(name) + 3 for end, tick in ticks)


def test_marks_of_a_line_chart_carry_their_names() -> None:
    assert lines().count('class="mark"') == 2


def test_a_bar_shows_its_value_and_only_a_known_interval() -> None:
    known = charts.class_chart([Bar("a", "#000", (0.5, 0.4, 0.6))], "t", TEXT)
    unknown = charts.class_chart([Bar("a", "#000", (0.5, math.nan, math.nan))], "t", TEXT)
    assert "50.0%" in known
    assert "50.0%" in unknown
    assert 'class="ink"' in known
    assert 'class="ink"' not in unknown


def test_leading_points_are_joined() -> None:
    assert scatter().count("<path") == 1


def test_points_in_the_same_place_have_separate_numbers() -> None:
    points = [Point(i, "run", 2.0, 0.5, 0.5, 0.5, leading=True) for i in range(1, 5)]
    scales = (Scale(1, 3, ""), Scale(0, 1, ""))
    chart = charts.scatter_chart(points, scales, "t", TEXT)
    places = [
        re.findall(rf'x="([\d.]+)" y="([\d.]+)"[^>]*>{i}</text>', chart)[-1] for i in range(1, 5)
    ]
    assert len(set(places)) == 4
