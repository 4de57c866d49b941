import copy
import math
import pickle

import pandas as pd
import pytest
from messages import says

from fer_bench import Estimate, Metrics

DOCUMENT = {
    "n": 1200,
    "accuracy": {"value": 0.8125, "low": 0.79, "high": 0.83},
    "kappa": {"value": None, "low": None, "high": None},
    "per_class": [
        {"name": "fear", "support": 500, "f1": 0.7, "intervals": {}},
        {"name": "anger", "support": 700, "f1": 0.8, "intervals": {}},
    ],
    "confusion_matrix": [[400, 100], [125, 575]],
    "valence": {"n": 900, "ccc": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "warnings": ["careful"],
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(DOCUMENT, "x-s1-unhashed", "test+flip")


def test_a_metric_by_attribute_and_by_name(metrics: Metrics) -> None:
    assert metrics.accuracy == metrics["accuracy"] == Estimate(0.8125, 0.79, 0.83)
    assert (metrics.accuracy.value, metrics.accuracy.low, metrics.accuracy.high) == (
        *(0.8125, 0.79, 0.83),
    )
    assert float(metrics.accuracy) == 0.8125
    assert metrics.valence_ccc.high == 0.6
    assert list(metrics) == ["accuracy", "kappa", "valence_ccc"]
    assert (metrics.n, metrics.warnings) == (1200, ["careful"])


def test_what_is_not_defined_is_nan(metrics: Metrics) -> None:
    assert all(map(math.isnan, metrics.kappa))


def test_an_unknown_metric_is_explained(metrics: Metrics) -> None:
    with pytest.raises(AttributeError) as error:
        _ = metrics.acuracy
    says(error.value, "'acuracy'", "'accuracy'")
    with pytest.raises(KeyError):
        metrics["acuracy"]
    assert "accuracy" in dir(metrics)


def test_it_can_be_copied_and_pickled(metrics: Metrics) -> None:
    assert repr(copy.deepcopy(metrics)) == repr(metrics)
    assert pickle.loads(pickle.dumps(metrics)).accuracy == metrics.accuracy


def test_as_frames(metrics: Metrics) -> None:
    frame = metrics.to_frame()
    assert frame.loc["accuracy"].to_dict() == {"value": 0.8125, "low": 0.79, "high": 0.83}
    assert metrics.per_class.loc["anger"].to_dict() == {"support": 700, "f1": 0.8}
    assert metrics.confusion_matrix.loc["fear", "anger"] == 100
    assert isinstance(metrics.confusion_matrix, pd.DataFrame)


def test_without_expressions_there_are_no_classes() -> None:
    metrics = Metrics({"n": 3, "valence": DOCUMENT["valence"]}, "x", "test")
    assert list(metrics) == ["valence_ccc"]
    assert metrics.per_class.empty
    assert metrics.confusion_matrix.empty


def test_how_it_is_shown(metrics: Metrics) -> None:
    assert f"{metrics.accuracy:.1%}" == "81.2% [79.0%, 83.0%]"
    assert str(metrics.accuracy) == "0.8125 [0.79, 0.83]"
    says(repr(metrics), "x-s1-unhashed", "test+flip", "1,200", "accuracy: 0.8125")
    says(metrics._repr_html_(), "<table>", "x-s1-unhashed", "81.25 [79.00, 83.00]")
    assert "kappa" not in metrics._repr_html_()


def test_html_is_escaped() -> None:
    assert "<b>" not in Metrics(DOCUMENT, "<b>", "test")._repr_html_()
