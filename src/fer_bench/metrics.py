"""Metrics of saved predictions: pure functions of arrays.

Every headline metric is written once, for R weightings of the samples at a time. Weights of one
give the value itself; the counts of bootstrap resamples give its interval, without ever copying a
row. Values are those of scikit-learn where it has the metric, with `labels=range(C)`.

Classes without a sample in the labels (a model may know more classes than a test set shows):
balanced accuracy and ROC AUC average over the classes that occur, since neither recall nor AUC
exists without a positive; macro F1 averages over all C classes, a class that is neither there nor
predicted counting 0; the support-weighted F1 ignores them by its weights. What stays undefined
(AUC when only one class occurs, kappa when labels and predictions are one and the same class) is
NaN here and null in JSON.

Valence and arousal are measured each by itself, over the samples whose true value is known: pooled
over both, a correlation would mostly show that their means differ.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.manifest import AXES
from fer_bench.predictions import Expression, Predictions, ValenceArousal
from fer_bench.statistics import LEVEL, percentile_interval, stratified_weights, wilson

RESAMPLES = 2_000
CALIBRATION_BINS = 15
# A variance of valence or arousal below this is none: that of steps at float32's resolution.
LEAST_VARIANCE = 1e-14
# Weights held at a time; with the copies that the metrics make, this stays below 100 MB.
_WEIGHTS_AT_A_TIME = 2**20

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedExpression:
    """Predicted expressions under R weightings at once.

    Attributes:
        expression: n samples of C classes.
        weights: non-negative, shape (R, n), no row all zero.
    """

    expression: Expression
    weights: FloatArray

    @cached_property
    def confusion(self) -> FloatArray:
        """Weight of each (true, predicted) pair of classes, shape (R, C, C)."""
        count = len(self.expression.classes)
        cell = self.expression.labels * count + self.expression.predicted
        members = (cell[:, None] == np.arange(count * count)).astype(float)
        cells: FloatArray = self.weights @ members
        return cells.reshape(-1, count, count)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value a sample, (n,) → (R,)."""
        mean: FloatArray = self.weights @ values.astype(float) / self.weights.sum(axis=1)
        return mean


@dataclass(frozen=True)
class WeightedAxis:
    """Valence or arousal under R weightings at once.

    Attributes:
        true: of the n samples where it is known, shape (n,), in [-1, 1].
        predicted: the same.
        weights: non-negative, shape (R, n); with a row all zero, no metric is defined.
    """

    true: FloatArray
    predicted: FloatArray
    weights: FloatArray

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value a sample, (n,) → (R,)."""
        total: FloatArray = self.weights @ values.astype(float)
        return _ratio(total, self.weights.sum(axis=1), otherwise=np.nan)

    def covariance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Weighted population covariance of two values a sample, (n,) → (R,)."""
        # Taken around their means first, so that the difference below loses no digits.
        first, second = (values - values.sum() / max(len(values), 1) for values in (first, second))
        moment = self.mean(first * second) - self.mean(first) * self.mean(second)
        return _without_rounding(moment)

    @cached_property
    def variances(self) -> tuple[FloatArray, FloatArray]:
        """Population variances of the true and of the predicted values, each of shape (R,)."""
        true, predicted = self.true, self.predicted
        return self.covariance(true, true), self.covariance(predicted, predicted)


def _without_rounding(moment: FloatArray) -> FloatArray:
    """0 where a second moment of values in [-1, 1] is no more than rounding."""
    return np.where(np.abs(moment) < LEAST_VARIANCE, 0.0, moment)


# Parts, by class -------------------------------------------------------------------------------


def _ratio(numerator: FloatArray, denominator: FloatArray, otherwise: float) -> FloatArray:
    """Element by element; `otherwise` where the denominator is 0."""
    result = np.full(numerator.shape, otherwise)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def _diagonal(confusion: FloatArray) -> FloatArray:
    diagonal: FloatArray = np.diagonal(confusion, axis1=-2, axis2=-1)
    return diagonal


def class_precision(confusion: FloatArray) -> FloatArray:
    """Precision, (..., C, C) → (..., C); 0 for a class never predicted."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-2), otherwise=0.0)


def class_recall(confusion: FloatArray) -> FloatArray:
    """Recall, (..., C, C) → (..., C); 0 for a class without a sample."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-1), otherwise=0.0)


def class_f1(confusion: FloatArray) -> FloatArray:
    """F1 = 2 TP / (predicted + support), (..., C, C) → (..., C); 0 where both are 0."""
    occurrences = confusion.sum(axis=-2) + confusion.sum(axis=-1)
    return _ratio(2 * _diagonal(confusion), occurrences, otherwise=0.0)


