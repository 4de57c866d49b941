"""Networks, one file a family, each ending in features for the head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fer_bench.config.model import Neck

# Of blue, green and red over ImageNet, in [0, 255].
IMAGENET_MEANS = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class BackboneSpec:
    """What is known about a backbone, without building it.

    Attributes:
        build: height and width in pixels → `keras.Model` from float32 RGB in [0, 255], shape
            (n, size, size, 3), to features, with random weights. It owns whatever rescaling its
            weights expect, and its graph is the same whatever weights are put into it.
        family: the network family it belongs to.
        smallest_size: the smallest image size that builds.
        pooling: the pooling of the default head; `none` where the features are a vector.
        preprocessing: what its first layers do to RGB in [0, 255], in a few words.
        imagenet: a `keras.Model` from `keras.applications` with ImageNet weights and without its
            top, whose layers with weights are those of `build` in the same order; None where there
            are no such weights. Downloads them, through Keras's cache and its check of the file.
        imagenet_file: the name of that file in the cache; None where there are no such weights.
        neck: the neck that it has unless told otherwise.
        depthwise: whether nearly all its convolutions but those of one pixel are depthwise.
    """

    build: Callable[[int], Any]
    family: str
    smallest_size: int
    pooling: Literal["avg", "none"] = "avg"
    preprocessing: str = "RGB / 255"
    imagenet: Callable[[], Any] | None = None
    imagenet_file: str | None = None
    neck: Neck | None = None
    depthwise: bool = False


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

    `preprocess` makes of RGB in [0, 255] what the first layer of Keras's network expects; None
    where Keras's network does so itself. It consists of operations, not of layers: nothing is added
    to the layers that a stage counts, and under mixed precision it computes in float32.
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
        # No weight depends on the size; MobileNetV3 warns of any but this.
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
