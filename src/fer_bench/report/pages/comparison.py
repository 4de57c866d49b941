"""The page of a comparison: for each group of comparable runs its ranking and its differences."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fer_bench.comparison import CONCORDANCE, Comparison, Group, Pair, Row
from fer_bench.metrics.document import interval_method
from fer_bench.metrics.intervals import ALPHA
from fer_bench.report import wording
from fer_bench.report.comparison import (
    LETTERS,
    MARKS,
    MEANINGS,
    ONLY_THESE_MODELS,
    write_published,
    write_reasons,
)
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import Dots, Point
from fer_bench.report.pages.document import render
from fer_bench.report.pages.evaluation import CHOSEN_ON_TEST
from fer_bench.report.pages.scales import percent, plain, scale_around
from fer_bench.report.pages.svg import Interval, Key, interval
from fer_bench.report.palette import BLUE, ORANGE
from fer_bench.storage.files import write_atomically

PAIRS_SHOWN = 200
# A chart or a matrix of more runs is not readable; the table has every run.
RUNS_DRAWN = 40
RUNS_CROSSED = 25


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison to `path`."""
    write_atomically(path, comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """The HTML of a comparison: for each group its figures, its runs and their differences."""
    return render(
        "comparison.html.j2",
        comparison=comparison,
        sections=[_section(group) for group in comparison.groups],
        reasons=write_reasons(comparison),
        pairs_shown=PAIRS_SHOWN,
        chosen_on_test=CHOSEN_ON_TEST,
        letters=LETTERS,
        marks=MARKS,
        only_these_models=ONLY_THESE_MODELS,
        interval_methods={
            name: interval_method(name)
            for group in comparison.groups
            for kind in group.kinds
            for name in kind
        },
    )


def _section(group: Group) -> dict[str, Any]:
    return {
        "title": _title(group),
        "group": group,
        "charts": list(_charts(group)),
        "drawn": min(len(group.runs), RUNS_DRAWN),
        "ranks": {run.run_id: rank for rank, run in enumerate(group.runs, start=1)},
        "lettered": any(run.letter for run in group.runs),
        "classes": _class_table(group),
        "matrix": _matrix(group),
        "published": [_published(entry) for entry in group.published],
        "meanings": [
            f"{mark} {MEANINGS[mark]}"
            for selection, mark in MARKS.items()
            if any(run.selection == selection for run in group.runs)
        ],
    }


def _title(group: Group) -> str:
    datasets = sorted({run.dataset for run in group.runs if run.dataset})
    parts = [", ".join(datasets) or "unnamed dataset", f"n = {group.n:,}"]
    if group.views != "none":
        parts.append(f"views: {group.views}")
    if group.class_rule:
        parts.append(f"classes: {group.class_rule}")
    if group.selection == "test_split":
        parts.append("chosen on test")
    return ", ".join(parts)


# Charts ----------------------------------------------------------------------------------------


def _charts(group: Group) -> Iterator[Markup]:
    yield from _forests(group)
    yield from _trade_off(group, "parameters", "parameters", less_is_better=True)
    yield from _trade_off(
        group, "images_per_second", "images per second in training", less_is_better=False
    )


def _forests(group: Group) -> Iterator[Markup]:
    """Accuracy, and concordance, with intervals; of the runs that have it."""
    runs = [run for run in group.runs if "accuracy" in run.metrics][:RUNS_DRAWN]
    if runs:
        rows = [Dots(_named(group, run), [_cell(run, "accuracy")], [BLUE]) for run in runs]
        title = f"Accuracy with 95% interval, n = {group.n:,}"
        yield _forest(rows, title, _listed(runs, "accuracy"), (0, 1), percent)
    runs = [run for run in group.runs if set(CONCORDANCE) & run.metrics.keys()][:RUNS_DRAWN]
    if runs:
        rows = [
            Dots(_named(group, run), [_cell(run, metric) for metric in CONCORDANCE], [BLUE, ORANGE])
            for run in runs
        ]
        keys = [Key(wording.LABELS[m], c) for m, c in zip(CONCORDANCE, (BLUE, ORANGE), strict=True)]
        text = " ".join(_listed(runs, metric) for metric in CONCORDANCE)
        yield _forest(rows, "Concordance with 95% interval", text, (-1, 1), plain, keys)


def _forest(
    rows: Sequence[Dots],
    title: str,
    text: str,
    within: tuple[float, float],
    written: Callable[[float], str],
    keys: Sequence[Key] = (),
) -> Markup:
    values = [value for row in rows for cell in row.cells if cell for value in cell]
    scale = scale_around(values, "", written, within)
    return charts.interval_chart(rows, scale, title, text, keys)


def _named(group: Group, run: Row) -> str:
    return f"{group.runs.index(run) + 1}  {run.run_id}"


def _cell(run: Row, metric: str) -> Interval | None:
    return interval(run.metrics.get(metric))


def _listed(runs: Sequence[Row], metric: str) -> str:
    listed = "; ".join(
        f"{run.run_id} {wording.write_cell(metric, run.metrics.get(metric))}" for run in runs
    )
    return f"{wording.write_heading(metric)}, with intervals: {listed}."


def _trade_off(group: Group, name: str, label: str, less_is_better: bool) -> Iterator[Markup]:
    """Accuracy against the cost of a run, if at least two runs have different known costs."""
    costs = {
        run.run_id: float(getattr(run, name)) for run in group.runs if (getattr(run, name) or 0) > 0
    }
    runs = [run for run in group.runs if run.run_id in costs and _cell(run, "accuracy")]
    if len({costs[run.run_id] for run in runs}) < 2:
        return
    sign = 1 if less_is_better else -1
    leading = pareto_front([(sign * costs[run.run_id], run.value("accuracy")) for run in runs])
    points = []
    for place, run in enumerate(runs):
        value, low, high = _cell(run, "accuracy") or (math.nan,) * 3
        number = group.runs.index(run) + 1
        points.append(
            Point(number, run.run_id, costs[run.run_id], value, low, high, place in leading)
        )
    across = scale_around(costs.values(), label, _written_cost, logarithmic=True)
    up = scale_around(
        (bound for p in points for bound in (p.low, p.high)), "accuracy", percent, (0, 1)
    )
    front = ", ".join(f"{runs[place].run_id}" for place in sorted(leading))
    text = (
        f"Accuracy against {label} of {len(points)} runs. No other run is at least as good in "
        f"both and better in one than: {front}."
    )
    yield charts.scatter_chart(points, (across, up), f"Accuracy against {label}", text)


def _written_cost(value: float) -> str:
    """A tick: `100 k`."""
    return wording.write_count(round(value)).replace(".0 ", " ")


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """The indices of the points (cost, gain) that no other point dominates."""

    def dominates(other: tuple[float, float], point: tuple[float, float]) -> bool:
        return other != point and other[0] <= point[0] and other[1] >= point[1]

    return {
        place
        for place, point in enumerate(points)
        if not any(dominates(other, point) for other in points)
    }


# Tables ----------------------------------------------------------------------------------------


def _class_table(group: Group) -> dict[str, Any] | None:
    """The recall of every class in every run, or None if no run has it."""
    known = [(run, run.per_class) for run in group.runs if run.per_class]
    if not known:
        return None
    names = list(dict.fromkeys(name for _, classes in known for name in classes))
    rows = [
        {
            "run_id": run.run_id,
            "cells": [_recall(classes.get(name, {}).get("recall")) for name in names],
        }
        for run, classes in known
    ]
    return {"names": names, "rows": rows}


def _recall(value: float | None) -> dict[str, Any]:
    return {"share": value, "text": wording.MISSING if value is None else f"{value:.0%}"}


def _matrix(group: Group) -> dict[str, Any] | None:
    """The pairwise tests of the group's first metric; None for too few or too many runs."""
    metric = group.kinds[0][0] if group.kinds else None
    pairs = {(pair.a, pair.b): pair for pair in group.pairs if pair.metric == metric}
    runs = [run for run in group.runs if any(run.run_id in names for names in pairs)]
    if not 2 <= len(runs) <= RUNS_CROSSED or metric is None:
        return None
    rows = [
        {
            "run_id": run.run_id,
            "cells": [_test(pairs, run.run_id, other.run_id) for other in runs],
        }
        for run in runs
    ]
    return {"metric": wording.LABELS[metric], "rows": rows}


def _test(pairs: Mapping[tuple[str, str], Pair], run_id: str, other: str) -> dict[str, Any] | None:
    """The cell in the row of one run and the column of another; None if they were not tested."""
    sign = 1 if (run_id, other) in pairs else -1
    pair = pairs.get((run_id, other)) or pairs.get((other, run_id))
    if pair is None:
        return None
    difference = sign * pair.difference
    differs = pair.p_holm < ALPHA
    relation = ("better" if difference > 0 else "worse") if differs else "no difference shown"
    return {
        "p": wording.write_p(pair.p_holm),
        "relation": relation,
        "title": f"{run_id} against {other}: {relation}, p (Holm) {wording.write_p(pair.p_holm)}",
        "differs": differs,
        "mark": {"better": "▲", "worse": "▼"}.get(relation, "="),
    }


def _published(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with every key, as it is shown."""
    theirs, ours = write_published(entry)
    optional = ("source", "n", "verdict", "reason", "caveat")
    return {
        "name": entry["name"],
        "metric": wording.write_label(entry["metric"]),
        "theirs": theirs,
        "ours": ours,
        **{key: entry.get(key) for key in optional},
    }
