import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.labels import SPELLINGS, canonical
from fer_bench.manifest import EXPRESSIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("angry", "anger"),
        ("Anger", "anger"),
        ("HAPPY", "happiness"),
        ("happiness", "happiness"),
        ("sad", "sadness"),
        ("Surprised", "surprise"),
        ("fearful", "fear"),
        ("disgusted", "disgust"),
        ("contemptuous", "contempt"),
        ("  neutral\n", "neutral"),
        ("0_angry", "anger"),
        ("3 - happy", "happiness"),
        ("01. Fear", "fear"),
    ],
)
def test_known_spellings(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize("name", ["", "7", "3 - ", "none", "hap py", "happy_0", "angry sad"])
def test_unknown_spellings(name: str) -> None:
    assert canonical(name) is None


def test_every_expression_has_a_spelling() -> None:
    assert set(SPELLINGS.values()) == set(EXPRESSIONS)


@given(st.sampled_from(sorted(SPELLINGS)), st.sampled_from(["", " ", "4_", "12 - "]))
def test_decoration_does_not_matter(name: str, prefix: str) -> None:
    assert canonical(f" {prefix}{name.title()} ") == SPELLINGS[name]
