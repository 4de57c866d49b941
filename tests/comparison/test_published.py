"""Published numbers beside ours: what is compared, and when a verdict is given."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from messages import says
from statsmodels.stats.proportion import confint_proportions_2indep

from fer_bench.comparison import Row
from fer_bench.comparison.member import Member
from fer_bench.comparison.published import judge_published
from fer_bench.config.loading import load_experiment
from fer_bench.metrics.intervals import wilson
from fer_bench.metrics.predictions import Predictions

SHARE: dict[str, Any] = {"source": "a paper", "metric": "accuracy", "value": 0.6, "n": 1000}
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
    return Member(
        Row(**facts), {"published": [entry]}, NOBODY, "", path=Path("cnn/predictions/test.csv")
    )


def judge(
    entry: dict[str, Any], ours: float = 0.6, evaluation: str = "test", **metrics: Any
) -> dict[str, Any]:
    (found,) = judge_published([member(entry, accuracy=cell(ours), **metrics)], evaluation)
    return {**found}


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
def test_the_interval_of_a_published_value_is_that_of_wilson(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    found = judge(SHARE | {"value": correct / n, "n": n})
    assert (found["low"], found["high"]) == pytest.approx(wilson(correct, n))
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1


@pytest.mark.parametrize(("entered", "n"), [(306, 306), (0, None), (None, None), ("many", None)])
def test_without_a_number_of_images_there_is_no_interval(entered: Any, n: int | None) -> None:
    found = judge(SHARE | {"n": entered, "caveat": "306 images of the balanced training set"})
    assert found["n"] == n
    assert (found["low"] is None) == (found["high"] is None) == (n is None)
    assert (found["verdict"] == "cannot be compared") == (n is None)


@pytest.mark.parametrize(
    ("changes", "evaluation", "reason"),
    [
        ({"n": None}, "test", "how many images"),
        ({"metric": "val_accuracy"}, "test", "validation images"),
        ({"metric": "train_accuracy"}, "test", "train images"),
        ({}, "validation", "test images"),
        ({}, "test@fer2013_csv", "another dataset"),
        ({"dataset": "fer2013"}, "test", "(fer2013)"),
        ({"metric": "val_loss"}, "validation", "val_loss"),
        ({"metric": "macro_f1"}, "test", "macro_f1"),
        ({"value": 65.0}, "test", "[0, 1]"),
        ({"value": None}, "test", "[0, 1]"),
    ],
)
def test_what_cannot_be_compared_says_why(
    changes: dict[str, Any], evaluation: str, reason: str
) -> None:
    found = judge(SHARE | changes, evaluation=evaluation)
    assert found["verdict"] == "cannot be compared"
    says(found["reason"], reason)


@pytest.mark.parametrize("evaluation", ["test", "test+flip"])
def test_the_dataset_may_be_said(evaluation: str) -> None:
    assert judge(SHARE | {"dataset": "rafdb"}, evaluation=evaluation)["verdict"] == "consistent"


def test_what_was_printed_of_validation_has_a_verdict_there() -> None:
    entry = SHARE | {"metric": "val_accuracy"}
    assert judge(entry, evaluation="validation")["verdict"] == "consistent"
    assert judge(entry)["ours"] is None
    assert judge(SHARE | {"metric": "train_accuracy"})["ours"] is None


def test_a_validation_value_is_beside_our_own_validation_value(tmp_path: Path) -> None:
    entry = SHARE | {"metric": "val_accuracy"}
    for seed, value in ((1, 0.7), (2, 0.8)):
        path = tmp_path / f"cnn-s{seed}-0" / "metrics" / "validation.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"n": 500, "accuracy": cell(value, 500)}))
    runs = [
        replace(member(entry, accuracy=cell(0.6)), path=run / "predictions" / "test.csv")
        for run in sorted(tmp_path.iterdir())
    ]
    (found,) = judge_published(runs, "test")
    assert found["ours"] == pytest.approx(0.75)
    assert found["verdict"] == "cannot be compared"
    path.unlink()
    (found,) = judge_published(runs, "test")
    assert found["ours"] is None


def test_an_older_configuration_without_n_shares_the_entry() -> None:
    older = {key: value for key, value in SHARE.items() if key != "n"}
    for entries in ((older, SHARE), (SHARE, older)):
        runs = [member(entry, accuracy=cell(0.6)) for entry in entries]
        (found,) = judge_published(runs, "test")
        assert (found["n"], found["verdict"]) == (1000, "consistent")


@pytest.mark.parametrize(
    ("metric_as", "metric", "ours"),
    [
        ("micro_precision_at_half", "precision", 0.71),
        ("micro_recall_at_half", "recall", 0.52),
        ("micro_recall_at_half", "test_recall", 0.52),
        (None, "precision", None),
        (None, "categorical_accuracy", 0.6),
        (None, "weighted_recall", 0.33),
    ],
)
def test_names_that_others_use_are_understood(
    metric_as: str | None, metric: str, ours: float | None
) -> None:
    metrics = {
        "micro_precision_at_half": cell(0.71),
        "micro_recall_at_half": cell(0.52),
        "weighted_recall": cell(0.33),
    }
    entry = SHARE | {"metric": metric, "metric_as": metric_as}
    (found,) = judge_published([member(entry, accuracy=cell(0.6), **metrics)], "test")
    assert (found["metric"], found["ours"]) == (metric, ours)


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


@pytest.mark.parametrize("run_id", ["pisa_t1-s42-1107d5d1", "rafdb4_resnet50-s42-f3de1ac3"])
def test_shipped_values_keep_the_run_id_that_they_had_without_n_and_metric_as(run_id: str) -> None:
    path = Path(__file__).parents[2] / "configs" / f"{run_id.partition('-')[0]}.yaml"
    experiment = load_experiment(path)
    assert any(entry.n or entry.metric_as for entry in experiment.published)
    assert experiment.run_id == run_id
    written = yaml.safe_load(experiment.to_yaml())["published"]
    assert any("n" in entry or "metric_as" in entry for entry in written)
