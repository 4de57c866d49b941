"""The subgroups of one evaluation: a chart, a table and the differences for each attribute."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.report import wording
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import Dots
from fer_bench.report.pages.evaluation import Document
from fer_bench.report.pages.scales import percent, scale_around
from fer_bench.report.pages.svg import Key, interval
from fer_bench.report.palette import BLUE, ORANGE
from fer_bench.report.wording import MISSING

_GROUP_METRICS = {"accuracy": BLUE, "macro_f1": ORANGE}


def subgroups(entries: Sequence[Document]) -> list[dict[str, Any]]:
    """For each attribute its chart, its table and the largest differences."""
    return [_attribute(entry) for entry in entries]


def _attribute(entry: Document) -> dict[str, Any]:
    groups = entry.get("groups") or []
    accuracies = [
        f"{group['name']} (n = {group['n']}) {wording.write_cell('accuracy', group['accuracy'])}%"
        for group in groups
    ]
    hidden = [f"{group['name']} (n = {group['n']})" for group in entry.get("suppressed") or ()]
    return {
        "name": entry["attribute"],
        "least": entry.get("least", 20),
        "groups": [
            {"name": group["name"], "n": group["n"]}
            | {m: wording.write_cell(m, group.get(m)) for m in _GROUP_METRICS}
            for group in groups
        ],
        "spread": [_spread(entry, metric) for metric in _GROUP_METRICS if groups],
        "suppressed": ", ".join(hidden),
        "chart": _chart(entry["attribute"], groups, "; ".join(accuracies)) if groups else None,
    }


def _spread(entry: Document, metric: str) -> dict[str, str]:
    difference, ratio = (look_up(entry, part, metric) for part in ("difference", "ratio"))
    return {
        "metric": wording.write_label(metric),
        "worst": str(look_up(entry, "worst", metric) or MISSING),
        # In percentage points.
        "difference": wording.write_cell(metric, difference),
        "ratio": wording.write_cell("ratio", ratio),
    }


def _chart(attribute: str, groups: Sequence[Document], accuracies: str) -> Markup:
    rows = [
        Dots(
            f"{group['name']}",
            [interval(group.get(metric)) for metric in _GROUP_METRICS],
            list(_GROUP_METRICS.values()),
        )
        for group in groups
    ]
    keys = [Key(wording.write_label(metric), colour) for metric, colour in _GROUP_METRICS.items()]
    values = [value for row in rows for cell in row.cells if cell for value in cell]
    scale = scale_around(values, "with 95% interval", percent, within=(0, 1))
    text = f"Accuracy and macro F1 by {attribute}. Accuracy: {accuracies}."
    return charts.interval_chart(rows, scale, f"By {attribute}", text, keys)
