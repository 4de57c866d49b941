"""Samples under many weightings at once, which is what every metric is a function of.

Weights of one give the value of a metric itself; the counts of bootstrap resamples, one row a
resample, give its interval without ever copying a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.metrics.predictions import Expression

# A variance of valence or arousal below this is none: that of steps at float32's resolution.
LEAST_VARIANCE = 1e-14

FloatArray = NDArray[np.float64]
# float32 for the counts of resamples, float64 for weights of one.
WeightArray = NDArray[np.floating[Any]]


def ratio(numerator: FloatArray, denominator: FloatArray, otherwise: float) -> FloatArray:
    """Element by element; `otherwise` where the denominator is 0."""
    result = np.full(numerator.shape, otherwise)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


# Expression ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightedExpression:
    """Predicted expressions under R weightings at once; made by `Tally.weigh`.

    Attributes:
        expression: n samples of C classes.
        weights: non-negative, shape (R, n), no row all zero.
        hits: weight of the samples of each class that are classified rightly, shape (R, C).
        predicted: weight of the samples predicted as each class, shape (R, C).
        support: weight of the samples of each class, shape (R, C).
    """

    expression: Expression
    weights: WeightArray
    hits: FloatArray
    predicted: FloatArray
    support: FloatArray

    @cached_property
    def total(self) -> FloatArray:
        """Weight of all samples, shape (R,)."""
        total: FloatArray = self.support.sum(axis=1)
        return total

    @cached_property
    def precise_weights(self) -> FloatArray:
        """The weights as float64, for sums of what is not a whole number; shape (R, n)."""
        return self.weights.astype(np.float64, copy=False)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value a sample, (n,) → (R,)."""
        mean: FloatArray = self.precise_weights @ values.astype(np.float64) / self.total
        return mean

    @cached_property
    def areas(self) -> tuple[FloatArray, FloatArray]:
        """Areas below the ROC and below the precision-recall curve of each class, one-vs-rest.

        Returns:
            AUC, shape (R, C): the chance that a positive scores above a negative, ties counting
            half (Mann and Whitney 1947); NaN without a positive or without a negative. Average
            precision, shape (R, C): Σ (R_k - R_k-1) P_k over the thresholds, equal scores being
            one threshold; NaN without a positive.
        """
        expression = self.expression
        columns = [
            _areas(scores, expression.labels == code, self.weights, self.total)
            for code, scores in enumerate(expression.probabilities.T)
        ]
        curves, averages = zip(*columns, strict=True)
        return np.stack(curves, axis=1), np.stack(averages, axis=1)


