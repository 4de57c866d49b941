"""Confidence intervals of single numbers, and how small a difference a test set can show.

All intervals have 95% confidence. Resampling is by image and within each class, so that every
resample keeps the class sizes of the test set and a rare class never vanishes from a macro mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri as normal_quantile

from fer_bench.metrics.arrays import FloatArray

# A difference with a smaller p is significant; intervals have the matching confidence.
ALPHA = 0.05
CONFIDENCE = 1 - ALPHA


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        correct: number of successes, in [0, n].
        n: number of trials.

    Returns:
        Lower and upper bound, within [0, 1]; (NaN, NaN) where n is 0. Equals `proportion_confint`
        of statsmodels, which takes seconds to import.
    """
    return wilson_of_share(correct / n, n) if n else (float("nan"), float("nan"))


def wilson_of_share(share: float, n: float) -> tuple[float, float]:
    """As `wilson`, of a share in [0, 1] of n > 0, which need not be a whole number."""
    square = float(normal_quantile((1 + CONFIDENCE) / 2)) ** 2 / n
    centre = share + square / 2
    half = float(np.sqrt(square * (share * (1 - share) + square / 4)))
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    # At 0 and at 1 the bound is the share itself, which rounding can just miss.
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def stratified_weights(
    strata: NDArray[Any], resamples: int, seed: int | np.random.Generator
) -> NDArray[np.float32]:
    """How often each sample is drawn in each class-stratified bootstrap resample.

    A metric weighted by one row equals the plain metric of the samples drawn, repeated. Each row
    uses the next n random numbers: two calls for 10 resamples with one generator give the same rows
    as one call for 20, so the result does not depend on how a caller splits the work.

    Args:
        strata: the class of each sample, shape (n,).
        resamples: number of resamples R.
        seed: a seed, or a generator to continue with.

    Returns:
        Whole numbers as float32, shape (R, n); the weights of a class sum to its size. Their sums
        are exact up to 2**24, and matrix products twice as fast as with float64.
    """
    n = len(strata)
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    start, span = np.repeat(first, size), np.repeat(size, size)
    generator = np.random.default_rng(seed)
    weights = np.empty((resamples, n), dtype=np.float32)
    # One row at a time stays in the processor's cache, which halves the time.
    for row in weights:
        drawn = start + (generator.random(n) * span).astype(np.int64)
        row[:] = np.bincount(order[drawn], minlength=n)
    return weights


def percentile_interval(draws: FloatArray) -> tuple[float, float]:
    """Percentile bootstrap interval of resampled values.

    Args:
        draws: one value per resample, shape (R,); NaN where the value is not defined.

    Returns:
        Lower and upper bound over the defined values; (NaN, NaN) if there are none.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class SmallestDifference:
    """What a test set can show about two models of similar accuracy; shares in [0, 1].

    Attributes:
        difference: the smallest true difference in accuracy that a paired test finds with the
            given power.
        half_width: half the width of the interval of one accuracy.
        disagreement: the assumed share of images on which exactly one of the models is correct.
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
    """The smallest difference in accuracy that a paired test on n images can be expected to show.

    Let d be the share of images on which exactly one of the two models is correct. The observed
    difference then has a variance of at most d / n, so a true difference of
    (z(level) + z(power)) √(d / n) is found with the given power (Connor 1987, without the term in
    the squared difference, which would make it slightly smaller).

    Args:
        n: number of test images, at least 1.
        accuracy: of both models, approximately, in [0, 1].
        level: confidence of the interval; the test has a significance level of 1 - level.
        power: probability of finding a difference of that size.
        disagreement: d in [0, 1]; by default 2 a (1 - a), that of two models of accuracy a with
            independent errors. Real models fail on the same hard images and disagree less, so this
            is the cautious choice.
    """
    variance = accuracy * (1 - accuracy)
    shared = 2 * variance if disagreement is None else disagreement
    quantile = float(normal_quantile((1 + level) / 2))
    return SmallestDifference(
        difference=(quantile + float(normal_quantile(power))) * float(np.sqrt(shared / n)),
        half_width=quantile * float(np.sqrt(variance / n)),
        disagreement=shared,
    )
