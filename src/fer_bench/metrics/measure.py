"""Running metrics: their values, and their draws under bootstrap resamples."""

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fer_bench.labels import AXES
from fer_bench.metrics.arrays import FloatArray, WeightArray
from fer_bench.metrics.expression import FROM_COUNTS, METRICS, class_auc
from fer_bench.metrics.intervals import stratified_weights
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.metrics.weighting import Tally, weigh_axis

RESAMPLES = 10_000
# Weights held at a time; with the copies that the metrics make, this stays below 100 MB.
_WEIGHTS_AT_A_TIME = 2**20
# Of everything that a model may predict: `accuracy`, `valence_ccc`.
NAMES = (*METRICS, *(f"{axis}_{name}" for axis in AXES for name in AXIS_METRICS))
# The AUC of every class, which is no headline metric but is resampled with them: shape (R, C).
CLASS_AUC = "class_auc"
_MEASURES = METRICS | {CLASS_AUC: class_auc}

# By run, the values of each metric.
Measured = list[dict[str, FloatArray]]
T = TypeVar("T")


def values(predictions: Predictions, names: Container[str] = NAMES) -> dict[str, float]:
    """The headline metrics of what is predicted, in the order of `NAMES`; NaN if not defined."""
    measured = measure(predictions, np.ones((1, len(predictions))), names)
    return {name: float(measured[name][0]) for name in NAMES if name in measured}


def measure(
    predictions: Predictions, weights: WeightArray, names: Container[str] = NAMES
) -> dict[str, FloatArray]:
    """The headline metrics of what is predicted, under R weightings of the samples.

    Args:
        predictions: n samples, at least 1. Where only the predicted classes are known, metrics
            that need probabilities are left out.
        weights: non-negative, shape (R, n), no row all zero.
        names: which of `NAMES` to compute; those of what is not predicted are left out.

    Returns:
        {name: values of shape (R,)}; NaN where one is not defined.
    """
    return _Measurement([predictions], names)(weights)[0]


class _Measurement:
    """Computes the metrics of several runs under given weights.

    The runs have the same samples and labels, so that matrix products serve all of them.
    """

    def __init__(self, runs: Sequence[Predictions], names: Container[str]) -> None:
        self._runs = runs
        self._names = [name for name in _MEASURES if name in names]
        self._axis_names = [
            (axis, name) for axis in AXES for name in AXIS_METRICS if f"{axis}_{name}" in names
        ]
        self._classified = [index for index, run in enumerate(runs) if run.classification]
        models = [run.classification for run in runs if run.classification]
        self._tally = Tally(models) if models and self._names else None

    def __call__(self, weights: WeightArray) -> Measured:
        """By run, {name: values of shape (R,)}, from weights of shape (R, n)."""
        measured: Measured = [{} for _ in self._runs]
        if self._tally is not None:
            self._measure_expression(self._tally, weights, measured)
        if self._axis_names:
            self._measure_axes(weights, measured)
        return measured

    def _measure_expression(self, tally: Tally, weights: WeightArray, measured: Measured) -> None:
        counts = tally.count(weights)
        for name in self._names:
            if name in FROM_COUNTS:
                columns = np.ascontiguousarray(FROM_COUNTS[name](counts).T)
                for index, column in zip(self._classified, columns, strict=True):
                    measured[index][name] = column
        others = [name for name in self._names if name not in FROM_COUNTS]
        for place, index in enumerate(self._classified):
            expression = self._runs[index].expression
            if others and expression is not None:
                weighted = tally.of_model(place, expression, counts, weights)
                measured[index] |= {name: _MEASURES[name](weighted) for name in others}

    def _measure_axes(self, weights: WeightArray, measured: Measured) -> None:
        for run, own in zip(self._runs, measured, strict=True):
            for axis, true, predicted in run.valence_arousal.axes() if run.valence_arousal else ():
                names = [name for wanted, name in self._axis_names if wanted == axis]
                if names:
                    weighted = weigh_axis(true, predicted, weights)
                    own |= {f"{axis}_{name}": AXIS_METRICS[name](weighted) for name in names}


def resampled(
    runs: Sequence[Predictions],
    names: Container[str] = NAMES,
    seed: int = 0,
    resamples: int = RESAMPLES,
    threads: int = 1,
) -> Measured:
    """Headline metrics of several runs on the same class-stratified bootstrap resamples.

    Args:
        runs: at least one; all with the same samples and labels in the same order, and those that
            predict expressions with the same classes.
        names: which of `NAMES`, and `CLASS_AUC`; a run has those of what it predicts.
        seed: of the resamples, which depend only on it and on the labels.
        resamples: their number R.
        threads: see `resample`.

    Returns:
        For each run, {name: values of shape (R,)}; entry r of every array is from resample r.

    Raises:
        ValueError: the runs differ in their samples, labels or classes.
    """
    first = runs[0]
    for other in runs[1:]:
        same_labels = np.array_equal(other.label_names, first.label_names)
        if other.sample_ids != first.sample_ids or not same_labels:
            raise ValueError("resampled needs runs with the same samples and labels, in order")
    blocks = resample(first, _Measurement(runs, names), seed, resamples, threads)
    draws: list[dict[str, list[FloatArray]]] = [defaultdict(list) for _ in runs]
    for block in blocks:
        for drawn, measured in zip(draws, block, strict=True):
            for name, column in measured.items():
                drawn[name].append(column)
    return [{name: np.concatenate(parts) for name, parts in drawn.items()} for drawn in draws]


def resample(
    predictions: Predictions,
    measure: Callable[[WeightArray], T],
    seed: int,
    resamples: int,
    threads: int = 1,
) -> list[T]:
    """Apply a function to the weights of class-stratified bootstrap resamples, block by block.

    Args:
        predictions: n samples, whose labels are the strata.
        measure: called with weights of shape (block, n), as many rows at a time as fit in memory.
        seed: of the resamples.
        resamples: their number.
        threads: how many blocks are computed at once. With more than one, products of matrices
            use one thread each; the resamples stay the same.

    Returns:
        What `measure` returned for each block, in order.
    """
    # By name, not by code: runs may number the same classes differently.
    _, strata = np.unique(predictions.label_names, return_inverse=True)
    rows = max(1, _WEIGHTS_AT_A_TIME // len(strata))

    def block(start: int) -> T:
        # Each resample uses one random number per sample, so every block can begin by itself.
        stream = np.random.PCG64(seed).advance(start * len(strata))
        number = min(rows, resamples - start)
        return measure(stratified_weights(strata, number, np.random.Generator(stream)))

    starts = range(0, resamples, rows)
    if threads == 1:
        return [block(start) for start in starts]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(block, starts))
