"""Intervals and tests: how far a number, or a difference of two, can be trusted.

All intervals are at the 95% level. Resampling is by image and within each class, so that every
resample keeps the class sizes of the test set and a rare class never vanishes from a macro mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri as normal_quantile

# A difference with a smaller p is significant; intervals have the matching confidence.
ALPHA = 0.05
CONFIDENCE = 1 - ALPHA
FloatArray = NDArray[np.float64]

CountArray = NDArray[np.float32]

IntArray = NDArray[np.int64]

BoolArray = NDArray[np.bool_]


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        correct: number of successes, in [0, n].
        n: number of trials, at least 1.

    Returns:
        Lower and upper bound, within [0, 1]. Source: statsmodels `proportion_confint`, of which
        this is the formula without the seconds that its module takes to import.
    """
    share, square = correct / n, float(normal_quantile((1 + CONFIDENCE) / 2)) ** 2 / n
    centre = share + square / 2
    half = float(np.sqrt(square * (share * (1 - share) + square / 4)))
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    # At 0 and at n the bound is the share itself, which rounding can just miss.
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


def stratified_weights(
    strata: NDArray[Any], resamples: int, seed: int | np.random.Generator
) -> CountArray:
    """How often each sample is drawn in each class-stratified bootstrap resample.

    A weighted metric on one row equals the plain metric on the rows drawn, repeated. The random
    numbers are used up row by row: two calls for 10 resamples on one generator give the same rows
    as one call for 20, so the result doesn't depend on how a caller splits the work.

    Args:
        strata: the class of each sample, shape (n,).
        resamples: number of resamples R.
        seed: a seed, or a generator to go on with.

    Returns:
        Whole numbers as float32, shape (R, n); the weights of a class sum to its size. Sums of
        them are exact up to 2**24, and matrix products twice as fast as with float64.
    """
    n = len(strata)
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    start, span = np.repeat(first, size), np.repeat(size, size)
    generator = np.random.default_rng(seed)
    weights = np.empty((resamples, n), dtype=np.float32)
    # Row by row everything stays in the processor's cache, which halves the time.
    for row in weights:
        drawn = start + (generator.random(n) * span).astype(np.int64)
        row[:] = np.bincount(order[drawn], minlength=n)
    return weights


def percentile_interval(draws: FloatArray) -> tuple[float, float]:
    """Percentile bootstrap interval of resampled values.

    Args:
        draws: one value a resample, shape (R,); NaN where the value is not defined.

    Returns:
        Lower and upper bound over the defined values; (NaN, NaN) when there is none.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class SmallestDifference:
    """What a test set can show of two models of about one accuracy; shares in [0, 1].

    Attributes:
        difference: the smallest true difference of accuracy that a paired test finds with the
            wanted power.
        half_width: half the interval of one accuracy by itself.
        disagreement: share of the images on which exactly one of the models is right, as assumed.
    """

    difference: float
    half_width: float
    disagreement: float


def smallest_difference(
    n: int,
    accuracy: float,
    level: float = CONFIDENCE,
    power: float = 0.8,
    disagreement: float | None = None,
) -> SmallestDifference:
    """The smallest difference of accuracy that a paired test on n images can be expected to show.

    With d the share of the images on which exactly one of the two models is right, the observed
    difference has a variance of at most d / n, so a true difference of
    (z(level) + z(power)) √(d / n) is found with the wanted power (Connor 1987, without the term
    in the squared difference, which would make it slightly smaller).

    Args:
        n: number of test images, at least 1.
        accuracy: of both models, about, in [0, 1].
        level: of the interval; the test errs with 1 - level.
        power: chance to find a difference of that size.
        disagreement: d in [0, 1]. Where it is not known, 2 a (1 - a): two models of accuracy a
            whose mistakes have nothing to do with each other. Real models fail on the same hard
            images and disagree less, so this is the cautious side.
    """
    variance = accuracy * (1 - accuracy)
    shared = 2 * variance if disagreement is None else disagreement
    quantile = float(normal_quantile((1 + level) / 2))
    return SmallestDifference(
        difference=(quantile + float(normal_quantile(power))) * float(np.sqrt(shared / n)),
        half_width=quantile * float(np.sqrt(variance / n)),
        disagreement=shared,
    )
