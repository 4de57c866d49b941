"""Faster kernels of TensorFlow for the layers of a model.

The arithmetic stays the same; only the kernel that computes it changes, and only in this process.
The model keeps its stock layers, and so does every file that it is saved to.

- Keras 3 normalizes a batch from separate mean, variance, subtract and scale operations, each of
  which reads the whole activation. The fused kernel does it in one pass forward and one backward.
- On a CPU, a 1×1 convolution over a small map is slow, above all its gradient. As a product of
  matrices it is several times as fast.
- Dropout draws a float for each value, which takes a CPU long on a large map. A byte is enough.

(Adam has a fused kernel too, see `training.optimizers.FusedAdam`.) `scripts/benchmark_kernels.py`
measures what each of them saves.

Replaces methods on instances of Keras 3.15 layers: `BatchNormalization.call`, `Dropout.call` and
the undocumented `Conv2D.convolution_op`. Sets `BatchNormalization.synchronized` while a step is
traced. `tests/models/test_kernels.py` compares each with the stock layer, and fails with a version
of Keras that calls them differently.
"""

import types
from typing import Any

import keras
import tensorflow as tf


def use_fast_kernels(model: Any, device: str) -> None:
    """Let the layers of `model` use the kernels that are fast on a `cpu` or `gpu`.

    These are BatchNorm over the last axis of a 4-D tensor (n, height, width, channels), and on a
    CPU 1×1 convolutions and dropout.
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
    """Replaces `keras.layers.Conv2D.convolution_op`: (n, h, w, in) and (1, 1, in, out)."""
    rows, columns = layer.strides
    if (rows, columns) != (1, 1):
        inputs = inputs[:, ::rows, ::columns]
    channels, filters = kernel.shape[2:]
    matrix = tf.reshape(tf.convert_to_tensor(kernel), (channels, filters))
    outputs = tf.matmul(tf.reshape(inputs, (-1, channels)), matrix)
    return tf.reshape(outputs, (*_sizes(inputs), filters))


def _sizes(inputs: Any) -> tuple[Any, ...]:
    """Batch, height and width, as numbers where they are known."""
    dynamic = tf.shape(inputs)
    return tuple(
        dynamic[axis] if size is None else size for axis, size in enumerate(inputs.shape[:3])
    )


def _drops_single_values(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Dropout
        and layer.noise_shape is None
        and 0 < layer.rate <= 255 / 256  # the largest threshold of one byte
    )


def _dropout_by_bytes(layer: Any, inputs: Any, training: bool = False) -> Any:
    """Replaces `keras.layers.Dropout.call`, with other draws from the same seed.

    A value is dropped if its random byte is below the threshold, 256 times the rate. The threshold
    is rounded up or down at random in each call, so that the rate is exact on average.
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
    """Replaces `keras.layers.BatchNormalization.call`, with its arguments."""
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
    """Normalize by the mean and variance of the whole batch, of which each device has a part.

    So the result does not depend on the number of devices. The saved layer does not change.
    """
    layer.synchronized = True  # Keras reads it while the step is traced
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
