"""A model on fast kernels computes what the model of stock layers computes."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config import Model
from fer_bench.kernels import FusedBatchNormalization, fused
from fer_bench.model import build_model

SIZE, CLASSES, BATCH = 16, 5, 6
Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def model() -> Any:
    """A small residual network whose BatchNorm layers are not in their initial state."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    shortcut = x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([shortcut, x]))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    generator = np.random.default_rng(1)
    for layer in norms(model):
        for variable in layer.weights:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture
def images() -> Array:
    pixels = np.random.default_rng(2).uniform(0, 255, (BATCH, SIZE, SIZE, 3))
    return pixels.astype(np.float32)


def norms(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def close(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def gradients(model: Any, images: Array) -> tuple[float, list[Any]]:
    """Loss and gradients in training mode."""
    labels = np.arange(len(images)) % CLASSES
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return float(loss), tape.gradient(loss, model.trainable_variables)


def test_every_norm_of_a_backbone_is_fused() -> None:
    model = build_model(Model(backbone="cnn_compact"), SIZE, CLASSES)
    fast = fused(model)
    assert len(norms(fast)) == len(norms(model)) == 14
    assert [layer.name for layer in fast.layers] == [layer.name for layer in model.layers]
    assert all(isinstance(layer, FusedBatchNormalization) for layer in norms(fast))


def test_outputs_are_the_same(model: Any, images: Array) -> None:
    fast = fused(model)
    close(fast(images, training=False), model(images, training=False))
    close(fast(images, training=True), model(images, training=True))


def test_gradients_are_the_same(model: Any, images: Array) -> None:
    (loss, expected), (fast_loss, found) = (
        gradients(model, images),
        gradients(fused(model), images),
    )
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-3)


def test_three_steps_leave_the_same_weights_and_statistics(model: Any, images: Array) -> None:
    fast = fused(model)
    for one in (model, fast):
        optimizer = keras.optimizers.SGD(0.01)
        for _ in range(3):
            optimizer.apply(gradients(one, images)[1], one.trainable_variables)
    for a, b in zip(fast.weights, model.weights, strict=True):
        close(a, b, 1e-3)


def test_statistics_move_as_in_the_stock_layer() -> None:
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.9)(inputs))
    fast = fused(model)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(5, 3, (2, 4, 4, 3)).astype(np.float32)
        close(fast(x, training=True), model(x, training=True), 1e-5)
    for a, b in zip(fast.weights, model.weights, strict=True):
        close(a, b, 1e-5)


def test_frozen_statistics_stay(model: Any, images: Array) -> None:
    fast = fused(model)
    for layer in norms(fast):
        layer.trainable = False
    before = [np.asarray(weight) for weight in fast.weights]
    close(fast(images, training=True), model(images, training=False))
    assert all(np.array_equal(a, b) for a, b in zip(before, fast.weights, strict=True))


def test_a_norm_that_the_kernel_cannot_do_is_left_alone() -> None:
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization(scale=False)(inputs)
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.BatchNormalization(axis=1)(x)
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(x))
    fast = fused(keras.Model(inputs, x))
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in fast.layers)


def test_in_bfloat16_statistics_stay_float32(images: Array) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(x))
    fast = fused(model)
    outputs = fast(images, training=True)
    assert outputs.dtype == "float32"
    assert norms(fast)[0].compute_dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in fast.weights)
    close(outputs, model(images, training=True), 0.2)


def test_the_copy_has_weights_of_its_own(model: Any) -> None:
    fast = fused(model)
    before = np.asarray(model.weights[0])
    fast.weights[0].assign_add(fast.weights[0])
    assert np.array_equal(before, model.weights[0])


def test_weights_go_back_as_they_are(model: Any, images: Array) -> None:
    fast = fused(model)
    gradients(fast, images)  # moves the statistics
    model.set_weights(fast.get_weights())
    close(model(images, training=False), fast(images, training=False), 1e-5)
