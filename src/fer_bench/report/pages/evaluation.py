"""What a page says about one evaluation of a run: a function for each of its parts.

Each takes documents as they were saved and returns what the template shows; what a document lacks,
because it is older or the run does not predict it, is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fer_bench.comparison.member import look_up
from fer_bench.labels import AXES
from fer_bench.metrics.calibration import reliability, rescale
from fer_bench.metrics.predictions import Expression, Predictions
from fer_bench.report import wording
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import DASHES, Dots, Interval, Key, Scale, Series
from fer_bench.report.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, class_colours
from fer_bench.report.wording import MISSING

# Shown large; of these, what an evaluation has.
TILES = ("accuracy", "macro_f1", "balanced_accuracy")
CLASS_METRICS = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
CALIBRATION = ("nll", "brier", "ece", "ece_adaptive")
FAMILIES = ("noise", "blur", "weather", "digital", "occlusion")
SEVERITIES = range(1, 6)
# A curve of this many points is as smooth as a page can show.
CURVE_POINTS = 80

# Shown as a plain number, whatever else is.
_PLAIN = "kappa"

Document = Mapping[str, Any]

_VIEWS = {
    "none": "one: the image as it is",
    "flip": "two: the image and its mirror image",
    "ten_crop": "ten: five crops, each with its mirror image",
}
_RULES = {
    "intersection": "intersection: answers outside the common classes count as wrong",
    "mask_logits": "mask_logits: the model answers within the common classes",
}
_SELECTIONS = {
    "validation": "the validation split",
    "test_split": "THE TEST SPLIT",
    "unknown": "unknown: the model was trained elsewhere",
}
CHOSEN_ON_TEST = (
    "The model was chosen on the split that it is tested on: its scores are too high, and they "
    "cannot be compared with those of models that were chosen on validation images."
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
    """What stands first and large, each with its interval."""
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
    """Every metric with its interval, and the same without images that training has seen."""
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


def protocol(name: str, metrics: Document, record: Document, config: Document) -> dict[str, str]:
    """How the numbers came about, as label and text."""
    said = metrics.get("protocol") or {}
    own = record.get("dataset") or {}
    dataset = said.get("dataset") or own.get("name")
    fingerprint = said.get("dataset_fingerprint") or own.get("fingerprint")
    classes = said.get("classes") or [entry["name"] for entry in metrics.get("per_class") or ()]
    views, rule = said.get("views", "none"), said.get("class_rule")
    facts = {
        "dataset": dataset,
        "release": said.get("release") or own.get("release"),
        "dataset fingerprint": fingerprint and str(fingerprint)[:16],
        "split": said.get("split") or name,
        "images": f"{metrics['n']:,}" if "n" in metrics else None,
        "test fingerprint": str(metrics["fingerprint"])[:16] if "fingerprint" in metrics else None,
        "classes": ", ".join(map(str, classes)) or None,
        "labels": said.get("labels"),
        "labels of a class": _class_labels(said.get("class_labels")),
        "views of an image": _VIEWS.get(views, views),
        "rule for classes": rule and _RULES.get(rule, rule),
        "model chosen on": _chosen_on(selection(metrics, config), record),
        "seed": record.get("seed"),
        "intervals": _intervals(metrics.get("interval")),
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _class_labels(made: Document | None) -> str | None:
    """`other: contempt, disgust; happiness: happy`."""
    if not made:
        return None
    return "; ".join(f"{name}: {', '.join(texts)}" for name, texts in made.items())


def selection(metrics: Document, config: Document) -> str:
    """Which split chose the model: `validation`, `test_split` or `unknown`."""
    said = look_up(metrics, "protocol", "selection") or config.get("selection")
    return str(said) if said else "validation"


def _chosen_on(chosen: str, record: Document) -> str:
    metric = look_up(record, "best", "metric")
    by = f", by {metric}" if metric else ""
    return f"{_SELECTIONS.get(chosen, chosen)}{by}"


def _intervals(interval: Document | None) -> str | None:
    if not interval:
        return None
    level, resamples, seed = (interval.get(key) for key in ("level", "resamples", "seed"))
    methods = dict(interval.get("methods") or {})
    by_class = {
        name.upper() if name in ("f1", "auc") else name: method
        for name, method in (methods.pop("per_class", None) or {}).items()
    }
    said = [f"{level or 0.95:.0%}"]
    said += [wording.write_methods(methods)] if methods else []
    said += [f"by class: {wording.write_methods(by_class)}"] if by_class else []
    if resamples:
        drawn = f" (seed {seed})" if seed is not None else ""
        said.append(f"{resamples:,} resamples of the images{drawn}")
    return "; ".join(said)


# By class --------------------------------------------------------------------------------------


def class_charts(per_class: Sequence[Document]) -> list[Markup]:
    """Recall, precision and F1 of every class as bars with intervals."""
    colours = class_colours([entry["name"] for entry in per_class])
    drawn = []
    for metric, title in CLASS_METRICS.items():
        bars = [
            charts.Bar(entry["name"], colours[entry["name"]], _class_cell(entry, metric))
            for entry in per_class
        ]
        listed = "; ".join(
            f"{bar.name} {wording.write_value('accuracy', _defined(bar.cell[0]))}" for bar in bars
        )
        text = f"{title} of each class with its 95% interval: {listed}."
        drawn.append(charts.class_chart(bars, title, text))
    return drawn


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _class_cell(entry: Document, metric: str) -> Interval:
    """(value, low, high) of a class; NaN for what is not known."""
    interval = look_up(entry, "intervals", metric) or {}
    parts = (entry.get(metric), interval.get("low"), interval.get("high"))
    value, low, high = (math.nan if part is None else float(part) for part in parts)
    return value, low, high


# What the table of classes shows: the key, its heading, and a metric that is written alike.
_CLASS_COLUMNS = {
    "precision": ("precision", "accuracy"),
    "recall": ("recall", "accuracy"),
    "f1": ("F1", "accuracy"),
    "auc": ("AUC", _PLAIN),
    "average_precision": ("average precision", _PLAIN),
}


def class_columns(per_class: Sequence[Document]) -> dict[str, str]:
    """The headings of the columns that the classes have."""
    present = {metric for entry in per_class for metric in entry}
    return {key: heading for key, (heading, _) in _CLASS_COLUMNS.items() if key in present}


def class_rows(per_class: Sequence[Document]) -> list[dict[str, Any]]:
    """The table of the classes: for each column its text, its interval and what it sorts by."""
    return [
        {
            "name": entry["name"],
            "support": entry.get("support"),
            "cells": [
                {
                    "value": entry.get(metric),
                    "text": wording.write_value(_CLASS_COLUMNS[metric][1], entry.get(metric)),
                    "interval": _class_interval(entry, metric, _CLASS_COLUMNS[metric][1]),
                }
                for metric in class_columns(per_class)
            ],
        }
        for entry in per_class
    ]


def _class_interval(entry: Document, metric: str, kind: str) -> str:
    _, low, high = _class_cell(entry, metric)
    if not math.isfinite(low + high):
        return ""
    return wording.write_interval(kind, {"value": None, "low": low, "high": high})


def confusion_rows(metrics: Document) -> list[dict[str, Any]]:
    """The confusion matrix by true class: counts and their share of the class."""
    names = [entry["name"] for entry in metrics["per_class"]]
    rows = []
    for name, counts in zip(names, metrics["confusion_matrix"], strict=True):
        total = sum(counts)
        entries = [
            {"count": count, "share": count / total if total else None, "hit": name == other}
            for other, count in zip(names, counts, strict=True)
        ]
        rows.append({"name": name, "support": total, "entries": entries})
    return rows


# Probabilities ---------------------------------------------------------------------------------


def calibration_chart(predictions: Predictions, metrics: Document) -> Markup | None:
    """Confidence against accuracy, before and after the temperature where there is one."""
    if predictions.expression is None:
        return None
    series = [(Key("as predicted", BLUE), _bins(predictions.expression))]
    temperature = look_up(metrics, "temperature", "value")
    if temperature:
        scaled = rescale(predictions, temperature).expression
        if scaled is not None:
            name = f"after temperature {temperature:.2f}"
            series.append((Key(name, ORANGE, DASHES[1]), _bins(scaled)))
    said = [
        f"{key.name}, calibration error (15 bins) "
        f"{wording.write_value('ece', _calibration_error(bins))}"
        for key, bins in series
    ]
    text = "Accuracy against confidence in 15 bins, with the number of images in each: "
    return charts.reliability_chart(series, "Confidence and accuracy", text + "; ".join(said) + ".")


def _bins(expression: Expression) -> list[tuple[float, float, int]]:
    confidence, accuracy, count = reliability(expression)
    return [
        (float(x), float(y), int(n)) for x, y, n in zip(confidence, accuracy, count, strict=True)
    ]


def _calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    total = sum(n for *_, n in bins)
    return sum(n * abs(confidence - accuracy) for confidence, accuracy, n in bins if n) / total


def temperature_rows(metrics: Document) -> list[dict[str, str]]:
    """How calibrated the probabilities are before and after scaling."""
    report_of = metrics.get("temperature") or {}
    return [
        {"label": wording.write_label(name)}
        | {
            side: wording.write_cell(name, look_up(report_of, side, name))
            for side in ("before", "after")
        }
        for name in CALIBRATION
        if look_up(report_of, "before", name)
    ]


def roc_chart(predictions: Predictions, per_class: Sequence[Document]) -> Markup | None:
    """One-vs-rest ROC curves of the classes that occur."""
    expression = predictions.expression
    if expression is None:
        return None
    colours = class_colours(expression.classes)
    known = {entry["name"]: entry for entry in per_class}
    series, said = [], []
    for code, name in enumerate(expression.classes):
        positive = expression.labels == code
        if not 0 < positive.sum() < len(positive):
            continue
        area = look_up(known, name, "auc")
        written = f"{name}, AUC {wording.write_value('kappa', area)}"
        points = roc_curve(expression.probabilities[:, code], positive)
        series.append(Series(written, points, colours[name], DASHES[code % len(DASHES)]))
        said.append(written)
    if not series:
        return None
    scales = (
        Scale(0, 1, "false positive rate", charts.percent),
        Scale(0, 1, "true positive rate", charts.percent),
    )
    text = f"Receiver operating characteristic of each class against the rest: {'; '.join(said)}."
    return charts.line_chart(series, scales, "ROC, each class against the rest", text, height=300)


def roc_curve(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), at most `CURVE_POINTS`.

    Args:
        scores: the higher, the surer of the class; shape (n,).
        positive: which samples are of the class, shape (n,); some are, and some are not.
    """
    order = np.argsort(-scores, kind="stable")
    hits, total = np.cumsum(positive[order]), np.arange(1, len(order) + 1)
    # Samples of equal score cannot be told apart: only the last of them is a point.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.concatenate([[0.0], hits[ends] / hits[-1]])
    false = np.concatenate([[0.0], (total - hits)[ends] / (len(order) - hits[-1])])
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(true)) + np.abs(np.diff(false)))])
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
    chosen = np.unique(np.append(np.minimum(chosen, len(length) - 1), len(length) - 1))
    return list(zip(false[chosen].tolist(), true[chosen].tolist(), strict=True))


