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
# What only thins out the map that it is given, or changes nothing outside of training.
_THINNING = (
    *(layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.Dropout, layers.SpatialDropout2D),
)
# Gradients are taken of the logit times this, so that float16 does not round small ones to 0. The
# maps are divided by their maximum, and a power of two changes no digit.
_GRADIENT_SCALE = 1024.0


def last_feature_map(model: Any) -> Any:
    """The layer whose output, shape (n, h, w, c), is the last map before all places are mixed.

    That is where the neck ends or, without one, the backbone; where these end in a vector, the last
    map inside. Where the map is pooled or dropped out at its end, it is what goes into that: a VGG
    ends in 14 × 14 places and not in 7 × 7, as in the paper.

    Args:
        model: what `model.build_model` returns, perhaps saved and loaded.

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
        "Grad-CAM needs one; take a convolutional backbone."
    )


def class_maps(
    model: Any, images: NDArray[np.number[Any]], codes: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """How much each place of each image speaks for a class, by Grad-CAM.

    Args:
        model: what `model.build_model` returns; expression is one of its targets.
        images: RGB in [0, 255], shape (n, size, size, 3).
        codes: the class that is asked for of each image, shape (n,), in [0, C).

    Returns:
        Maps in [0, 1], shape (n, h, w). The largest value of each is 1, or 0 where no place speaks
        for the class.

    Raises:
        RunError: no layer gives a map.
    """
    step = _build_map_step(model)
    maps = [
        step(tf.cast(images[part], tf.float32), tf.cast(codes[part], tf.int32))
        for part in _parts(len(images))
    ]
    return np.concatenate(maps)


def _parts(number: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, number, BATCH)]


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
            # Of a frozen network nothing else would be followed up to the map.
            tape.watch(images)
            features, outputs = both(images, training=False)
            logits = named_outputs(outputs, ("expression",))["expression"]
            asked = tf.gather(logits, codes, axis=1, batch_dims=1) * _GRADIENT_SCALE
        gradients = tf.cast(tape.gradient(asked, features), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(weights * tf.cast(features, tf.float32), axis=-1))
        return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))

    return map_step
