"""The numbers and the protocol of one evaluation of a run, one function per part of the page.

Each takes documents as they were saved and returns what the template shows. What a document does
not have, because it is older or the run does not predict it, is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.labels import AXES
from fer_bench.report import wording
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import Bar
from fer_bench.report.pages.svg import Interval
from fer_bench.report.palette import class_colours
from fer_bench.report.plots import row_shares
from fer_bench.report.wording import MISSING
from fer_bench.runs.record import RunRecord

# Shown large, if the evaluation has them.
TILES = ("accuracy", "macro_f1", "balanced_accuracy")
CLASS_METRICS = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
_CLASS_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}

Document = Mapping[str, Any]

_VIEWS = {
    "none": "one: the image as it is",
    "flip": "two: the image and its mirror image",
    "ten_crop": "ten: five crops, each with its mirror image",
}
_RULES = {
    "intersection": "intersection: answers outside the common classes count as wrong",
    "mask_logits": "mask_logits: the model answers only with common classes",
}
_SELECTIONS = {
    "validation": "the validation split",
    "test_split": "THE TEST SPLIT",
    "unknown": "unknown: the model was trained elsewhere",
}
CHOSEN_ON_TEST = (
    "The model was selected on the split that it is tested on. Its scores are too high and cannot "
    "be compared with those of models that were selected on validation images."
)


def is_cell(entry: Any) -> bool:
    """Whether an entry of a metrics document is a value with its interval."""
    return isinstance(entry, dict) and {"value", "low", "high"} <= entry.keys()


def cells(metrics: Document) -> dict[str, Document]:
    """The headline metrics of a document: known ones first, in the order of `LABELS`."""
    found = {name: entry for name, entry in metrics.items() if is_cell(entry)}
    order = [*(name for name in wording.LABELS if name in found), *found]
    return {name: found[name] for name in dict.fromkeys(order)}


def tiles(metrics: Document) -> list[dict[str, str]]:
    """The metrics that are shown first and large, each with its interval."""
    shown = {name: entry for name, entry in cells(metrics).items() if name in TILES}
    shown |= {
        f"{axis}_ccc": metrics[axis]["ccc"]
        for axis in AXES
        if is_cell(look_up(metrics, axis, "ccc"))
    }
    without = metrics.get("without_twins") or {}
    return [
        {
            "label": wording.write_label(name),
            "value": wording.write_value(name, cell["value"]),
            "interval": _brackets(name, cell),
            "without": _without(name, without.get(name)),
        }
        for name, cell in shown.items()
    ]


def _brackets(metric: str, cell: Document) -> str:
    """The interval alone, where space is short: `95%: [91.33, 93.24]`."""
    return f"95%: {wording.write_cell(metric, cell).partition(' ')[2] or MISSING}"


def _without(metric: str, cell: Document | None) -> str:
    if not is_cell(cell) or cell is None:
        return ""
    return f"without copies: {wording.write_value(metric, cell['value'])}"


def headline(metrics: Document) -> list[dict[str, str]]:
    """Every metric with its interval, also without the images that have copies in other splits."""
    without = metrics.get("without_twins") or {}
    return [
        {
            "label": wording.write_label(name),
            "value": wording.write_value(name, cell["value"]),
            "interval": wording.write_interval(name, cell),
            "without": wording.write_cell(name, without.get(name)),
        }
        for name, cell in cells(metrics).items()
    ]


# Protocol --------------------------------------------------------------------------------------


def protocol(name: str, metrics: Document, record: RunRecord, config: Document) -> dict[str, str]:
    """How the numbers were computed, as label and text."""
    recorded = metrics.get("protocol") or {}
    own = record.dataset
    dataset = recorded.get("dataset") or own.name
    fingerprint = recorded.get("dataset_fingerprint") or own.fingerprint
    classes = recorded.get("classes") or [entry["name"] for entry in metrics.get("per_class") or ()]
    views, rule = recorded.get("views", "none"), recorded.get("class_rule")
    facts = {
        "dataset": dataset,
        "release": recorded.get("release") or own.release,
        "dataset fingerprint": fingerprint and str(fingerprint)[:16],
        "split": recorded.get("split") or name,
        "images": f"{metrics['n']:,}" if "n" in metrics else None,
        "test fingerprint": str(metrics["fingerprint"])[:16] if "fingerprint" in metrics else None,
        "classes": ", ".join(map(str, classes)) or None,
        "labels": recorded.get("labels"),
        "labels per class": _class_labels(recorded.get("class_labels")),
        "views per image": _VIEWS.get(views, views),
        "class rule": rule and _RULES.get(rule, rule),
        "model selected on": _selected_on(selection(metrics, config), record),
        "seed": record.seed,
        "intervals": _intervals(metrics.get("interval")),
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _class_labels(labels: Document | None) -> str | None:
    """`other: contempt, disgust; happiness: happy`."""
    if not labels:
        return None
    return "; ".join(f"{name}: {', '.join(texts)}" for name, texts in labels.items())


def selection(metrics: Document, config: Document) -> str:
    """The split that selected the model: `validation`, `test_split` or `unknown`."""
    return str(look_up(metrics, "protocol", "selection") or config.get("selection") or "validation")


def _selected_on(split: str, record: RunRecord) -> str:
    by = f", by {record.best.metric}" if record.best and record.best.metric else ""
    return f"{_SELECTIONS.get(split, split)}{by}"


def _intervals(interval: Document | None) -> str | None:
    if not interval:
        return None
    level, resamples, seed = (interval.get(key) for key in ("level", "resamples", "seed"))
    methods = dict(interval.get("methods") or {})
    by_class = {
        name.upper() if name in ("f1", "auc") else name: method
        for name, method in (methods.pop("per_class", None) or {}).items()
    }
    parts = [f"{level or 0.95:.0%}"]
    parts += [wording.write_methods(methods)] if methods else []
    parts += [f"by class: {wording.write_methods(by_class)}"] if by_class else []
    if resamples:
        drawn = f" (seed {seed})" if seed is not None else ""
        parts.append(f"{resamples:,} resamples of the images{drawn}")
    return "; ".join(parts)


# By class --------------------------------------------------------------------------------------


def class_charts(per_class: Sequence[Document]) -> list[Markup]:
    """Recall, precision and F1 of every class as bars with intervals."""
    colours = class_colours([entry["name"] for entry in per_class])
    drawn = []
    for metric, title in CLASS_METRICS.items():
        bars = [
            Bar(entry["name"], colours[entry["name"]], _class_cell(entry, metric))
            for entry in per_class
        ]
        listed = "; ".join(
            f"{bar.name} {wording.write_value(metric, _defined(bar.cell[0]))}" for bar in bars
        )
        text = f"{title} of each class with its 95% interval: {listed}."
        drawn.append(charts.class_chart(bars, title, text))
    return drawn


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _class_cell(entry: Document, metric: str) -> Interval:
    """(value, low, high) of a metric of a class; NaN for what is not known."""
    interval = look_up(entry, "intervals", metric) or {}
    parts = (entry.get(metric), interval.get("low"), interval.get("high"))
    value, low, high = (math.nan if part is None else float(part) for part in parts)
    return value, low, high


def class_columns(per_class: Sequence[Document]) -> dict[str, str]:
    """The metrics that the classes have, with their headings."""
    present = {metric for entry in per_class for metric in entry}
    return {metric: heading for metric, heading in _CLASS_COLUMNS.items() if metric in present}


def class_rows(per_class: Sequence[Document]) -> list[dict[str, Any]]:
    """The table of the classes: each cell has a value to sort by, its text and its interval."""
    columns = class_columns(per_class)
    return [
        {
            "name": entry["name"],
            "support": entry.get("support"),
            "cells": [
                {
                    "value": entry.get(metric),
                    "text": wording.write_value(metric, entry.get(metric)),
                    "interval": _class_interval(entry, metric),
                }
                for metric in columns
            ],
        }
        for entry in per_class
    ]


def _class_interval(entry: Document, metric: str) -> str:
    _, low, high = _class_cell(entry, metric)
    if not math.isfinite(low + high):
        return ""
    return wording.write_interval(metric, {"value": None, "low": low, "high": high})


def confusion_rows(metrics: Document) -> list[dict[str, Any]]:
    """The confusion matrix by true class: counts and their shares of the class."""
    names = [entry["name"] for entry in metrics["per_class"]]
    matrix = np.array(metrics["confusion_matrix"])
    shares = row_shares(matrix)
    return [
        {
            "name": name,
            "support": int(matrix[row].sum()),
            "entries": [
                {
                    "count": int(matrix[row, column]),
                    "share": _defined(float(shares[row, column])),
                    "hit": row == column,
                }
                for column in range(len(names))
            ],
        }
        for row, name in enumerate(names)
    ]
