"""Metrics of saved predictions: pure functions of arrays.

Every headline metric is written once, for R weightings of the samples at a time (`weighted`), and
so gives its value as well as its draws under bootstrap resamples. Values are those of scikit-learn
where it has the metric, with `labels=range(C)`.

Classes without a sample in the labels (a model may know more classes than a test set shows):
balanced accuracy, ROC AUC and average precision average over the classes that occur, since none of
recall and the two curves exists without a positive; macro precision, recall and F1 average over
all C classes, a class that is neither there nor predicted counting 0; the support-weighted ones
ignore them by their weights. What stays undefined (AUC when only one class occurs, kappa when
labels and predictions are one and the same class) is NaN here and null in JSON.

Valence and arousal are measured each by itself, over the samples whose true value is known: pooled
over both, a correlation would mostly show that their means differ.
"""

from collections import defaultdict
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from fer_bench.labels import AXES
from fer_bench.metrics.expression import (
    CLASS_METRICS,
    METRICS,
    PROPORTIONS,
    FloatArray,
    IntArray,
    class_auc,
)
from fer_bench.metrics.intervals import CONFIDENCE, percentile_interval, wilson
from fer_bench.metrics.measure import (
    NAMES,
    RESAMPLES,
    measure_document,
    resampled,
    values,
    weigher,
    weight_blocks,
)
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.metrics.weighting import (
    Tally,
)

# Value and 95% interval; None where one is not defined.
Cell = dict[str, float | None]


def headline(
    predictions: Predictions,
    seed: int = 0,
    resamples: int = RESAMPLES,
    names: Container[str] = NAMES,
) -> dict[str, Cell]:
    """The headline metrics of what is predicted, with their intervals, ready for strict JSON.

    A proportion of all samples (`PROPORTIONS`) has its Wilson interval, every other metric the
    percentile interval of a class-stratified bootstrap.

    Args:
        predictions: n samples, at least 1.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.
        names: which of `NAMES` are wanted; those of what is not predicted are left out.

    Returns:
        {name: {`value`, `low`, `high`}}, in the order of `NAMES`; None where not defined.
    """
    drawn = {name for name in NAMES if name in names and name not in PROPORTIONS}
    draws = resampled([predictions], drawn, seed, resamples)[0] if drawn else {}
    return _cells(predictions, draws, names)


