"""Draws of many runs at once, and letters: against slow and plain computations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from fer_bench.comparison import draws
from fer_bench.comparison.letters import compact_letters
from fer_bench.metrics.predictions import Expression

CLASSES = ("anger", "fear", "neutral", "surprise")


def expression(
    seed: int, n: int, present: int = 4, order: tuple[int, ...] = (0, 1, 2, 3)
) -> Expression:
    """Random predictions; the labels depend on `n` and `present` only."""
    labels = np.arange(n) % present
    random = np.random.default_rng(seed)
    predicted = np.where(random.random(n) < 0.6, labels, random.integers(0, 4, n))
    position = np.argsort(order)
    return Expression(
        tuple(CLASSES[code] for code in order),
        position[labels],
        position[predicted],
        np.full((n, 4), 0.25),
    )


def test_draws_are_metrics_of_the_images_drawn() -> None:
    runs = [expression(seed, n=23, present=3) for seed in (1, 2)]
    found = draws.expression_draws(runs, resamples=600, seed=5)
    # The same images, as the module draws them: by class, 512 resamples at a time.
    generators = [np.random.default_rng([5, start]) for start in (0, 512)]
    sizes = np.array([8, 8, 7, 0])
    order = np.argsort(runs[0].labels, kind="stable")
    counts = np.concatenate(
        [
            draws._drawn(sizes, number, one)
            for number, one in zip((512, 88), generators, strict=True)
        ]
    )
    assert (counts.sum(axis=1) == 23).all()
    for resample in (0, 7, 511, 512, 599):
        drawn = np.repeat(order, counts[resample].astype(int))
        for index, run in enumerate(runs):
            labels, predicted = run.labels[drawn], run.predicted[drawn]
            accuracy = found["accuracy"][index, resample]
            assert accuracy == pytest.approx(np.mean(labels == predicted))
            expected = f1_score(
                labels, predicted, average="macro", labels=range(4), zero_division=0
            )
            assert found["macro_f1"][index, resample] == pytest.approx(expected)


@pytest.mark.parametrize("present", [1, 4])
def test_draws_keep_the_sizes_of_classes_and_their_mean(present: int) -> None:
    run = expression(3, n=200, present=present)
    found = draws.expression_draws([run], resamples=4_000, seed=0)
    share = run.correct.mean()
    error = np.sqrt(share * (1 - share) / 200)
    assert found["accuracy"].mean() == pytest.approx(share, abs=4 * error / np.sqrt(4_000))
    assert found["accuracy"].std() == pytest.approx(error, rel=0.1)


def test_draws_do_not_depend_on_the_order_of_classes_or_on_the_other_runs() -> None:
    plain, turned = expression(1, 50), expression(1, 50, order=(2, 0, 3, 1))
    together = draws.expression_draws([plain, turned, expression(2, 50)], 300, seed=1)
    alone = draws.expression_draws([plain], 300, seed=1)
    for name in ("accuracy", "macro_f1"):
        np.testing.assert_allclose(together[name][0], together[name][1], rtol=1e-12)
        np.testing.assert_allclose(together[name][0], alone[name][0], rtol=1e-12)
        assert not np.allclose(together[name][0], together[name][2])


# Letters ---------------------------------------------------------------------------------------

PAIRS = st.integers(1, 7).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.sets(
            st.sampled_from(list(itertools.combinations(range(count), 2)))
            if count > 1
            else st.nothing()
        ),
    )
)


@given(PAIRS)
@settings(max_examples=300)
def test_things_share_a_letter_exactly_if_they_do_not_differ(
    drawn: tuple[int, set[tuple[int, int]]],
) -> None:
    count, differs = drawn
    letters = compact_letters(count, differs)
    assert letters[0].startswith("a")
    assert all(letters)
    for first, second in itertools.combinations(range(count), 2):
        shared = set(letters[first]) & set(letters[second])
        assert bool(shared) == ((first, second) not in differs)


@given(PAIRS)
def test_no_letter_says_no_more_than_another(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    letters = compact_letters(*drawn)
    groups = [
        {thing for thing, own in enumerate(letters) if letter in own}
        for letter in sorted(set("".join(letters)))
    ]
    for first, second in itertools.permutations(groups, 2):
        assert not first <= second


def test_letters_of_a_chain() -> None:
    assert compact_letters(4, {(0, 2), (0, 3), (1, 3)}) == ["a", "ab", "bc", "c"]
    assert compact_letters(0, set()) == []


def test_more_letters_than_the_alphabet_has() -> None:
    everything = set(itertools.combinations(range(54), 2))
    letters = compact_letters(54, everything)
    assert len(set(letters)) == 54
    assert letters[26] == "A"
    assert letters[52:] == ["(53)", "(54)"]
