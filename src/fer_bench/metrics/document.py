"""The document of an evaluation, `metrics/<evaluation>.json`, made from predictions.

`metrics.schema` describes its keys. What is not defined is NaN in the metrics and None here.
"""

from collections.abc import Container, Mapping
from typing import cast

import numpy as np

from fer_bench.labels import AXES
from fer_bench.metrics.arrays import BoolArray, FloatArray, IntArray
from fer_bench.metrics.expression import CLASS_METRICS, METRICS, PROPORTIONS
from fer_bench.metrics.intervals import CONFIDENCE, percentile_interval, wilson
from fer_bench.metrics.measure import CLASS_AUC, NAMES, RESAMPLES, resampled, values
from fer_bench.metrics.predictions import Expression, Predictions
from fer_bench.metrics.schema import SCHEMA, AxisEntry, Bounds, Cell, ClassEntry, MetricsDocument
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.metrics.weighting import weigh

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


# Cells -----------------------------------------------------------------------------------------


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
        names: which of `NAMES` to compute; those of what is not predicted are left out.

    Returns:
        {name: {`value`, `low`, `high`}}, in the order of `NAMES`; None where not defined.
    """
    drawn = {name for name in _RESAMPLED if name in names}
    draws = resampled([predictions], drawn, seed, resamples)[0] if drawn else {}
    return _cells(predictions, draws, names)


def _cells(
    predictions: Predictions, draws: Mapping[str, FloatArray], names: Container[str]
) -> dict[str, Cell]:
    return {
        name: proportion_cell(PROPORTIONS[name](predictions.expression))
        if name in PROPORTIONS and predictions.expression is not None
        else resampled_cell(value, draws[name])
        for name, value in values(predictions, names).items()
    }


def proportion_cell(counted: BoolArray) -> Cell:
    """The proportion of n samples that count, shape (n,), with its Wilson interval."""
    low, high = wilson(int(counted.sum()), len(counted))
    return {"value": float(counted.mean()), "low": low, "high": high}


def resampled_cell(value: float, draws: FloatArray) -> Cell:
    """A value with the percentile interval of its draws (R,); None where one is not defined."""
    return {"value": _number(value), **_bounds(*percentile_interval(draws))}


def _bounds(low: float, high: float) -> Bounds:
    return {"low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# The document ----------------------------------------------------------------------------------


def compute(predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES) -> MetricsDocument:
    """Everything in `metrics/<split>.json` that follows from predictions alone, for strict JSON.

    Intervals are those of `headline`. Precision, recall and F1 of a class have Wilson intervals
    (F1 as a function of TP / (TP + FP + FN)): unlike a bootstrap interval, Wilson's does not shrink
    to a point where none or all of a rare class is correct.

    Args:
        predictions: n samples, at least 1.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.
    """
    (draws,) = resampled([predictions], _RESAMPLED | {CLASS_AUC}, seed, resamples)
    cells = _cells(predictions, draws, NAMES)
    methods: dict[str, str | Mapping[str, str]] = {}
    document: dict[str, object] = {"schema": SCHEMA, "n": len(predictions)}
    if (expression := predictions.expression) is not None:
        matrix = confusion_matrix(expression)
        intervals = _class_intervals(matrix, draws[CLASS_AUC])
        document |= {
            **{name: cells[name] for name in METRICS},
            "per_class": [
                {**entry, "intervals": bounds}
                for entry, bounds in zip(per_class(expression), intervals, strict=True)
            ],
            "confusion_matrix": matrix.tolist(),
        }
        methods = {name: interval_method(name) for name in METRICS} | {"per_class": _CLASS_METHODS}
    if predictions.valence_arousal is not None:
        document |= {
            axis: _axis_entry(axis, true, cells)
            for axis, true, _ in predictions.valence_arousal.axes()
        }
        methods |= dict.fromkeys(AXES, _BOOTSTRAP)
    document["fingerprint"] = predictions.fingerprint
    document["interval"] = {
        "level": CONFIDENCE,
        "methods": methods,
        "resamples": resamples,
        "seed": seed,
    }
    return cast(MetricsDocument, document)


def confusion_matrix(expression: Expression) -> IntArray:
    """Number of samples by true class (rows) and predicted class (columns), shape (C, C)."""
    count = len(expression.classes)
    cell = expression.labels * count + expression.predicted
    matrix: IntArray = np.bincount(cell, minlength=count * count).reshape(count, count)
    return matrix


def per_class(expression: Expression) -> list[ClassEntry]:
    """`name`, `support` and `CLASS_METRICS` of each class, in order.

    Precision, recall and F1 are 0 where their denominator is 0; `auc` is None without a sample of
    the class or of the others, `average_precision` without one of the class.
    """
    whole = weigh(expression, np.ones((1, len(expression.labels))))
    columns = {name: metric(whole)[0] for name, metric in CLASS_METRICS.items()}
    return [
        cast(
            ClassEntry,
            {
                "name": name,
                "support": int(whole.support[0, code]),
                **{part: _number(column[code]) for part, column in columns.items()},
            },
        )
        for code, name in enumerate(expression.classes)
    ]


def _class_intervals(matrix: IntArray, auc_draws: FloatArray) -> list[dict[str, Bounds]]:
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
        low, high = wilson(hits, predicted + support - hits)
        intervals.append(
            {
                "precision": _bounds(*wilson(hits, predicted)),
                "recall": _bounds(*wilson(hits, support)),
                "f1": _bounds(2 * low / (1 + low), 2 * high / (1 + high)),
                "auc": _bounds(*percentile_interval(auc)),
            }
        )
    return intervals


def _axis_entry(axis: str, true: FloatArray, cells: Mapping[str, Cell]) -> AxisEntry:
    entry = {name: cells[f"{axis}_{name}"] for name in AXIS_METRICS}
    return cast(AxisEntry, {"n": int(np.isfinite(true).sum()), **entry})
