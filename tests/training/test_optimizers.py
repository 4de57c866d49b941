"""Optimizers: layer-wise learning rates, weight decay, clipping, and a fused Adam."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from stages import small_model, stage
from tiers import some_fast

from fer_bench.config.model import Model
from fer_bench.config.training import Training
from fer_bench.models.build import (
    build_model,
)
from fer_bench.models.freezing import (
    layer_scales,
    set_trainable,
)
from fer_bench.training.optimizers import FusedAdam, build_optimizer, scales


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Model(backbone="cnn_compact"), 24, 7)


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


def some_gradients(model: Any, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [
        tf.constant(generator.normal(size=v.shape), tf.float32) for v in model.trainable_variables
    ]


def values(variables: Any) -> list[Any]:
    return [np.array(variable) for variable in variables]


def apply(optimizer: Any, model: Any) -> Any:
    """A traced step under the strategy, as training makes it."""
    strategy = tf.distribute.get_strategy()
    variables = model.trainable_variables

    @tf.function
    def step(gradients: Any) -> None:
        strategy.run(lambda parts: optimizer.apply(parts, variables), args=(gradients,))

    return step


def reference(kind: Any, variables: list[Any], scale: float, **options: Any) -> Any:
    """Keras's own optimizer for a few variables, at the scaled learning rate."""
    optimizer = kind(0.1 * scale, weight_decay=0.3, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(variables)
    return optimizer


@pytest.mark.parametrize("name", some_fast(OPTIMIZERS, "adamw"))
def test_layer_decay_equals_a_separate_optimizer_per_layer(name: str) -> None:
    ours, theirs = small_model(), small_model()
    options = {"momentum": 0.8, "nesterov": True} if name == "sgd" else {}
    decayed = stage(optimizer=name, layer_decay=0.5, weight_decay=0.3, momentum=0.8)
    optimizer = build_optimizer(decayed, Training(), precision="float32", model=ours)
    expected = {"head_logits": 1, "block2_dense": 0.5, "block1_norm": 0.25, "block1_dense": 0.125}
    others = {
        layer: reference(
            OPTIMIZERS[name], theirs.get_layer(layer).trainable_variables, scale, **options
        )
        for layer, scale in expected.items()
    }
    step = apply(optimizer, ours)
    for number in range(4):
        part = 1.0 if number < 2 else 0.4  # the learning rate falls on the way
        optimizer.learning_rate = 0.1 * part
        gradients = some_gradients(ours, number)
        of = dict(zip((v.path for v in theirs.trainable_variables), gradients, strict=True))
        step(gradients)
        for layer, scale in expected.items():
            variables = theirs.get_layer(layer).trainable_variables
            others[layer].learning_rate = 0.1 * scale * part
            others[layer].apply([of[v.path] for v in variables], variables)
    start = values(small_model().weights)
    for mine, other, before in zip(ours.weights, theirs.weights, start, strict=True):
        # The kernel of Adam takes 1 - beta from float32: 6e-6 of a learning rate of 0.1 in a step,
        # of which there are four; and each of them rounds.
        np.testing.assert_allclose(mine, other, rtol=4e-6, atol=1e-5, err_msg=mine.path)
        assert np.array_equal(mine, before) == ("moving" in mine.path)


def test_the_factors_go_down_the_layers_that_train() -> None:
    model, decayed = small_model(), stage(layer_decay=0.5)
    set_trainable(model, decayed, weights="none")
    assert layer_scales(model, decayed) == [0.125, 0.125, 0.25, 0.5, 0.5, 1]
    assert scales(model, decayed) == [0.125] * 2 + [0.25] * 2 + [0.5] * 2 + [1] * 2

    set_trainable(model, decayed, weights="imagenet")
    assert layer_scales(model, decayed) == [0.25, 0.25, 0, 0.5, 0.5, 1]
    assert scales(model, decayed) == [0.25] * 2 + [0.5] * 2 + [1] * 2

    last = stage(layer_decay=0.5, train={"last": 2})
    set_trainable(model, last, weights="none")
    assert layer_scales(model, last) == [0, 0, 0, 0, 0.5, 1]
    set_trainable(model, stage(), weights="none")
    assert set(scales(model, stage())) == {1}


def test_without_decay_it_is_the_plain_optimizer_bit_for_bit() -> None:
    ours, theirs = small_model(), small_model()
    plain = stage(optimizer="adam", layer_decay=1)
    optimizer = build_optimizer(plain, Training(), precision="float32", model=ours)
    other = FusedAdam(0.1)
    for number in range(3):
        gradients = some_gradients(ours, number)
        optimizer.apply(gradients, ours.trainable_variables)
        other.apply(gradients, theirs.trainable_variables)
    assert all(map(np.array_equal, values(ours.weights), values(theirs.weights)))
    assert len(optimizer.variables) == len(other.variables)


def test_the_gradient_is_clipped_as_a_whole_before_the_update_is_scaled() -> None:
    model, clipped = small_model(), stage(optimizer="sgd", layer_decay=0.5, momentum=0)
    gradients, before = some_gradients(model), values(model.trainable_variables)
    norm = float(tf.linalg.global_norm(gradients))
    optimizer = build_optimizer(
        clipped, Training(gradient_clip=norm / 2), precision="float32", model=model
    )
    optimizer.apply(gradients, model.trainable_variables)
    for variable, value, gradient, scale in zip(
        model.trainable_variables, before, gradients, scales(model, clipped), strict=True
    ):
        np.testing.assert_allclose(variable, value - 0.05 * scale * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", some_fast(["float32", "float16"], "float16"))
def test_an_optimizer_resumes_from_what_was_saved(precision: str) -> None:
    decayed = stage(optimizer="adamw", layer_decay=0.7, weight_decay=0.1)
    saved: dict[str, list[Any]] = {}
    ends = []
    for resumed in (False, True):
        model = small_model()
        optimizer = build_optimizer(decayed, Training(), precision=precision, model=model)
        for number in range(3):
            if number == 2 and not resumed:
                saved = {"m": values(model.weights), "o": values(optimizer.variables)}
            if number == 2 and resumed:
                optimizer = build_optimizer(decayed, Training(), precision=precision, model=model)
                model.set_weights(saved["m"])
                for variable, value in zip(optimizer.variables, saved["o"], strict=True):
                    variable.assign(value)
            optimizer.apply(some_gradients(model, number), model.trainable_variables)
        ends.append(values(model.weights))
    assert all(map(np.array_equal, *ends))


def test_a_step_that_float16_skips_moves_nothing() -> None:
    model = small_model()
    decayed = stage(optimizer="adamw", layer_decay=0.5, weight_decay=0.3)
    optimizer = build_optimizer(decayed, Training(), precision="float16", model=model)
    step, before = apply(optimizer, model), values(model.weights)
    gradients = some_gradients(model)
    slots = values(optimizer.inner_optimizer.variables)
    step([tf.fill(gradients[0].shape, np.inf), *gradients[1:]])
    assert all(map(np.array_equal, values(model.weights), before))
    assert all(map(np.array_equal, values(optimizer.inner_optimizer.variables), slots))
    step(gradients)
    assert not any(map(np.array_equal, values(model.trainable_variables), before))


@pytest.mark.parametrize("name", some_fast(OPTIMIZERS, "adam", "sgd"))
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    model = small_model()
    training = Training(optimizer=name, weight_decay=0.01, gradient_clip=1.0)
    optimizer = build_optimizer(stage(), training, precision="float32", model=model)
    variables = model.trainable_variables
    before = sum(float(np.sum(np.square(v))) for v in variables)
    for _ in range(3):
        optimizer.apply([2 * v.value for v in variables], variables)
    assert sum(float(np.sum(np.square(v))) for v in variables) < before


def test_a_stage_may_have_its_own_optimizer_and_settings() -> None:
    training = Training(optimizer="adam", momentum=0.5, weight_decay=0.5, gradient_clip=5.0)
    own = stage(optimizer="sgd", momentum=0.0, weight_decay=0.0, gradient_clip=2.0)
    chosen = build_optimizer(own, training, precision="float32", model=small_model())
    assert isinstance(chosen, keras.optimizers.SGD)
    assert (chosen.momentum, chosen.nesterov, chosen.global_clipnorm) == (0, False, 2)
    assert set(chosen.decays) == {0}
    general = build_optimizer(
        stage(optimizer="sgd"), training, precision="float32", model=small_model()
    )
    assert (general.momentum, general.nesterov, general.global_clipnorm) == (0.5, True, 5)
    assert set(general.decays) == {0, 0.5}


def test_float16_scales_the_loss() -> None:
    chosen = build_optimizer(stage(), Training(), precision="float16", model=small_model())
    assert isinstance(chosen, keras.optimizers.LossScaleOptimizer)


def test_weight_decay_spares_biases_and_normalization(model: Any) -> None:
    set_trainable(model, stage(), weights="none")
    training = Training(optimizer="adamw", weight_decay=0.5)
    optimizer = build_optimizer(stage(), training, precision="float32", model=model)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    zeros = [np.zeros(v.shape, np.float32) for v in model.trainable_variables]
    optimizer.apply([keras.ops.convert_to_tensor(z) for z in zeros], model.trainable_variables)
    moved = {v.path for v in model.trainable_variables if not np.array_equal(v, before[v.path])}
    assert moved == {path for path in before if path.endswith("kernel")}
