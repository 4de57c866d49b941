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
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.manifest import AXES
from fer_bench.predictions import Expression, Predictions, ValenceArousal
from fer_bench.statistics import LEVEL, percentile_interval, stratified_weights, wilson
from fer_bench.weighted import (
    Tally,
    WeightArray,
    WeightedAxis,
    WeightedExpression,
    ratio,
    weigh_axis,
    without_rounding,
)

RESAMPLES = 10_000
CALIBRATION_BINS = 15
# Weights held at a time; with the copies that the metrics make, this stays below 100 MB.
_WEIGHTS_AT_A_TIME = 2**20

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
# Value and 95% interval; None where one is not defined.
Cell = dict[str, float | None]


# By class: WeightedExpression → (R, C) ----------------------------------------------------------


def class_precision(weighted: WeightedExpression) -> FloatArray:
    """Precision; 0 for a class never predicted."""
    return ratio(weighted.hits, weighted.predicted, otherwise=0.0)


def class_recall(weighted: WeightedExpression) -> FloatArray:
    """Recall; 0 for a class without a sample."""
    return ratio(weighted.hits, weighted.support, otherwise=0.0)


def class_f1(weighted: WeightedExpression) -> FloatArray:
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


def _mean_by_support(values: FloatArray, weighted: WeightedExpression) -> FloatArray:
    mean: FloatArray = (values * weighted.support).sum(axis=1) / weighted.total
    return mean


# Metrics of expression: WeightedExpression → (R,) ----------------------------------------------


def _accuracy(weighted: WeightedExpression) -> FloatArray:
    """Share of samples classified rightly, in [0, 1]; `accuracy_score`."""
    share: FloatArray = weighted.hits.sum(axis=1) / weighted.total
    return share


def _balanced_accuracy(weighted: WeightedExpression) -> FloatArray:
    """Mean recall of the classes that occur, in [0, 1]; `balanced_accuracy_score`."""
    return _mean_over(class_recall(weighted), weighted.support > 0)


def _macro_f1(weighted: WeightedExpression) -> FloatArray:
    """Mean F1 of all C classes, in [0, 1]; `f1_score(average="macro", labels=range(C))`."""
    mean: FloatArray = class_f1(weighted).mean(axis=1)
    return mean


def _weighted_f1(weighted: WeightedExpression) -> FloatArray:
    """Mean F1 weighted by support, in [0, 1]; `f1_score(average="weighted")`."""
    return _mean_by_support(class_f1(weighted), weighted)


def _kappa(weighted: WeightedExpression) -> FloatArray:
    """Cohen's kappa, in [-1, 1]; `cohen_kappa_score`."""
    agreed = weighted.hits.sum(axis=1) * weighted.total
    expected = (weighted.predicted * weighted.support).sum(axis=1)
    return ratio(agreed - expected, weighted.total**2 - expected, otherwise=np.nan)


