"""One step and one pass over the data."""

import json
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiers import some_fast

from fer_bench.models import inference
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.training.losses import Objective, cross_entropy
from fer_bench.training.optimizers import FusedAdam
from fer_bench.training.steps import Totals, build_train_step, build_train_steps

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
    model: Any, totals: Totals, *, smoothing: float = 0.0, weights: Any = (1, 1, 1)
) -> Any:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    objective = Objective(np.array(weights, np.float32), smoothing)
    return build_train_step(strategy, model, optimizer, totals, objective)


def test_a_step_is_one_step_of_plain_gradient_descent() -> None:
    model, (images, targets) = small_model(), some_batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(model(images), targets["expression"], 0.0))
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [v - 0.1 * g for v, g in zip(model.trainable_variables, gradients, strict=True)]
    totals = Totals()
    step_for(model, totals)(images, targets, np.int64(0))
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6)
    assert totals.read()[0] == pytest.approx(6 * float(loss), rel=1e-5)
    assert totals.read()[2] == 6


def test_totals_add_up_over_steps_and_start_from_what_was_reached() -> None:
    model, (images, targets) = small_model(), some_batch()
    totals = Totals()
    totals.reset([10.0, 2.0, 4.0])
    step = step_for(model, totals)
    right = int(np.sum(model(images).numpy().argmax(1) == targets["expression"].numpy()))
    step(images, targets, np.int64(0))
    assert totals.read()[1:] == [2 + right, 10]


def test_class_weights_multiply_the_loss_of_their_class() -> None:
    model, (images, targets) = small_model(), some_batch()
    losses = cross_entropy(model(images), targets["expression"], 0.0).numpy()
    weights = np.array([2.0, 0.0, 0.5], np.float32)
    totals = Totals()
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
    totals = Totals()
    step_for(model, totals)(images, targets, np.int64(0))
    assert totals.read()[0] / 6 == pytest.approx(plain + penalty, rel=1e-5)


def test_the_first_bad_step_is_remembered() -> None:
    model, (images, targets) = small_model(), some_batch()
    totals = Totals()
    step = step_for(model, totals)
    step(images, targets, np.int64(3))
    assert int(totals.bad_step.numpy()) == -1
    for number in (4, 5):
        step(images * np.float32("nan"), targets, np.int64(number))
    assert int(totals.bad_step.numpy()) == 4


