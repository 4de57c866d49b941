"""Subgroups: what is said of each, what is kept silent, and how they are compared."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fer_bench.metrics import measure
from fer_bench.metrics.intervals import wilson
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.metrics.subgroups import by_attribute

CLASSES = ("neutral", "happiness", "sadness")


def predictions_of(correct: Any) -> Predictions:
    """One sample for each entry, its class running on; what is wrong is the next class."""
    labels = np.arange(len(correct)) % 3
    predicted = np.where(correct, labels, (labels + 1) % 3)
    return Predictions(
        sample_ids=tuple(f"{number:04d}" for number in range(len(correct))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, predicted, np.eye(3)[predicted]),
    )


def attributes_of(predictions: Predictions, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(predictions.sample_ids, name="sample_id"))


# 60 female of whom 54 right, 90 male of whom 45, 19 of unsure gender, 6 without any.
GENDER = ["female"] * 60 + ["male"] * 90 + ["unsure"] * 19 + [None] * 3 + [""] * 3
CORRECT = [number % 10 != 0 for number in range(60)] + [number % 2 for number in range(115)]


@pytest.fixture
def predictions() -> Predictions:
    return predictions_of(np.array(CORRECT, dtype=bool))


def test_every_group_is_measured_by_itself(predictions: Predictions) -> None:
    (entry,) = by_attribute(predictions, attributes_of(predictions, gender=GENDER), resamples=200)
    assert entry["attribute"] == "gender"
    assert [(group["name"], group["n"]) for group in entry["groups"]] == [
        ("female", 60),
        ("male", 90),
    ]
    female, male = entry["groups"]
    assert female["accuracy"] == dict(zip(("low", "high"), wilson(54, 60), strict=True)) | {
        "value": 0.9
    }
    of_male = predictions.select(np.array(GENDER) == "male")
    assert male["macro_f1"]["value"] == measure.values(of_male)["macro_f1"]
    assert entry["worst"] == {"accuracy": "male", "macro_f1": "male"}
    assert entry["best"] == {"accuracy": "female", "macro_f1": "female"}
    json.dumps(entry, allow_nan=False)


def test_small_groups_are_named_with_their_size_only(predictions: Predictions) -> None:
    (entry,) = by_attribute(predictions, attributes_of(predictions, gender=GENDER), resamples=20)
    assert entry["suppressed"] == [{"name": "unsure", "n": 19}]
    assert entry["least"] == 20


def test_the_smallest_group_that_is_measured_has_the_stated_size(predictions: Predictions) -> None:
    attributes = attributes_of(predictions, gender=["male"] * 20 + [""] * 155)
    (entry,) = by_attribute(predictions, attributes, resamples=20)
    assert entry["least"] == entry["groups"][0]["n"] == 20
    assert entry["suppressed"] == []


def test_of_three_groups_the_best_is_compared_with_the_worst() -> None:
    predictions = predictions_of([*[True] * 30, *[True, False] * 15, *[False] * 30])
    attributes = attributes_of(predictions, race=["a"] * 30 + ["b"] * 30 + ["c"] * 30)
    entry: Any
    (entry,) = by_attribute(predictions, attributes, resamples=20)
    assert (entry["best"]["accuracy"], entry["worst"]["accuracy"]) == ("a", "c")
    assert entry["difference"]["accuracy"]["value"] == 1
    assert entry["ratio"]["accuracy"]["value"] == 0


def test_best_and_worst_are_compared(predictions: Predictions) -> None:
    entry: Any
    (entry,) = by_attribute(predictions, attributes_of(predictions, gender=GENDER), resamples=500)
    difference, ratio = entry["difference"]["accuracy"], entry["ratio"]["accuracy"]
    assert difference["value"] == pytest.approx(0.9 - 0.5)
    assert 0.2 < difference["low"] < 0.35 < 0.45 < difference["high"] < 0.6
    assert ratio["value"] == pytest.approx(0.5 / 0.9)
    assert ratio["low"] < ratio["value"] < ratio["high"] < 1
    assert entry["difference"]["macro_f1"]["low"] > 0


def test_equal_groups_differ_by_chance_only() -> None:
    predictions = predictions_of(np.random.default_rng(0).random(300) < 0.7)
    halves = np.repeat(["first", "second"], 150)
    entry: Any
    (entry,) = by_attribute(predictions, attributes_of(predictions, half=halves), resamples=300)
    assert entry["difference"]["accuracy"]["low"] < 0 < entry["difference"]["accuracy"]["high"]
    assert entry["ratio"]["accuracy"]["high"] > 1


def test_groups_without_a_correct_answer_have_no_ratio() -> None:
    predictions = predictions_of(np.zeros(60, dtype=bool))
    halves = np.repeat(["first", "second"], 30)
    (entry,) = by_attribute(predictions, attributes_of(predictions, half=halves), resamples=20)
    assert entry["difference"]["accuracy"]["value"] == 0
    assert entry["ratio"]["accuracy"] == {"value": None, "low": None, "high": None}


def test_a_group_without_a_correct_answer_is_the_worst() -> None:
    predictions = predictions_of(np.arange(60) < 30)
    halves = np.repeat(["all", "none"], 30)
    (entry,) = by_attribute(predictions, attributes_of(predictions, half=halves), resamples=20)
    assert (entry["worst"]["accuracy"], entry["best"]["accuracy"]) == ("none", "all")
    assert entry["difference"]["accuracy"]["value"] == 1
    assert entry["ratio"]["accuracy"]["value"] == 0


def test_order_of_rows_and_other_samples_change_nothing(predictions: Predictions) -> None:
    table = attributes_of(predictions, gender=GENDER, age=["20-39"] * 175)
    more = pd.concat([table, pd.DataFrame({"gender": "male", "age": "70+"}, index=["other"])])
    expected = by_attribute(predictions, table, resamples=20)
    shuffled = more.sample(frac=1, random_state=0)
    assert by_attribute(predictions, shuffled, resamples=20) == expected
    assert [entry["attribute"] for entry in expected] == ["gender", "age"]


@pytest.mark.parametrize("sizes", [(175,), (10, 10, 155), (9, 9, 157)])
def test_a_group_alone_is_compared_with_none(
    sizes: tuple[int, ...], predictions: Predictions
) -> None:
    names = np.repeat([f"group {number}" for number in range(len(sizes))], sizes)
    (entry,) = by_attribute(predictions, attributes_of(predictions, group=names), resamples=20)
    nothing = {"value": None, "low": None, "high": None}
    assert entry["difference"] == {"accuracy": nothing, "macro_f1": nothing}
    assert entry["ratio"] == entry["difference"]
    assert entry["worst"]["accuracy"] == f"group {len(sizes) - 1}"


def test_where_all_groups_are_small_nothing_is_said() -> None:
    predictions = predictions_of(np.ones(30, dtype=bool))
    names = np.repeat(["a", "b"], 15)
    (entry,) = by_attribute(predictions, attributes_of(predictions, group=names), resamples=20)
    assert entry["groups"] == []
    assert entry["worst"] == {"accuracy": None, "macro_f1": None}


def test_classes_that_a_group_lacks_are_named(predictions: Predictions) -> None:
    happy = np.where(predictions.label_names == "happiness", "happy", "other")
    (entry,) = by_attribute(predictions, attributes_of(predictions, mood=happy), resamples=20)
    absent = {group["name"]: group["absent"] for group in entry["groups"]}
    assert absent == {"happy": ["neutral", "sadness"], "other": ["happiness"]}


def test_an_attribute_without_a_value_is_left_out(predictions: Predictions) -> None:
    nobody = attributes_of(predictions, race=[None] * 175, age=[""] * 175)
    assert by_attribute(predictions, nobody, resamples=20) == []


def test_what_cannot_be_measured_is_refused(predictions: Predictions) -> None:
    some = attributes_of(predictions, gender=GENDER).iloc[1:]
    with pytest.raises(ValueError, match="attributes of every sample"):
        by_attribute(predictions, some)
    pairs = ValenceArousal(np.zeros((1, 2)), np.zeros((1, 2)))
    only = Predictions(("a",), np.array(["neutral"]), valence_arousal=pairs)
    with pytest.raises(ValueError, match="needs predictions of expression"):
        by_attribute(only, some)
