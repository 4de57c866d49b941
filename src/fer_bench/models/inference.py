"""Predictions of a model, batch by batch."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.models.build import named_outputs


def build_predict_step(strategy: Any, model: Any, targets: tuple[str, ...]) -> Any:
    """A `tf.function` inputs → outputs by target for the whole batch, in its order."""

    def predict_step(inputs: Any) -> Any:
        outputs = strategy.run(lambda part: model(part, training=False), args=(inputs,))
        named = named_outputs(outputs, targets)
        return {name: strategy.gather(output, axis=0) for name, output in named.items()}

    if strategy.num_replicas_in_sync > 1:  # the parts of several devices differ in shape
        return tf.function(predict_step, reduce_retracing=True)
    # Traced once for all batch sizes: tracing a large network takes longer than a step.
    signature = tf.TensorSpec((None, *model.input.shape[1:]), model.input.dtype)
    return tf.function(predict_step).get_concrete_function(signature)


def prediction_batch(model: Any, memory_bytes: int) -> int:
    """How many images to predict at a time: a power of 2 that fits into a quarter of the memory.

    While predicting, the outputs of a few layers are in memory at once: four of the largest are
    counted. At most 256: larger batches are not faster.
    """
    largest: int = max(math.prod(layer.output.shape[1:]) for layer in model.layers)
    fitting = memory_bytes // 4 // (4 * 4 * largest)
    return int(2 ** min(max(int(fitting).bit_length() - 1, 0), 8))


def answers(strategy: Any, predict_step: Any, batches: Any) -> Iterator[dict[str, NDArray[Any]]]:
    """The outputs by target, for one batch after the other."""
    for inputs in strategy.experimental_distribute_dataset(batches):
        yield {name: output.numpy() for name, output in predict_step(inputs).items()}


def predict(strategy: Any, predict_step: Any, batches: Any) -> dict[str, NDArray[np.float32]]:
    """The outputs by target for every image in `batches`, in their order.

    `expression`: logits, shape (n, C); `valence_arousal`: shape (n, 2), in [-1, 1].
    """
    parts = list(answers(strategy, predict_step, batches))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
