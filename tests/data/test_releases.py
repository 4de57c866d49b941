import pytest

from fer_bench.data.releases import FER2013, counts, recognise
from fer_bench.labels import EXPRESSIONS

KNOWN = {
    "large": {"train": {"fear": 9, "anger": 8}, "test": {"fear": 2, "anger": 1}},
    "small": {"train": {"fear": 3, "anger": 2}, "test": {"fear": 1, "anger": 1}},
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_release_is_recognised_by_all_its_numbers(name: str) -> None:
    assert recognise(KNOWN[name], KNOWN) == (name, ())


def test_the_order_of_splits_and_classes_does_not_matter() -> None:
    turned = {"test": {"anger": 1, "fear": 1}, "train": {"anger": 2, "fear": 3}}
    assert recognise(turned, KNOWN) == ("small", ())


def test_a_class_of_no_image_is_a_class_that_is_not_there() -> None:
    assert recognise({**KNOWN["small"], "validation": {"fear": 0}}, KNOWN) == ("small", ())


@pytest.mark.parametrize(
    ("change", "examples"),
    [
        ({"test": {"fear": 1, "anger": 2}}, ("test anger 2 instead of 1",)),
        ({"test": {"fear": 1}}, ("test anger 0 instead of 1",)),
        ({"validation": {"fear": 4}}, ("validation fear 4 instead of 0",)),
        (
            {"test": {"fear": 5, "anger": 1, "disgust": 3}},
            ("test fear 5 instead of 1", "test disgust 3 instead of 0"),
        ),
    ],
)
def test_differences_from_the_nearest_release_are_reported(
    change: dict[str, dict[str, int]], examples: tuple[str, ...]
) -> None:
    name, (problem,) = recognise({**KNOWN["small"], **change}, KNOWN)
    assert name is None
    assert (problem.kind, problem.severity) == ("release_unrecognised", "warning")
    assert problem.examples == examples
    assert problem.count == len(examples)
    assert problem.text.endswith("those of small")


def test_a_missing_split_is_a_difference() -> None:
    name, (problem,) = recognise({"train": KNOWN["small"]["train"]}, KNOWN)
    assert name is None
    assert problem.examples == ("test fear 0 instead of 1", "test anger 0 instead of 1")


def test_counts_reads_two_lines_of_a_table() -> None:
    assert counts("fear anger", "281 705") == {"fear": 281, "anger": 705}
    with pytest.raises(ValueError, match="zip"):
        counts("fear anger", "281")


def test_fer2013() -> None:
    assert {part: sum(numbers.values()) for part, numbers in FER2013.items()} == {
        "Training": 28_709,
        "PublicTest": 3_589,
        "PrivateTest": 3_589,
    }
    assert all(set(numbers) == set(EXPRESSIONS[:7]) for numbers in FER2013.values())
    # What tells the two test parts apart, and one class of each as the published table has it.
    assert (FER2013["PublicTest"]["disgust"], FER2013["PrivateTest"]["disgust"]) == (56, 55)
    assert FER2013["Training"]["happiness"] == 7215
