"""The language that chooses rows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.comparison.filter import parse_where
from fer_bench.errors import ConfigError

KNOWN = ("dataset", "backbone", "name", "seed", "accuracy", "weights")
ROW = {
    "dataset": "rafdb",
    "backbone": "ResNet50",
    "name": "a b",
    "seed": 42,
    "accuracy": 0.65,
    "weights": None,
}


def holds(text: str, **changes: Any) -> bool:
    return parse_where(text, KNOWN)(ROW | changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset=rafdb", True),
        ("dataset=raf", False),
        ("dataset!=fer2013", True),
        ("backbone~resnet", True),
        ("backbone = ResNet50", True),
        ("backbone==ResNet50", True),
        ("name='a b'", True),
        ('name="a b" and seed<43', True),
        ("seed=42", True),
        ("seed=42.0", True),
        ("seed!=42", False),
        ("seed>42", False),
        ("seed>=42", True),
        ("seed<=41", False),
        ("seed=none", False),
        ("accuracy>0.6", True),
        ("accuracy>=65%", True),
        ("accuracy<65%", False),
        ("accuracy>6e-1", True),
        ("dataset>1", False),
        ("weights=imagenet", False),
        ("weights!=imagenet", True),
        ("weights~i", False),
        ("weights<1", False),
        # `and` binds tighter than `or`.
        ("seed=42 or seed=1 and dataset=no", True),
        ("dataset=no and seed=1 or seed=42", True),
        ("dataset=no and seed=42 or seed=1", False),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["''"]),
        ("dataset", ["'dataset'"]),
        ("dataset=", ["'dataset ='"]),
        ("dataset rafdb", ["'dataset rafdb'"]),
        ("dataset= =rafdb", ["'dataset = ='"]),
        ("dataset=<", ["'dataset = <'"]),
        ("dataset=rafdb seed=1", ["'dataset = rafdb'", "'seed'"]),
        ("dataset=rafdb and", ["'dataset = rafdb'", "'and'"]),
        ("dataset=rafdb and or seed=1", ["'or seed ='"]),
        ("name='a b", ["'a b"]),
        ("seed>many", ["'many'", "number", ">"]),
    ],
)
def test_a_condition_that_cannot_be_parsed_is_shown(text: str, found: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        parse_where(text, KNOWN)
    says(error.value, f"--where {text}", *found)
    says(str(error.value).splitlines()[-1], "dataset=rafdb")


def test_an_unknown_name_is_shown_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        parse_where("bakbone=x", KNOWN)
    says(error.value, "--where bakbone=x", "'bakbone'", "Did you mean 'backbone'")
    with pytest.raises(ConfigError) as error:
        parse_where("zzzz=x", KNOWN)
    says(error.value, "'zzzz'", "dataset, backbone")


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_of_all_of(parts: list[list[bool]]) -> None:
    text = " or ".join(
        " and ".join("seed=42" if true else "seed=0" for true in every) for every in parts
    )
    assert holds(text) is any(all(every) for every in parts)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_numbers_are_ordered_as_numbers(own: float, other: float) -> None:
    assert holds(f"accuracy<{other}", accuracy=own) is (own < other)
    assert holds(f"accuracy>={other}", accuracy=own) is (own >= other)
