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
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.errors import RunError
from fer_bench.statistics import LEVEL, percentile_interval, stratified_weights, wilson

RESAMPLES = 2_000
CALIBRATION_BINS = 15
# How far written probabilities may be off by rounding.
TOLERANCE = 1e-3
# Weights held at a time; with the copies that the metrics make, this stays below 100 MB.
_WEIGHTS_AT_A_TIME = 2**20

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What a model says about each sample of a split.

    Attributes:
        sample_ids: unique names of the n samples.
        classes: names of the C classes.
        labels: true class codes, shape (n,), in [0, C).
        predicted: predicted class codes, shape (n,), in [0, C).
        probabilities: shape (n, C), in [0, 1], rows summing to 1.
    """

    sample_ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: IntArray
    predicted: IntArray
    probabilities: FloatArray

    def __len__(self) -> int:
        return len(self.sample_ids)

    @cached_property
    def label_names(self) -> NDArray[np.str_]:
        """The true class name of each sample, shape (n,)."""
        return np.array(self.classes)[self.labels]

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each sample is classified rightly, shape (n,)."""
        correct: NDArray[np.bool_] = self.labels == self.predicted
        return correct

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over sample id and label of every sample, whatever their order."""
        rows = zip(self.sample_ids, self.label_names, strict=True)
        lines = sorted(f"{sample_id}\t{label}" for sample_id, label in rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Weighted:
    """Predictions under R weightings at once.

    Attributes:
        predictions: n samples of C classes.
        weights: non-negative, shape (R, n), no row all zero.
    """

    predictions: Predictions
    weights: FloatArray

    @cached_property
    def confusion(self) -> FloatArray:
        """Weight of each (true, predicted) pair of classes, shape (R, C, C)."""
        count = len(self.predictions.classes)
        cell = self.predictions.labels * count + self.predictions.predicted
        members = (cell[:, None] == np.arange(count * count)).astype(float)
        cells: FloatArray = self.weights @ members
        return cells.reshape(-1, count, count)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value a sample, (n,) → (R,)."""
        mean: FloatArray = self.weights @ values.astype(float) / self.weights.sum(axis=1)
        return mean


# Reading ---------------------------------------------------------------------------------------


def read_predictions(path: Path) -> Predictions:
    """Read and check `predictions/<split>.csv`.

    Rows come back sorted by sample id, so that nothing computed from them depends on the order in
    which they were written and two runs on the same split align. Probabilities are divided by
    their row sum, which takes out the rounding of the text.

    Raises:
        RunError: the file is missing or has no rows, columns are missing, an id occurs twice, a
            class is unknown, probabilities are no numbers in [0, 1] or don't sum to 1 within
            `TOLERANCE`, or `predicted` is not the most probable class.
    """
    table = _read_table(path)
    classes = tuple(name.removeprefix("p_") for name in map(str, table) if name.startswith("p_"))
    _check_shape(path, table, classes)
    table = table.sort_values("sample_id", ignore_index=True)
    probabilities = _read_probabilities(path, table, classes)
    predicted = _codes(path, table, "predicted", classes)
    _check_most_probable(path, table, predicted, probabilities)
    return Predictions(
        sample_ids=tuple(table["sample_id"]),
        classes=classes,
        labels=_codes(path, table, "label", classes),
        predicted=predicted,
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
    )


def _wrong(path: Path, found: str) -> RunError:
    return RunError(f"{path}: {found}\nWrite the file again with `fer evaluate`.")


def _read_table(path: Path) -> pd.DataFrame:
    try:
        # As text: an id such as 007 or NA must stay what it is.
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        raise _wrong(path, f"cannot be read as a table ({error}).") from error


def _check_shape(path: Path, table: pd.DataFrame, classes: Sequence[str]) -> None:
    missing = [name for name in ("sample_id", "label", "predicted") if name not in table]
    if missing or len(classes) < 2:
        wanted = ", ".join(missing) or "at least two probability columns p_<class>"
        raise _wrong(path, f"lacks {wanted}; its columns are {', '.join(table.columns)}.")
    if table.empty:
        raise _wrong(path, "has no rows.")
    twice = table.loc[table["sample_id"].duplicated(), "sample_id"]
    if len(twice):
        raise _wrong(path, f"{len(twice)} sample ids occur twice, first {twice.iloc[0]!r}.")


