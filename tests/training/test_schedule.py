"""Stages: who owns an epoch, what trains, how fast."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.config.model import Model
from fer_bench.config.training import Stage, Training
from fer_bench.errors import ConfigError
from fer_bench.models.build import (
    attach_head,
    backbone_layers,
    build_backbone,
    build_model,
    head_layers,
)
from fer_bench.models.freezing import (
    ResolvedStage,
    check_stages,
    describe,
    layer_scales,
    set_trainable,
    slow_statistics,
)
from fer_bench.models.summary import without_weights
from fer_bench.training.optimizers import FusedAdam, build_optimizer, scales
from fer_bench.training.schedule import learning_rate_at, stage_at

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def stage(**changes: Any) -> Stage:
    return Stage.model_validate(
        {"name": "s", "train": "all", "epochs": 4, "learning_rate": 0.1, **changes}
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Model(backbone="cnn_compact"), 24, 7)


def small_model() -> Any:
    """Two layers and a BatchNorm between them, an activation, and a head."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), name="images")
    x = keras.layers.Dense(4, name="block1_dense")(inputs)
    x = keras.layers.BatchNormalization(name="block1_norm")(x)
    x = keras.layers.ReLU(name="block1_relu")(x)
    x = keras.layers.Dense(4, name="block2_dense")(x)
    x = keras.layers.ReLU(name="block2_relu")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head_logits")(x))


