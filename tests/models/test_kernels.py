"""A model on fast kernels computes what the model of stock layers computes."""

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rounding import EPSILON
from tiers import some_fast

from fer_bench.config.model import Model
from fer_bench.models.build import build_model
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.training.optimizers import FusedAdam

SIZE, CLASSES, BATCH = 16, 5, 6
FEW = settings().max_examples // 3  # each example makes models
Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


@pytest.fixture
def model() -> Any:
    """A small residual network whose BatchNorm layers are not in their initial state."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    shortcut = x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(8, 1, activation="relu")(x)
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


def on_fast_kernels(model: Any, device: str = "cpu") -> Any:
    """A copy of `model`, which stays as it is."""
    fast = keras.models.clone_model(model)
    fast.set_weights(model.get_weights())
    use_fast_kernels(fast, device)
    return fast


def operations(model: Any, *, training: bool = True) -> Counter[str]:
    """How often each TensorFlow operation is in the graph of `model`."""
    traced = tf.function(lambda images: model(images, training=training))
    graph = traced.get_concrete_function(tf.TensorSpec(model.input.shape, model.input.dtype)).graph
    return Counter(operation.type for operation in graph.get_operations())


def close(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def gradients(model: Any, images: Array) -> tuple[float, list[Any]]:
    """Loss and gradients in training mode."""
    labels = np.arange(len(images)) % CLASSES
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return float(loss), tape.gradient(loss, model.trainable_variables)


# A whole model --------------------------------------------------------------------------------


@pytest.mark.parametrize("training", some_fast([True, False], True))
def test_every_norm_of_a_backbone_is_fused(training: bool) -> None:
    model = build_model(Model(backbone="cnn_compact"), SIZE, CLASSES)
    assert operations(model, training=training)["FusedBatchNormV3"] == 0
    use_fast_kernels(model, "cpu")
    assert len(norms(model)) == 14
    assert operations(model, training=training)["FusedBatchNormV3"] == 14


def test_convolutions_of_one_pixel_are_products_on_a_cpu_alone(model: Any) -> None:
    stock = operations(model)
    assert (stock["Conv2D"], stock["MatMul"]) == (2, 1)
    on_gpu = operations(on_fast_kernels(model, "gpu"))
    assert (on_gpu["Conv2D"], on_gpu["MatMul"]) == (2, 1)
    on_cpu = operations(on_fast_kernels(model, "cpu"))
    assert (on_cpu["Conv2D"], on_cpu["MatMul"]) == (1, 2)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_outputs_are_the_same(model: Any, images: Array, device: str) -> None:
    fast = on_fast_kernels(model, device)
    close(fast(images, training=False), model(images, training=False))
    close(fast(images, training=True), model(images, training=True))


def test_gradients_are_the_same(model: Any, images: Array) -> None:
    fast_loss, found = gradients(on_fast_kernels(model), images)
    loss, expected = gradients(model, images)
    assert fast_loss == pytest.approx(loss, rel=1e-4)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-3)


def test_three_steps_leave_the_same_weights_and_statistics(model: Any, images: Array) -> None:
    fast = on_fast_kernels(model)
    for one in (model, fast):
        optimizer = keras.optimizers.SGD(0.01)
        for _ in range(3):
            optimizer.apply(gradients(one, images)[1], one.trainable_variables)
    for a, b in zip(fast.weights, model.weights, strict=True):
        close(a, b, 1e-3)


def test_using_fast_kernels_twice_changes_nothing(model: Any, images: Array) -> None:
    fast = on_fast_kernels(model)
    once, graph = np.asarray(fast(images, training=False)), operations(fast)
    use_fast_kernels(fast, "cpu")
    assert operations(fast) == graph
    close(fast(images, training=False), once, 1e-5)


def test_saved_models_have_stock_layers(model: Any, images: Array, tmp_path: Path) -> None:
    fast = on_fast_kernels(model)
    gradients(fast, images)  # moves the statistics
    fast.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert operations(loaded) == operations(model)
    for a, b in zip(loaded.weights, fast.weights, strict=True):
        assert np.array_equal(a, b)
    close(loaded(images, training=False), fast(images, training=False), 1e-5)


def test_a_part_of_a_model_that_shares_its_layers_is_fast_too(model: Any, images: Array) -> None:
    fast = on_fast_kernels(model)
    part = keras.Model(fast.input, norms(fast)[-1].output)
    assert operations(part)["FusedBatchNormV3"] == 2
    before = np.asarray(norms(fast)[-1].moving_mean)
    part(images, training=True)
    assert not np.array_equal(norms(fast)[-1].moving_mean, before)


# BatchNorm ------------------------------------------------------------------------------------


def test_statistics_move_as_in_the_stock_layer() -> None:
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.9)(inputs))
    fast = on_fast_kernels(model)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(5, 3, (2, 4, 4, 3)).astype(np.float32)
        close(fast(x, training=True), model(x, training=True), 1e-5)
        close(fast(x, training=False), model(x, training=False), 1e-5)
    for a, b in zip(fast.weights, model.weights, strict=True):
        close(a, b, 1e-5)


def test_frozen_statistics_stay_and_scale_and_shift_get_no_gradient(
    model: Any, images: Array
) -> None:
    fast = on_fast_kernels(model)
    for layer in norms(fast):
        layer.trainable = False
    before = [np.asarray(weight) for weight in fast.weights]
    close(fast(images, training=True), model(images, training=False))
    assert all(np.array_equal(a, b) for a, b in zip(before, fast.weights, strict=True))
    _, found = gradients(fast, images)
    assert len(found) == len(fast.trainable_variables) == 6
    assert all(np.asarray(gradient).any() for gradient in found)


def test_a_norm_that_the_kernel_cannot_do_is_left_alone(images: Array) -> None:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.BatchNormalization(scale=False)(inputs)
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.BatchNormalization(axis=1)(x)
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    fast = on_fast_kernels(model)
    assert operations(fast)["FusedBatchNormV3"] == 0
    assert operations(fast) == operations(model)
    close(fast(images, training=True), model(images, training=True))


@pytest.mark.bfloat16
@pytest.mark.parametrize("training", [True, False])
def test_in_bfloat16_statistics_stay_float32(images: Array, training: bool) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(x))
    fast = on_fast_kernels(model)
    outputs, expected = fast(images, training=training), model(images, training=training)
    assert outputs.dtype == "float32"
    assert norms(fast)[0].output.dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in fast.weights)
    # bfloat16 keeps 8 bits, and the stock layer rounds after each of its operations.
    error = np.abs(np.asarray(outputs) - np.asarray(expected)).max()
    assert error < 0.02 * np.abs(expected).max()


# Convolutions of one pixel --------------------------------------------------------------------


def pointwise(shape: tuple[int | None, ...], **options: Any) -> tuple[Any, Any]:
    """A model of one convolution of one pixel, on stock and on fast kernels."""
    inputs = keras.Input(shape)
    options = {"filters": 4, "kernel_size": 1, "bias_initializer": "random_normal"} | options
    model = keras.Model(inputs, keras.layers.Conv2D(**options)(inputs))
    return model, on_fast_kernels(model)


def outputs_and_gradients(model: Any, inputs: Array) -> list[Any]:
    """Outputs, and gradients of the sum of their squares by the inputs and all variables."""
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
        squares = tf.reduce_sum(y**2)
    return [y, *tape.gradient(squares, [x, *model.trainable_variables])]


@settings(max_examples=FEW)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    strides=st.sampled_from([1, 2, 3, (2, 1)]),
    padding=st.sampled_from(["same", "valid"]),
    use_bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "swish"]),
)
def test_as_a_product_of_matrices_it_is_the_same_convolution(
    sizes: tuple[int, ...], **options: Any
) -> None:
    """Against the convolution in float64, which every kernel library leaves to TensorFlow.

    Held to AVX2, oneDNN itself is wrong: with strides and two channels, its gradient by the kernel
    is off by up to two thirds.
    """
    keras.utils.set_random_seed(0)
    _, fast = pointwise(sizes[1:], **options)
    exact, _ = pointwise(sizes[1:], **options, dtype="float64")
    exact.set_weights(fast.get_weights())
    assert operations(fast)["Conv2D"] == 0
    inputs = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    found, expected = (outputs_and_gradients(model, inputs) for model in (fast, exact))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        # Sums of up to n = 3 * 81 products near 1: each is off by about eps * sqrt(n), also where
        # they cancel.
        tolerance = 8 * EPSILON * np.sqrt(3 * 81) * max(float(np.abs(b).max()), 1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(5, 7, 3), (None, None, 3)], ids=["batch", "all sizes"])
def test_sizes_need_not_be_known_before(shape: tuple[int | None, ...]) -> None:
    stock, fast = pointwise(shape, strides=2)
    traced = tf.function(fast, input_signature=[tf.TensorSpec((None, *shape))])
    for batch in (1, 4):
        inputs = np.random.default_rng(batch).normal(size=(batch, 5, 7, 3)).astype(np.float32)
        close(traced(inputs), stock(inputs), 1e-5)


@pytest.mark.bfloat16
def test_in_bfloat16_it_is_the_same_convolution() -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    stock, fast = pointwise((6, 6, 8))
    inputs = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype(np.float32)
    assert fast(inputs).dtype == "bfloat16"
    close(tf.cast(fast(inputs), "float32"), tf.cast(stock(inputs), "float32"), 0.02)


class OwnConvolution(keras.layers.Conv2D):
    """What computes something else than Keras's layer may."""


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras.layers.Conv2D, {"kernel_size": 1, "groups": 2}),
        (keras.layers.Conv2D, {"kernel_size": 3}),
        (keras.layers.Conv2D, {"kernel_size": (1, 3)}),
        (keras.layers.Conv2D, {"kernel_size": 1, "data_format": "channels_first"}),
        (OwnConvolution, {"kernel_size": 1}),
        (keras.layers.Conv2DTranspose, {"kernel_size": 1}),
        (keras.layers.SeparableConv2D, {"kernel_size": 1}),
    ],
)
def test_other_convolutions_are_left_alone(kind: Any, options: dict[str, Any]) -> None:
    inputs = keras.Input((8, 8, 8))
    model = keras.Model(inputs, kind(filters=4, **options)(inputs))
    stock = operations(model)
    use_fast_kernels(model, "cpu")
    assert operations(model) == stock
    assert stock["MatMul"] == 0