def test_the_outputs_may_come_from_something_else_than_the_images() -> None:
    """As where the first layers are frozen, and their outputs kept."""
    ours, theirs = small_model(), small_model()
    images, targets = some_batch()
    flat = tf.reshape(images, (len(images), -1))
    totals = Totals()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(ours.trainable_variables)
    objective = Objective(np.ones(CLASSES, np.float32))
    step = build_train_step(
        tf.distribute.get_strategy(), ours, optimizer, totals, objective, ours.layers[-1]
    )
    step(flat, targets, np.int64(0))
    whole = Totals()
    step_for(theirs, whole)(images, targets, np.int64(0))
    assert totals.read() == pytest.approx(whole.read(), rel=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def layered_model() -> Any:
    """With what fast kernels change, a penalty, and nothing random."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    # A bias before BatchNorm has no gradient but rounding, of which Adam makes whole steps too.
    penalty = keras.regularizers.L2(0.1)
    x = keras.layers.Conv2D(8, 1, strides=2, use_bias=False, kernel_regularizer=penalty)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    use_fast_kernels(model, "cpu")
    return model


@pytest.mark.slow
def test_compiled_it_is_the_same_step() -> None:
    images, targets = some_batch()
    ends, sums = [], []
    for compiled in (False, True):
        model, totals = layered_model(), Totals()
        optimizer = FusedAdam(0.01)
        optimizer.build(model.trainable_variables)
        objective = Objective(np.ones(CLASSES, np.float32))
        step = build_train_step(
            tf.distribute.get_strategy(), model, optimizer, totals, objective, compiled=compiled
        )
        for number in range(3):
            step(images, targets, np.int64(number))
        ends.append(np.concatenate([weights.ravel() for weights in model.get_weights()]))
        sums.append(totals.read())
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)
    # One hundredth of a step, since Adam enlarges the rounding of small gradients.
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-4)


# Many steps in one call -----------------------------------------------------------------------

RATES = np.array([0.1, 0.2, 0.05, 0.3, 0.1, 0.01, 0.2], np.float32)


def some_batches(number: int = len(RATES)) -> Any:
    images, targets = some_batch(6 * number)
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(6)


def training(
    model: Any, optimizer: Any, wrap: Callable[[Any], Any] = lambda step: step
) -> tuple[Totals, Any]:
    """The sums of a training step of `model`, and the step."""
    totals = Totals()
    optimizer.build(model.trainable_variables)
    objective = Objective(np.ones(CLASSES, np.float32))
    strategy = tf.distribute.get_strategy()
    return totals, wrap(build_train_step(strategy, model, optimizer, totals, objective))


@pytest.mark.parametrize("kind", some_fast([FusedAdam, keras.optimizers.SGD], keras.optimizers.SGD))
def test_steps_in_one_call_are_single_steps(kind: Any) -> None:
    single, optimizer = layered_model(), kind(1.0)
    expected, step = training(single, optimizer)
    for number, (rate, batch) in enumerate(zip(RATES, some_batches(), strict=True)):
        optimizer.learning_rate = rate
        step(*batch, np.int64(number))
    ends = []
    for counts in ((7,), (1, 4, 2), (1, 1, 1, 1, 1, 1, 1)):
        model, optimizer, done = layered_model(), kind(1.0), 0
        totals, step = training(model, optimizer)
        steps, batches = build_train_steps(step, optimizer), iter(some_batches())
        for count in counts:
            steps(batches, RATES[done : done + count], done)
            done += count
            assert float(optimizer.learning_rate) == RATES[done - 1]
        ends.append([*model.get_weights(), np.array(totals.read())])
    # Bit for bit, however the steps are divided, so that a resumed run ends the same.
    assert all(all(map(np.array_equal, end, ends[0])) for end in ends)
    # TensorFlow optimizes a step inside a loop in another way: the last bit may be another one.
    for a, b in zip(ends[0], [*single.get_weights(), np.array(expected.read())], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_any_number_of_steps_is_traced_but_once() -> None:
    traces = []

    def counting(step: Any) -> Any:
        def traced(*arguments: Any) -> None:
            traces.append(arguments)
            step(*arguments)

        return traced

    optimizer = keras.optimizers.SGD(0.1)
    totals, step = training(small_model(), optimizer, counting)
    steps, batches = build_train_steps(step, optimizer), iter(some_batches(30))
    steps(batches, RATES[:1], 0)
    first = len(traces)
    for count in (4, 7, 2, 1):
        steps(batches, RATES[:count], 1)
    assert len(traces) == first
    assert totals.read()[2] == 6 * 15


def test_the_first_bad_step_of_a_call_has_its_number() -> None:
    images, targets = some_batch(6 * 5)
    images = np.array(images)
    images[6 * 3 :] = np.nan
    batches = tf.data.Dataset.from_tensor_slices((images, targets)).batch(6)
    optimizer = keras.optimizers.SGD(0.1)
    totals, step = training(small_model(), optimizer)
    build_train_steps(step, optimizer)(iter(batches), RATES[:5], 40)
    assert int(totals.bad_step.numpy()) == 43


# Predictions ----------------------------------------------------------------------------------


def test_predictions_keep_the_order_and_take_a_short_last_batch() -> None:
    model, (images, _) = small_model(), some_batch(7)
    strategy = tf.distribute.get_strategy()
    batches = tf.data.Dataset.from_tensor_slices(images).batch(3)
    predict_step = inference.build_predict_step(strategy, model, ("expression",))
    outputs = inference.predict(strategy, predict_step, batches)
    np.testing.assert_allclose(outputs["expression"], model(images), rtol=1e-5, atol=1e-6)
    sizes = [len(part["expression"]) for part in inference.answers(strategy, predict_step, batches)]
    assert sizes == [3, 3, 1]


class Counted:
    """A model that counts how often it is called, or traced."""

    def __init__(self, model: Any) -> None:
        self.model, self.input, self.calls = model, model.input, 0

    def __call__(self, images: Any, *, training: bool) -> Any:
        self.calls += 1
        return self.model(images, training=training)


def test_batches_of_all_sizes_are_predicted_by_one_trace() -> None:
    model, (images, _) = Counted(small_model()), some_batch(7)
    strategy = tf.distribute.get_strategy()
    predict_step = inference.build_predict_step(strategy, model, ("expression",))
    for size in (3, 5, 7, 1):
        batches = tf.data.Dataset.from_tensor_slices(images).batch(size)
        assert inference.predict(strategy, predict_step, batches)["expression"].shape == (
            7,
            CLASSES,
        )
    assert model.calls == 1


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=4), st.integers(0, 2**42))
def test_as_many_images_are_predicted_at_a_time_as_fit(sizes: list[int], memory: int) -> None:
    layers = [SimpleNamespace(output=SimpleNamespace(shape=(None, size))) for size in sizes]
    batch = inference.prediction_batch(SimpleNamespace(layers=layers), memory)
    one_image = 4 * 4 * max(sizes)  # four float32 tensors as large as the largest
    assert batch in [2**power for power in range(9)]
    assert batch == 1 or batch * one_image <= memory / 4
    assert batch == 256 or 2 * batch * one_image > memory / 4


# Several devices ------------------------------------------------------------------------------

TWO_DEVICES = """
import json, sys
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from types import SimpleNamespace
from fer_bench.models import inference
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.training import steps as training_steps
from fer_bench.training.losses import Objective
from fer_bench.config.training import Stage, Training
from fer_bench.training.optimizers import FusedAdam, build_optimizer

TARGETS = ("expression", "valence_arousal")

def run(strategy, loss, clip, precision):
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (24, 4, 4, 3)).astype(np.float32)
    codes = generator.integers(0, 3, 24).astype(np.int32)
    values = generator.uniform(-1, 1, (24, 2)).astype(np.float32)
    values[::5] = np.nan
    targets = {"expression": codes, "valence_arousal": values}
    if loss == "mse":  # in one of the two runs, labels are soft
        targets["shares"] = generator.dirichlet(np.ones(3), 24).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((images, targets)).batch(8, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((4, 4, 3))
        dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
        x = keras.layers.Flatten()(keras.layers.Conv2D(4, 1)(inputs))
        axes = keras.layers.Dense(2, activation="tanh")(x)
        model = keras.Model(inputs, dict(zip(TARGETS, (dense(x), axes))))
        use_fast_kernels(model, "cpu")
        optimizer = FusedAdam(1.0, weight_decay=0.01)
        optimizer.build(model.trainable_variables)
        if clip:  # far below the norm of the gradient; the loss scale of float16 is left after it
            stage = Stage(name="all", train="all", epochs=1, learning_rate=1.0)
            training = Training(optimizer="sgd", gradient_clip=clip)
            optimizer = build_optimizer(stage, training, precision=precision, model=model)
    totals = training_steps.Totals()
    objective = Objective(np.array([1, 2, 0.5], np.float32), 0.1, loss, 0.7)
    step = training_steps.build_train_step(strategy, model, optimizer, totals, objective)
    steps = training_steps.build_train_steps(step, optimizer)
    device = SimpleNamespace(strategy=strategy, kind="cpu", workers=1)
    batches = iter(training_steps.distributed(device, data.with_options(options)))
    steps(batches, np.array([0.01], np.float32), 0)
    steps(batches, np.array([0.02, 0.01], np.float32), 1)
    predict = inference.build_predict_step(strategy, model, TARGETS)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8).with_options(options)
    outputs = inference.predict(strategy, predict, batches)
    return {"weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
            "totals": totals.read(),
            "outputs": np.concatenate([outputs[name].ravel() for name in TARGETS]).tolist()}