def chain(names: Sequence[str]) -> Any:
    """A network of one convolution or pooling per name, each after the other, and a head."""
    x = inputs = keras.Input((4, 4, 1), name="images")
    for name in names:
        pools = name.startswith("max_pooling2d")
        kind: Any = keras.layers.MaxPooling2D if pools else keras.layers.Conv2D
        x = kind(*((1,) if pools else (1, 1)), name=name)(x)
    x = keras.layers.Flatten(name="head_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="head_logits")(x))


@given(lengths)
def test_every_epoch_belongs_to_one_stage_and_stages_follow_in_order(epochs: list[int]) -> None:
    owners = [stage_at(epochs, epoch) for epoch in range(sum(epochs))]
    assert [index for index, _ in owners] == [
        index for index, length in enumerate(epochs) for _ in range(length)
    ]
    assert all(first == sum(epochs[:index]) for index, first in owners)


@given(lengths)
def test_past_the_last_epoch_there_is_no_stage(epochs: list[int]) -> None:
    with pytest.raises(IndexError, match="after the last of"):
        stage_at(epochs, sum(epochs))


def test_a_constant_learning_rate_stays() -> None:
    assert {learning_rate_at(stage(), epochs) for epochs in (0, 1.5, 4)} == {0.1}


def test_cosine_falls_from_the_peak_to_zero() -> None:
    cosine = stage(schedule="cosine")
    rates = [learning_rate_at(cosine, epochs) for epochs in np.linspace(0, 4, 20)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert learning_rate_at(cosine, 2) == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0)


def test_warmup_rises_in_a_line_and_meets_the_peak() -> None:
    warm = stage(schedule="cosine", warmup=2)
    assert [learning_rate_at(warm, epochs) for epochs in (0, 1, 2)] == [0, 0.05, 0.1]
    assert learning_rate_at(warm, 3) == pytest.approx(0.05)


def test_head_trains_the_head_alone(model: Any) -> None:
    resolved = set_trainable(model, stage(train="head"), weights="none")
    assert resolved.first_trainable_layer == "head_logits"
    assert resolved.trainable_parameters == 256 * 7 + 7
    assert not any(layer.trainable_variables for layer in backbone_layers(model))


def test_a_stage_knows_what_trains_and_what_stays_before_it() -> None:
    model = small_model()
    whole = set_trainable(model, stage(), weights="none")
    assert whole.trained == {"block1_dense", "block1_norm", "block2_dense", "head_logits"}
    assert whole.trunk is None
    head = set_trainable(model, stage(train="head"), weights="none")
    assert head.trained == {"head_logits"}
    assert head.trunk == "block2_relu"
    tail = set_trainable(model, stage(train={"last": 2}), weights="none")
    assert tail.trained == {"block2_dense", "head_logits"}
    assert tail.trunk == "block1_relu"


def test_last_counts_backbone_layers_from_the_end(model: Any) -> None:
    resolved = set_trainable(model, stage(train={"last": 5}), weights="none")
    layers = backbone_layers(model)
    assert resolved.first_trainable_layer in [layer.name for layer in layers[-5:]]
    assert not any(layer.trainable_variables for layer in layers[:-5])
    assert all(layer.trainable for layer in layers[-5:] + head_layers(model))


def test_from_starts_at_the_named_layer(model: Any) -> None:
    names = [layer.name for layer in backbone_layers(model) if "conv" in layer.name]
    resolved = set_trainable(model, stage(train={"from": names[3]}), weights="none")
    assert resolved.first_trainable_layer == names[3]


def test_entering_a_stage_forgets_the_one_before(model: Any) -> None:
    set_trainable(model, stage(train="head"), weights="none")
    resolved = set_trainable(model, stage(train="all"), weights="none")
    everything = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert resolved.trainable_parameters == everything == 1_579_047


@pytest.mark.parametrize(
    ("weights", "log", "trains"),
    [("none", None, True), ("imagenet", None, False), ("none", True, False)],
)
def test_batch_norm_is_frozen_when_said_or_when_weights_were_learned(
    model: Any, weights: str, log: bool | None, trains: bool
) -> None:
    set_trainable(model, stage(freeze_batch_norm=log), weights=weights)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {layer.trainable for layer in norms} == {trains}


@pytest.mark.parametrize(
    ("momentum", "weights", "train", "steps", "warns"),
    [
        (0.999, "none", "all", 402, True),
        (0.999, "none", "all", 1000, False),
        (0.9, "none", "all", 402, False),
        (0.999, "imagenet", "all", 402, False),
        (0.999, "none", "head", 402, False),
    ],
)
def test_statistics_that_lag_behind_an_epoch_are_warned_of(
    momentum: float, weights: str, train: str, steps: int, warns: bool
) -> None:
    config = Model(backbone="cnn_compact", weights=weights, batch_norm_momentum=momentum)
    model = build_model(config, 24, 7)
    resolved = set_trainable(model, stage(train=train), weights=weights)
    log = slow_statistics(model, [resolved], config, steps)
    assert (log is not None) == warns
    if log:
        assert "about 1,000 steps, an epoch has only 402" in log


def test_a_network_without_batch_norm_has_no_statistics_that_lag() -> None:
    config = Model(backbone="cnn_pisa")
    model = build_model(config, 78, 7)
    resolved = set_trainable(model, stage(), weights="none")
    assert slow_statistics(model, [resolved], config, 1) is None


def test_more_layers_than_there_are_is_an_error(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"last: 2000 of \d+ backbone layers"):
        set_trainable(model, stage(train={"last": 2000}), weights="none")


def test_an_unknown_layer_is_an_error_with_the_nearest_name(model: Any) -> None:
    name = next(layer.name for layer in backbone_layers(model) if "conv" in layer.name)
    with pytest.raises(ConfigError, match=f"Did you mean '{name}"):
        set_trainable(model, stage(train={"from": name + "x"}), weights="none")


VGG = ["stem", "block1_conv1", "block1_pool", "block5_conv1", "block50_conv1", "fc"]
RESNET = ["conv1_pad", "conv5_block1_1_conv", "conv5_block10_out", "conv5_block2_out", "avg"]
EFFICIENT = ["stem_conv", "block6z_add", "block7a_expand_conv", "block7b_expand_conv", "top_conv"]
AUTOMATIC = ["conv2d", "conv2d_1", "max_pooling2d_1"]


@pytest.mark.parametrize(
    ("names", "start", "first"),
    [
        (VGG, "block5_conv1", "block5_conv1"),
        (VGG, "block5", "block5_conv1"),
        (VGG, "block50", "block50_conv1"),
        (RESNET, "conv5", "conv5_block1_1_conv"),
        (RESNET, "conv5_block2", "conv5_block2_out"),
        (RESNET, "conv5_block10", "conv5_block10_out"),
        (EFFICIENT, "block7", "block7a_expand_conv"),
        (EFFICIENT, "block7b", "block7b_expand_conv"),
        (EFFICIENT, "top", "top_conv"),
        (AUTOMATIC, "conv2d", "conv2d"),
    ],
)
def test_from_may_name_a_block(names: list[str], start: str, first: str) -> None:
    resolved = set_trainable(chain(names), stage(train={"from": start}), weights="none")
    assert resolved.first_trainable_layer == first


@pytest.mark.parametrize(
    ("names", "start", "hint"),
    [
        (VGG, "block", "block"),
        (VGG, "block2", "block"),
        (VGG, "blok5", "block5"),
        (VGG, "block5_conv", "block5_conv1"),
        (RESNET, "conv5_block3", "conv5_block"),
        (EFFICIENT, "block7c", "block7"),
        (EFFICIENT, "block7a_expand_conv_", "block7a_expand_conv"),
        (AUTOMATIC, "conv2", "conv2d"),
        (AUTOMATIC, "max", ""),
    ],
)
def test_what_is_no_block_is_an_error(names: list[str], start: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no layer or block '{start}'") as error:
        check_stages(backbone_layers(chain(names)), [stage(train={"from": start})])
    assert hint in str(error.value).partition("Did you mean")[2]


def branched() -> Any:
    """A network like InceptionResNetV2: only where branches meet do layers have names."""
    keras.utils.clear_session()
    x = inputs = keras.Input((4, 4, 2))
    for block in (7, 8):
        x = keras.layers.Conv2D(2, 1, name=f"block{block}_conv")(x)
        deep = keras.layers.ReLU()(keras.layers.Conv2D(2, 1)(keras.layers.Conv2D(2, 1)(x)))
        mixed = [deep, keras.layers.Conv2D(2, 1)(x)]
        x = keras.layers.Concatenate(name=f"block{block + 1}_mixed")(mixed)
    x = keras.layers.Flatten(name="head_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="head_logits")(x))


def test_layers_that_keras_named_belong_to_the_block_that_they_feed() -> None:
    model = branched()
    first = set_trainable(model, stage(train={"from": "block8"}), weights="none")
    assert first.trained == {*(f"conv2d{n}" for n in ("", "_1", "_2")), *LATER}
    last = set_trainable(model, stage(train={"from": "block9"}), weights="none")
    assert last.trained == {*(f"conv2d_{n}" for n in (3, 4, 5)), "head_logits"}
    exact = set_trainable(model, stage(train={"from": "block9_mixed"}), weights="none")
    assert exact.trained == {"head_logits"}


LATER = ("block8_conv", "conv2d_3", "conv2d_4", "conv2d_5", "head_logits")


@pytest.mark.slow
def test_a_block_of_inception_resnet_begins_with_its_first_convolution() -> None:
    with without_weights():
        backbone = build_backbone(Model(backbone="inceptionresnetv2"), 96)
        names = [layer.name for layer in backbone.layers]
        model = attach_head(backbone, Model(backbone="inceptionresnetv2"), 7)
        resolved = set_trainable(model, stage(train={"from": "block8"}), weights="none")
    before = names.index("mixed_7a")
    assert resolved.first_trainable_layer == names[before + 1]
    assert resolved.layers == len(names) - before - 1


def test_every_wrong_stage_is_named_at_once() -> None:
    stages = [
        stage(name="one", train={"last": 2000}),
        stage(name="two", train={"last": 6}),
        stage(name="three", train={"from": "block6"}),
    ]
    with pytest.raises(ConfigError) as error:
        check_stages(backbone_layers(chain(VGG[1:])), stages)
    assert "stage 'one': last: 2000 of 6 backbone layers" in str(error.value)
    assert "stage 'three': the backbone has no layer or block 'block6'" in str(error.value)
    assert "'two'" not in str(error.value)


def test_a_stage_knows_how_many_layers_it_frees(model: Any) -> None:
    for train, layers in (("head", 0), ({"last": 5}, 5), ("all", len(backbone_layers(model)))):
        assert set_trainable(model, stage(train=train), weights="none").layers == layers


# optimizers ------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layer_decay_is_an_optimizer_of_its_own_for_each_layer(name: str) -> None:
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


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_optimizer_goes_on_from_what_was_saved(precision: str) -> None:
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


@pytest.mark.parametrize("name", OPTIMIZERS)
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


def test_a_stage_in_one_line(model: Any) -> None:
    resolved = set_trainable(model, stage(train="head"), weights="none")
    line = describe(stage(train="head", patience=3), resolved)
    assert "1,799 parameters" in line
    assert "head_logits" in line
    assert "patience 3" in line
    assert "0.1 x 0.5 a layer" in describe(stage(layer_decay=0.5), resolved)


def test_a_stage_that_reaches_no_weights_says_so() -> None:
    alone, more = (
        ResolvedStage(first, 455, 1, trained=frozenset({first}), trunk=None)
        for first in ("head_logits", "conv_9")
    )
    last = stage(train={"last": 1})
    assert "no backbone layer of this stage has weights" in describe(last, alone)
    assert "no backbone layer" not in describe(stage(train="head"), alone)
    assert "no backbone layer" not in describe(last, more)