def _codes(path: Path, table: pd.DataFrame, column: str, classes: Sequence[str]) -> IntArray:
    code = {name: index for index, name in enumerate(classes)}
    unknown = sorted(set(table[column]) - set(code))
    if unknown:
        raise _wrong(path, f"{column} {unknown[0]!r} is none of {', '.join(classes)}.")
    return np.array([code[name] for name in table[column]], dtype=np.int64)


def _read_probabilities(path: Path, table: pd.DataFrame, classes: Sequence[str]) -> FloatArray:
    columns = [pd.to_numeric(table[f"p_{name}"], errors="coerce") for name in classes]
    probabilities = np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
    # Written so that NaN fails both tests.
    inside = (probabilities >= 0) & (probabilities <= 1)
    if not inside.all():
        row, column = np.argwhere(~inside)[0]
        name = f"p_{classes[column]}"
        found = f"{name} is {table[name].iloc[row]!r}, not a number in [0, 1]."
        raise _wrong(path, f"sample {table['sample_id'].iloc[row]!r}: {found}")
    total = probabilities.sum(axis=1)
    off = np.flatnonzero(np.abs(total - 1) > TOLERANCE)
    if len(off):
        sample = table["sample_id"].iloc[off[0]]
        found = f"probabilities of {len(off)} samples don't sum to 1"
        raise _wrong(path, f"{found}, first {sample!r} with {total[off[0]]:.4f}.")
    return probabilities


def _check_most_probable(
    path: Path, table: pd.DataFrame, predicted: IntArray, probabilities: FloatArray
) -> None:
    chosen = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    off = np.flatnonzero(probabilities.max(axis=1) - chosen > TOLERANCE)
    if len(off):
        row = table.iloc[off[0]]
        raise _wrong(
            path,
            f"{len(off)} samples are not predicted as their most probable class, "
            f"first {row['sample_id']!r} as {row['predicted']!r}.",
        )


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


def class_auc(weighted: Weighted) -> FloatArray:
    """Area under the one-vs-rest ROC curve of each class, shape (R, C).

    It is the chance that a positive scores above a negative, ties counting half (Mann and
    Whitney 1947). The negatives are sorted once a class; for every weighting, a running sum over
    them then gives the weight below each positive. NaN without a positive or without a negative.
    """
    predictions = weighted.predictions
    columns = []
    for code, scores in enumerate(predictions.probabilities.T):
        positive = predictions.labels == code
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


# Headline metrics: Weighted → (R,) -------------------------------------------------------------


def _accuracy(weighted: Weighted) -> FloatArray:
    """Share of samples classified rightly, in [0, 1]; `accuracy_score`."""
    return weighted.mean(weighted.predictions.correct)


def _balanced_accuracy(weighted: Weighted) -> FloatArray:
    """Mean recall of the classes that occur, in [0, 1]; `balanced_accuracy_score`."""
    confusion = weighted.confusion
    return _mean_over(class_recall(confusion), confusion.sum(axis=-1) > 0)


def _macro_f1(weighted: Weighted) -> FloatArray:
    """Mean F1 of all C classes, in [0, 1]; `f1_score(average="macro", labels=range(C))`."""
    mean: FloatArray = class_f1(weighted.confusion).mean(axis=-1)
    return mean


def _weighted_f1(weighted: Weighted) -> FloatArray:
    """Mean F1 weighted by support, in [0, 1]; `f1_score(average="weighted")`."""
    support = weighted.confusion.sum(axis=-1)
    mean: FloatArray = (class_f1(weighted.confusion) * support).sum(-1) / support.sum(-1)
    return mean


def _kappa(weighted: Weighted) -> FloatArray:
    """Cohen's kappa, in [-1, 1]; `cohen_kappa_score`."""
    confusion = weighted.confusion
    total = confusion.sum(axis=(-2, -1))
    agreed = _diagonal(confusion).sum(axis=-1) * total
    expected = (confusion.sum(axis=-2) * confusion.sum(axis=-1)).sum(axis=-1)
    return _ratio(agreed - expected, total * total - expected, otherwise=np.nan)


def _roc_auc_macro(weighted: Weighted) -> FloatArray:
    """Mean one-vs-rest AUC of the classes that occur; `roc_auc_score(multi_class="ovr")`."""
    by_class = class_auc(weighted)
    return _mean_over(by_class, np.isfinite(by_class))


