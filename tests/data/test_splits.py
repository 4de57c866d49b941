import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fer_bench.data.splits import carve, components, keep_fraction, split_digest, undersample
from fer_bench.errors import DataError

LABELS = ("anger", "fear", "happiness")


def table(sizes: dict[str, int], split: str = "train") -> pd.DataFrame:
    rows = [
        (f"{split}/{label}/{number}.png", split, label)
        for label, size in sizes.items()
        for number in range(size)
    ]
    return pd.DataFrame(rows, columns=["sample_id", "split", "label"])


def assignment(samples: pd.DataFrame) -> dict[str, str]:
    return dict(zip(samples["sample_id"], samples["split"], strict=True))


def count(samples: pd.DataFrame, split: str, label: str) -> int:
    return int(((samples["split"] == split) & (samples["label"] == label)).sum())


sizes = st.fixed_dictionaries({label: st.integers(2, 60) for label in LABELS})
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)


@settings(max_examples=40)
@given(sizes, fractions, seeds, st.randoms(use_true_random=False))
def test_carving_laws(sizes: dict[str, int], fraction: float, seed: int, random: object) -> None:
    samples = pd.concat([table(sizes), table({"fear": 4}, "test")], ignore_index=True)
    before = samples.copy()
    carved = carve(samples, "validation", fraction, seed)

    pd.testing.assert_frame_equal(samples, before)
    pd.testing.assert_frame_equal(carved.drop(columns="split"), samples.drop(columns="split"))
    assert count(carved, "test", "fear") == 4
    for label, size in sizes.items():
        moved = count(carved, "validation", label)
        assert moved + count(carved, "train", label) == size
        assert abs(moved - fraction * size) <= 1
        assert 0 < moved < size

    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert assignment(carve(samples.iloc[order], "validation", fraction, seed)) == assignment(
        carved
    )


def test_seeds_differ_and_a_seed_repeats() -> None:
    samples = table(dict.fromkeys(LABELS, 100))
    digests = [split_digest(carve(samples, "validation", 0.1, seed)) for seed in (0, 1, 2, 0)]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_the_choice_is_the_same_on_every_machine_and_version() -> None:
    carved = carve(table(dict.fromkeys(LABELS, 10)), "validation", 0.1, seed=42)
    moved = carved.loc[carved["split"] == "validation", "sample_id"]
    assert sorted(moved) == ["train/anger/2.png", "train/fear/3.png", "train/happiness/6.png"]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_the_fraction_is_a_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        carve(table({"fear": 9}), "validation", fraction, 0)


def test_a_class_of_one_cannot_be_in_both_parts() -> None:
    with pytest.raises(DataError, match=r"class 'fear' has 1 train sample\(s\), too few"):
        carve(table({"anger": 20, "fear": 1}), "validation", 0.1, 0)


def test_no_train_split() -> None:
    with pytest.raises(DataError, match="no samples in the train split"):
        carve(table({"fear": 9}, "test"), "validation", 0.1, 0)


def grouped(people: list[list[int]]) -> pd.DataFrame:
    """One row per sample; `people[i][j]` samples of class j for the person i."""
    rows = [
        (f"{person}-{label}-{number}", "train", label, f"p{person}")
        for person, amounts in enumerate(people)
        for label, amount in zip(LABELS, amounts, strict=True)
        for number in range(amount)
    ]
    return pd.DataFrame(rows, columns=["sample_id", "split", "label", "group"])


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=12, max_size=60),
    st.floats(0.1, 0.5),
    seeds,
    st.randoms(use_true_random=False),
)
def test_groups_move_as_a_whole(
    people: list[list[int]], fraction: float, seed: int, random: object
) -> None:
    samples = grouped(people)
    assume(all(sum(bool(person[label]) for person in people) >= 8 for label in range(3)))
    carved = carve(samples, "validation", fraction, seed)
    assert (carved.groupby("group")["split"].nunique() == 1).all()
    for label in LABELS:
        assert count(carved, "validation", label) > 0
        assert count(carved, "train", label) > 0
    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert assignment(carve(samples.iloc[order], "validation", fraction, seed)) == assignment(
        carved
    )


def test_groups_keep_the_shares_of_the_classes() -> None:
    samples = grouped([[2 + person % 3, 1 + person % 2, 4] for person in range(100)])
    carved = carve(samples, "validation", 0.2, 7)
    for label in LABELS:
        size = int((samples["label"] == label).sum())
        assert count(carved, "validation", label) / size == pytest.approx(0.2, abs=0.02)


