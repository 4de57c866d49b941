"""One training step and one pass over the data, under a `tf.distribute.Strategy`."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class Totals:
    """Sums over the steps of an epoch, kept on the device so that no step waits for the host.

    `bad_step` is the first step whose loss was not a finite number, or -1.
    """

    def __init__(self) -> None:
        with tf.device("CPU"):
            self.sums = tf.Variable(tf.zeros(3, tf.float64), trainable=False)
            self.bad_step = tf.Variable(tf.constant(-1, tf.int64), trainable=False)

    def read(self) -> list[float]:
        """[sum of losses, right answers, images]; waits for the steps under way."""
        return [float(value) for value in self.sums.numpy()]

    def reset(self, sums: list[float]) -> None:
        """Start from `sums`: zeros, or what an interrupted epoch had reached."""
        self.sums.assign(sums)
        self.bad_step.assign(-1)


def build_train_step(
    strategy: Any,
    model: Any,
    optimizer: Any,
    totals: Totals,
    label_smoothing: float,
    class_weights: NDArray[np.float32],
) -> Any:
    """A `tf.function` (images, codes, step) that makes one optimizer step on every device.

    The loss is the cross-entropy summed over the global batch and divided by its size, plus the
    model's own penalties, so that the gradient does not depend on how many devices share it.
    `class_weights`, shape (C,), multiply the loss of each class.
    """
    weights = tf.constant(class_weights, tf.float32)
    replicas = strategy.num_replicas_in_sync

    def replica_step(images: Any, codes: Any) -> Any:
        batch_size = tf.cast(tf.shape(images)[0] * replicas, tf.float32)
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = cross_entropy(logits, codes, label_smoothing) * tf.gather(weights, codes)
            penalty = tf.add_n(model.losses) if model.losses else tf.constant(0.0)
            loss = tf.reduce_sum(losses) / batch_size + penalty / replicas
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        correct = tf.equal(tf.argmax(logits, axis=-1, output_type=codes.dtype), codes)
        right = tf.reduce_sum(tf.cast(correct, tf.float32))
        return tf.stack([loss, right, tf.cast(tf.shape(images)[0], tf.float32)])

    @tf.function
    def train_step(images: Any, codes: Any, step: Any) -> None:
        result = strategy.run(replica_step, args=(images, codes))
        loss, right, count = tf.unstack(strategy.reduce("SUM", result, axis=None))
        sums = tf.cast(tf.stack([loss * count, right, count]), tf.float64)
        totals.sums.assign_add(sums)
        first_bad = tf.logical_and(totals.bad_step < 0, tf.logical_not(tf.math.is_finite(loss)))
        totals.bad_step.assign(tf.where(first_bad, step, totals.bad_step))

    return train_step


def cross_entropy(logits: Any, codes: Any, label_smoothing: float) -> Any:
    """Cross-entropy of each sample, shape (n,), from float32 logits (n, C) and indices (n,).

    With smoothing s the target is 1 - s + s/C for the true class and s/C for each other one
    (Szegedy et al., 2016, "Rethinking the Inception architecture", section 7).
    """
    classes = logits.shape[-1]
    target = tf.one_hot(codes, classes) * (1 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def build_predict_step(strategy: Any, model: Any) -> Any:
    """A `tf.function` images → float32 logits of the whole batch, in its order."""

    @tf.function(reduce_retracing=True)
    def predict_step(images: Any) -> Any:
        logits = strategy.run(lambda part: model(part, training=False), args=(images,))
        return strategy.gather(logits, axis=0)

    return predict_step


def predict(strategy: Any, predict_step: Any, batches: Any) -> NDArray[np.float32]:
    """Logits of every image in `batches`, in their order, shape (n, C)."""
    parts = [
        predict_step(images).numpy() for images in strategy.experimental_distribute_dataset(batches)
    ]
    return np.concatenate(parts)
