"""The layers of a model, and Adam, on the kernels that are fast.

The arithmetic stays the same; which kernel of TensorFlow does it changes, in this process alone.
The model stays one of stock layers, and so does every file it is saved to.

- Keras 3 normalizes a batch from separate mean, variance, subtract and scale operations, each of
  which reads the whole activation. The fused kernel does it in one pass forward and one backward.
- On a CPU a convolution of one pixel over a small map is slow, its gradient most of all. It is a
  product of matrices, and as such several times as fast.
- Dropout draws a float for each value, which over a large map takes a CPU long. A byte is enough.
- Keras 3 updates a weight by Adam in a dozen operations over it. The fused kernel makes one pass.

`scripts/benchmark_kernels.py` measures what each brings.
"""

import types
from typing import Any

import keras
import tensorflow as tf


def use_fast_kernels(model: Any, device: str) -> None:
    """Let the layers of `model` that can do so compute by the kernels fast on a `cpu` or `gpu`.

    BatchNorm over the last axis of a 4-D tensor (n, height, width, channels) does everywhere,
    convolutions of one pixel and dropout do on a CPU.
    """
    for layer in model.layers:
        if _can_be_fused(layer):
            layer.call = types.MethodType(_fused_batch_norm, layer)
        if device == "cpu" and _is_pointwise(layer):
            layer.convolution_op = types.MethodType(_matrix_product, layer)
        if device == "cpu" and _drops_single_values(layer):
            layer.call = types.MethodType(_dropout_by_bytes, layer)


def _is_pointwise(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )


def _matrix_product(layer: Any, inputs: Any, kernel: Any) -> Any:
    """What `keras.layers.Conv2D.convolution_op` does: (n, h, w, in) and (1, 1, in, out)."""
    rows, columns = layer.strides
    if (rows, columns) != (1, 1):
        inputs = inputs[:, ::rows, ::columns]
    channels, filters = kernel.shape[2:]
    matrix = tf.reshape(tf.convert_to_tensor(kernel), (channels, filters))
    outputs = tf.matmul(tf.reshape(inputs, (-1, channels)), matrix)
    return tf.reshape(outputs, (*_sizes(inputs), filters))


def _sizes(inputs: Any) -> tuple[Any, ...]:
    """Batch, height and width, known ones as numbers."""
    dynamic = tf.shape(inputs)
    return tuple(
        dynamic[axis] if size is None else size for axis, size in enumerate(inputs.shape[:3])
    )


def _drops_single_values(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Dropout
        and layer.noise_shape is None
        and 0 < layer.rate <= 255 / 256  # what a threshold of one byte can be
    )


def _dropout_by_bytes(layer: Any, inputs: Any, training: bool = False) -> Any:
    """What `keras.layers.Dropout.call` does, with other draws from the same seed.

    A value is dropped where its byte is below the threshold, 256 times the rate. That is rounded up
    or down by chance, anew in each call, so that the rate is exact for every value.
    """
    if not training:
        return inputs
    count, seed = tf.size(inputs), layer.seed_generator.next()
    words = tf.random.stateless_uniform([count // 4 + 2], seed, None, None, tf.uint32)
    chance = tf.cast(words[0], tf.float64) / 2**32
    threshold = tf.cast(tf.floor(256 * layer.rate + chance), tf.uint8)
    draws = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[4 : count + 4]
    kept = tf.reshape(draws, tf.shape(inputs)) >= threshold
    return tf.where(kept, inputs * (1 / (1 - layer.rate)), tf.zeros([], inputs.dtype))


def _can_be_fused(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 4
        and layer.axis in (-1, 3)
        and layer.center
        and layer.scale
        and not layer.synchronized
    )


def _fused_batch_norm(
    layer: Any, inputs: Any, training: bool | None = None, mask: Any = None
) -> Any:
    """What `keras.layers.BatchNormalization.call` does, with its arguments."""
    if not training:
        statistics = (layer.moving_mean, layer.moving_variance)
        return _fused_kernel(layer, inputs, *statistics, is_training=False)[0]
    if not layer.trainable:
        # The gradient of the fused kernel would be computed for the frozen scale and shift too.
        return type(layer).call(layer, inputs, training=training, mask=mask)
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
        return _synchronized_batch_norm(layer, inputs, mask)
    unknown = tf.zeros(0)
    outputs, mean, variance, *_ = _fused_kernel(layer, inputs, unknown, unknown, is_training=True)
    # The kernel returns the unbiased variance, n/(n-1) times what Keras keeps.
    count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], "float32")
    for average, value in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance * (count - 1) / count),
    ):
        average.assign(average * layer.momentum + value * (1 - layer.momentum))
    return outputs


def _synchronized_batch_norm(layer: Any, inputs: Any, mask: Any) -> Any:
    """By the mean and variance of the whole batch, of which each device has a part.

    So a run does not depend on how many devices it has. The saved layer stays an ordinary one.
    """
    layer.synchronized = True  # looked at while the step is traced
    try:
        return type(layer).call(layer, inputs, training=True, mask=mask)
    finally:
        layer.synchronized = False


def _fused_kernel(layer: Any, inputs: Any, mean: Any, variance: Any, *, is_training: bool) -> Any:
    parameters = [layer.gamma, layer.beta, mean, variance]
    scale, offset, mean, variance = (tf.cast(value, "float32") for value in parameters)
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=layer.epsilon,
        is_training=is_training,
    )