def test_a_rare_class_gets_a_group_even_when_its_share_overshoots() -> None:
    samples = grouped([[5, 0, 3]] * 20 + [[0, 5, 0]] * 2)
    carved = carve(samples, "validation", 0.1, 3)
    assert count(carved, "validation", "fear") == 5


def test_a_class_in_two_groups_keeps_one_for_training() -> None:
    samples = grouped([[5, 0, 3]] * 20 + [[0, 5, 0]] * 2)
    carved = carve(samples, "validation", 0.9, 3)
    assert count(carved, "train", "fear") == 5


def test_of_two_shares_that_are_equally_near_groups_take_the_smaller() -> None:
    carved = carve(grouped([[2, 0, 0]] * 4), "validation", 0.375, 3)
    assert count(carved, "validation", "anger") == 2


def test_a_class_in_one_group_cannot_be_in_both_parts() -> None:
    samples = grouped([[5, 0, 3]] * 20 + [[0, 6, 0]])
    with pytest.raises(DataError, match=r"class 'fear' has 6 train sample\(s\) in 1 group"):
        carve(samples, "validation", 0.1, 3)


def test_samples_of_unknown_group_stand_alone() -> None:
    samples = grouped([[10, 10, 10]]).assign(group=None)
    carved = carve(samples, "validation", 0.1, 3)
    assert [count(carved, "validation", label) for label in LABELS] == [1, 1, 1]


@settings(max_examples=40)
@given(sizes, seeds, st.randoms(use_true_random=False))
def test_undersampling_laws(sizes: dict[str, int], seed: int, random: object) -> None:
    samples = pd.concat([table(sizes), table({"fear": 70}, "test")], ignore_index=True)
    reduced, dropped = undersample(samples, seed)
    smallest = min(sizes.values())
    assert [count(reduced, "train", label) for label in LABELS] == [smallest] * 3
    assert count(reduced, "test", "fear") == 70
    assert dropped == len(samples) - len(reduced)
    assert list(reduced.index) == list(range(len(reduced)))
    kept = set(reduced["sample_id"])
    assert [name for name in samples["sample_id"] if name in kept] == list(reduced["sample_id"])

    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert set(undersample(samples.iloc[order], seed)[0]["sample_id"]) == kept


@settings(max_examples=40)
@given(sizes, seeds, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.randoms())
def test_laws_of_a_fraction(
    sizes: dict[str, int], seed: int, one: float, other: float, random: object
) -> None:
    samples = pd.concat([table(sizes), table({"fear": 70}, "test")], ignore_index=True)
    small, large = sorted((one, other))
    reduced, dropped = keep_fraction(samples, small, seed)
    for label, size in sizes.items():
        assert abs(count(reduced, "train", label) - max(small * size, 1)) <= 0.5 + 1e-9
    assert count(reduced, "test", "fear") == 70
    assert dropped == len(samples) - len(reduced)
    kept = set(reduced["sample_id"])
    assert [name for name in samples["sample_id"] if name in kept] == list(reduced["sample_id"])
    assert kept <= set(keep_fraction(samples, large, seed)[0]["sample_id"])

    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert set(keep_fraction(samples.iloc[order], small, seed)[0]["sample_id"]) == kept


def test_undersampling_seeds_differ() -> None:
    samples = table({"anger": 50, "fear": 10})
    kept = [set(undersample(samples, seed)[0]["sample_id"]) for seed in (0, 1)]
    assert kept[0] != kept[1]


def test_undersampling_without_train_rows_changes_nothing() -> None:
    samples = table({"fear": 3}, "test")
    reduced, dropped = undersample(samples, 0)
    assert dropped == 0
    pd.testing.assert_frame_equal(reduced, samples)


def test_the_digest_sees_splits_and_not_the_order() -> None:
    samples = table({"anger": 5, "fear": 5})
    assert split_digest(samples) == split_digest(samples.iloc[::-1])
    assert split_digest(samples) != split_digest(samples.assign(split="test"))
    assert len(split_digest(samples)) == 64


def test_components() -> None:
    pairs = np.array([[0, 3], [3, 5], [1, 2]])
    found = components(6, pairs)
    assert found[0] == found[3] == found[5]
    assert found[1] == found[2]
    assert len({found[0], found[1], found[4]}) == 3
    for count in (3, 0):
        assert len(set(components(count, np.empty((0, 2), dtype=np.int64)))) == count
