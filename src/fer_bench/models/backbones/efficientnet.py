"""EfficientNet (Tan and Le, 2019 and 2021) as Keras builds it, with one graph."""

from typing import Any

import numpy as np

from fer_bench.models.applications import from_applications
from fer_bench.registry import BACKBONES

# Of red, green and blue over ImageNet, in [0, 1].
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)


def standardized(images: Any) -> Any:
    """RGB in [0, 255] → 255 (RGB / 255 - mean) / deviation, which Keras then divides by 255.

    Keras's EfficientNet B0 to B7 has two graphs, which start with Rescaling(1/255) and
    Normalization. With ImageNet weights, that has the means and, as variances, the deviations;
    a Rescaling by 1 / sqrt(deviation), which only this graph has, corrects that. Here the constants
    come first, and the Normalization keeps its initial values, the identity. Together they compute
    what the graph with ImageNet weights computes, for all weights. So the weights of
    `normalization` must not be copied from Keras's network.
    """
    means, deviations = (np.array(values, np.float32) for values in (MEANS, DEVIATIONS))
    return (images - 255 * means) / deviations


BACKBONES.register(
    "efficientnetb3",
    from_applications(
        "EfficientNetB3",
        "efficientnet",
        "(RGB / 255 - ImageNet means) / ImageNet deviations",
        standardized,
        imagenet_file="efficientnetb3_notop.h5",
        depthwise=True,
    ),
)
BACKBONES.register(
    "efficientnetv2l",
    from_applications(
        "EfficientNetV2L",
        "efficientnet",
        "RGB / 128 - 1",
        imagenet_file="efficientnetv2-l_notop.h5",
    ),
)