def _roc_auc_macro(weighted: WeightedExpression) -> FloatArray:
    """Mean one-vs-rest AUC of the classes that occur; `roc_auc_score(multi_class="ovr")`."""
    by_class = class_auc(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _nll(weighted: WeightedExpression) -> FloatArray:
    """Mean negative log-likelihood in nats, at most 36.04 a sample; `log_loss`."""
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

    `calibration_bins`, L1. Resampling adds noise to every bin and the absolute value turns noise
    into error, so on a small or well calibrated split the bootstrap interval sits high and may lie
    above the value.
    """
    members = calibration_bins(weighted.expression)[:, None] == np.arange(CALIBRATION_BINS)
    gap = np.where(members, _overconfidence(weighted.expression)[:, None], 0.0)
    error: FloatArray = np.abs(weighted.precise_weights @ gap).sum(axis=1) / weighted.total
    return error


def _ece_adaptive(weighted: WeightedExpression) -> FloatArray:
    """Calibration error of the top label over bins of equal mass, in [0, 1] (Nixon et al. 2019).

    The samples sorted by confidence are cut into `CALIBRATION_BINS` parts of the same weight; what
    lies on a cut, one sample or several of one confidence, counts on both sides by its share. The
    remark on the interval of `_ece` holds here too.
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
    """Sums of the columns so far, from 0 to all of them, (R, k) → (R, k + 1)."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _overconfidence(expression: Expression) -> FloatArray:
    """Whether each sample is right less its highest probability, shape (n,)."""
    gap: FloatArray = expression.correct - expression.probabilities.max(axis=1)
    return gap


def _probability_of_label(expression: Expression) -> FloatArray:
    return np.take_along_axis(expression.probabilities, expression.labels[:, None], axis=1)[:, 0]


def _macro_precision(weighted: WeightedExpression) -> FloatArray:
    """Mean precision of all C classes, in [0, 1]; `precision_score(labels=range(C))`."""
    mean: FloatArray = class_precision(weighted).mean(axis=1)
    return mean


def _macro_recall(weighted: WeightedExpression) -> FloatArray:
    """Mean recall of all C classes, in [0, 1]; `recall_score(labels=range(C))`."""
    mean: FloatArray = class_recall(weighted).mean(axis=1)
    return mean


def _weighted_precision(weighted: WeightedExpression) -> FloatArray:
    """Mean precision weighted by support, in [0, 1]; `precision_score(average="weighted")`."""
    return _mean_by_support(class_precision(weighted), weighted)


def _weighted_recall(weighted: WeightedExpression) -> FloatArray:
    """Mean recall weighted by support, which is accuracy; `recall_score(average="weighted")`."""
    return _accuracy(weighted)


def _average_precision_macro(weighted: WeightedExpression) -> FloatArray:
    """Mean `average_precision_score` of the classes that occur, one-vs-rest, in [0, 1]."""
    by_class = class_average_precision(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _top2_accuracy(weighted: WeightedExpression) -> FloatArray:
    """Share of samples whose label is one of the two most probable; `top_k_accuracy_score`."""
    return weighted.mean(_among_top_two(weighted.expression))


def _among_top_two(expression: Expression) -> BoolArray:
    """Of equally probable classes the later ranks higher, as in scikit-learn; shape (n,)."""
    ranked = np.argsort(expression.probabilities, axis=1, kind="stable")[:, -2:]
    among: BoolArray = (ranked == expression.labels[:, None]).any(axis=1)
    return among


def _micro_precision_at_half(weighted: WeightedExpression) -> FloatArray:
    """Precision of all classes with p > 0.5 taken as predicted, pooled, in [0, 1].

    `keras.metrics.Precision` on one-hot labels; 0 when nothing is predicted.
    """
    confident = weighted.expression.probabilities.max(axis=1) > 0.5
    right = weighted.mean(_above_half(weighted.expression))
    return ratio(right, weighted.mean(confident), otherwise=0.0)


def _micro_recall_at_half(weighted: WeightedExpression) -> FloatArray:
    """Share of samples whose label has p > 0.5; `keras.metrics.Recall` on one-hot labels."""
    return weighted.mean(_above_half(weighted.expression))


def _above_half(expression: Expression) -> BoolArray:
    above: BoolArray = _probability_of_label(expression) > 0.5
    return above


# Metrics of valence and of arousal: WeightedAxis → (R,) ----------------------------------------


def _rmse(weighted: WeightedAxis) -> FloatArray:
    """Root mean squared error, in [0, 2]; `root_mean_squared_error`."""
    return np.sqrt(weighted.mean((weighted.true - weighted.predicted) ** 2))


def _ccc(weighted: WeightedAxis) -> FloatArray:
    """Concordance correlation, in [-1, 1], with population moments (Lin 1989).

    2 s_xy / (s_x² + s_y² + (m_x - m_y)²). A prediction that never changes has 0; not
    defined is only that of true and predicted values which are all one number.
    """
    distance = weighted.mean(weighted.true - weighted.predicted)
    denominator = sum(weighted.variances) + distance**2
    return ratio(2 * weighted.covariance, without_rounding(denominator), otherwise=np.nan)


def _pcc(weighted: WeightedAxis) -> FloatArray:
    """Pearson's correlation, in [-1, 1]; NaN where either side never changes; `pearsonr`."""
    true, predicted = weighted.variances
    correlation = ratio(weighted.covariance, np.sqrt(true * predicted), otherwise=np.nan)
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
AXIS_METRICS: dict[str, Callable[[WeightedAxis], FloatArray]] = {
    "rmse": _rmse,
    "ccc": _ccc,
    "pcc": _pcc,
    "sagr": _sagr,
}
# Of everything that a model may predict: `accuracy`, `valence_ccc`.
NAMES = (*METRICS, *(f"{axis}_{name}" for axis in AXES for name in AXIS_METRICS))
CLASS_METRICS: dict[str, Callable[[WeightedExpression], FloatArray]] = {
    "precision": class_precision,
    "recall": class_recall,
    "f1": class_f1,
    "auc": class_auc,
    "average_precision": class_average_precision,
}
# Metrics that are a share of all samples, and which samples count for them.
SHARES: dict[str, Callable[[Expression], BoolArray]] = {
    "accuracy": lambda expression: expression.correct,
    "weighted_recall": lambda expression: expression.correct,
    "top2_accuracy": _among_top_two,
    "micro_recall_at_half": _above_half,
}


# Results ---------------------------------------------------------------------------------------


def values(predictions: Predictions, names: Container[str] = NAMES) -> dict[str, float]:
    """The headline metrics of what is predicted; NaN where one is not defined."""
    measured = measure(predictions, np.ones((1, len(predictions))), names)
    return {name: float(value[0]) for name, value in measured.items()}


def measure(
    predictions: Predictions, weights: WeightArray, names: Container[str] = NAMES
) -> dict[str, FloatArray]:
    """The headline metrics of what is predicted, under R weightings of the samples.

    Args:
        predictions: n samples, at least 1.
        weights: non-negative, shape (R, n), no row all zero.
        names: which of `NAMES` are wanted; those of what is not predicted are left out.

    Returns:
        {name: values of shape (R,)}, in the order of `NAMES`; NaN where one is not defined.
    """
    (weighted,) = _weigher([predictions])(weights)
    return _measure(predictions, weighted, weights, names)


def _weigher(
    runs: Sequence[Predictions],
) -> Callable[[WeightArray], list[WeightedExpression | None]]:
    """What weighs the expression of every run, None for a run without."""
    expressions = [run.expression for run in runs if run.expression is not None]
    if not expressions:
        return lambda _: [None] * len(runs)
    tally = Tally(expressions)

    def weigh(weights: WeightArray) -> list[WeightedExpression | None]:
        weighted = iter(tally.weigh(weights))
        return [None if run.expression is None else next(weighted) for run in runs]

    return weigh


def _measure(
    run: Predictions,
    weighted: WeightedExpression | None,
    weights: WeightArray,
    names: Container[str],
) -> dict[str, FloatArray]:
    measured: dict[str, FloatArray] = {}
    if weighted is not None:
        measured |= {name: METRICS[name](weighted) for name in METRICS if name in names}
    if run.valence_arousal is not None:
        for axis, true, predicted in run.valence_arousal.axes():
            wanted = [name for name in AXIS_METRICS if f"{axis}_{name}" in names]
            if wanted:
                one = weigh_axis(true, predicted, weights)
                measured |= {f"{axis}_{name}": AXIS_METRICS[name](one) for name in wanted}
    return measured


def concordance(true: FloatArray, predicted: FloatArray) -> FloatArray:
    """Concordance correlation of valence and of arousal, shape (2,); NaN where not defined.

    Args:
        true: shape (n, 2), in [-1, 1]; a NaN leaves the sample out of its axis.
        predicted: shape (n, 2).
    """
    weights = np.ones((1, len(true)))
    columns = zip(true.T, predicted.T, strict=True)
    return np.concatenate([_ccc(weigh_axis(*axis, weights)) for axis in columns])


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
    weigh = _weigher(runs)
    draws: list[dict[str, list[FloatArray]]] = [defaultdict(list) for _ in runs]
    for weights in weight_blocks(first, seed, resamples):
        for run, weighted, drawn in zip(runs, weigh(weights), draws, strict=True):
            for name, measured in _measure(run, weighted, weights, names).items():
                drawn[name].append(measured)
    return [{name: np.concatenate(parts) for name, parts in drawn.items()} for drawn in draws]


def weight_blocks(predictions: Predictions, seed: int, resamples: int) -> Iterator[WeightArray]:
    """The weights of all class-stratified resamples, (R, n), as many rows at a time as fit."""
    # By name, not by code: runs may number the same classes differently.
    _, strata = np.unique(predictions.label_names, return_inverse=True)
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _WEIGHTS_AT_A_TIME // len(predictions))
    for start in range(0, resamples, at_a_time):
        yield stratified_weights(strata, min(at_a_time, resamples - start), generator)


def headline(
    predictions: Predictions,
    seed: int = 0,
    resamples: int = RESAMPLES,
    names: Container[str] = NAMES,
) -> dict[str, Cell]:
    """The headline metrics of what is predicted, with their intervals, ready for strict JSON.

    A metric that is a share of all samples (`SHARES`) has its Wilson interval, every other one the
    percentile interval of a class-stratified bootstrap.

    Args:
        predictions: n samples, at least 1.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.
        names: which of `NAMES` are wanted; those of what is not predicted are left out.

    Returns:
        {name: {`value`, `low`, `high`}}, in the order of `NAMES`; None where not defined.
    """
    drawn = {name for name in NAMES if name in names and name not in SHARES}
    draws = resampled([predictions], drawn, seed, resamples)[0] if drawn else {}
    return _cells(predictions, draws, names)


def _cells(
    predictions: Predictions, draws: Mapping[str, FloatArray], names: Container[str]
) -> dict[str, Cell]:
    cells = {}
    for name, value in values(predictions, names).items():
        if name in SHARES and predictions.expression is not None:
            counted = SHARES[name](predictions.expression)
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
    weigh = _weigher([predictions])
    for weights in weight_blocks(predictions, seed, resamples):
        (weighted,) = weigh(weights)
        for name, measured in _measure(predictions, weighted, weights, _RESAMPLED).items():
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
        "interval": {"level": LEVEL, "methods": methods, "resamples": resamples, "seed": seed},
    }


_WILSON, _BOOTSTRAP = "wilson", "class-stratified percentile bootstrap"
_CLASS_METHODS = {
    "precision": _WILSON,
    "recall": _WILSON,
    "f1": "wilson of TP / (TP + FP + FN), transformed",
    "auc": _BOOTSTRAP,
}
_RESAMPLED = frozenset(NAMES) - frozenset(SHARES)


def interval_method(name: str) -> str:
    """How the interval of one of `NAMES` is computed, in words."""
    return _WILSON if name in SHARES else _BOOTSTRAP


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
