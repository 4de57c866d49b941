"""Samples under many weightings at once: what every metric is a function of.

With weights of one, a metric has its value. With the counts of bootstrap resamples, one row per
resample, it has its draws, without ever copying a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.metrics.arrays import BoolArray, FloatArray, WeightArray
from fer_bench.metrics.predictions import Classification, Expression

# Below this, a variance of valence or arousal counts as 0: the rounding of float32 makes as much.
LEAST_VARIANCE = 1e-14


def ratio(numerator: WeightArray, denominator: WeightArray, otherwise: float) -> FloatArray:
    """Element by element, with broadcasting; `otherwise` where the denominator is 0."""
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=result, where=denominator != 0, dtype=np.float64)
    return result


# Expression ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassCounts:
    """What the confusion matrices under R weightings say of each class, of one model or of several.

    Attributes:
        hits: weight of the samples of each class that are classified correctly, shape (R, C), or
            (R, models, C).
        predicted: weight of the samples predicted as each class, same shape.
        support: weight of the samples of each class, same shape or (R, 1, C).
    """

    hits: WeightArray
    predicted: WeightArray
    support: FloatArray

    @cached_property
    def total(self) -> FloatArray:
        """Weight of all samples, shape (R,) or (R, 1)."""
        total: FloatArray = self.support.sum(axis=-1)
        return total


@dataclass(frozen=True)
class WeightedExpression(ClassCounts):
    """The predictions of one model under R weightings: their counts, and their probabilities.

    Attributes:
        expression: n samples of C classes.
        weights: non-negative, shape (R, n), no row all zero.
    """

    expression: Expression
    weights: WeightArray

    @cached_property
    def precise_weights(self) -> FloatArray:
        """The weights as float64, for sums of fractions; shape (R, n)."""
        return self.weights.astype(np.float64, copy=False)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Weighted mean of one value per sample, (n,) → (R,)."""
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
    scores: FloatArray, positive: BoolArray, weights: WeightArray, total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """AUC and average precision of one class, each of shape (R,); `total` is that of the weights.

    Only the T different scores of the positives matter as thresholds. The samples are sorted once;
    running sums of their weights from threshold to threshold then give the weight of positives and
    of all samples at or above each threshold, for every weighting.
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
    # A threshold without any weight at or above it contributes nothing.
    average = np.einsum("rt,rt->r", here, ratio(positives_above, above, otherwise=0.0))
    lost = np.einsum("rt,rt->r", here, above - positives_above)
    # A negative with exactly the score of a positive loses only half.
    tied = np.flatnonzero(~positive & np.isin(scores, -thresholds))
    of_tied = np.searchsorted(thresholds, -scores[tied])
    lost -= np.einsum("rt,rt->r", weights[:, tied], here[:, of_tied]) / 2
    pairs = positives * (total - positives)
    return (
        ratio(pairs - lost, pairs, otherwise=np.nan),
        ratio(average, positives, otherwise=np.nan),
    )


class Tally:
    """Several models on the same labelled samples, whose confusion counts are weighted together.

    One matrix product per class and one for the predicted classes serve all of them: 300 models
    cost little more than 30.
    """

    def __init__(self, models: Sequence[Classification]) -> None:
        """Prepare the products.

        Args:
            models: at least one; of the same n samples with the same labels, in order. They must
                know the same classes, and may number them differently.

        Raises:
            ValueError: they know different classes.
        """
        first = models[0]
        if any(set(other.classes) != set(first.classes) for other in models):
            raise ValueError("Tally needs models with the same classes")
        # The codes of each model as those of the first.
        self._recoded = [
            np.array([first.classes.index(name) for name in model.classes]) for model in models
        ]
        self._classes, self._models = len(first.classes), len(models)
        self._members = {
            code: np.flatnonzero(first.labels == code) for code in np.unique(first.labels).tolist()
        }
        correct = np.stack([model.correct for model in models], axis=1).astype(np.float32)
        self._correct = {code: correct[members] for code, members in self._members.items()}
        # The last class is left out: it has what the others leave of the samples.
        codes = np.arange(self._classes - 1)
        recoded = zip(models, self._recoded, strict=True)
        self._predicted = np.concatenate(
            [
                (recode[model.predicted][:, None] == codes).astype(np.float32)
                for model, recode in recoded
            ],
            axis=1,
        )

    def count(self, weights: WeightArray) -> ClassCounts:
        """The counts of all models under R weightings, in the first model's order of classes.

        Args:
            weights: shape (R, n).

        Returns:
            Arrays of shape (R, models, C) in the precision of the weights; the support, which the
            models share, of shape (R, 1, C) in float64.
        """
        rows, models, classes = len(weights), self._models, self._classes
        hits = np.zeros((classes, rows, models), dtype=weights.dtype)
        support = np.zeros((rows, 1, classes))
        for code, members in self._members.items():
            part = weights[:, members]
            np.matmul(part, self._correct[code], out=hits[code])
            support[:, 0, code] = part.sum(axis=1, dtype=np.float64)
        predicted = np.empty((rows, models, classes), dtype=weights.dtype)
        predicted[..., :-1] = (weights @ self._predicted).reshape(rows, models, classes - 1)
        others = np.einsum("rmc->rm", predicted[..., :-1])
        np.subtract(support.sum(axis=-1), others, out=predicted[..., -1])
        return ClassCounts(np.ascontiguousarray(np.moveaxis(hits, 0, -1)), predicted, support)

    def of_model(
        self, index: int, expression: Expression, counts: ClassCounts, weights: WeightArray
    ) -> WeightedExpression:
        """One of the models, in its own order of classes, from the counts of all of them."""
        order = self._recoded[index]
        return WeightedExpression(
            hits=np.take(counts.hits[:, index], order, axis=-1).astype(np.float64),
            predicted=np.take(counts.predicted[:, index], order, axis=-1).astype(np.float64),
            support=np.take(counts.support[:, 0], order, axis=-1),
            expression=expression,
            weights=weights,
        )


def weigh(expression: Expression, weights: WeightArray) -> WeightedExpression:
    """One model under R weightings, given as (R, n)."""
    tally = Tally([expression])
    return tally.of_model(0, expression, tally.count(weights), weights)


# Valence and arousal ---------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightedAxis:
    """Valence or arousal under R weightings at once.

    Attributes:
        true: of the n samples whose true value is known, shape (n,), in [-1, 1].
        predicted: of the same samples, shape (n,), in [-1, 1].
        weights: non-negative, shape (R, n); no metric is defined where a row is all zero.
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
        """Weighted mean of one value per sample, (n,) → (R,)."""
        return self._means(values.astype(np.float64)[:, None])[:, 0]

    def _means(self, columns: FloatArray) -> FloatArray:
        """Weighted means of several values per sample, (n, k) → (R, k)."""
        sums: FloatArray = self.weights @ columns
        totals = np.broadcast_to(self.total[:, None], sums.shape)
        return ratio(sums, totals, otherwise=np.nan)

    @cached_property
    def _moments(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Population variances of true and predicted, and their covariance, each of shape (R,)."""
        # Centred first, so that the differences below lose no digits.
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
