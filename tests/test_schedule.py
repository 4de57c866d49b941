"""Stages: who owns an epoch, what trains, how fast."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.config import Model, Stage, Training
from fer_bench.errors import ConfigError
from fer_bench.model import backbone_layers, build_model, head_layers
from fer_bench.schedule import (
    build_optimizer,
    describe,
    learning_rate_at,
    set_trainable,
    stage_at,
)

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def stage(**changes: Any) -> Stage:
    return Stage.model_validate(
        {"name": "s", "train": "all", "epochs": 4, "learning_rate": 0.1, **changes}
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Model(backbone="cnn_compact"), 24, 7)


@given(lengths)
def test_every_epoch_belongs_to_one_stage_and_stages_follow_in_order(epochs: list[int]) -> None:
    owners = [stage_at(epochs, epoch) for epoch in range(sum(epochs))]
    assert [index for index, _ in owners] == [
        index for index, length in enumerate(epochs) for _ in range(length)
    ]
    assert all(first == sum(epochs[:index]) for index, first in owners)


@given(lengths)
def test_past_the_last_epoch_there_is_no_stage(epochs: list[int]) -> None:
    with pytest.raises(IndexError, match="past the last"):
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
    ("weights", "said", "trains"),
    [("none", None, True), ("imagenet", None, False), ("none", True, False)],
)
def test_batch_norm_is_frozen_when_said_or_when_weights_were_learned(
    model: Any, weights: str, said: bool | None, trains: bool
) -> None:
    set_trainable(model, stage(freeze_batch_norm=said), weights=weights)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {layer.trainable for layer in norms} == {trains}


def test_more_layers_than_there_are_is_an_error(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"last: 2000 of \d+ backbone layers"):
        set_trainable(model, stage(train={"last": 2000}), weights="none")


def test_an_unknown_layer_is_an_error_with_the_nearest_name(model: Any) -> None:
    name = next(layer.name for layer in backbone_layers(model) if "conv" in layer.name)
    with pytest.raises(ConfigError, match=f"Did you mean '{name}"):
        set_trainable(model, stage(train={"from": name + "x"}), weights="none")


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    weight = keras.Variable(np.ones(3, dtype=np.float32))
    training = Training(optimizer=name, weight_decay=0.01, gradient_clip=1.0)
    optimizer = build_optimizer(stage(), training, precision="float32", variables=[weight])
    before = float(np.sum(np.square(weight.numpy())))
    for _ in range(3):
        optimizer.apply([2 * weight.value], [weight])
    assert float(np.sum(np.square(weight.numpy()))) < before


def test_a_stage_may_name_its_own_optimizer() -> None:
    chosen = build_optimizer(
        stage(optimizer="sgd"), Training(optimizer="adam"), precision="float32", variables=[]
    )
    assert isinstance(chosen, keras.optimizers.SGD)


def test_float16_scales_the_loss() -> None:
    chosen = build_optimizer(stage(), Training(), precision="float16", variables=[])
    assert isinstance(chosen, keras.optimizers.LossScaleOptimizer)


def test_weight_decay_spares_biases_and_normalization(model: Any) -> None:
    set_trainable(model, stage(), weights="none")
    training = Training(optimizer="adamw", weight_decay=0.5)
    optimizer = build_optimizer(
        stage(), training, precision="float32", variables=model.trainable_variables
    )
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