# Subgroups -------------------------------------------------------------------------------------

_GROUP_METRICS = {"accuracy": BLUE, "macro_f1": ORANGE}


def subgroups(entries: Sequence[Document]) -> list[dict[str, Any]]:
    """For each attribute its chart, its table and what differs."""
    return [_attribute(entry) for entry in entries]


def _attribute(entry: Document) -> dict[str, Any]:
    groups = entry.get("groups") or []
    said = [
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
        "chart": _group_chart(entry["attribute"], groups, "; ".join(said)) if groups else None,
    }


def _spread(entry: Document, metric: str) -> dict[str, str]:
    difference, ratio = (look_up(entry, part, metric) for part in ("difference", "ratio"))
    return {
        "metric": wording.write_label(metric),
        "worst": str(look_up(entry, "worst", metric) or MISSING),
        # In percentage points, as all shares are.
        "difference": wording.write_cell(metric, difference),
        "ratio": wording.write_cell(_PLAIN, ratio),
    }


def _group_chart(attribute: str, groups: Sequence[Document], said: str) -> Markup:
    rows = [
        Dots(
            f"{group['name']}",
            [interval(group.get(metric)) for metric in _GROUP_METRICS],
            list(_GROUP_METRICS.values()),
        )
        for group in groups
    ]
    keys = [Key(wording.write_label(metric), colour) for metric, colour in _GROUP_METRICS.items()]
    scale = _share_scale(rows, "with 95% interval")
    text = f"Accuracy and macro F1 by {attribute}. Accuracy: {said}."
    return charts.interval_chart(rows, scale, f"By {attribute}", text, keys)


