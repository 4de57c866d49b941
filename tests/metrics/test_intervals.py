"""Intervals and tests, against independent implementations and by their laws."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fer_bench.metrics.intervals import (
    percentile_interval,
    smallest_difference,
    stratified_weights,
    wilson,
    wilson_of_share,
)
from fer_bench.metrics.significance import (
    exact_mcnemar,
    holm,
    paired_bootstrap,
    seeds_difference,
)


@given(st.integers(1, 5000), st.floats(0, 1))
@example(10, 0)
@example(10, 1)
def test_wilson_is_that_of_statsmodels(n: int, share: float) -> None:
    correct = round(share * n)
    expected = proportion_confint(correct, n, alpha=0.05, method="wilson")
    assert wilson(correct, n) == pytest.approx(expected, abs=1e-12)


def test_wilson_of_nothing_is_not_defined() -> None:
    assert np.isnan(wilson(0, 0)).all()


@given(st.floats(0, 1), st.floats(0.5, 1e6))
def test_wilson_of_a_share_holds_it_within_0_and_1(share: float, n: float) -> None:
    low, high = wilson_of_share(share, n)
    assert -1e-12 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1 + 1e-12


@pytest.mark.parametrize("correct", [0, 10])
def test_wilson_stays_inside_at_the_ends(correct: int) -> None:
    low, high = wilson(correct, 10)
    assert 0 <= low <= correct / 10 <= high <= 1
    assert high - low > 0.2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_a_stratified_resample_keeps_the_class_sizes(labels: list[int], seed: int) -> None:
    strata = np.array(labels)
    weights = stratified_weights(strata, 5, seed)
    assert weights.shape == (5, len(strata))
    assert (weights >= 0).all()
    assert (weights == np.round(weights)).all()
    for label in set(labels):
        assert (weights[:, strata == label].sum(axis=1) == labels.count(label)).all()


def test_every_sample_is_drawn_equally_often() -> None:
    strata = np.array([0, 1, 1, 0, 1, 2, 1])
    mean = stratified_weights(strata, 20_000, 0).mean(axis=0)
    np.testing.assert_allclose(mean, 1, atol=0.04)


def test_resamples_do_not_depend_on_how_they_are_split() -> None:
    strata = np.array([0, 1, 1, 0, 1, 2])
    generator = np.random.default_rng(3)
    parts = [stratified_weights(strata, size, generator) for size in (1, 4, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), stratified_weights(strata, 10, 3))


def test_percentile_interval_ignores_undefined_values() -> None:
    draws = np.arange(1001.0)
    assert percentile_interval(draws) == pytest.approx((25, 975))
    assert percentile_interval(np.append(draws, np.nan)) == pytest.approx((25, 975))
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]))).all()


def test_paired_bootstrap_sees_a_shift_that_is_the_same_everywhere() -> None:
    draws = np.random.default_rng(0).normal(size=999)
    low, high, p = paired_bootstrap(draws + 0.1, draws)
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert p == pytest.approx(2 / 1000)


def test_paired_bootstrap_of_equal_models_finds_nothing() -> None:
    draws = np.random.default_rng(0).normal(size=999)
    assert paired_bootstrap(draws, draws) == (0, 0, 1)


def test_paired_bootstrap_p_inverts_its_interval() -> None:
    # 2.4% of the differences lie below zero: just outside a two-sided 95% interval.
    differences = np.concatenate([np.full(24, -1.0), np.full(976, 1.0)])
    low, _, p = paired_bootstrap(differences, np.zeros(1000))
    assert low > 0
    assert p == pytest.approx(2 * 25 / 1001)


@pytest.mark.budget(10)
@given(st.lists(st.integers(0, 40), max_size=12))
@settings(max_examples=10)  # statsmodels collects garbage in every call
def test_holm_is_that_of_statsmodels(hundredths: list[int]) -> None:
    p_values = [value / 100 for value in hundredths]
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected))


def test_paired_bootstrap_leaves_out_undefined_resamples() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(0.5, 1, 499), random.normal(size=499)
    with_gaps = np.append(first, np.full(500, np.nan)), np.append(second, np.zeros(500))
    assert paired_bootstrap(*with_gaps) == paired_bootstrap(first, second)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_mcnemar_of_many_pairs_is_that_of_each(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    expected = [
        mcnemar([[0, one], [other, 0]], exact=True).pvalue if one + other else 1.0
        for one, other in pairs
    ]
    assert exact_mcnemar(first, second) == pytest.approx(expected)
    matrix = exact_mcnemar(first[:, None], second[None, :])
    assert matrix.shape == (len(pairs), len(pairs))


# Seeds -----------------------------------------------------------------------------------------


def seed_draws(random: np.random.Generator, means: list[float], images: float) -> np.ndarray:
    """A metric by seed and resample: seeds around their means, with shared noise of the images."""
    shared = random.normal(0, images, 2000)
    return np.array(means)[:, None] + shared


def test_without_differences_between_seeds_images_alone_count() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(0.6, 0.01, 2000), random.normal(0.58, 0.01, 2000)
    alone = paired_bootstrap(first, second)
    found = seeds_difference(np.stack([first] * 3), np.stack([second] * 4), seed=0)
    assert found == pytest.approx(alone)


def test_a_difference_within_the_spread_of_seeds_is_none() -> None:
    random = np.random.default_rng(0)
    first = seed_draws(random, [0.58, 0.62, 0.64], 0.001)
    second = seed_draws(random, [0.57, 0.60, 0.61], 0.001)
    low, high, p = seeds_difference(first, second, seed=0)
    assert low < 0 < high
    assert p > 0.05
    # Of the first seeds alone, images would claim to be sure.
    assert paired_bootstrap(first[2], second[0])[2] < 0.01


def test_a_difference_beyond_the_spread_of_seeds_is_found() -> None:
    random = np.random.default_rng(0)
    first = seed_draws(random, [0.70, 0.71, 0.72], 0.005)
    second = seed_draws(random, [0.60, 0.61, 0.62], 0.005)
    low, high, p = seeds_difference(first, second, seed=0)
    assert 0.05 < low < 0.1 < high < 0.15
    assert p < 0.01
    assert seeds_difference(second, first, seed=0)[:2] == pytest.approx((-high, -low), abs=0.005)


def test_the_spread_of_few_seeds_is_that_of_students_t() -> None:
    from scipy.stats import ttest_ind

    means = [0.60, 0.63, 0.64, 0.66, 0.67], [0.55, 0.56, 0.59, 0.61, 0.63]
    first, second = (np.repeat(np.array(one)[:, None], 20_000, axis=1) for one in means)
    expected = ttest_ind(*means).confidence_interval(0.95)
    low, high, _ = seeds_difference(first, second, seed=0)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_two_seeds_each_leave_two_degrees_of_freedom() -> None:
    from scipy.stats import norm, t

    first, second = (
        np.repeat(np.array([[mean - spread], [mean + spread]]), 2000, axis=1)
        for mean, spread in ((0.65, 0.02), (0.60, 0.01))
    )
    low, high, _ = seeds_difference(first, second, seed=0)
    # One in sixteen draws has both seeds at the same end, which is more often than 2.5%.
    reach = (0.02 + 0.01) * np.sqrt(2) * t.ppf(0.975, 2) / norm.ppf(0.975)
    assert (low, high) == pytest.approx((0.05 - reach, 0.05 + reach))


def test_seeds_cannot_be_drawn_from_one() -> None:
    draws = np.zeros((2, 5))
    with pytest.raises(ValueError, match="at least two seeds"):
        seeds_difference(draws, draws[:1], seed=0)
    with pytest.raises(ValueError, match="same resamples"):
        seeds_difference(draws, draws[:, :3], seed=0)


# The smallest difference -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "accuracy", "half_width"),
    [(3068, 0.92, 0.0096), (3589, 0.7, 0.015), (306, 0.5, 0.056)],
)
def test_half_widths(n: int, accuracy: float, half_width: float) -> None:
    found = smallest_difference(n, accuracy)
    assert found.half_width == pytest.approx(half_width, abs=5e-4)
    assert found.disagreement == pytest.approx(2 * accuracy * (1 - accuracy))


def test_a_difference_of_that_size_is_found_four_times_in_five() -> None:
    n, disagreement = 1000, 0.2
    found = smallest_difference(n, 0.6, disagreement=disagreement)
    random = np.random.default_rng(0)
    # Of the images on which the models disagree, the better one is right more often.
    share = (1 + found.difference / disagreement) / 2
    disagreeing = random.binomial(n, disagreement, 4000)
    first_only = random.binomial(disagreeing, share)
    p_values = exact_mcnemar(first_only, disagreeing - first_only)
    assert np.mean(p_values < 0.05) == pytest.approx(0.8, abs=0.03)


def test_more_images_and_more_agreement_show_smaller_differences() -> None:
    whole = smallest_difference(300, 0.6).difference
    assert smallest_difference(1200, 0.6).difference == pytest.approx(whole / 2)
    assert smallest_difference(300, 0.6, disagreement=0.1).difference < whole
    assert smallest_difference(300, 0.6, power=0.9).difference > whole
    assert smallest_difference(300, 1.0).difference == 0
