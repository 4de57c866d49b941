"""The description of a backbone, which each file of `backbones` registers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fer_bench.config.model import Neck


@dataclass(frozen=True)
class BackboneSpec:
    """What is known about a backbone without building it.

    Attributes:
        build: height and width in pixels → `keras.Model` from float32 RGB in [0, 255], shape
            (n, size, size, 3), to features, with random weights. It includes the rescaling that its
            weights expect, and its graph is the same for all weights.
        family: the network family it belongs to.
        smallest_size: the smallest image size that builds.
        pooling: the pooling of the default head; `none` where the features are a vector.
        preprocessing: what its first layers do to RGB in [0, 255], in a few words.
        imagenet: returns a `keras.Model` from `keras.applications` with ImageNet weights and
            without its top, whose layers with weights are those of `build` in the same order; None
            if there are no such weights. Keras downloads them into its cache and checks the file.
        imagenet_file: the name of that file in the cache; None if there are no such weights.
        neck: the default neck.
        depthwise: whether nearly all convolutions of more than one pixel are depthwise.
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
