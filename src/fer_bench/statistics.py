"""Intervals and tests: how far a number, or a difference of two, can be trusted.

All intervals are at the 95% level. Resampling is by image and within each class, so that every
resample keeps the class sizes of the test set and a rare class never vanishes from a macro mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr as binomial_cdf
from scipy.special import ndtri as normal_quantile
from scipy.special import stdtrit as student_quantile

# A difference with a smaller p is told apart; intervals are of the level that goes with it.
SIGNIFICANT = 0.05
LEVEL = 1 - SIGNIFICANT

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
    share, square = correct / n, float(normal_quantile((1 + LEVEL) / 2)) ** 2 / n
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
    first_only = np.sum(first_correct & ~second_correct)
    second_only = np.sum(second_correct & ~first_correct)
    return float(exact_mcnemar_counts(first_only, second_only))


def exact_mcnemar_counts(first_only: Any, second_only: Any) -> FloatArray:
    """Two-sided p of McNemar's exact test for many pairs of models at once.

    Args:
        first_only: number of samples on which only the first model of a pair is right, an integer
            array of any shape.
        second_only: the same for the second model.

    Returns:
        p in (0, 1], of that shape; 1 where the models never disagree.
    """
    tail = binomial_cdf(np.minimum(first_only, second_only), np.add(first_only, second_only), 0.5)
    p_values: FloatArray = np.minimum(1.0, 2 * tail)
    return p_values


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


def seeds_difference(
    first_draws: FloatArray, second_draws: FloatArray, seed: int
) -> tuple[float, float, float]:
    """Interval and two-sided p of the difference of two experiments, over seeds and images.

    A hierarchical bootstrap: every resample draws images, the same for all runs, and of each
    experiment as many seeds as it has, with replacement; the difference is that of the means over
    the seeds drawn. What a few seeds say of their spread is too little: their mean deviates by
    (S - 1) / S of the variance only, and a normal quantile stands where Student's belongs. The
    deviations of the seeds from their mean are therefore stretched by √(S / (S - 1)) and by
    t / z at S1 + S2 - 2 degrees of freedom (Hesterberg 2015 calls it expanding). What single
    images do to each seed counts twice, among seeds and among images: the test is cautious where
    seeds differ by little else (docs/intervals.md).

    Args:
        first_draws: the metric of the first experiment by seed and image resample, shape
            (S1, R), S1 at least 2; NaN where it is not defined, which leaves the resample out.
        second_draws: the same for the second experiment on the same image resamples, (S2, R).
        seed: of the choice of seeds.

    Returns:
        Lower bound, upper bound and p of first minus second, as `paired_bootstrap`.

    Raises:
        ValueError: an experiment has fewer than two seeds, or the resamples differ in number.
    """
    if min(len(first_draws), len(second_draws)) < 2:
        raise ValueError("seeds_difference needs at least two seeds of each experiment")
    if first_draws.shape[1] != second_draws.shape[1]:
        raise ValueError("seeds_difference needs both experiments on the same resamples")
    generator = np.random.default_rng(seed)
    freedom = len(first_draws) + len(second_draws) - 2
    upper = (1 + LEVEL) / 2
    stretch = float(student_quantile(freedom, upper) / normal_quantile(upper))
    means = [_seed_means(draws, stretch, generator) for draws in (first_draws, second_draws)]
    return paired_bootstrap(means[0], means[1])


def _seed_means(draws: FloatArray, stretch: float, generator: np.random.Generator) -> FloatArray:
    """Mean over seeds drawn with replacement in each image resample, (S, R) → (R,)."""
    seeds, resamples = draws.shape
    chosen = generator.integers(0, seeds, (seeds, resamples))
    drawn = np.take_along_axis(draws, chosen, axis=0).mean(axis=0)
    mean = draws.mean(axis=0)
    spread: FloatArray = mean + stretch * np.sqrt(seeds / (seeds - 1)) * (drawn - mean)
    return spread


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
    level: float = LEVEL,
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
