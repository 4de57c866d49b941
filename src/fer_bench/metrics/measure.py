"""Running metrics: values, and their intervals by resampling."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np

from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS, FloatArray
from fer_bench.metrics.intervals import stratified_weights
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.metrics.weighting import (
    Tally,
    WeightArray,
    WeightedExpression,
    weigh_axis,
)

RESAMPLES = 10_000
# Weights held at a time; with the copies that the metrics make, this stays below 100 MB.
_WEIGHTS_AT_A_TIME = 2**20
# Of everything that a model may predict: `accuracy`, `valence_ccc`.
NAMES = (*METRICS, *(f"{axis}_{name}" for axis in AXES for name in AXIS_METRICS))


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
    (weighted,) = weigher([predictions])(weights)
    return measure_document(predictions, weighted, weights, names)


def weigher(
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


def measure_document(
    run: Predictions,
    weighted: WeightedExpression | None,
    weights: WeightArray,
    names: Container[str],
) -> dict[str, FloatArray]:
    """The metrics `names` of a run, each by weighting of its images: arrays of shape (weights,)."""
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
    weigh = weigher(runs)
    draws: list[dict[str, list[FloatArray]]] = [defaultdict(list) for _ in runs]
    for weights in weight_blocks(first, seed, resamples):
        for run, weighted, drawn in zip(runs, weigh(weights), draws, strict=True):
            for name, measured in measure_document(run, weighted, weights, names).items():
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
