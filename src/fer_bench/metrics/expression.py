"""Metrics of expression, each written once for R weightings of the samples at a time.

Values are those of scikit-learn where it has the metric, with `labels=range(C)`.

A test set may lack classes that a model knows. Balanced accuracy, ROC AUC and average precision
average over the classes that occur, since recall and both curves need a positive. Macro precision,
recall and F1 average over all C classes; a class that neither occurs nor is predicted counts as 0.
The support-weighted metrics ignore such classes by their weight. What stays undefined (AUC when
only one class occurs, kappa when labels and predictions are all one class) is NaN here and null in
JSON.
"""

from collections.abc import Callable

import numpy as np

from fer_bench.metrics.arrays import BoolArray, FloatArray, IntArray
from fer_bench.metrics.predictions import Expression
from fer_bench.metrics.weighting import ClassCounts, WeightedExpression, ratio

CALIBRATION_BINS = 15


def class_precision(weighted: ClassCounts) -> FloatArray:
    """Precision; 0 for a class never predicted."""
    return ratio(weighted.hits, weighted.predicted, otherwise=0.0)


def class_recall(weighted: ClassCounts) -> FloatArray:
    """Recall; 0 for a class without a sample."""
    return ratio(weighted.hits, weighted.support, otherwise=0.0)


def class_f1(weighted: ClassCounts) -> FloatArray:
    """F1 = 2 TP / (predicted + support); 0 where both are 0."""
    return ratio(2 * weighted.hits, weighted.predicted + weighted.support, otherwise=0.0)


def class_auc(weighted: WeightedExpression) -> FloatArray:
    """Area under the one-vs-rest ROC curve; NaN without a sample of the class or of the rest."""
    return weighted.areas[0]


def class_average_precision(weighted: WeightedExpression) -> FloatArray:
    """Area under the precision-recall curve by steps; NaN without a sample of the class."""
    return weighted.areas[1]


def _mean_over(values: FloatArray, counted: BoolArray) -> FloatArray:
    """Mean over the last axis of the counted entries; NaN where none counts."""
    total: FloatArray = np.where(counted, values, 0.0).sum(axis=-1)
    return ratio(total, counted.sum(axis=-1).astype(float), otherwise=np.nan)


def _mean_by_support(values: FloatArray, weighted: ClassCounts) -> FloatArray:
    mean: FloatArray = (values * weighted.support).sum(axis=-1) / weighted.total
    return mean


def _accuracy(weighted: ClassCounts) -> FloatArray:
    """Proportion of samples classified correctly, in [0, 1]; `accuracy_score`."""
    share: FloatArray = weighted.hits.sum(axis=-1) / weighted.total
    return share


def _balanced_accuracy(weighted: ClassCounts) -> FloatArray:
    """Mean recall of the classes that occur, in [0, 1]; `balanced_accuracy_score`."""
    return _mean_over(class_recall(weighted), weighted.support > 0)


def _macro_f1(weighted: ClassCounts) -> FloatArray:
    """Mean F1 of all C classes, in [0, 1]; `f1_score(average="macro", labels=range(C))`."""
    mean: FloatArray = class_f1(weighted).mean(axis=-1)
    return mean


def _weighted_f1(weighted: ClassCounts) -> FloatArray:
    """Mean F1 weighted by support, in [0, 1]; `f1_score(average="weighted")`."""
    return _mean_by_support(class_f1(weighted), weighted)


def _kappa(weighted: ClassCounts) -> FloatArray:
    """Cohen's kappa, in [-1, 1]; `cohen_kappa_score`."""
    agreed = weighted.hits.sum(axis=-1) * weighted.total
    expected = (weighted.predicted * weighted.support).sum(axis=-1)
    return ratio(agreed - expected, weighted.total**2 - expected, otherwise=np.nan)


