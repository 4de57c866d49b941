"""Which layers a stage trains."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
from stages import small_model, stage

from fer_bench.config.model import Model
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
    set_trainable,
    slow_statistics,
)
from fer_bench.models.summary import without_weights


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Model(backbone="cnn_compact"), 24, 7)


def chain(names: Sequence[str]) -> Any:
    """A network of one convolution or pooling per name, each after the other, and a head."""
    x = inputs = keras.Input((4, 4, 1), name="images")
    for name in names:
        pools = name.startswith("max_pooling2d")
        kind: Any = keras.layers.MaxPooling2D if pools else keras.layers.Conv2D
        x = kind(*((1,) if pools else (1, 1)), name=name)(x)
    x = keras.layers.Flatten(name="head_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="head_logits")(x))


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
def test_batch_norm_is_frozen_if_set_or_if_weights_were_learned(
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
        *(
            pytest.param(*one, 402, False, marks=pytest.mark.slow)
            for one in ((0.9, "none", "all"), (0.999, "imagenet", "all"), (0.999, "none", "head"))
        ),
    ],
)
def test_statistics_that_lag_behind_an_epoch_cause_a_warning(
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
def test_an_unknown_block_is_an_error(names: list[str], start: str, hint: str) -> None:
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


def test_a_stage_in_one_line(model: Any) -> None:
    resolved = set_trainable(model, stage(train="head"), weights="none")
    line = describe(stage(train="head", patience=3), resolved)
    assert "1,799 parameters" in line
    assert "head_logits" in line
    assert "patience 3" in line
    assert "0.1 x 0.5 per layer" in describe(stage(layer_decay=0.5), resolved)


def test_a_stage_without_backbone_weights_is_described_as_such() -> None:
    alone, more = (
        ResolvedStage(first, 455, 1, trained=frozenset({first}), trunk=None)
        for first in ("head_logits", "conv_9")
    )
    last = stage(train={"last": 1})
    assert "no backbone layer of this stage has weights" in describe(last, alone)
    assert "no backbone layer" not in describe(stage(train="head"), alone)
    assert "no backbone layer" not in describe(last, more)
