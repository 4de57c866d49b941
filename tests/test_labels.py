import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.errors import DataError
from fer_bench.labels import (
    CODES,
    EXPRESSIONS,
    SPELLINGS,
    canonical,
    chosen,
    decode,
    key,
    ordered,
)


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


# The table of the five orders once more, in the words of the releases.
ORDERS = {
    "rafdb": ("", "Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"),
    "affectnet": (
        *("Neutral", "Happiness", "Sadness", "Surprise"),
        *("Fear", "Disgust", "Anger", "Contempt"),
    ),
    "fer2013": ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"),
    "alphabetical-7": ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    "alphabetical-8": (
        *("anger", "contempt", "disgust", "fear"),
        *("happy", "neutral", "sad", "surprise"),
    ),
}
PAIRS = [(source, target) for source in ORDERS for target in ORDERS]
orders = st.sampled_from(sorted(ORDERS))


def test_the_orders_are_those_of_the_releases() -> None:
    assert {
        order: {code: canonical(name) for code, name in enumerate(names) if name}
        for order, names in ORDERS.items()
    } == CODES


def test_alphabetical_orders_are() -> None:
    for order in ("alphabetical-7", "alphabetical-8"):
        assert sorted(ORDERS[order]) == list(ORDERS[order])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_two_orders_agree(source: str, target: str) -> None:
    assert (CODES[source] == CODES[target]) is (source == target)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_has_each_of_its_classes_once(order: str) -> None:
    names = list(CODES[order].values())
    assert sorted(names) in (sorted(EXPRESSIONS), sorted(EXPRESSIONS[:7]))


@given(orders, st.integers(-3, 12), st.sampled_from(["{}", "{}.0", " {} ", "{}\n", "{}e0"]))
def test_a_code_may_be_spelled_as_any_number(order: str, code: int, spelling: str) -> None:
    assert decode(spelling.format(code), order) == CODES[order].get(code)


@given(orders, st.text(max_size=6))
def test_no_text_breaks_decoding(order: str, text: str) -> None:
    assert decode(text, order) in {None, *CODES[order].values()}


@pytest.mark.parametrize("text", ["", " ", "happy", "1.5", "0x1", "nan", "inf", "-inf", "1e999"])
def test_what_is_no_code(text: str) -> None:
    assert all(decode(text, order) is None for order in CODES)


def test_only_rafdb_counts_from_one() -> None:
    assert [order for order in CODES if decode("0", order) is None] == ["rafdb"]
    assert [order for order in CODES if min(CODES[order]) == 1] == ["rafdb"]


# Labels that are no expression -------------------------------------------------------------------


@given(st.text(max_size=12))
def test_a_key_is_its_own_key(text: str) -> None:
    assert key(key(text)) == key(text) == key(f" {text.strip()} ")


@given(st.lists(st.sampled_from([*EXPRESSIONS, "x", "y", "1"])))
def test_expressions_come_first_and_others_as_given(names: list[str]) -> None:
    found = ordered(names)
    assert sorted(found) == sorted(set(names))
    known = [name for name in found if name in EXPRESSIONS]
    assert list(found[: len(known)]) == [name for name in EXPRESSIONS if name in names]
    others = [name for name in dict.fromkeys(names) if name not in EXPRESSIONS]
    assert list(found[len(known) :]) == others


@pytest.mark.parametrize("order", CODES)
def test_codes_are_those_of_the_dataset(order: str) -> None:
    for code, name in CODES[order].items():
        assert chosen({"x": [str(code)]}, EXPRESSIONS, order) == {"x": (name,)}
    # Without codes, and where a label is called so, a number is a text.
    with pytest.raises(DataError, match="x takes '1', which is no label here"):
        chosen({"x": ["1"]}, EXPRESSIONS)
    assert chosen({"x": ["1"]}, ("1", "fear"), order) == {"x": ("1",)}