def noise(strategy, calls):
    # What dropout keeps of the ones that each device is given, call by call.
    with strategy.scope():
        inputs = keras.Input((100,))
        model = keras.Model(inputs, keras.layers.Dropout(0.5, seed=3)(inputs))
        use_fast_kernels(model, "cpu")
    for _ in range(2):  # as for every stage
        training_steps.build_train_step(
            strategy, model, None, training_steps.Totals(), None
        )
    call = tf.function(lambda: strategy.run(lambda: model(tf.ones((1, 100)), training=True)))
    parts = [strategy.experimental_local_results(call()) for _ in range(calls)]
    return [[part.numpy().ravel().tolist() for part in each] for each in parts]

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
print(json.dumps([noise(tf.distribute.get_strategy(), 2), noise(mirrored, 2)]))
strategies = (tf.distribute.get_strategy(), mirrored)
for settings in (
    ("ccc", None, "float32"), ("mse", None, "float32"),
    ("ccc", 0.05, "float32"), ("mse", 0.05, "float16"),
):
    print(json.dumps([run(strategy, *settings) for strategy in strategies]))
"""


@pytest.fixture(scope="module")
def two_devices() -> list[Any]:
    # In a process of its own: devices are divided before TensorFlow starts.
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()[-5:]]


@pytest.mark.slow
def test_each_device_draws_noise_of_its_own(two_devices: list[Any]) -> None:
    one, two = two_devices[0]
    drawn = [tuple(part) for call in two for part in call]
    assert len(set(drawn)) == 4  # two calls on two devices
    assert {value for part in drawn for value in part} == {0.0, 2.0}
    assert [first for first, _ in two] == [only for (only,) in one]


@pytest.mark.slow
def test_two_devices_do_what_one_does(two_devices: list[Any]) -> None:
    for one, two in two_devices[1:]:  # each loss of valence and arousal, without and with clipping
        for part in ("weights", "totals", "outputs"):
            np.testing.assert_allclose(one[part], two[part], rtol=1e-4, atol=1e-6)