def class_auc(weighted: WeightedExpression) -> FloatArray:
    """Area under the one-vs-rest ROC curve of each class, shape (R, C).

    It is the chance that a positive scores above a negative, ties counting half (Mann and
    Whitney 1947). The negatives are sorted once a class; for every weighting, a running sum over
    them then gives the weight below each positive. NaN without a positive or without a negative.
    """
    expression = weighted.expression
    columns = []
    for code, scores in enumerate(expression.probabilities.T):
        positive = expression.labels == code
        negatives = np.flatnonzero(~positive)
        negatives = negatives[np.argsort(scores[negatives])]
        below = np.zeros((len(weighted.weights), len(negatives) + 1))
        np.cumsum(weighted.weights[:, negatives], axis=1, out=below[:, 1:])
        first = np.searchsorted(scores[negatives], scores[positive], side="left")
        last = np.searchsorted(scores[negatives], scores[positive], side="right")
        positives = weighted.weights[:, positive]
        wins = (positives * (below[:, first] + below[:, last])).sum(axis=1) / 2
        columns.append(_ratio(wins, positives.sum(axis=1) * below[:, -1], otherwise=np.nan))
    return np.stack(columns, axis=1)


def _mean_over(values: FloatArray, counted: NDArray[np.bool_]) -> FloatArray:
    """Mean over the last axis of the counted entries; NaN where none counts."""
    total: FloatArray = np.where(counted, values, 0.0).sum(axis=-1)
    return _ratio(total, counted.sum(axis=-1).astype(float), otherwise=np.nan)


# Metrics of expression: WeightedExpression → (R,) ----------------------------------------------


def _accuracy(weighted: WeightedExpression) -> FloatArray:
    """Share of samples classified rightly, in [0, 1]; `accuracy_score`."""
    return weighted.mean(weighted.expression.correct)


def _balanced_accuracy(weighted: WeightedExpression) -> FloatArray:
    """Mean recall of the classes that occur, in [0, 1]; `balanced_accuracy_score`."""
    confusion = weighted.confusion
    return _mean_over(class_recall(confusion), confusion.sum(axis=-1) > 0)


def _macro_f1(weighted: WeightedExpression) -> FloatArray:
    """Mean F1 of all C classes, in [0, 1]; `f1_score(average="macro", labels=range(C))`."""
    mean: FloatArray = class_f1(weighted.confusion).mean(axis=-1)
    return mean


def _weighted_f1(weighted: WeightedExpression) -> FloatArray:
    """Mean F1 weighted by support, in [0, 1]; `f1_score(average="weighted")`."""
    support = weighted.confusion.sum(axis=-1)
    mean: FloatArray = (class_f1(weighted.confusion) * support).sum(-1) / support.sum(-1)
    return mean


def _kappa(weighted: WeightedExpression) -> FloatArray:
    """Cohen's kappa, in [-1, 1]; `cohen_kappa_score`."""
    confusion = weighted.confusion
    total = confusion.sum(axis=(-2, -1))
    agreed = _diagonal(confusion).sum(axis=-1) * total
    expected = (confusion.sum(axis=-2) * confusion.sum(axis=-1)).sum(axis=-1)
    return _ratio(agreed - expected, total * total - expected, otherwise=np.nan)


