"""The layers of a model on the kernels that are fast.

Keras 3 normalizes a batch from separate mean, variance, subtract and scale operations, each of
which reads the whole activation. TensorFlow's fused kernel does it in one pass forward and one
backward; `scripts/benchmark_normalization.py` measures what that brings. The arithmetic is the
same, so weights move between both forms as they are; a saved file only ever holds the stock form
and loads without this package.
"""

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`BatchNormalization` over the last axis of a 4-D tensor, by TensorFlow's fused kernel."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs`, shape (n, height, width, channels), as the stock layer does."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, "float32"),
            offset=tf.cast(self.beta, "float32"),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance, n/(n-1) times what Keras keeps.
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], "float32")
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def _move(self, average: Any, value: Any) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))


def _can_be_fused(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 4
        and layer.axis in (-1, 3)
        and layer.center
        and layer.scale
        and not layer.synchronized
    )


def fused(model: Any) -> Any:
    """A copy of `model` with the same weights and layer names, on fused kernels, for training."""

    def clone(layer: Any) -> Any:
        kind = FusedBatchNormalization if _can_be_fused(layer) else type(layer)
        return kind.from_config(layer.get_config())

    inputs = keras.Input(batch_shape=model.input.shape, name=model.layers[0].name)
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
