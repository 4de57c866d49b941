"""Backbones of `keras.applications`, and the preprocessing that their weights expect.

Keras is imported inside the functions: looking up a name must stay instant.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fer_bench.models.backbone_spec import BackboneSpec

# Of blue, green and red over ImageNet, in [0, 255].
IMAGENET_MEANS = (103.939, 116.779, 123.68)


def from_applications(
    name: str,
    family: str,
    preprocessing: str,
    preprocess: Callable[[Any], Any] | None = None,
    smallest_size: int = 32,
    *,
    imagenet_file: str,
    depthwise: bool = False,
) -> BackboneSpec:
    """The spec of `keras.applications.<name>` without its top, as one flat graph.

    `preprocess` turns RGB in [0, 255] into the input that Keras's network expects; None if the
    network does so itself. It consists of operations, not layers: it does not count as a layer of a
    stage, and under mixed precision it computes in float32.
    """

    def network(**options: Any) -> Any:
        from keras import applications

        return getattr(applications, name)(include_top=False, **options)

    def build(size: int) -> Any:
        from keras import Input, Model

        shape = (size, size, 3)
        inputs = Input(shape)
        images = preprocess(inputs) if preprocess else inputs
        features = network(weights=None, input_shape=shape, input_tensor=images).output
        return Model(inputs, features)

    def imagenet() -> Any:
        # No weight depends on the size; MobileNetV3 warns about all others.
        return network(weights="imagenet", input_shape=(224, 224, 3))

    return BackboneSpec(
        build,
        family,
        smallest_size,
        preprocessing=preprocessing,
        imagenet=imagenet,
        imagenet_file=imagenet_file,
        depthwise=depthwise,
    )


def centred_bgr(images: Any) -> Any:
    """RGB in [0, 255] → BGR minus the means of ImageNet; `mode="caffe"` of `preprocess_input`."""
    from keras import ops

    return ops.flip(images, axis=-1) - np.array(IMAGENET_MEANS, np.float32)


def minus_one_to_one(images: Any) -> Any:
    """RGB in [0, 255] → RGB in [-1, 1]; `mode="tf"` of `preprocess_input`."""
    return images / 127.5 - 1.0
