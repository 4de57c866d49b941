"""Temperature scaling and reliability, by their laws."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from fer_bench.metrics import measure
from fer_bench.metrics.calibration import (
    TEMPERATURES,
    fit_temperature,
    reliability,
    rescale,
    temperature_report,
)
from fer_bench.metrics.expression import CALIBRATION_BINS
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal

CLASSES = ("neutral", "happiness", "sadness")


def random_predictions(seed: int, n: int = 40, sharpness: float = 1.0) -> Predictions:
    """A model whose stated confidence is right at sharpness 1, and too high above it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 3))
    honest = softmax(logits, axis=1)
    labels = (np.cumsum(honest, axis=1)[:, :-1] < random.random((n, 1))).sum(axis=1)
    return predictions_of(labels, softmax(logits * sharpness, axis=1))


def predictions_of(labels: Any, probabilities: Any) -> Predictions:
    labels, matrix = np.asarray(labels), np.asarray(probabilities, dtype=float)
    return Predictions(
        sample_ids=tuple(f"{number:04d}" for number in range(len(labels))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, matrix.argmax(axis=1), matrix),
    )


def expression_of(predictions: Predictions) -> Expression:
    assert predictions.expression is not None
    return predictions.expression


def nll(predictions: Predictions) -> float:
    return measure.values(predictions, ("nll",))["nll"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([0.2, 1.0, 4.0, 300.0]))
@settings(max_examples=60)
def test_the_fit_never_makes_its_own_split_worse(seed: int, n: int, sharpness: float) -> None:
    predictions = random_predictions(seed, n, sharpness)  # at 300, many p are exactly 0
    temperature = fit_temperature(expression_of(predictions))
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    assert nll(rescale(predictions, temperature)) <= nll(predictions)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
@settings(max_examples=60)
def test_what_is_predicted_never_changes(seed: int, temperature: float) -> None:
    predictions = random_predictions(seed, sharpness=2)
    before, after = expression_of(predictions), expression_of(rescale(predictions, temperature))
    np.testing.assert_array_equal(after.predicted, before.predicted)
    np.testing.assert_allclose(after.probabilities.sum(axis=1), 1)
    chosen = after.probabilities[np.arange(len(after.labels)), after.predicted]
    np.testing.assert_array_equal(chosen, after.probabilities.max(axis=1))


def test_temperature_1_is_none_and_temperatures_multiply() -> None:
    predictions = random_predictions(0)
    assert expression_of(rescale(predictions, 1)) == expression_of(predictions)
    twice = expression_of(rescale(rescale(predictions, 2), 3)).probabilities
    np.testing.assert_allclose(twice, expression_of(rescale(predictions, 6)).probabilities)


def test_an_overconfident_model_is_corrected() -> None:
    validation, test = (random_predictions(seed, 4000, sharpness=2.5) for seed in (0, 1))
    report: Any = temperature_report(validation, test, resamples=50)
    assert report["value"] == pytest.approx(2.5, rel=0.1)
    assert (report["n"], report["fitted_on"]) == (4000, "validation")
    for name in ("nll", "ece", "ece_adaptive", "brier"):
        assert report["after"][name]["value"] < report["before"][name]["value"]
        assert report["before"][name]["low"] < report["before"][name]["high"]
    assert report["after"]["ece"]["value"] < 0.04
    assert report["before"]["nll"]["value"] == pytest.approx(nll(test))
    json.dumps(report, allow_nan=False)


def test_an_honest_model_is_left_alone() -> None:
    expression = expression_of(random_predictions(3, 20_000))
    assert fit_temperature(expression) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 1], [[0.6, 0.3, 0.1], [0.2, 0.6, 0.2]], TEMPERATURES[0]),  # always right: the sharpest
        ([2], [[0.6, 0.3, 0.1]], TEMPERATURES[1]),  # always wrong: the flattest
        ([0, 1], [[1, 0, 0], [1, 0, 0]], 1),  # certain: no temperature changes anything
        ([0], [[1 / 3, 1 / 3, 1 / 3]], 1),
    ],
)
def test_degenerate_splits(labels: Any, probabilities: Any, expected: float) -> None:
    expression = expression_of(predictions_of(labels, probabilities))
    assert fit_temperature(expression) == pytest.approx(expected, rel=0.01)


def test_valence_and_arousal_are_not_touched() -> None:
    pairs = ValenceArousal(np.zeros((2, 2)), np.ones((2, 2)))
    only = Predictions(("a", "b"), np.array(["neutral", "neutral"]), valence_arousal=pairs)
    assert rescale(only, 3) is only
    with pytest.raises(ValueError, match="needs predictions of expression"):
        temperature_report(only, random_predictions(0))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=30)
def test_reliability_adds_up_to_accuracy_and_calibration_error(seed: int, bins: int) -> None:
    predictions = random_predictions(seed, sharpness=2)
    confidence, accuracy, count = reliability(expression_of(predictions), bins)
    filled = count > 0
    assert confidence.shape == accuracy.shape == count.shape == (bins,)
    assert count.sum() == len(predictions)
    assert np.isnan(accuracy[~filled]).all()
    values = measure.values(predictions)
    share = count[filled] / count.sum()
    assert share @ accuracy[filled] == pytest.approx(values["accuracy"])
    upper = np.arange(1, bins + 1)[filled] / bins
    assert (confidence[filled] <= upper + 1e-12).all()
    assert (confidence[filled] > upper - 1 / bins).all()
    if bins == CALIBRATION_BINS:
        error = share @ np.abs(accuracy[filled] - confidence[filled])
        assert error == pytest.approx(values["ece"])


def test_a_probability_that_rounding_put_above_1_is_in_the_last_bin() -> None:
    expression = expression_of(predictions_of([0, 1], [[np.nextafter(1, 2), 0, 0]] * 2))
    _, accuracy, count = reliability(expression, 5)
    assert count.tolist() == [0, 0, 0, 0, 2]
    assert accuracy[-1] == 0.5
