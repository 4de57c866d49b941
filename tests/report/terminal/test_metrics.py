"""The metrics of one evaluation on the terminal."""

import io
import re
from typing import Any

import pytest
from messages import says
from rich.console import Console

from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.report.terminal.metrics import metrics_tables

CELL = {"value": 0.9234, "low": 0.9133, "high": 0.9324}


def shown(document: dict[str, Any]) -> str:
    file = io.StringIO()
    Console(file=file, width=80).print(metrics_tables(document, "cnn-s1-unhashed, test"))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    return text


@pytest.mark.parametrize("with_expression", [True, False])
def test_metrics_of_valence_and_arousal(with_expression: bool) -> None:
    cell = {"value": -0.8512, "low": -0.8702, "high": -0.8312}
    axis = {"n": 2900, **dict.fromkeys(AXIS_METRICS, cell)}
    document: dict[str, Any] = {"n": 3068, "valence": axis, "arousal": axis | {"n": 2801}}
    if with_expression:
        document |= dict.fromkeys(METRICS, CELL) | {"per_class": []}
    text = shown(document)
    assert text.count("-0.851 [-0.870, -0.831]") == 8
    assert re.search(r"samples +2900 +2801", text)
    assert ("accuracy" in text) == with_expression


def test_metrics_have_an_interval_and_the_number_of_images() -> None:
    document: dict[str, Any] = dict.fromkeys(METRICS, CELL) | {
        "n": 306,
        "kappa": {"value": None, "low": None, "high": None},
        "per_class": [
            {
                "name": "fear",
                "precision": 0.5,
                "recall": 0.25,
                "f1": 1 / 3,
                "support": 74,
                "auc": None,
            }
        ],
    }
    text = shown(document)
    for expected in ("n = 306", "92.34%", "91.33% to 93.24%", "33.33%", "74"):
        assert expected in text


def test_copies_temperature_and_subgroups_are_below_the_metrics() -> None:
    cells = dict.fromkeys(METRICS, CELL)
    groups = [{"name": name, "n": 40, **cells} for name in ("female", "male")]
    compared = {"accuracy": CELL, "macro_f1": CELL}
    document: dict[str, Any] = {
        "n": 3589,
        **cells,
        "per_class": [],
        "without_twins": {"n": 3068, "left_out": 521, **cells},
        "temperature": {
            "value": 1.25,
            "fitted_on": "validation",
            "n": 2873,
            "before": cells,
            "after": cells,
        },
        "subgroups": [
            {
                "attribute": "gender",
                "least": 20,
                "groups": groups,
                "suppressed": [{"name": "unsure", "n": 7}],
                "difference": compared,
                "ratio": compared,
            }
        ],
    }
    text = shown(document)
    says(text, "521 images", "n = 3,068", "accuracy, %: 92.34 [91.33, 93.24]")
    says(text, "Temperature 1.250", "validation (n = 2,873)", "calibration error (ECE), % 92.34")
    assert re.search(r"female +40 +\S+ \[", text)
    assert re.search(r"worst / best +0\.", text)
    says(text, "fewer than 20 images", "unsure (7)")