def _roc_auc_macro(weighted: WeightedExpression) -> FloatArray:
    """Mean one-vs-rest AUC of the classes that occur; `roc_auc_score(multi_class="ovr")`."""
    by_class = class_auc(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _nll(weighted: WeightedExpression) -> FloatArray:
    """Mean negative log-likelihood in nats, at most 36.04 per sample; `log_loss`."""
    return weighted.mean(surprise(weighted.expression))


def surprise(expression: Expression) -> FloatArray:
    """Negative log-likelihood of each label in nats, at most 36.04; shape (n,)."""
    chosen = _probability_of_label(expression)
    nats: FloatArray = -np.log(np.clip(chosen, np.finfo(float).eps, 1))
    return nats


def _brier(weighted: WeightedExpression) -> FloatArray:
    """Mean squared distance to the one-hot label summed over classes, in [0, 2].

    `brier_score_loss(scale_by_half=False)`; expanded as Σp² - 2p(label) + 1.
    """
    squares = (weighted.expression.probabilities**2).sum(axis=1)
    return weighted.mean(squares - 2 * _probability_of_label(weighted.expression) + 1)


def calibration_bins(expression: Expression, bins: int = CALIBRATION_BINS) -> IntArray:
    """The bin of each sample by its highest probability, shape (n,), in [0, bins).

    Bins of equal width, closed on the right (Guo et al. 2017).
    """
    confidence = expression.probabilities.max(axis=1)
    places: IntArray = np.ceil(confidence * bins).astype(np.int64) - 1
    return np.clip(places, 0, bins - 1)


def _ece(weighted: WeightedExpression) -> FloatArray:
    """Expected calibration error of the top label, in [0, 1] (Guo et al. 2017, eq. 3).

    `calibration_bins`, L1. Resampling adds noise to every bin, which the absolute value turns into
    error: on a small or well calibrated split the bootstrap interval is biased upwards and may lie
    above the value.
    """
    members = calibration_bins(weighted.expression)[:, None] == np.arange(CALIBRATION_BINS)
    gap = np.where(members, _overconfidence(weighted.expression)[:, None], 0.0)
    error: FloatArray = np.abs(weighted.precise_weights @ gap).sum(axis=1) / weighted.total
    return error


def _ece_adaptive(weighted: WeightedExpression) -> FloatArray:
    """Calibration error of the top label over bins of equal mass, in [0, 1] (Nixon et al. 2019).

    The samples, sorted by confidence, are cut into `CALIBRATION_BINS` parts of equal weight. A
    sample on a cut, or several of equal confidence, count on both sides in proportion. The remark
    on the interval of `_ece` applies here too.
    """
    confidence = weighted.expression.probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    _, starts = np.unique(confidence[order], return_index=True)
    mass = np.take(weighted.precise_weights, order, axis=1)
    error = mass * _overconfidence(weighted.expression)[order]
    if len(starts) < len(order):
        mass, error = (np.add.reduceat(part, starts, axis=1) for part in (mass, error))
    masses, errors = _running(mass), _running(error)
    cuts = np.linspace(0, 1, CALIBRATION_BINS + 1)
    parts = [np.diff(np.interp(cuts * m[-1], m, e)) for m, e in zip(masses, errors, strict=True)]
    total: FloatArray = np.abs(parts).sum(axis=1) / weighted.total
    return total


def _running(values: FloatArray) -> FloatArray:
    """Running sums over the columns, starting at 0, (R, k) → (R, k + 1)."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _overconfidence(expression: Expression) -> FloatArray:
    """1 or 0, as the sample is classified correctly, minus its highest probability; shape (n,)."""
    gap: FloatArray = expression.correct - expression.probabilities.max(axis=1)
    return gap


def _probability_of_label(expression: Expression) -> FloatArray:
    return np.take_along_axis(expression.probabilities, expression.labels[:, None], axis=1)[:, 0]


def _macro_precision(weighted: ClassCounts) -> FloatArray:
    """Mean precision of all C classes, in [0, 1]; `precision_score(labels=range(C))`."""
    mean: FloatArray = class_precision(weighted).mean(axis=-1)
    return mean


def _macro_recall(weighted: ClassCounts) -> FloatArray:
    """Mean recall of all C classes, in [0, 1]; `recall_score(labels=range(C))`."""
    mean: FloatArray = class_recall(weighted).mean(axis=-1)
    return mean


def _weighted_precision(weighted: ClassCounts) -> FloatArray:
    """Mean precision weighted by support, in [0, 1]; `precision_score(average="weighted")`."""
    return _mean_by_support(class_precision(weighted), weighted)


def _weighted_recall(weighted: ClassCounts) -> FloatArray:
    """Mean recall weighted by support, which is accuracy; `recall_score(average="weighted")`."""
    return _accuracy(weighted)


def _average_precision_macro(weighted: WeightedExpression) -> FloatArray:
    """Mean `average_precision_score` of the classes that occur, one-vs-rest, in [0, 1]."""
    by_class = class_average_precision(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _top2_accuracy(weighted: WeightedExpression) -> FloatArray:
    """Proportion of samples with the label among the two most probable; `top_k_accuracy_score`."""
    return weighted.mean(_among_top_two(weighted.expression))


def _among_top_two(expression: Expression) -> BoolArray:
    """Shape (n,); among equally probable classes the later ranks higher, as in scikit-learn."""
    ranked = np.argsort(expression.probabilities, axis=1, kind="stable")[:, -2:]
    among: BoolArray = (ranked == expression.labels[:, None]).any(axis=1)
    return among


def _micro_precision_at_half(weighted: WeightedExpression) -> FloatArray:
    """Pooled precision, in [0, 1], where every class with p > 0.5 counts as predicted.

    `keras.metrics.Precision` on one-hot labels; 0 when nothing is predicted.
    """
    confident = weighted.expression.probabilities.max(axis=1) > 0.5
    correct = weighted.mean(_above_half(weighted.expression))
    return ratio(correct, weighted.mean(confident), otherwise=0.0)


def _micro_recall_at_half(weighted: WeightedExpression) -> FloatArray:
    """Proportion of samples whose label has p > 0.5; `keras.metrics.Recall` on one-hot labels."""
    return weighted.mean(_above_half(weighted.expression))


def _above_half(expression: Expression) -> BoolArray:
    above: BoolArray = _probability_of_label(expression) > 0.5
    return above


# To add a metric, write one function above and enter it here.
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
    "ece_adaptive": _ece_adaptive,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
    "weighted_precision": _weighted_precision,
    "weighted_recall": _weighted_recall,
    "average_precision_macro": _average_precision_macro,
    "top2_accuracy": _top2_accuracy,
    "micro_precision_at_half": _micro_precision_at_half,
    "micro_recall_at_half": _micro_recall_at_half,
}

# Those that are also computed for many models at once, from their counts alone.
FROM_COUNTS: dict[str, Callable[[ClassCounts], FloatArray]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
}

CLASS_METRICS: dict[str, Callable[[WeightedExpression], FloatArray]] = {
    "precision": class_precision,
    "recall": class_recall,
    "f1": class_f1,
    "auc": class_auc,
    "average_precision": class_average_precision,
}

# Metrics that are a proportion of all samples, and the samples that they count.
PROPORTIONS: dict[str, Callable[[Expression], BoolArray]] = {
    "accuracy": lambda expression: expression.correct,
    "weighted_recall": lambda expression: expression.correct,
    "top2_accuracy": _among_top_two,
    "micro_recall_at_half": _above_half,
}
