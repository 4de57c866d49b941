"""Losses: against closed forms, with values that are not known, and their gradients."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.data.pipeline import SOFT_LABELS
from fer_bench.training.losses import (
    Objective,
    cross_entropy,
    discordance,
    mean_squared_error,
    multi_target,
    soft_cross_entropy,
)

CLASSES = 3
NAN = float("nan")


def concordance(true: Any, predicted: Any) -> float:
    """The closed form of Lin (1989), of one axis."""
    covariance = np.cov(true, predicted, bias=True)
    distance = (np.mean(true) - np.mean(predicted)) ** 2
    return float(2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + distance))


def some_values(seed: int = 0, n: int = 40) -> tuple[Any, Any]:
    true, noise = np.random.default_rng(seed).uniform(-1, 1, (2, n, 2))
    return true.astype(np.float32), (0.6 * true + 0.3 * noise + 0.1).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_keras(smoothing: float) -> None:
    logits = np.random.default_rng(0).normal(size=(8, CLASSES)).astype(np.float32)
    codes = np.arange(8) % CLASSES
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(
        cross_entropy(tf.constant(logits), tf.constant(codes), smoothing),
        reference(np.eye(CLASSES)[codes], logits),
        rtol=1e-5,
        atol=1e-6,
    )


def some_shares(n: int = 8, seed: int = 0) -> tuple[Any, Any]:
    """Logits and soft labels, (n, CLASSES) each."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, CLASSES)).astype(np.float32)
    return logits, generator.dirichlet([1] * CLASSES, n).astype(np.float32)


def softmax(logits: Any) -> Any:
    raised = np.exp(logits.astype(np.float64))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_soft_cross_entropy_is_the_closed_form(smoothing: float) -> None:
    logits, shares = some_shares()
    target = (1 - smoothing) * shares + smoothing / CLASSES
    expected = -(target * np.log(softmax(logits))).sum(axis=1)
    found = soft_cross_entropy(tf.constant(logits), tf.constant(shares), smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(st.integers(0, 10_000))
def test_soft_labels_of_one_class_are_hard_labels(seed: int) -> None:
    logits, shares = some_shares(seed=seed)
    codes = shares.argmax(axis=1)
    soft = soft_cross_entropy(tf.constant(logits), tf.one_hot(codes, CLASSES), 0.1)
    hard = cross_entropy(tf.constant(logits), tf.constant(codes), 0.1)
    np.testing.assert_allclose(soft, hard, rtol=1e-5)


def test_the_gradient_of_soft_cross_entropy_is_answer_less_target() -> None:
    logits, shares = map(tf.constant, some_shares())
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(soft_cross_entropy(logits, shares, 0.0))
    np.testing.assert_allclose(
        tape.gradient(loss, logits), softmax(logits.numpy()) - shares, atol=1e-5
    )


def test_of_several_right_classes_the_most_probable_one_counts() -> None:
    logits, _ = some_shares(4)
    shares = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [1 / 3] * 3], np.float32)
    factors = 0.999 * (shares > 0) + 0.001  # as the release of FERPlus writes it
    expected = -np.log((factors * softmax(logits)).max(axis=1))
    np.testing.assert_allclose(multi_target(logits, shares), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "multi_target"])
def test_the_objective_takes_soft_labels_and_weighs_by_the_hard_one(loss: Any) -> None:
    logits, shares = some_shares()
    codes = np.arange(8, dtype=np.int32) % CLASSES
    weights = np.array([1, 2, 0.5], np.float32)
    targets = {"expression": tf.constant(codes), SOFT_LABELS: tf.constant(shares)}
    found = Objective(weights, expression_loss=loss)({"expression": tf.constant(logits)}, targets)
    of = {
        "cross_entropy": soft_cross_entropy(logits, shares, 0.0),
        "multi_target": multi_target(logits, shares),
    }
    assert float(found) == pytest.approx(
        float((of[loss].numpy() * weights[codes]).mean()), rel=1e-5
    )


@given(st.integers(0, 10_000))
def test_discordance_is_the_closed_form(seed: int) -> None:
    true, predicted = some_values(seed)
    expected = 1 - np.mean([concordance(true[:, k], predicted[:, k]) for k in (0, 1)])
    assert float(discordance(true, predicted)) == pytest.approx(expected, abs=1e-4)


def test_discordance_of_a_perfect_prediction_is_none() -> None:
    true, _ = some_values()
    assert float(discordance(true, true)) == pytest.approx(0, abs=1e-4)
    assert float(discordance(true, -true + 2 * true.mean(axis=0))) == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("loss", [discordance, mean_squared_error])
def test_unknown_values_are_as_if_they_were_not_there(loss: Any) -> None:
    true, predicted = some_values()
    holes = true.copy()
    holes[::3] = NAN
    known = np.isfinite(holes[:, 0])
    with tf.GradientTape() as tape:
        variable = tf.Variable(predicted)
        value = loss(tf.constant(holes), variable)
    gradient = tape.gradient(value, variable).numpy()
    assert float(value) == pytest.approx(float(loss(true[known], predicted[known])), abs=1e-6)
    assert np.isfinite(gradient).all()
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).all()


@pytest.mark.parametrize("loss", [discordance, mean_squared_error])
def test_a_batch_without_any_known_value_moves_nothing(loss: Any) -> None:
    with tf.GradientTape() as tape:
        predicted = tf.Variable(some_values()[1])
        value = loss(tf.fill(predicted.shape, NAN), predicted)
    assert np.isfinite(float(value))
    assert not tape.gradient(value, predicted).numpy().any()


def test_mean_squared_error_is_the_mean_over_known_values() -> None:
    true = np.array([[0.5, NAN], [NAN, NAN], [-1, 1]], np.float32)
    predicted = np.array([[0, 0], [1, 1], [-1, 0]], np.float32)
    assert float(mean_squared_error(true, predicted)) == pytest.approx((0.25 + 0 + 1) / 3)


def test_the_objective_adds_both_targets_with_its_weight() -> None:
    true, predicted = some_values(n=6)
    logits = np.random.default_rng(1).normal(size=(6, CLASSES)).astype(np.float32)
    codes = tf.constant([0, 1, 2, 0, 1, 2])
    outputs = {"expression": tf.constant(logits), "valence_arousal": tf.constant(predicted)}
    targets = {"expression": codes, "valence_arousal": tf.constant(true)}
    objective = Objective(np.array([1, 2, 0.5], np.float32), 0.1, "mse", 0.3)
    weighted = cross_entropy(logits, codes, 0.1).numpy() * np.array([1, 2, 0.5] * 2)
    expected = weighted.mean() + 0.3 * np.mean((true - predicted) ** 2)
    assert float(objective(outputs, targets)) == pytest.approx(expected, rel=1e-5)
    for name in outputs:
        one = objective({name: outputs[name]}, {name: targets[name]})
        assert 0 < float(one) < expected
