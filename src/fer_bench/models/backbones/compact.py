"""This project's own small network, for training on a few CPU cores."""

from typing import Any

from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES

STAGES = ((64, 2), (128, 2), (256, 1))  # filters, residual blocks


def cnn_compact(size: int) -> Any:
    """A residual network of 11 3×3 convolutions: 1.58 M parameters, global pooling in the head.

    Each stage halves the map in its first block. As in ResNet-D (He et al., 2019, "Bag of tricks
    for image classification", section 4), its shortcut has an average pooling before the 1×1
    convolution, so that no activation is ignored.
    """
    from keras import Input, Model, layers

    inputs = Input((size, size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = _convolution(x, 32)
    x = layers.ReLU()(x)
    for filters, blocks in STAGES:
        for block in range(blocks):
            x = _residual(x, filters, strides=2 if block == 0 else 1)
    return Model(inputs, x)


def _convolution(x: Any, filters: int, *, kernel: int = 3, strides: int = 1) -> Any:
    from keras import layers

    x = layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    return layers.BatchNormalization(momentum=0.95)(x)


def _residual(x: Any, filters: int, *, strides: int) -> Any:
    from keras import layers

    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(strides, padding="same")(shortcut)
    if shortcut.shape[-1] != filters:
        shortcut = _convolution(shortcut, filters, kernel=1)
    x = layers.ReLU()(_convolution(x, filters, strides=strides))
    x = _convolution(x, filters)
    return layers.ReLU()(layers.Add()([shortcut, x]))


BACKBONES.register(
    "cnn_compact", BackboneSpec(cnn_compact, "cnn", 16, preprocessing="RGB / 127.5 - 1")
)
