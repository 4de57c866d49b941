"""Random augmentation: drawn with numpy for many images at once, applied with TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config.model import Augment


def draw_warps(
    count: int, augment: Augment, size: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Affine maps from output to input pixels, shape (count, 8), as `ImageProjectiveTransformV3`.

    Row: (a0, a1, a2, b0, b1, b2, 0, 0) with x_in = a0 x + a1 y + a2 and y_in = b0 x + b1 y + b2.
    Mirror, zoom, shear and rotation are relative to the image centre; the shift comes last.
    """
    uniform = generator.uniform(-1, 1, size=(count, 6))
    angle = uniform[:, 0] * augment.rotation * 2 * np.pi
    scale = 1 + uniform[:, 1] * augment.zoom
    shear = uniform[:, 2] * augment.shear
    shift = uniform[:, 3:5] * augment.shift * size
    mirror = np.where(augment.flip & (uniform[:, 5] < 0), -1.0, 1.0)

    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos * mirror, cos * shear - sin
    linear[:, 1, 0], linear[:, 1, 1] = sin * mirror, sin * shear + cos
    centre = np.full(2, (size - 1) / 2)
    offset = centre - linear @ centre + shift

    maps = np.zeros((count, 8), dtype=np.float32)
    maps[:, 0:2], maps[:, 2] = linear[:, 0], offset[:, 0]
    maps[:, 3:5], maps[:, 5] = linear[:, 1], offset[:, 1]
    return maps


def compose(first: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.float32]:
    """Affine maps (n, 8) that apply `first` and then `then` in one step.

    Both map from output to input pixels: the input of the later map is the output of the earlier.
    """
    earlier, later = (
        np.concatenate([maps, np.ones((len(maps), 1))], axis=1).reshape(-1, 3, 3)
        for maps in (first, then)
    )
    maps: NDArray[np.float32] = (earlier @ later).reshape(-1, 9)[:, :8].astype(np.float32)
    return maps


def draw_intensities(
    count: int, augment: Augment, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Contrast factors and added intensities in [-255, 255], shape (count, 2)."""
    uniform = generator.uniform(-1, 1, size=(count, 2))
    limits = np.array([augment.contrast, augment.brightness * 255])
    changes: NDArray[np.float32] = (uniform * limits + np.array([1.0, 0.0])).astype(np.float32)
    return changes


def warp(images: Any, maps: Any, fill: str) -> Any:
    """Images (n, h, w, channels) warped by affine `maps` (n, 8); `fill` as in `Augment`."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )


def change_intensities(images: Any, intensities: Any, augment: Augment) -> Any:
    """Images in [0, 255] with changed brightness, and contrast around the mean of each image."""
    if not (augment.contrast or augment.brightness):
        return images
    contrast, added = (intensities[:, k, None, None, None] for k in (0, 1))
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((images - mean) * contrast + mean + added, 0.0, 255.0)
