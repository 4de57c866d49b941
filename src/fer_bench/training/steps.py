"""Compiled training steps, many in one call, under a `tf.distribute.Strategy`."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.data.pipeline import SOFT_LABELS
from fer_bench.device.selection import Device
from fer_bench.models.build import named_outputs
from fer_bench.timing import timed
from fer_bench.training.losses import Objective

# The most steps per call of the function that `build_train_steps` returns.
MOST_STEPS = 1024
# More than any layer draws in a run; with so many per device, all draws fit into 63 bits.
_DRAWS_PER_DEVICE = 2**40


class Totals:
    """Sums over the steps of an epoch, kept on the device so that no step waits for the host.

    `bad_step` is the first step whose loss was not a finite number, or -1.
    """

    def __init__(self) -> None:
        with tf.device("CPU"):
            self.sums = tf.Variable(tf.zeros(3, tf.float64), trainable=False)
            self.bad_step = tf.Variable(tf.constant(-1, tf.int64), trainable=False)

    def read(self) -> list[float]:
        """[sum of losses, correct predictions, images]; waits for the steps that are running."""
        return [float(value) for value in self.sums.numpy()]

    def reset(self, sums: list[float]) -> None:
        """Start from `sums`: zeros, or the sums of an interrupted epoch."""
        self.sums.assign(sums)
        self.bad_step.assign(-1)


def build_train_step(
    strategy: Any,
    model: Any,
    optimizer: Any,
    totals: Totals,
    objective: Objective,
    forward: Callable[[Any], Any] | None = None,
    *,
    compiled: bool = False,
) -> Any:
    """A `tf.function` (inputs, targets, step) that makes one optimizer step on every device.

    The loss is the objective over the global batch plus the model's own penalties, so that the
    gradient does not depend on how many devices share the batch. `targets` are by name.

    Args:
        strategy: the devices that share a batch.
        model: its trainable variables are updated, its penalties are added to the loss.
        optimizer: built for the trainable variables of `model`.
        totals: the sums that the step adds to.
        objective: the loss of a batch.
        forward: gives the outputs for the inputs while training; None: `model` itself.
        compiled: whether XLA compiles the step.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        _draw_per_device(model)
    forward = forward or (lambda images: model(images, training=True))

    @tf.function(jit_compile=compiled)
    def replica_step(inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            names = tuple(name for name in targets if name != SOFT_LABELS)
            outputs = named_outputs(forward(inputs), names)
            penalty = tf.add_n(model.losses) if model.losses else tf.constant(0.0)
            loss = objective(outputs, targets) + penalty / replicas
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        correct = _correct(outputs, targets)
        return tf.stack([loss, correct, tf.cast(tf.shape(inputs)[0], tf.float32)])

    @tf.function
    def train_step(inputs: Any, targets: Any, step: Any) -> None:
        result = strategy.run(replica_step, args=(inputs, targets))
        loss, correct, count = tf.unstack(strategy.reduce("SUM", result, axis=None))
        sums = tf.cast(tf.stack([loss * count, correct, count]), tf.float64)
        totals.sums.assign_add(sums)
        first_bad = tf.logical_and(totals.bad_step < 0, tf.logical_not(tf.math.is_finite(loss)))
        totals.bad_step.assign(tf.where(first_bad, step, totals.bad_step))

    return train_step


def _draw_per_device(model: Any) -> None:
    """Let each device draw its own noise; the first draws what a single device would draw."""
    for layer in model.layers:
        if generator := getattr(layer, "seed_generator", None):
            generator.next = types.MethodType(_next_seed_of_device, generator)


def _next_seed_of_device(generator: Any, ordered: bool = True) -> Any:
    """`keras.random.SeedGenerator.next`, whose state is the same on all devices."""
    seed, draws = tf.unstack(type(generator).next(generator, ordered))
    device = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, draws.dtype)
    return tf.stack([seed, draws + device * _DRAWS_PER_DEVICE])


def build_train_steps(train_step: Any, optimizer: Any) -> Any:
    """A function (batches, rates, first_step) that makes one step per learning rate, in one call.

    `batches` is an iterator of (inputs, targets), `rates` the learning rates of the steps, at most
    `MOST_STEPS`, and `first_step` the number of the first step. No step waits for Python.
    """

    @tf.function
    def steps(batches: Any, rates: Any, first_step: Any, count: Any) -> None:
        for index in tf.range(count):
            optimizer.learning_rate = rates[index]
            inputs, targets = next(batches)
            train_step(inputs, targets, first_step + tf.cast(index, tf.int64))

    def train_steps(batches: Any, rates: NDArray[np.float32], first_step: int) -> None:
        padded = np.zeros(MOST_STEPS, np.float32)  # of one shape, so that it is traced once
        padded[: len(rates)] = rates
        number, count = tf.constant(first_step, tf.int64), tf.constant(len(rates))
        traced = steps.experimental_get_tracing_count()
        with timed("training steps" if traced else "tracing and making the first step"):
            steps(batches, tf.constant(padded), number, count)

    return train_steps


def _correct(outputs: dict[str, Any], targets: dict[str, Any]) -> Any:
    """The number of correctly classified samples in the batch; 0 without expressions."""
    if "expression" not in outputs:
        return tf.constant(0.0)
    codes = targets["expression"]
    predicted = tf.argmax(outputs["expression"], axis=-1, output_type=codes.dtype)
    return tf.reduce_sum(tf.cast(tf.equal(predicted, codes), tf.float32))


def distributed(device: Device, batches: Any) -> Any:
    """`batches`, each divided among the replicas of a device and copied there ahead of time.

    With several workers, each has read only its own parts, one for each replica.
    """
    if device.workers > 1:
        return device.strategy.distribute_datasets_from_function(lambda _: batches)
    if device.strategy.num_replicas_in_sync > 1:
        return device.strategy.experimental_distribute_dataset(batches)
    if device.kind == "cpu":
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))
