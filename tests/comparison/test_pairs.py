"""Letters: against a plain computation."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from fer_bench.comparison.letters import compact_letters

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