def interval(cell: Document | None) -> Interval | None:
    """A cell as (value, low, high); None where a part of it is not defined."""
    if not cell or any(cell.get(part) is None for part in ("value", "low", "high")):
        return None
    return cell["value"], cell["low"], cell["high"]


def _share_scale(rows: Sequence[Dots], written: str) -> Scale:
    values = [value for row in rows for cell in row.cells if cell for value in cell]
    return charts.scale_around(values, written, charts.percent, within=(0, 1))


# Corruptions -----------------------------------------------------------------------------------


def corruptions(document: Document) -> dict[str, Any]:
    """How accuracy falls on corrupted images: a table, and a chart for each family."""
    conditions = document.get("conditions") or []
    clean = document.get("clean") or {}
    by_name: dict[str, list[Document]] = {}
    for condition in conditions:
        by_name.setdefault(condition["corruption"], []).append(condition)
    graded = {name: found for name, found in by_name.items() if found[0].get("severity")}
    rows = [_corruption_row(document, name, found) for name, found in graded.items()]
    rows.sort(key=lambda row: _family_order(row["family"]))
    families = list(dict.fromkeys(row["family"] for row in rows))
    return {
        "n": document.get("n"),
        "clean": wording.write_cell("accuracy", clean),
        "mean": wording.write_cell("accuracy", document.get("mean_corruption_accuracy")),
        "drop": wording.write_cell("accuracy", document.get("relative_drop")),
        "complete": document.get("complete", True),
        "rows": rows,
        "occlusions": [
            {
                "name": name.replace("_", " "),
                "accuracy": wording.write_cell("accuracy", found[0].get("accuracy")),
            }
            for name, found in by_name.items()
            if name not in graded
        ],
        "charts": [
            _family_chart(
                family,
                {name: found for name, found in graded.items() if found[0]["family"] == family},
                clean.get("value"),
            )
            for family in families
        ],
    }