def _nll(weighted: Weighted) -> FloatArray:
    """Mean negative log-likelihood in nats, at most 36.04 a sample; `log_loss`."""
    chosen = _probability_of_label(weighted.predictions)
    return weighted.mean(-np.log(np.clip(chosen, np.finfo(float).eps, 1)))


def _brier(weighted: Weighted) -> FloatArray:
    """Mean squared distance to the one-hot label summed over classes, in [0, 2].

    `brier_score_loss(scale_by_half=False)`; expanded as Σp² - 2p(label) + 1.
    """
    squares = (weighted.predictions.probabilities**2).sum(axis=1)
    return weighted.mean(squares - 2 * _probability_of_label(weighted.predictions) + 1)


def _ece(weighted: Weighted) -> FloatArray:
    """Expected calibration error of the top label, in [0, 1] (Guo et al. 2017, eq. 3).

    `CALIBRATION_BINS` bins of equal width, closed on the right, L1. Resampling adds noise to every
    bin and the absolute value turns noise into error, so on a small or well calibrated split the
    bootstrap interval sits high and may lie above the value.
    """
    confidence = weighted.predictions.probabilities.max(axis=1)
    bins = np.ceil(confidence * CALIBRATION_BINS) - 1
    members = bins[:, None] == np.arange(CALIBRATION_BINS)
    gap = np.where(members, (weighted.predictions.correct - confidence)[:, None], 0.0)
    error: FloatArray = np.abs(weighted.weights @ gap).sum(axis=1) / weighted.weights.sum(axis=1)
    return error


def _probability_of_label(predictions: Predictions) -> FloatArray:
    return np.take_along_axis(predictions.probabilities, predictions.labels[:, None], axis=1)[:, 0]


# To add a metric: write one function above and name it here.
METRICS: dict[str, Callable[[Weighted], FloatArray]] = {
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


# Results ---------------------------------------------------------------------------------------


def values(predictions: Predictions) -> dict[str, float]:
    """Every headline metric; NaN where it is not defined."""
    whole = _unweighted(predictions)
    return {name: float(metric(whole)[0]) for name, metric in METRICS.items()}


def resampled(
    runs: Sequence[Predictions],
    names: Sequence[str] = tuple(METRICS),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[dict[str, FloatArray]]:
    """Headline metrics of several runs on the same class-stratified bootstrap resamples.

    Args:
        runs: at least one; all with the same samples and labels in the same order.
        names: keys of `METRICS`.
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
    draws = [{name: np.empty(resamples) for name in names} for _ in runs]
    for start in range(0, resamples, at_a_time):
        rows = slice(start, min(start + at_a_time, resamples))
        weights = stratified_weights(strata, rows.stop - rows.start, generator)
        for run, drawn in zip(runs, draws, strict=True):
            weighted = Weighted(run, weights)
            for name in names:
                drawn[name][rows] = METRICS[name](weighted)
    return draws


def confusion_matrix(predictions: Predictions) -> IntArray:
    """Number of samples by true class (rows) and predicted class (columns), shape (C, C)."""
    matrix: IntArray = _unweighted(predictions).confusion[0].astype(np.int64)
    return matrix


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """`name`, `precision`, `recall`, `f1`, `support` and `auc` of each class, in order.

    Precision, recall and F1 are 0 where they have nothing to divide by; `auc` is None without a
    sample of the class or of the rest.
    """
    whole = _unweighted(predictions)
    confusion = whole.confusion[0]
    columns = zip(
        predictions.classes,
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
    intervals["accuracy"] = wilson(int(predictions.correct.sum()), len(predictions))
    cells = {
        name: {
            "value": _number(value),
            "low": _number(intervals[name][0]),
            "high": _number(intervals[name][1]),
        }
        for name, value in values(predictions).items()
    }
    methods = dict.fromkeys(METRICS, "class-stratified percentile bootstrap")
    return {
        "n": len(predictions),
        **cells,
        "per_class": per_class(predictions),
        "confusion_matrix": confusion_matrix(predictions).tolist(),
        "fingerprint": predictions.fingerprint,
        "interval": {
            "level": LEVEL,
            "methods": methods | {"accuracy": "wilson"},
            "resamples": resamples,
            "seed": seed,
        },
    }


def _unweighted(predictions: Predictions) -> Weighted:
    return Weighted(predictions, np.ones((1, len(predictions))))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
