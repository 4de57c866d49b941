"""Backbone, head and logits."""

from typing import Any

import keras
import numpy as np
import pytest

from fer_bench.config.model import Head, Model
from fer_bench.errors import ConfigError
from fer_bench.models.build import LOGITS, backbone_layers, build_model, head_layers, is_batch_norm
from fer_bench.models.kernels import use_fast_kernels


def build(backbone: str = "cnn_compact", size: int = 16, **head: Any) -> Any:
    config = Model(backbone=backbone, head=Head(**head) if head else None)
    return build_model(config, size, 7)


def names(layers: list[Any]) -> list[str]:
    return [layer.name for layer in layers]


def test_the_default_head_of_a_feature_map() -> None:
    assert names(head_layers(build())) == ["head_pool", "head_logits"]


def test_the_default_head_of_a_vector() -> None:
    assert names(head_layers(build("cnn_slides", 46))) == ["head_logits"]


def test_a_head_with_everything_in_its_order() -> None:
    model = build(pooling="max", dense=(16, 8), activation="gelu", dropout=0.5, l2=0.1)
    expected = ["head_pool", "head_dense_0", "head_dense_1", "head_dropout", LOGITS]
    assert names(head_layers(model)) == expected
    assert names(model.layers) == names(backbone_layers(model)) + expected
    dense = model.get_layer("head_dense_1")
    assert dense.units == 8
    assert dense.activation is keras.activations.gelu
    assert model.get_layer("head_dropout").rate == 0.5


@pytest.mark.parametrize(
    ("pooling", "features"), [("avg", 256), ("max", 256), ("flatten", 2 * 2 * 256)]
)
def test_pooling_of_a_feature_map(pooling: str, features: int) -> None:
    kernel = build(pooling=pooling).get_layer(LOGITS).kernel
    assert kernel.shape == (features, 7)


@pytest.mark.parametrize("pooling", ["none", "flatten"])
def test_pooling_of_a_vector(pooling: str) -> None:
    assert build("cnn_slides", 46, pooling=pooling).get_layer(LOGITS).kernel.shape == (512, 7)


def test_a_feature_map_needs_pooling() -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.pooling: cnn_compact ends in a feature"):
        build(pooling="none")


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_vector_cannot_be_pooled(pooling: str) -> None:
    with pytest.raises(ConfigError, match=rf"ends in a vector; use none, got '{pooling}'"):
        build("cnn_slides", 46, pooling=pooling)


def test_the_l2_penalty_is_that_of_the_dense_kernels() -> None:
    model = build(dense=(16,), l2=0.5)
    (penalty,) = model.losses
    kernel = np.asarray(model.get_layer("head_dense_0").kernel)
    assert float(penalty) == pytest.approx(0.5 * np.square(kernel).sum(), rel=1e-5)
    assert build(dense=(16,)).losses == []


def test_the_published_penalty_stays_in_the_model() -> None:
    (penalty,) = build("cnn_pisa_l2", 78).losses
    assert float(penalty) > 0


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    image = np.full((1, 16, 16, 3), 128, np.float32)
    assert np.array_equal(model(image, training=False), model(image, training=False))
    assert not np.array_equal(model(image, training=True), model(image, training=True))


@pytest.mark.parametrize(("said", "kept"), [(None, 0.95), (0.5, 0.5), (0.0, 0.0)])
@pytest.mark.parametrize("fast", [False, True])
def test_batch_norm_keeps_the_said_share_of_its_statistics(
    said: float | None, kept: float, fast: bool
) -> None:
    model = build_model(Model(backbone="cnn_compact", batch_norm_momentum=said), 16, 7)
    norm = next(filter(is_batch_norm, model.layers))
    if fast:
        use_fast_kernels(model, "cpu")
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
    before = np.asarray(norm.moving_mean)
    of_batch = np.asarray(keras.Model(model.input, norm.input)(images)).mean(axis=(0, 1, 2))
    model(images, training=True)
    moved = kept * before + (1 - kept) * of_batch
    assert np.allclose(norm.moving_mean, moved, atol=1e-5)
    assert model.get_config()["layers"][model.layers.index(norm)]["config"]["momentum"] == kept


def test_the_model_bears_the_name_of_its_backbone() -> None:
    model = build()
    assert model.name == "cnn_compact"
    assert model.input_shape == (None, 16, 16, 3)
    assert model.output_shape == (None, 7)


def test_equal_seeds_give_equal_weights() -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        models.append(build().get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*models, strict=True))
