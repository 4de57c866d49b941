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
from fer_bench.losses import Objective, cross_entropy

CLASSES = 3


def small_model() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs)))


def some_batch(n: int = 6) -> tuple[Any, dict[str, Any]]:
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (n, 4, 4, 3)).astype(np.float32)
    codes = generator.integers(0, CLASSES, n).astype(np.int32)
    return tf.constant(images), {"expression": tf.constant(codes)}


def step_for(
    model: Any, totals: loop.Totals, *, smoothing: float = 0.0, weights: Any = (1, 1, 1)
) -> Any:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    objective = Objective(np.array(weights, np.float32), smoothing)
    return loop.build_train_step(strategy, model, optimizer, totals, objective)


def test_a_step_is_one_step_of_plain_gradient_descent() -> None:
    model, (images, targets) = small_model(), some_batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(model(images), targets["expression"], 0.0))
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [v - 0.1 * g for v, g in zip(model.trainable_variables, gradients, strict=True)]
    totals = loop.Totals()
    step_for(model, totals)(images, targets, np.int64(0))
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-7)
    assert totals.read()[0] == pytest.approx(6 * float(loss), rel=1e-6)
    assert totals.read()[2] == 6


def test_totals_add_up_over_steps_and_start_from_what_was_reached() -> None:
    model, (images, targets) = small_model(), some_batch()
    totals = loop.Totals()
    totals.reset([10.0, 2.0, 4.0])
    step = step_for(model, totals)
    right = int(np.sum(model(images).numpy().argmax(1) == targets["expression"].numpy()))
    step(images, targets, np.int64(0))
    assert totals.read()[1:] == [2 + right, 10]


def test_class_weights_multiply_the_loss_of_their_class() -> None:
    model, (images, targets) = small_model(), some_batch()
    losses = cross_entropy(model(images), targets["expression"], 0.0).numpy()
    weights = np.array([2.0, 0.0, 0.5], np.float32)
    totals = loop.Totals()
    step_for(model, totals, weights=weights)(images, targets, np.int64(0))
    assert totals.read()[0] == pytest.approx(
        float(np.sum(losses * weights[targets["expression"].numpy()])), 1e-5
    )


def test_penalties_of_the_model_count() -> None:
    inputs = keras.Input((4, 4, 3))
    dense = keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.5))
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    images, targets = some_batch()
    plain = float(tf.reduce_mean(cross_entropy(model(images), targets["expression"], 0.0)))
    penalty = 0.5 * float(np.sum(np.square(dense.kernel)))
    totals = loop.Totals()
    step_for(model, totals)(images, targets, np.int64(0))
    assert totals.read()[0] / 6 == pytest.approx(plain + penalty, rel=1e-5)


def test_the_first_bad_step_is_remembered() -> None:
    model, (images, targets) = small_model(), some_batch()
    totals = loop.Totals()
    step = step_for(model, totals)
    step(images, targets, np.int64(3))
    assert int(totals.bad_step.numpy()) == -1
    for number in (4, 5):
        step(images * np.float32("nan"), targets, np.int64(number))
    assert int(totals.bad_step.numpy()) == 4


def test_predictions_keep_the_order_and_take_a_short_last_batch() -> None:
    model, (images, _) = small_model(), some_batch(7)
    strategy = tf.distribute.get_strategy()
    batches = tf.data.Dataset.from_tensor_slices(images).batch(3)
    predict_step = loop.build_predict_step(strategy, model, ("expression",))
    outputs = loop.predict(strategy, predict_step, batches)
    np.testing.assert_allclose(outputs["expression"], model(images), rtol=1e-5)


TWO_DEVICES = """
import json, sys
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from fer_bench import loop
from fer_bench.losses import Objective

TARGETS = ("expression", "valence_arousal")

def run(strategy, loss):
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (24, 4, 4, 3)).astype(np.float32)
    codes = generator.integers(0, 3, 24).astype(np.int32)
    values = generator.uniform(-1, 1, (24, 2)).astype(np.float32)
    values[::5] = np.nan
    targets = {"expression": codes, "valence_arousal": values}
    data = tf.data.Dataset.from_tensor_slices((images, targets)).batch(8, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((4, 4, 3))
        dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
        x = keras.layers.Flatten()(inputs)
        axes = keras.layers.Dense(2, activation="tanh")(x)
        model = keras.Model(inputs, dict(zip(TARGETS, (dense(x), axes))))
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.01)
        optimizer.build(model.trainable_variables)
    totals = loop.Totals()
    objective = Objective(np.array([1, 2, 0.5], np.float32), 0.1, loss, 0.7)
    step = loop.build_train_step(strategy, model, optimizer, totals, objective)
    for batch in strategy.experimental_distribute_dataset(data.with_options(options)):
        step(*batch, np.int64(0))
    predict = loop.build_predict_step(strategy, model, TARGETS)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8).with_options(options)
    outputs = loop.predict(strategy, predict, batches)
    return {"weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
            "totals": totals.read(),
            "outputs": np.concatenate([outputs[name].ravel() for name in TARGETS]).tolist()}

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
strategies = (tf.distribute.get_strategy(), mirrored)
for loss in ("ccc", "mse"):
    print(json.dumps([run(strategy, loss) for strategy in strategies]))
"""


@pytest.mark.slow
def test_two_devices_do_what_one_does() -> None:
    # In a process of its own: devices are divided before TensorFlow starts.
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines()[-2:]:  # one for each loss of valence and arousal
        one, two = json.loads(line)
        for part in ("weights", "totals", "outputs"):
            np.testing.assert_allclose(one[part], two[part], rtol=1e-4, atol=1e-6)
