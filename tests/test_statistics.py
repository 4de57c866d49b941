"""Intervals and tests, against independent implementations and by their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from fer_bench.statistics import (
    exact_mcnemar,
    holm,
    paired_bootstrap,
    percentile_interval,
    stratified_weights,
    wilson,
)


def test_wilson_matches_its_formula() -> None:
    correct, n, z = 154, 306, 1.959963984540054
    share = correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert wilson(correct, n) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize("correct", [0, 10])
def test_wilson_stays_inside_at_the_ends(correct: int) -> None:
    low, high = wilson(correct, 10)
    assert 0 <= low <= correct / 10 <= high <= 1
    assert high - low > 0.2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
@settings(deadline=None)
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


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
)
@settings(deadline=None)
def test_mcnemar_is_that_of_statsmodels(outcomes: list[tuple[bool, bool]]) -> None:
    first, second = np.array(outcomes).T
    table = [
        [np.sum(first & second), np.sum(first & ~second)],
        [np.sum(~first & second), np.sum(~first & ~second)],
    ]
    expected = mcnemar(table, exact=True).pvalue if (first != second).any() else 1.0
    assert exact_mcnemar(first, second) == pytest.approx(expected)
    assert exact_mcnemar(first, second) == exact_mcnemar(second, first)


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


@given(st.lists(st.integers(0, 40), max_size=12))
@settings(deadline=None, max_examples=10)  # statsmodels collects garbage in every call
def test_holm_is_that_of_statsmodels(hundredths: list[int]) -> None:
    p_values = [value / 100 for value in hundredths]
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected))


def test_paired_bootstrap_leaves_out_undefined_resamples() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(0.5, 1, 499), random.normal(size=499)
    with_gaps = np.append(first, np.full(500, np.nan)), np.append(second, np.zeros(500))
    assert paired_bootstrap(*with_gaps) == paired_bootstrap(first, second)
