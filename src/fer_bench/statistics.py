"""Intervals and tests: how far a number, or a difference of two, can be trusted.

All intervals are at the 95% level. Resampling is by image and within each class, so that every
resample keeps the class sizes of the test set and a rare class never vanishes from a macro mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr as binomial_cdf

LEVEL = 0.95

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        correct: number of successes, in [0, n].
        n: number of trials, at least 1.

    Returns:
        Lower and upper bound, within [0, 1]. Source: statsmodels `proportion_confint`.
    """
    from statsmodels.stats.proportion import proportion_confint  # slow to import

    low, high = proportion_confint(correct, n, alpha=1 - LEVEL, method="wilson")
    # At 0 and at n the bound is the share itself, which rounding can just miss.
    share = correct / n
    return min(float(low), share), max(float(high), share)


def stratified_weights(
    strata: NDArray[Any], resamples: int, seed: int | np.random.Generator
) -> FloatArray:
    """How often each sample is drawn in each class-stratified bootstrap resample.

    A weighted metric on one row equals the plain metric on the rows drawn, repeated. The random
    numbers are used up row by row: two calls for 10 resamples on one generator give the same rows
    as one call for 20, so the result doesn't depend on how a caller splits the work.

    Args:
        strata: the class of each sample, shape (n,).
        resamples: number of resamples R.
        seed: a seed, or a generator to go on with.

    Returns:
        Whole numbers as floats, shape (R, n); the weights of a class sum to its size.
    """
    n = len(strata)
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    start, span = np.repeat(first, size), np.repeat(size, size)
    uniform = np.random.default_rng(seed).random((resamples, n))
    drawn = start + (uniform * span).astype(np.int64)
    drawn += n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
    weights = np.empty((resamples, n))
    weights[:, order] = counts
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
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exact_mcnemar(first_correct: BoolArray, second_correct: BoolArray) -> float:
    """Two-sided p of McNemar's exact test that two models are right equally often.

    Only the samples on which exactly one of them is right carry information; under the hypothesis
    each falls to either model like a fair coin.

    Args:
        first_correct: whether the first model is right, shape (n,), by sample.
        second_correct: the same for the second model, in the same order.

    Returns:
        p in (0, 1]; 1 when the models never disagree. Source: statsmodels `mcnemar(exact=True)`,
        of which this is the formula without the seconds that its module takes to import.
    """
    first_only = int(np.sum(first_correct & ~second_correct))
    second_only = int(np.sum(second_correct & ~first_correct))
    tail = binomial_cdf(min(first_only, second_only), first_only + second_only, 0.5)
    return float(min(1.0, 2 * tail))


def paired_bootstrap(
    first_draws: FloatArray, second_draws: FloatArray
) -> tuple[float, float, float]:
    """Interval and two-sided p of the difference of one metric between two models.

    Args:
        first_draws: the metric of the first model, one value a resample, shape (R,); NaN where
            it is not defined, which leaves the resample out.
        second_draws: the same for the second model on the same resamples.

    Returns:
        Lower bound, upper bound and p of first minus second. p inverts the percentile interval:
        twice the smaller tail beyond zero. The resamples count one more than were drawn, so p is
        never 0 (at least 2 / (R + 1)).
    """
    differences = first_draws - second_draws
    differences = differences[np.isfinite(differences)]
    low, high = percentile_interval(differences)
    tail = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return low, high, float(min(1.0, 2 * (1 + tail) / (1 + len(differences))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values of one family of tests, in the order given.

    The smallest of m values is multiplied by m, the next by m - 1 and so on; an adjusted value is
    never below that of a smaller p (Holm 1979).

    Args:
        p_values: raw p values in [0, 1]; may be empty.

    Returns:
        As many values in [0, 1], none below its raw one.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw)
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * raw[order]), 1)
    return [float(p) for p in adjusted]
