"""Networks, one file a family, each ending in features for the head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class BackboneSpec:
    """What is known about a backbone, without building it.

    Attributes:
        build: height and width in pixels → `keras.Model` from float32 RGB in [0, 255], shape
            (n, size, size, 3), to features. It owns whatever rescaling its weights expect.
        family: the network family it belongs to.
        smallest_size: the smallest image size that builds.
        pooling: the pooling of the default head; `none` where the features are a vector.
    """

    build: Callable[[int], Any]
    family: str
    smallest_size: int
    pooling: Literal["avg", "none"] = "avg"