def _family_order(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def _corruption_row(document: Document, name: str, found: Sequence[Document]) -> dict[str, Any]:
    by_severity = {entry["severity"]: entry.get("accuracy") or {} for entry in found}
    cells_found = [by_severity.get(severity, {}) for severity in SEVERITIES]
    return {
        "name": name.replace("_", " "),
        "family": found[0].get("family", ""),
        "cells": [_short_cell(cell) for cell in cells_found],
        "mean": _short_cell(look_up(document, "by_corruption", name)),
    }


def _short_cell(cell: Document | None) -> dict[str, Any]:
    """An accuracy where space is short; its interval appears on hovering."""
    value = cell.get("value") if cell else None
    text = MISSING if value is None else f"{value:.0%}"
    return {"share": value, "text": text, "title": wording.write_cell("accuracy", cell or None)}


def _family_chart(
    family: str, found: Mapping[str, Sequence[Document]], clean: float | None
) -> Markup:
    lines, said = [], []
    for place, (name, entries) in enumerate(found.items()):
        points = [
            (float(entry["severity"]), look_up(entry, "accuracy", "value")) for entry in entries
        ]
        known = sorted((x, y) for x, y in points if y is not None)
        colour = (BLUE, ORANGE, GREEN, PURPLE)[place % 4]
        written = name.replace("_", " ")
        lines.append(Series(written, known, colour, DASHES[place % 4], dots=True))
        if known:
            said.append(f"{written} {known[0][1]:.0%} to {known[-1][1]:.0%}")
    if clean is not None:
        lines.append(Series("clean images", [(0.5, clean), (5.5, clean)], GREY, "1 3"))
    scales = (Scale(0.5, 5.5, "severity"), Scale(0, 1, "accuracy", charts.percent))
    text = f"Accuracy from the mildest to the strongest {family}: {'; '.join(said)}."
    return charts.line_chart(lines, scales, family.capitalize(), text)


# Valence and arousal ---------------------------------------------------------------------------


def axis_charts(predictions: Predictions, metrics: Document) -> list[Markup]:
    """Predicted against true values, for each axis."""
    if predictions.valence_arousal is None:
        return []
    drawn = []
    for name, true, predicted in predictions.valence_arousal.axes():
        known = ~np.isnan(true)
        cell = look_up(metrics, name, "ccc")
        ccc = f"CCC {wording.write_cell('ccc', cell)}" if is_cell(cell) else ""
        title = f"{name.capitalize()}, n = {known.sum():,}"
        text = f"Predicted against true {name} of {known.sum()} images. {ccc}".strip()
        labels = (f"true {name}", f"predicted {name}")
        drawn.append(charts.density_chart(true[known], predicted[known], labels, title, text))
    return drawn
