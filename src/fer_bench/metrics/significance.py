"""Paired tests of the difference between two models, and their correction for multiple testing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr as binomial_cdf
from scipy.special import ndtri as normal_quantile
from scipy.special import stdtrit as student_quantile

from fer_bench.metrics.arrays import FloatArray
from fer_bench.metrics.intervals import CONFIDENCE, percentile_interval


def exact_mcnemar(first_only: Any, second_only: Any) -> FloatArray:
    """Two-sided p of McNemar's exact test that two models are equally accurate, for many pairs.

    Only the samples on which exactly one of the two is correct carry information; under the null
    hypothesis each of them favours either model with probability one half.

    Args:
        first_only: number of samples on which only the first model of a pair is correct, an integer
            or an integer array of any shape.
        second_only: the same for the second model.

    Returns:
        p in (0, 1], of that shape; 1 where the models never disagree. Equals `mcnemar(exact=True)`
        of statsmodels, which takes seconds to import.
    """
    tail = binomial_cdf(np.minimum(first_only, second_only), np.add(first_only, second_only), 0.5)
    p_values: FloatArray = np.minimum(1.0, 2 * tail)
    return p_values


def paired_bootstrap(
    first_draws: FloatArray, second_draws: FloatArray
) -> tuple[float, float, float]:
    """Interval and two-sided p of the difference of one metric between two models.

    Args:
        first_draws: the metric of the first model, one value per resample, shape (R,); resamples
            where it is NaN (not defined) are left out.
        second_draws: the same for the second model on the same resamples.

    Returns:
        Lower bound, upper bound and p of first minus second. p inverts the percentile interval:
        twice the smaller tail beyond zero. One resample is added to those drawn, so p is at least
        2 / (R + 1) and never 0.
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

    A hierarchical bootstrap: every resample draws images, the same for all runs, and as many seeds
    of each experiment as it has, with replacement; the difference is that of the means over the
    seeds drawn. With few seeds this understates their spread: the mean varies by only (S - 1) / S
    of the variance, and the percentiles are those of a normal rather than of Student's
    distribution. The deviations of the seeds from their mean are therefore stretched by
    √(S / (S - 1)) and by t / z at S1 + S2 - 2 degrees of freedom ("expanded" in Hesterberg 2015).
    The effect of single images on each seed counts twice, among seeds and among images: the test is
    conservative where seeds differ in little else (docs/intervals.md).

    Args:
        first_draws: the metric of the first experiment by seed and image resample, shape
            (S1, R), S1 at least 2; resamples where it is NaN (not defined) are left out.
        second_draws: the same for the second experiment on the same image resamples, (S2, R).
        seed: of the choice of seeds.

    Returns:
        Lower bound, upper bound and p of first minus second, as in `paired_bootstrap`.

    Raises:
        ValueError: an experiment has fewer than two seeds, or the resamples differ in number.
    """
    if min(len(first_draws), len(second_draws)) < 2:
        raise ValueError("seeds_difference needs at least two seeds of each experiment")
    if first_draws.shape[1] != second_draws.shape[1]:
        raise ValueError("seeds_difference needs both experiments on the same resamples")
    generator = np.random.default_rng(seed)
    freedom = len(first_draws) + len(second_draws) - 2
    upper = (1 + CONFIDENCE) / 2
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values of one family of tests, in the order given.

    The smallest of m values is multiplied by m, the next by m - 1, and so on; an adjusted value is
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