def _roc_auc_macro(weighted: WeightedExpression) -> FloatArray:
    """Mean one-vs-rest AUC of the classes that occur; `roc_auc_score(multi_class="ovr")`."""
    by_class = class_auc(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _nll(weighted: WeightedExpression) -> FloatArray:
    """Mean negative log-likelihood in nats, at most 36.04 a sample; `log_loss`."""
    chosen = _probability_of_label(weighted.expression)
    return weighted.mean(-np.log(np.clip(chosen, np.finfo(float).eps, 1)))


def _brier(weighted: WeightedExpression) -> FloatArray:
    """Mean squared distance to the one-hot label summed over classes, in [0, 2].

    `brier_score_loss(scale_by_half=False)`; expanded as Σp² - 2p(label) + 1.
    """
    squares = (weighted.expression.probabilities**2).sum(axis=1)
    return weighted.mean(squares - 2 * _probability_of_label(weighted.expression) + 1)


def _ece(weighted: WeightedExpression) -> FloatArray:
    """Expected calibration error of the top label, in [0, 1] (Guo et al. 2017, eq. 3).

    `CALIBRATION_BINS` bins of equal width, closed on the right, L1. Resampling adds noise to every
    bin and the absolute value turns noise into error, so on a small or well calibrated split the
    bootstrap interval sits high and may lie above the value.
    """
    confidence = weighted.expression.probabilities.max(axis=1)
    bins = np.ceil(confidence * CALIBRATION_BINS) - 1
    members = bins[:, None] == np.arange(CALIBRATION_BINS)
    gap = np.where(members, (weighted.expression.correct - confidence)[:, None], 0.0)
    error: FloatArray = np.abs(weighted.weights @ gap).sum(axis=1) / weighted.weights.sum(axis=1)
    return error


def _probability_of_label(expression: Expression) -> FloatArray:
    return np.take_along_axis(expression.probabilities, expression.labels[:, None], axis=1)[:, 0]


# Metrics of valence and of arousal: WeightedAxis → (R,) ----------------------------------------


def _rmse(weighted: WeightedAxis) -> FloatArray:
    """Root mean squared error, in [0, 2]; `root_mean_squared_error`."""
    return np.sqrt(weighted.mean((weighted.true - weighted.predicted) ** 2))


def _ccc(weighted: WeightedAxis) -> FloatArray:
    """Concordance correlation, in [-1, 1], with population moments (Lin 1989).

    2 s_xy / (s_x² + s_y² + (m_x - m_y)²). A prediction that never changes has 0; not
    defined is only that of true and predicted values which are all one number.
    """
    covariance = weighted.covariance(weighted.true, weighted.predicted)
    distance = weighted.mean(weighted.true - weighted.predicted)
    denominator = sum(weighted.variances) + distance**2
    return _ratio(2 * covariance, _without_rounding(denominator), otherwise=np.nan)


def _pcc(weighted: WeightedAxis) -> FloatArray:
    """Pearson's correlation, in [-1, 1]; NaN where either side never changes; `pearsonr`."""
    covariance = weighted.covariance(weighted.true, weighted.predicted)
    true, predicted = weighted.variances
    correlation = _ratio(covariance, np.sqrt(true * predicted), otherwise=np.nan)
    return np.clip(correlation, -1, 1)


def _sagr(weighted: WeightedAxis) -> FloatArray:
    """Sign agreement, in [0, 1]: share of samples predicted on the right side of 0.

    As in the literature (Nicolaou et al. 2011), signs are those of `np.sign`, with 0 as a sign of
    its own: where the true value is exactly 0, only exactly 0 agrees, which a network all but
    never says. The share of such samples (neutral faces, mostly) is lost to any model.
    """
    return weighted.mean(np.sign(weighted.true) == np.sign(weighted.predicted))


# To add a metric: write one function above and enter it here.
METRICS: dict[str, Callable[[WeightedExpression], FloatArray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "kappa": _kappa,
    "roc_auc_macro": _roc_auc_macro,
    "nll": _nll,
    "brier": _brier,
    "ece": _ece,
}
AXIS_METRICS: dict[str, Callable[[WeightedAxis], FloatArray]] = {
    "rmse": _rmse,
    "ccc": _ccc,
    "pcc": _pcc,
    "sagr": _sagr,
}
# Of everything that a model may predict: `accuracy`, `valence_ccc`.
NAMES = (*METRICS, *(f"{axis}_{name}" for axis in AXES for name in AXIS_METRICS))


# Results ---------------------------------------------------------------------------------------


def measure(
    predictions: Predictions, weights: FloatArray, names: Container[str] = NAMES
) -> dict[str, FloatArray]:
    """The headline metrics of what is predicted, under R weightings of the samples.

    Args:
        predictions: n samples, at least 1.
        weights: non-negative, shape (R, n), no row all zero.
        names: which of `NAMES` are wanted; those of what is not predicted are left out.

    Returns:
        {name: values of shape (R,)}, in the order of `NAMES`; NaN where one is not defined.
    """
    measured: dict[str, FloatArray] = {}
    if predictions.expression is not None:
        weighted = WeightedExpression(predictions.expression, weights)
        measured |= {name: METRICS[name](weighted) for name in METRICS if name in names}
    if predictions.valence_arousal is not None:
        for axis, true, predicted in predictions.valence_arousal.axes():
            weighted_axis = _weigh(true, predicted, weights)
            measured |= {
                f"{axis}_{name}": metric(weighted_axis)
                for name, metric in AXIS_METRICS.items()
                if f"{axis}_{name}" in names
            }
    return measured


def values(predictions: Predictions, names: Container[str] = NAMES) -> dict[str, float]:
    """The headline metrics of what is predicted; NaN where one is not defined."""
    measured = measure(predictions, np.ones((1, len(predictions))), names)
    return {name: float(value[0]) for name, value in measured.items()}


def concordance(true: FloatArray, predicted: FloatArray) -> FloatArray:
    """Concordance correlation of valence and of arousal, shape (2,); NaN where not defined.

    Args:
        true: shape (n, 2), in [-1, 1]; a NaN leaves the sample out of its axis.
        predicted: shape (n, 2).
    """
    weights = np.ones((1, len(true)))
    columns = zip(true.T, predicted.T, strict=True)
    return np.concatenate([_ccc(_weigh(*axis, weights)) for axis in columns])


def _weigh(true: FloatArray, predicted: FloatArray, weights: FloatArray) -> WeightedAxis:
    """The samples whose true value is known, under their weights."""
    known = ~np.isnan(true)
    return WeightedAxis(true[known], predicted[known], weights[:, known])


def resampled(
    runs: Sequence[Predictions],
    names: Container[str] = NAMES,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[dict[str, FloatArray]]:
    """Headline metrics of several runs on the same class-stratified bootstrap resamples.

    Args:
        runs: at least one; all with the same samples and labels in the same order.
        names: which of `NAMES` are wanted; a run has those of what it predicts.
        seed: of the resamples, which depend on nothing but it and the labels.
        resamples: their number R.

    Returns:
        For each run, {name: values of shape (R,)}; entry r of every array is from resample r.

    Raises:
        ValueError: the runs differ in their samples or labels.
    """
    first = runs[0]
    for other in runs[1:]:
        same_labels = np.array_equal(other.label_names, first.label_names)
        if other.sample_ids != first.sample_ids or not same_labels:
            raise ValueError("resampled needs runs with the same samples and labels, in order")
    # By name, not by code: runs may number the same classes differently.
    _, strata = np.unique(first.label_names, return_inverse=True)
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _WEIGHTS_AT_A_TIME // len(first))
    draws: list[dict[str, list[FloatArray]]] = [defaultdict(list) for _ in runs]
    for start in range(0, resamples, at_a_time):
        weights = stratified_weights(strata, min(at_a_time, resamples - start), generator)
        for run, drawn in zip(runs, draws, strict=True):
            for name, measured in measure(run, weights, names).items():
                drawn[name].append(measured)
    return [{name: np.concatenate(parts) for name, parts in drawn.items()} for drawn in draws]


def confusion_matrix(expression: Expression) -> IntArray:
    """Number of samples by true class (rows) and predicted class (columns), shape (C, C)."""
    matrix: IntArray = _unweighted(expression).confusion[0].astype(np.int64)
    return matrix


def per_class(expression: Expression) -> list[dict[str, Any]]:
    """`name`, `precision`, `recall`, `f1`, `support` and `auc` of each class, in order.

    Precision, recall and F1 are 0 where they have nothing to divide by; `auc` is None without a
    sample of the class or of the rest.
    """
    whole = _unweighted(expression)
    confusion = whole.confusion[0]
    columns = zip(
        expression.classes,
        class_precision(confusion),
        class_recall(confusion),
        class_f1(confusion),
        confusion.sum(axis=1),
        class_auc(whole)[0],
        strict=True,
    )
    return [
        {
            "name": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
            "auc": _number(auc),
        }
        for name, precision, recall, f1, support, auc in columns
    ]


def compute(predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Everything that `metrics/<split>.json` says, ready for strict JSON.

    Accuracy has its Wilson interval, every other metric the percentile interval of a
    class-stratified bootstrap. What is not defined is None.

    Args:
        predictions: n samples, at least 1.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.
    """
    draws = resampled([predictions], seed=seed, resamples=resamples)[0]
    intervals = {name: percentile_interval(drawn) for name, drawn in draws.items()}
    bootstrap = "class-stratified percentile bootstrap"
    methods: dict[str, str] = {}
    if predictions.expression is not None:
        right = int(predictions.expression.correct.sum())
        intervals["accuracy"] = wilson(right, len(predictions))
        methods |= dict.fromkeys(METRICS, bootstrap) | {"accuracy": "wilson"}
    if predictions.valence_arousal is not None:
        methods |= dict.fromkeys(AXES, bootstrap)
    cells = {
        name: {
            "value": _number(value),
            "low": _number(intervals[name][0]),
            "high": _number(intervals[name][1]),
        }
        for name, value in values(predictions).items()
    }
    return {
        "n": len(predictions),
        **_expression_part(predictions.expression, cells),
        **_axes_part(predictions.valence_arousal, cells),
        "fingerprint": predictions.fingerprint,
        "interval": {"level": LEVEL, "methods": methods, "resamples": resamples, "seed": seed},
    }


_Cells = Mapping[str, Mapping[str, float | None]]


def _expression_part(expression: Expression | None, cells: _Cells) -> dict[str, Any]:
    if expression is None:
        return {}
    return {
        **{name: cells[name] for name in METRICS},
        "per_class": per_class(expression),
        "confusion_matrix": confusion_matrix(expression).tolist(),
    }


def _axes_part(valence_arousal: ValenceArousal | None, cells: _Cells) -> dict[str, Any]:
    """For each axis `n`, the number of samples whose true value is known, and its metrics."""
    if valence_arousal is None:
        return {}
    return {
        axis: {"n": int(np.isfinite(true).sum())}
        | {name: cells[f"{axis}_{name}"] for name in AXIS_METRICS}
        for axis, true, _ in valence_arousal.axes()
    }


def _unweighted(expression: Expression) -> WeightedExpression:
    return WeightedExpression(expression, np.ones((1, len(expression.labels))))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
