"""Backbone, head and logits as one flat graph."""

from typing import Any

import keras
from keras import layers, regularizers

from fer_bench.backbones import BackboneSpec
from fer_bench.config import Head, Model
from fer_bench.errors import ConfigError
from fer_bench.registry import BACKBONES

HEAD_PREFIX = "head_"
LOGITS = HEAD_PREFIX + "logits"

_POOLING = {
    "avg": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
    "flatten": layers.Flatten,
}


def build_model(config: Model, size: int, classes: int) -> Any:
    """A `keras.Model` from images to logits.

    Input: float32 RGB in [0, 255], shape (n, size, size, 3); output: float32, (n, classes).

    The layers of the backbone come first, in their own order; those of the head are named with
    the prefix `head_`.

    Raises:
        ConfigError: the pooling does not fit the backbone.
    """
    spec: BackboneSpec = BACKBONES[config.backbone]
    head = config.head or Head(pooling=spec.pooling)
    backbone = spec.build(size)
    x = _pool(backbone.output, head, config.backbone)
    for index, width in enumerate(head.dense):
        x = layers.Dense(
            width,
            activation=head.activation,
            kernel_regularizer=regularizers.L2(head.l2) if head.l2 else None,
            name=f"{HEAD_PREFIX}dense_{index}",
        )(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, name=HEAD_PREFIX + "dropout")(x)
    # Under mixed precision the logits stay float32: the loss and every probability need the digits.
    logits = layers.Dense(classes, dtype="float32", name=LOGITS)(x)
    return keras.Model(backbone.input, logits, name=config.backbone)


def _pool(features: Any, head: Head, backbone: str) -> Any:
    is_map = len(features.shape) == 4
    if head.pooling == "none" and is_map:
        raise ConfigError(
            f"model.head.pooling: {backbone} ends in a feature map {tuple(features.shape[1:])}; "
            "use avg, max or flatten, got 'none'."
        )
    if head.pooling in ("avg", "max") and not is_map:
        raise ConfigError(
            f"model.head.pooling: {backbone} ends in a vector; use none, got '{head.pooling}'."
        )
    if head.pooling == "none":
        return features
    return _POOLING[head.pooling](name=HEAD_PREFIX + "pool")(features)


def backbone_layers(model: Any) -> list[Any]:
    """The layers of the backbone, first to last."""
    return [layer for layer in model.layers if not layer.name.startswith(HEAD_PREFIX)]


def head_layers(model: Any) -> list[Any]:
    """The layers after the backbone, first to last."""
    return [layer for layer in model.layers if layer.name.startswith(HEAD_PREFIX)]
