"""Published numbers beside ours: what is compared, and when a verdict is given."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from fer_bench.comparison import Row
from fer_bench.comparison.member import Member
from fer_bench.comparison.published import _wilson, judge_published
from fer_bench.metrics.intervals import wilson
from fer_bench.metrics.predictions import Predictions

SHARE = {"source": "a paper", "metric": "accuracy", "value": 0.6, "n": 1000}
NOBODY = Predictions((), np.empty(0, str))


def cell(value: float, n: int = 2000) -> dict[str, float | None]:
    low, high = wilson(round(value * n), n)
    return {"value": value, "low": low, "high": high}


def member(entry: dict[str, Any], **metrics: dict[str, float | None]) -> Member:
    facts: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__)
    facts |= {
        "run_id": "cnn-s1-0",
        "name": "cnn",
        "dataset": "rafdb",
        "n": 2000,
        "metrics": metrics,
    }
    return Member(Row(**facts), {"published": [entry]}, NOBODY, "")


def judge(
    entry: dict[str, Any], ours: float = 0.6, evaluation: str = "test", **metrics: Any
) -> dict[str, Any]:
    (found,) = judge_published([member(entry, accuracy=cell(ours), **metrics)], evaluation)
    return found


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(0.6, "consistent"), (0.62, "consistent"), (0.7, "better"), (0.5, "worse")],
)
def test_a_verdict_needs_an_interval_without_zero(ours: float, verdict: str) -> None:
    found = judge(SHARE, ours)
    assert (found["verdict"], found["ours"], found["n"]) == (verdict, ours, 1000)
    assert f"{100 * (ours - 0.6):+.1f} [" in found["reason"]


@given(st.integers(1, 1999), st.integers(1, 999))
def test_the_interval_of_the_difference_is_that_of_newcombe(ours: int, theirs: int) -> None:
    found = judge(SHARE | {"value": theirs / 1000}, ours / 2000)
    low, high = confint_proportions_2indep(ours, 2000, theirs, 1000, method="newcomb")
    expected = "better" if low > 0 else "worse" if high < 0 else "consistent"
    assert found["verdict"] == expected
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}]" in found["reason"]


@given(st.integers(1, 500), st.data())
def test_the_interval_of_a_share_is_that_of_wilson(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    found = _wilson(correct / n, n)
    assert (found.low, found.high) == pytest.approx(wilson(correct, n))
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("caveat", "n"),
    [
        ("306 images of the balanced training set", 306),
        ("4,796 images", 4796),
        ("about 55 % of the 4,796 test images have a copy", None),
        ("sizes not printed", None),
        ("0 images", None),
        (None, None),
    ],
)
def test_the_number_of_images_may_stand_in_the_caveat(caveat: str | None, n: int | None) -> None:
    found = judge({"source": "pisa", "metric": "accuracy", "value": 0.5, "caveat": caveat})
    assert found["n"] == n
    assert (found["low"] is None) == (found["high"] is None) == (n is None)
    assert (found["verdict"] == "cannot be compared") == (n is None)


@pytest.mark.parametrize(
    ("changes", "evaluation", "reason"),
    [
        ({"n": None}, "test", "how many images"),
        ({"metric": "val_accuracy"}, "test", "measured on validation images, not on test images"),
        ({"metric": "train_accuracy"}, "test", "measured on train images"),
        ({}, "validation", "measured on test images, not on validation images"),
        ({}, "test@fer2013_csv", "another dataset"),
        ({"dataset": "fer2013"}, "test", "another dataset (fer2013)"),
        ({"metric": "val_loss"}, "validation", "val_loss is no share"),
        ({"metric": "macro_f1"}, "test", "macro_f1 is no share that is measured here"),
        ({"value": 65.0}, "test", "no share in [0, 1]"),
        ({"value": None}, "test", "no share in [0, 1]"),
    ],
)
def test_what_cannot_be_compared_says_why(
    changes: dict[str, Any], evaluation: str, reason: str
) -> None:
    found = judge(SHARE | changes, evaluation=evaluation)
    assert found["verdict"] == "cannot be compared"
    assert reason in found["reason"]


@pytest.mark.parametrize("evaluation", ["test", "test+flip"])
def test_the_dataset_may_be_said(evaluation: str) -> None:
    assert judge(SHARE | {"dataset": "rafdb"}, evaluation=evaluation)["verdict"] == "consistent"


def test_what_was_printed_of_validation_has_a_verdict_there() -> None:
    entry = SHARE | {"metric": "val_accuracy"}
    assert judge(entry, evaluation="validation")["verdict"] == "consistent"
    assert judge(entry)["ours"] == 0.6
    assert judge(SHARE | {"metric": "train_accuracy"})["ours"] is None


@pytest.mark.parametrize(
    ("source", "metric", "ours"),
    [
        ("rafdb4", "precision", 0.71),
        ("rafdb4", "recall", 0.52),
        ("another", "precision", None),
        ("slides", "categorical_accuracy", 0.6),
        ("pisa", "weighted_recall", 0.33),
    ],
)
def test_names_that_others_use_are_understood(source: str, metric: str, ours: float | None) -> None:
    metrics = {
        "micro_precision_at_half": cell(0.71),
        "micro_recall_at_half": cell(0.52),
        "weighted_recall": cell(0.33),
    }
    entry = SHARE | {"source": source, "metric": metric}
    (found,) = judge_published([member(entry, accuracy=cell(0.6), **metrics)], "test")
    assert (found["source"], found["metric"], found["ours"]) == (source, metric, ours)


def test_a_mean_over_classes_is_less_certain_than_a_share() -> None:
    wide = {"value": 0.6, "low": 0.54, "high": 0.66}
    plain = judge(SHARE)
    macro = judge(SHARE | {"metric": "macro_f1"}, macro_f1=wide)
    assert macro["high"] - macro["low"] > 2 * (plain["high"] - plain["low"])
    # Nothing is gained from an interval that is narrower than Wilson's.
    narrow = {"value": 0.6, "low": 0.599, "high": 0.601}
    found = judge(SHARE | {"metric": "macro_f1"}, macro_f1=narrow)
    assert (found["low"], found["high"]) == pytest.approx((plain["low"], plain["high"]))


def test_ours_is_the_mean_over_seeds() -> None:
    members = [member(SHARE, accuracy=cell(value)) for value in (0.5, 0.6)]
    (found,) = judge_published(members, "test")
    assert found["ours"] == pytest.approx(0.55)
    assert found["verdict"] == "worse"
