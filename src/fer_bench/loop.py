"""One training step and one pass over the data, under a `tf.distribute.Strategy`."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.losses import Objective
from fer_bench.model import named_outputs


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
    strategy: Any, model: Any, optimizer: Any, totals: Totals, objective: Objective
) -> Any:
    """A `tf.function` (images, targets, step) that makes one optimizer step on every device.

    The loss is the objective over the global batch plus the model's own penalties, so that the
    gradient does not depend on how many devices share the batch. `targets` are by name.
    """
    replicas = strategy.num_replicas_in_sync

    def replica_step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = named_outputs(model(images, training=True), tuple(targets))
            penalty = tf.add_n(model.losses) if model.losses else tf.constant(0.0)
            loss = objective(outputs, targets) + penalty / replicas
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        right = _right(outputs, targets)
        return tf.stack([loss, right, tf.cast(tf.shape(images)[0], tf.float32)])

    @tf.function
    def train_step(images: Any, targets: Any, step: Any) -> None:
        result = strategy.run(replica_step, args=(images, targets))
        loss, right, count = tf.unstack(strategy.reduce("SUM", result, axis=None))
        sums = tf.cast(tf.stack([loss * count, right, count]), tf.float64)
        totals.sums.assign_add(sums)
        first_bad = tf.logical_and(totals.bad_step < 0, tf.logical_not(tf.math.is_finite(loss)))
        totals.bad_step.assign(tf.where(first_bad, step, totals.bad_step))

    return train_step


def _right(outputs: dict[str, Any], targets: dict[str, Any]) -> Any:
    """How many expressions of a batch are told rightly; 0 where none is a target."""
    if "expression" not in outputs:
        return tf.constant(0.0)
    codes = targets["expression"]
    told = tf.argmax(outputs["expression"], axis=-1, output_type=codes.dtype)
    return tf.reduce_sum(tf.cast(tf.equal(told, codes), tf.float32))


def build_predict_step(strategy: Any, model: Any, targets: tuple[str, ...]) -> Any:
    """A `tf.function` images → float32 outputs by target for the whole batch, in its order."""

    @tf.function(reduce_retracing=True)
    def predict_step(images: Any) -> Any:
        outputs = strategy.run(lambda part: model(part, training=False), args=(images,))
        named = named_outputs(outputs, targets)
        return {name: strategy.gather(output, axis=0) for name, output in named.items()}

    return predict_step


def predict(strategy: Any, predict_step: Any, batches: Any) -> dict[str, NDArray[np.float32]]:
    """By target, the outputs for every image in `batches`, in their order.

    `expression`: logits, shape (n, C); `valence_arousal`: shape (n, 2), in [-1, 1].
    """
    parts = [predict_step(images) for images in strategy.experimental_distribute_dataset(batches)]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
