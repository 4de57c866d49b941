"""One step and one pass over the data."""

import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_bench import loop

CLASSES = 3


def small_model() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs)))


def some_batch(n: int = 6) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (n, 4, 4, 3)).astype(np.float32)
    return tf.constant(images), tf.constant(generator.integers(0, CLASSES, n), tf.int32)


def step_for(
    model: Any, totals: loop.Totals, *, smoothing: float = 0.0, weights: Any = (1, 1, 1)
) -> Any:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    return loop.build_train_step(
        strategy, model, optimizer, totals, smoothing, np.array(weights, np.float32)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_keras(smoothing: float) -> None:
    logits = np.random.default_rng(0).normal(size=(8, CLASSES)).astype(np.float32)
    codes = np.arange(8) % CLASSES
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(
        loop.cross_entropy(tf.constant(logits), tf.constant(codes), smoothing),
        reference(np.eye(CLASSES)[codes], logits),
        rtol=1e-6,
    )


def test_a_step_is_one_step_of_plain_gradient_descent() -> None:
    model, (images, codes) = small_model(), some_batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(loop.cross_entropy(model(images), codes, 0.0))
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [v - 0.1 * g for v, g in zip(model.trainable_variables, gradients, strict=True)]
    totals = loop.Totals()
    step_for(model, totals)(images, codes, np.int64(0))
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-7)
    assert totals.read()[0] == pytest.approx(6 * float(loss), rel=1e-6)
    assert totals.read()[2] == 6


def test_totals_add_up_over_steps_and_start_from_what_was_reached() -> None:
    model, (images, codes) = small_model(), some_batch()
    totals = loop.Totals()
    totals.reset([10.0, 2.0, 4.0])
    step = step_for(model, totals)
    right = int(np.sum(model(images).numpy().argmax(1) == codes.numpy()))
    step(images, codes, np.int64(0))
    assert totals.read()[1:] == [2 + right, 10]


def test_class_weights_multiply_the_loss_of_their_class() -> None:
    model, (images, codes) = small_model(), some_batch()
    losses = loop.cross_entropy(model(images), codes, 0.0).numpy()
    weights = np.array([2.0, 0.0, 0.5], np.float32)
    totals = loop.Totals()
    step_for(model, totals, weights=weights)(images, codes, np.int64(0))
    assert totals.read()[0] == pytest.approx(float(np.sum(losses * weights[codes.numpy()])), 1e-5)


def test_penalties_of_the_model_count() -> None:
    inputs = keras.Input((4, 4, 3))
    dense = keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.5))
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    images, codes = some_batch()
    plain = float(tf.reduce_mean(loop.cross_entropy(model(images), codes, 0.0)))
    penalty = 0.5 * float(np.sum(np.square(dense.kernel)))
    totals = loop.Totals()
    step_for(model, totals)(images, codes, np.int64(0))
    assert totals.read()[0] / 6 == pytest.approx(plain + penalty, rel=1e-5)


def test_the_first_bad_step_is_remembered() -> None:
    model, (images, codes) = small_model(), some_batch()
    totals = loop.Totals()
    step = step_for(model, totals)
    step(images, codes, np.int64(3))
    assert int(totals.bad_step.numpy()) == -1
    for number in (4, 5):
        step(images * np.float32("nan"), codes, np.int64(number))
    assert int(totals.bad_step.numpy()) == 4


def test_predictions_keep_the_order_and_take_a_short_last_batch() -> None:
    model, (images, _) = small_model(), some_batch(7)
    strategy = tf.distribute.get_strategy()
    batches = tf.data.Dataset.from_tensor_slices(images).batch(3)
    logits = loop.predict(strategy, loop.build_predict_step(strategy, model), batches)
    np.testing.assert_allclose(logits, model(images), rtol=1e-5)


TWO_DEVICES = """
import json, sys
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from fer_bench import loop

def run(strategy):
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (24, 4, 4, 3)).astype(np.float32)
    codes = generator.integers(0, 3, 24).astype(np.int32)
    data = tf.data.Dataset.from_tensor_slices((images, codes)).batch(8, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((4, 4, 3))
        dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
        model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.01)
        optimizer.build(model.trainable_variables)
    totals = loop.Totals()
    step = loop.build_train_step(
        strategy, model, optimizer, totals, 0.1, np.array([1, 2, 0.5], np.float32)
    )
    for batch in strategy.experimental_distribute_dataset(data.with_options(options)):
        step(*batch, np.int64(0))
    predict = loop.build_predict_step(strategy, model)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8).with_options(options)
    logits = loop.predict(strategy, predict, batches)
    return {"weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
            "totals": totals.read(), "logits": logits.ravel().tolist()}

one = run(tf.distribute.get_strategy())
two = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
print(json.dumps([one, two]))
"""


@pytest.mark.slow
def test_two_devices_do_what_one_does() -> None:
    # In a process of its own: devices are divided before TensorFlow starts.
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    for part in ("weights", "totals", "logits"):
        np.testing.assert_allclose(one[part], two[part], rtol=1e-4, atol=1e-6)
