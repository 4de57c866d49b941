"""Grad-CAM: which places of an image speak for a class.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based
localization", ICCV 2017, arXiv 1610.02391, equations 1 and 2.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from fer_bench.errors import RunError
from fer_bench.models.build import backbone_layers, head_layers, named_outputs
from fer_bench.models.neck import NECK_PREFIX

BATCH = 32
# These only thin out the map that they are given, or change nothing outside of training.
_THINNING = (
    *(layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.Dropout, layers.SpatialDropout2D),
)
# The logit is multiplied by this before its gradient is taken, so that float16 does not round small
# gradients to 0. The maps are divided by their maximum, and a power of two changes no digit.
_GRADIENT_SCALE = 1024.0


def last_feature_map(model: Any) -> Any:
    """The layer whose output, shape (n, h, w, c), is the last map before all places are mixed.

    That is the end of the neck or, without one, of the backbone; where these end in a vector, the
    last map inside. A pooling or dropout at the end does not count: the map of a VGG has 14 × 14
    places, as in the paper, and not 7 × 7.

    Args:
        model: what `models.build.build_model` returns, perhaps saved and loaded.

    Raises:
        RunError: no layer gives a map.
    """
    necks = [layer for layer in head_layers(model) if layer.name.startswith(NECK_PREFIX)]
    for layer in reversed([*backbone_layers(model), *necks]):
        is_map = isinstance(layer.output, keras.KerasTensor) and len(layer.output.shape) == 4
        if is_map and not isinstance(layer, (layers.InputLayer, *_THINNING)):
            return layer
    raise RunError(
        f"{model.name}: no layer of this network gives a map (places × channels).\n"
        "Grad-CAM needs one; use a convolutional backbone."
    )


def class_maps(
    model: Any, images: NDArray[np.number[Any]], codes: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """How much each place of each image speaks for a class, by Grad-CAM.

    Args:
        model: what `models.build.build_model` returns; expression is one of its targets.
        images: RGB in [0, 255], shape (n, size, size, 3).
        codes: the class to explain for each image, shape (n,), in [0, C).

    Returns:
        Maps in [0, 1], shape (n, h, w), one value per place of `last_feature_map`. The largest
        value of each map is 1, or 0 where no place speaks for the class.

    Raises:
        RunError: no layer gives a map.
    """
    step = _build_map_step(model)
    maps = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        maps.append(step(tf.cast(images[part], tf.float32), tf.cast(codes[part], tf.int32)))
    return np.concatenate(maps)


def _build_map_step(model: Any) -> Any:
    """A `tf.function` (float32 images, int32 codes) → maps."""
    features = last_feature_map(model).output
    both = keras.Model(model.input, [features, model.output])

    @tf.function(
        input_signature=[
            tf.TensorSpec(model.input.shape, tf.float32),
            tf.TensorSpec((None,), tf.int32),
        ]
    )
    def map_step(images: Any, codes: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # In a frozen network, nothing else makes the tape record up to the map.
            tape.watch(images)
            features, outputs = both(images, training=False)
            logits = named_outputs(outputs, ("expression",))["expression"]
            explained = tf.gather(logits, codes, axis=1, batch_dims=1) * _GRADIENT_SCALE
        gradients = tf.cast(tape.gradient(explained, features), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(weights * tf.cast(features, tf.float32), axis=-1))
        return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))

    return map_step


def on_image(
    map_: NDArray[np.floating[Any]],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    size: int,
) -> NDArray[np.float32]:
    """A map at every pixel of its image: linear between the places, constant beyond the last.

    Args:
        map_: one value per place, shape (h, w).
        rows: the row of the image that each row of places looks at, shape (h,), increasing; see
            `models.receptive_field.centres`.
        columns: likewise, shape (w,).
        size: height and width of the image in pixels.

    Returns:
        Shape (size, size).
    """
    down, across = (_interpolation(centres, size) for centres in (rows, columns))
    placed: NDArray[np.float32] = (down @ map_ @ across.T).astype(np.float32)
    return placed


def _interpolation(centres: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The matrix (size, n) that interpolates values at n `centres` at every pixel."""
    pixels = np.arange(size)
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1)
