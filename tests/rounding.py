"""How much two computations of the same network may differ by rounding."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

EPSILON = float(np.finfo(np.float32).eps)

# Layers that sum products; the others round once and contribute little.
SUMS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def rounding(model: Any, images: NDArray[np.float32]) -> float:
    """The largest difference between two float32 computations of `model(images)`.

    Another batch size, kernel library or processor sums in another order. Each layer then rounds
    its outputs differently, by about the last bit of its inputs, and errors of `depth` layers in
    series add up like a random walk, to `sqrt(depth)` times that of one. How much a network
    magnifies such an error differs from network to network (a BatchNorm of nearly constant inputs
    divides by little), so it is measured: how far the outputs move when every pixel moves by its
    last bit. Four times that leaves room for the largest of many outputs, and for kernels that
    trade accuracy for speed (Winograd's convolution).

    Args:
        model: a functional model that computes in float32.
        images: images x height x width x 3; several, since the largest of few outputs is a poor
            estimate.
    """
    signs = np.random.default_rng(0).choice([-1, 1], images.shape)
    moved = (images * (1 + EPSILON * signs)).astype(np.float32)
    outputs, others = (np.asarray(model(batch, training=False)) for batch in (images, moved))
    depth = sum(isinstance(layer, SUMS) for layer in model.layers)
    last_bit = max(np.abs(others - outputs).max(), EPSILON * np.abs(outputs).max())
    return float(4 * np.sqrt(max(depth, 1)) * last_bit)