def _areas(
    scores: FloatArray, positive: NDArray[np.bool_], weights: WeightArray, total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """AUC and average precision of one class, each of shape (R,); `total` is that of the weights.

    Only the T different scores of the positives are thresholds that matter. The samples are sorted
    once; sums of their weights from threshold to threshold, and running sums of those, then give
    how much of either kind lies at or above each threshold, for every weighting.
    """
    if not positive.any():
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing
    order = np.argsort(-scores, kind="stable")
    ranked, own = -scores[order], np.flatnonzero(positive[order])
    thresholds, own_starts = np.unique(ranked[own], return_index=True)  # from the highest score
    ends = np.searchsorted(ranked, thresholds, side="right")
    # From one threshold to the next, without what lies below the last.
    pieces = np.take(weights, order[: ends[-1]], axis=1)
    here = np.take(weights, order[own], axis=1)
    if len(own_starts) < len(own):
        here = np.add.reduceat(here, own_starts, axis=1)
    positives_above = np.cumsum(here, axis=1, dtype=np.float64)
    above = np.cumsum(
        np.add.reduceat(pieces, np.append(0, ends[:-1]), axis=1), axis=1, dtype=np.float64
    )
    positives = positives_above[:, -1]
    # A threshold without any weight above has none itself, and counts for nothing.
    average = np.einsum("rt,rt->r", here, ratio(positives_above, above, otherwise=0.0))
    lost = np.einsum("rt,rt->r", here, above - positives_above)
    # Negatives with the very score of a positive lose half only.
    tied = np.flatnonzero(~positive & np.isin(scores, -thresholds))
    of_tied = np.searchsorted(thresholds, -scores[tied])
    lost -= np.einsum("rt,rt->r", weights[:, tied], here[:, of_tied]) / 2
    pairs = positives * (total - positives)
    return (
        ratio(pairs - lost, pairs, otherwise=np.nan),
        ratio(average, positives, otherwise=np.nan),
    )


class Tally:
    """Several models on the same labelled samples, ready to be weighted.

    What the counts of their confusion matrices need is stacked, so that one matrix product a class
    and one for what is predicted serve all of them: 300 models cost little more than 30.
    """

    def __init__(self, expressions: Sequence[Expression]) -> None:
        """Prepare models that need not number the classes alike, nor know the same ones.

        Args:
            expressions: at least one; of the same n samples with the same labels, in order.
        """
        self.expressions = expressions
        labels = expressions[0].labels
        self._members = [np.flatnonzero(labels == code) for code in np.unique(labels)]
        self._codes = [
            [each.labels[members[0]] for members in self._members] for each in expressions
        ]
        correct = np.stack([each.correct for each in expressions], axis=1).astype(np.float32)
        self._correct = [correct[members] for members in self._members]
        self._predicted = np.concatenate([_indicators(each) for each in expressions], axis=1)

    def weigh(self, weights: WeightArray) -> list[WeightedExpression]:
        """Every model under R weightings, given as (R, n)."""
        predicted = (weights @ self._predicted).astype(np.float64)
        parts = [weights[:, members] for members in self._members]
        products = [part @ correct for part, correct in zip(parts, self._correct, strict=True)]
        hits = np.stack(products, axis=2, dtype=np.float64)  # (R, models, classes that occur)
        support = np.stack([part.sum(axis=1, dtype=np.float64) for part in parts], axis=1)
        weighted, first = [], 0
        for index, (expression, codes) in enumerate(
            zip(self.expressions, self._codes, strict=True)
        ):
            last = first + len(expression.classes)
            right, there = np.zeros((2, len(weights), len(expression.classes)))
            right[:, codes], there[:, codes] = hits[:, index], support
            counts = right, predicted[:, first:last], there
            weighted.append(WeightedExpression(expression, weights, *counts))
            first = last
        return weighted


def _indicators(expression: Expression) -> NDArray[np.float32]:
    """1 where a sample is predicted as a class, else 0, (n, C)."""
    codes = np.arange(len(expression.classes))
    members: NDArray[np.float32] = (expression.predicted[:, None] == codes).astype(np.float32)
    return members


# Valence and arousal ---------------------------------------------------------------------------


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

    @cached_property
    def total(self) -> FloatArray:
        """Weight of all samples, shape (R,)."""
        total: FloatArray = self.weights.sum(axis=1)
        return total

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value a sample, (n,) → (R,)."""
        return self._means(values.astype(np.float64)[:, None])[:, 0]

    def _means(self, columns: FloatArray) -> FloatArray:
        """Weighted means of several values a sample, (n, k) → (R, k)."""
        sums: FloatArray = self.weights @ columns
        totals = np.broadcast_to(self.total[:, None], sums.shape)
        return ratio(sums, totals, otherwise=np.nan)

    @cached_property
    def _moments(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Population variances of true and predicted, and their covariance, each of shape (R,)."""
        # Taken around their means first, so that the differences below lose no digits.
        true, predicted = (
            values - values.sum() / max(len(values), 1) for values in (self.true, self.predicted)
        )
        columns = [true, predicted, true * true, predicted * predicted, true * predicted]
        x, y, xx, yy, xy = self._means(np.stack(columns, axis=1)).T
        return (
            without_rounding(xx - x * x),
            without_rounding(yy - y * y),
            without_rounding(xy - x * y),
        )

    @property
    def variances(self) -> tuple[FloatArray, FloatArray]:
        """Weighted population variances of true and of predicted values, each of shape (R,)."""
        return self._moments[:2]

    @property
    def covariance(self) -> FloatArray:
        """Weighted population covariance of true and predicted values, shape (R,)."""
        return self._moments[2]


def weigh_axis(true: FloatArray, predicted: FloatArray, weights: WeightArray) -> WeightedAxis:
    """The samples whose true value is known (not NaN), under their weights; (n,), (n,), (R, n)."""
    known = ~np.isnan(true)
    kept = weights if known.all() else weights[:, known]
    return WeightedAxis(true[known], predicted[known], kept.astype(np.float64, copy=False))


def without_rounding(moment: FloatArray) -> FloatArray:
    """0 where a second moment of values in [-1, 1] is no more than rounding."""
    return np.where(np.abs(moment) < LEAST_VARIANCE, 0.0, moment)