def _cells(
    predictions: Predictions, draws: Mapping[str, FloatArray], names: Container[str]
) -> dict[str, Cell]:
    cells = {}
    for name, value in values(predictions, names).items():
        if name in PROPORTIONS and predictions.expression is not None:
            counted = PROPORTIONS[name](predictions.expression)
            low, high = wilson(int(counted.sum()), len(counted))
        else:
            low, high = percentile_interval(draws[name])
        cells[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    return cells


def confusion_matrix(expression: Expression) -> IntArray:
    """Number of samples by true class (rows) and predicted class (columns), shape (C, C)."""
    count = len(expression.classes)
    cell = expression.labels * count + expression.predicted
    matrix: IntArray = np.bincount(cell, minlength=count * count).reshape(count, count)
    return matrix


def per_class(expression: Expression) -> list[dict[str, Any]]:
    """`name`, `support` and `CLASS_METRICS` of each class, in order.

    Precision, recall and F1 are 0 where they have nothing to divide by; `auc` is None without a
    sample of the class or of the rest, `average_precision` without one of the class.
    """
    (whole,) = Tally([expression]).weigh(np.ones((1, len(expression.labels))))
    columns = {name: metric(whole)[0] for name, metric in CLASS_METRICS.items()}
    return [
        {
            "name": name,
            "support": int(whole.support[0, code]),
            **{part: _number(column[code]) for part, column in columns.items()},
        }
        for code, name in enumerate(expression.classes)
    ]


def compute(predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Everything that `metrics/<split>.json` says of predictions alone, ready for strict JSON.

    Intervals as in `headline`; of the classes, precision, recall and F1 have Wilson's (F1 through
    TP / (TP + FP + FN), of which it is a function), which unlike resamples doesn't shrink to a
    point where a rare class has nothing or everything right. What is not defined is None.

    Args:
        predictions: n samples, at least 1.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.
    """
    draws: dict[str, list[FloatArray]] = defaultdict(list)
    weigh = weigher([predictions])
    for weights in weight_blocks(predictions, seed, resamples):
        (weighted,) = weigh(weights)
        for name, measured in measure_document(predictions, weighted, weights, _RESAMPLED).items():
            draws[name].append(measured)
        if weighted is not None:
            draws["class_auc"].append(class_auc(weighted))
    drawn = {name: np.concatenate(parts) for name, parts in draws.items()}
    cells = _cells(predictions, drawn, NAMES)
    methods: dict[str, Any] = {}
    if predictions.expression is not None:
        methods = {name: interval_method(name) for name in METRICS} | {"per_class": _CLASS_METHODS}
    if predictions.valence_arousal is not None:
        methods |= dict.fromkeys(AXES, _BOOTSTRAP)
    return {
        "n": len(predictions),
        **_expression_part(predictions.expression, cells, drawn.get("class_auc")),
        **_axes_part(predictions.valence_arousal, cells),
        "fingerprint": predictions.fingerprint,
        "interval": {"level": CONFIDENCE, "methods": methods, "resamples": resamples, "seed": seed},
    }


_WILSON, _BOOTSTRAP = "wilson", "class-stratified percentile bootstrap"

_CLASS_METHODS = {
    "precision": _WILSON,
    "recall": _WILSON,
    "f1": "wilson of TP / (TP + FP + FN), transformed",
    "auc": _BOOTSTRAP,
}

_RESAMPLED = frozenset(NAMES) - frozenset(PROPORTIONS)


def interval_method(name: str) -> str:
    """How the interval of one of `NAMES` is computed, in words."""
    return _WILSON if name in PROPORTIONS else _BOOTSTRAP


def _expression_part(
    expression: Expression | None, cells: Mapping[str, Cell], auc_draws: FloatArray | None
) -> dict[str, Any]:
    if expression is None or auc_draws is None:
        return {}
    matrix = confusion_matrix(expression)
    intervals = _class_intervals(matrix, auc_draws)
    return {
        **{name: cells[name] for name in METRICS},
        "per_class": [
            entry | {"intervals": interval}
            for entry, interval in zip(per_class(expression), intervals, strict=True)
        ],
        "confusion_matrix": matrix.tolist(),
    }


def _class_intervals(matrix: IntArray, auc_draws: FloatArray) -> list[dict[str, Any]]:
    """Intervals of precision, recall, F1 and AUC of each class, from (C, C) and (R, C)."""
    columns = zip(
        matrix.diagonal().tolist(),
        matrix.sum(axis=0).tolist(),
        matrix.sum(axis=1).tolist(),
        auc_draws.T,
        strict=True,
    )
    intervals = []
    for hits, predicted, support, auc in columns:
        low, high = _share_interval(hits, predicted + support - hits)
        bounds = {
            "precision": _share_interval(hits, predicted),
            "recall": _share_interval(hits, support),
            "f1": (2 * low / (1 + low), 2 * high / (1 + high)),
            "auc": percentile_interval(auc),
        }
        intervals.append(
            {
                name: {"low": _number(low), "high": _number(high)}
                for name, (low, high) in bounds.items()
            }
        )
    return intervals


def _share_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's interval; undefined of nothing."""
    return wilson(count, n) if n else (float("nan"), float("nan"))


def _axes_part(valence_arousal: ValenceArousal | None, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """For each axis `n`, the number of samples whose true value is known, and its metrics."""
    if valence_arousal is None:
        return {}
    return {
        axis: {"n": int(np.isfinite(true).sum())}
        | {name: cells[f"{axis}_{name}"] for name in AXIS_METRICS}
        for axis, true, _ in valence_arousal.axes()
    }


def resampled_cell(value: float, draws: FloatArray) -> Cell:
    """A value with the percentile interval of its draws (R,); None where one is not defined."""
    low, high = percentile_interval(draws)
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