# Dropout --------------------------------------------------------------------------------------


def dropout(rate: float, shape: tuple[int | None, ...], **options: Any) -> tuple[Any, Any]:
    """A model of one dropout layer of seed 3, on stock and on fast kernels."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Dropout(rate, seed=3, **options)(inputs))
    return model, on_fast_kernels(model)


@settings(max_examples=FEW)
@given(
    rate=st.floats(0.001, 0.99),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
)
def test_dropout_keeps_a_value_enlarged_or_nothing_of_it(
    rate: float, sizes: tuple[int, ...]
) -> None:
    _, fast = dropout(rate, sizes[1:])
    inputs = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    outputs = np.asarray(fast(inputs, training=True))
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], inputs[kept] / (1 - rate), rtol=1e-5)
    assert np.array_equal(fast(inputs, training=False), inputs)


@pytest.mark.parametrize("rate", some_fast([0.002, 0.2, 0.3, 0.5, 0.995], 0.002, 0.3))
def test_dropout_drops_at_its_rate_and_each_value_for_itself(rate: float) -> None:
    _, fast = dropout(rate, (400,))
    ones = np.ones((500, 400), np.float32)
    dropped = np.stack([np.asarray(fast(ones, training=True)) == 0 for _ in range(30)])
    # 6 million draws; the threshold is rounded in each of the 30 calls.
    sd = np.sqrt(rate * (1 - rate) / dropped.size + (0.5 / 256) ** 2 / 30)
    assert abs(dropped.mean() - rate) < 5 * sd
    # Neighbours fall together as often as chance has it, within a call and from one to the next.
    for first, second in (
        (dropped[:, :, :-1], dropped[:, :, 1:]),
        (dropped[:, :-1], dropped[:, 1:]),
        (dropped[:-1], dropped[1:]),
    ):
        together = (first & second).mean()
        assert abs(together - rate**2) < 5 * np.sqrt(rate**2 / first.size) + 4 * rate * sd


def test_dropout_lets_the_gradient_through_where_it_lets_the_value_through() -> None:
    _, fast = dropout(0.3, (50,))
    outputs, gradient = outputs_and_gradients(fast, np.full((4, 50), 2, np.float32))
    np.testing.assert_allclose(gradient, 2 * outputs / 0.7, rtol=1e-5)
    assert 0 < np.count_nonzero(outputs) < 200


def test_dropout_draws_by_the_seed_of_the_layer_and_moves_it_as_keras_does() -> None:
    stock, fast = dropout(0.5, (100,))
    again = on_fast_kernels(stock)
    ones = np.ones((2, 100), np.float32)
    first, second = (np.asarray(fast(ones, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(again(ones, training=True), first)
    stock(ones, training=True)
    assert np.array_equal(
        again.layers[1].seed_generator.state, stock.layers[1].seed_generator.state
    )


@pytest.mark.bfloat16
def test_dropout_in_bfloat16_rounds_as_keras_does() -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    stock, fast = dropout(0.3, (1000,))
    inputs = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    found, expected = (model(inputs, training=True) for model in (fast, stock))
    assert found.dtype == expected.dtype == "bfloat16"
    found, expected = (np.asarray(tf.cast(outputs, "float32")) for outputs in (found, expected))
    both = (found != 0) & (expected != 0)
    np.testing.assert_allclose(found[both], expected[both], rtol=2**-7)


def test_dropout_of_a_size_not_known_before() -> None:
    _, fast = dropout(0.5, (None, 3))
    traced = tf.function(
        lambda x: fast(x, training=True), input_signature=[tf.TensorSpec((None, None, 3))]
    )
    for size in (1, 4):
        assert traced(tf.ones((2, size, 3))).shape == (2, size, 3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras.layers.Dropout, {"rate": 0.0}),
        (keras.layers.Dropout, {"rate": 0.999}),
        (keras.layers.Dropout, {"rate": 0.5, "noise_shape": (None, 1, 1, 8)}),
        (keras.layers.SpatialDropout2D, {"rate": 0.5}),
    ],
)
def test_other_dropout_is_left_alone(kind: Any, options: dict[str, Any]) -> None:
    inputs = keras.Input((8, 8, 8))
    model = keras.Model(inputs, kind(**options)(inputs))
    stock = operations(model)
    use_fast_kernels(model, "cpu")
    assert operations(model) == stock


def test_dropout_on_a_gpu_is_left_alone() -> None:
    stock, _ = dropout(0.5, (8,))
    assert operations(on_fast_kernels(stock, "gpu")) == operations(stock)


# Adam -----------------------------------------------------------------------------------------


def twenty_steps(
    optimizer: Any, shapes: list[tuple[int, ...]], rates: list[float] | None = None
) -> list[Array]:
    """What 20 random gradients leave of random variables."""
    generator = np.random.default_rng(0)
    variables = [keras.Variable(generator.normal(size=shape), name="kernel") for shape in shapes]
    optimizer.build(variables)
    for number in range(20):
        if rates:
            optimizer.learning_rate = rates[number]
        sizes = 10.0 ** generator.uniform(-4, 2, len(shapes))
        parts = [
            tf.constant(size * generator.normal(size=shape), tf.float32)
            for size, shape in zip(sizes, shapes, strict=True)
        ]
        optimizer.apply(parts, variables)
    return [np.array(variable) for variable in variables]


def assert_same_steps(found: list[Array], expected: list[Array], rate: float) -> None:
    # The kernel takes 1 - beta from betas rounded to float32, which changes the size of a step by
    # parts in a hundred thousand; and each step rounds the variable.
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=20 * 3e-5 * rate)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"beta_1": 0.5, "beta_2": 0.99, "epsilon": 1e-3},
    {"weight_decay": 0.1},
    {"global_clipnorm": 0.5},
]


@pytest.mark.parametrize("options", some_fast(OPTIONS, {"weight_decay": 0.1}), ids=str)
@pytest.mark.parametrize("rate", some_fast([1e-3, 0.1], 0.1))
def test_twenty_steps_of_adam_are_those_of_keras(options: dict[str, Any], rate: float) -> None:
    shapes = [(3, 3, 4, 8), (8,), (30, 20)]
    assert_same_steps(
        twenty_steps(FusedAdam(rate, **options), shapes),
        twenty_steps(keras.optimizers.Adam(rate, **options), shapes),
        rate,
    )


def test_adam_follows_a_learning_rate_that_changes() -> None:
    rates = [0.1 * 0.8**number for number in range(20)]
    found, expected = (
        twenty_steps(kind(0.1), [(5, 4)], rates) for kind in (FusedAdam, keras.optimizers.Adam)
    )
    assert_same_steps(found, expected, 0.1)


@pytest.mark.slow
@settings(max_examples=6)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=3))
def test_adam_updates_variables_of_any_shape(shapes: list[tuple[int, ...]]) -> None:
    found, expected = (
        twenty_steps(kind(0.01), shapes) for kind in (FusedAdam, keras.optimizers.Adam)
    )
    assert_same_steps(found, expected, 0.01)


def test_adam_is_adam_in_float64() -> None:
    """Closer than Keras: against the formulas of Kingma and Ba, algorithm 1, as Keras has them."""
    rate, beta_1, beta_2, epsilon = 0.1, 0.9, 0.999, 1e-7
    generator = np.random.default_rng(0)
    (found,) = twenty_steps(FusedAdam(rate), [(50,)])
    value = generator.normal(size=50).astype(np.float32).astype(float)
    first, second = np.zeros(50), np.zeros(50)
    for step in range(1, 21):
        gradient = 10.0 ** generator.uniform(-4, 2, 1) * generator.normal(size=50)
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        scale = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        value = value - scale * first / (np.sqrt(second) + epsilon)
    np.testing.assert_allclose(found, value, rtol=0, atol=20 * 3e-5 * rate)


def test_adam_under_a_scaled_loss_is_that_of_keras() -> None:
    def optimizer(kind: Any) -> Any:
        return keras.optimizers.LossScaleOptimizer(kind(0.01), initial_scale=64.0)

    found, expected = (
        twenty_steps(optimizer(kind), [(6, 5), (5,)]) for kind in (FusedAdam, keras.optimizers.Adam)
    )
    assert_same_steps(found, expected, 0.01)


def test_what_adam_remembers_is_what_that_of_keras_remembers() -> None:
    """So that a checkpoint fits both."""
    ours, theirs = FusedAdam(0.01), keras.optimizers.Adam(0.01)
    for optimizer in (ours, theirs):
        twenty_steps(optimizer, [(4, 3)])
    assert [v.shape for v in ours.variables] == [v.shape for v in theirs.variables]
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * np.abs(b).max())
