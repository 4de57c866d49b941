"""What training minimises, summed over the global batch however many devices share it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

EPSILON = 1e-6


@dataclass(frozen=True)
class Objective:
    """The loss of one batch, from what a model says and what is true.

    Attributes:
        class_weights: factor on the cross-entropy of each class, shape (C,).
        label_smoothing: probability taken from the true class and spread over all.
        valence_arousal_loss: `mse` or `ccc` (one minus the concordance correlation).
        valence_arousal_weight: factor on it, beside the cross-entropy.
    """

    class_weights: NDArray[np.float32]
    label_smoothing: float = 0.0
    valence_arousal_loss: Literal["mse", "ccc"] = "ccc"
    valence_arousal_weight: float = 1.0

    def __call__(self, outputs: dict[str, Any], targets: dict[str, Any]) -> Any:
        """This replica's part of the loss; the parts of all replicas add up to the loss.

        Args:
            outputs: `expression`: logits (n, C); `valence_arousal`: (n, 2) in [-1, 1]; or one.
            targets: of the same names, class indices (n,) and (n, 2) with NaN where unknown.
        """
        loss = tf.constant(0.0)
        if "expression" in outputs:
            codes = targets["expression"]
            losses = cross_entropy(outputs["expression"], codes, self.label_smoothing)
            weighted = losses * tf.gather(tf.constant(self.class_weights), codes)
            count = _all_sum(tf.cast(tf.size(codes), tf.float32))
            loss += tf.reduce_sum(weighted) / count
        if "valence_arousal" in outputs:
            compute = {"mse": mean_squared_error, "ccc": discordance}[self.valence_arousal_loss]
            part = compute(targets["valence_arousal"], outputs["valence_arousal"])
            loss += self.valence_arousal_weight * part
        return loss


def cross_entropy(logits: Any, codes: Any, label_smoothing: float) -> Any:
    """Cross-entropy of each sample, shape (n,), from float32 logits (n, C) and indices (n,).

    With smoothing s the target is 1 - s + s/C for the true class and s/C for each other one
    (Szegedy et al., 2016, "Rethinking the Inception architecture", section 7).
    """
    classes = logits.shape[-1]
    target = tf.one_hot(codes, classes) * (1 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def mean_squared_error(true: Any, predicted: Any) -> Any:
    """This replica's part of the mean over all known values of both axes, (n, 2) each."""
    known, true, predicted = _masked(true, predicted)
    count = tf.maximum(_all_sum(tf.reduce_sum(known)), 1.0)
    return tf.reduce_sum(known * (true - predicted) ** 2) / count


def discordance(true: Any, predicted: Any) -> Any:
    """This replica's part of the mean over both axes of 1 - CCC, over the known values, (n, 2).

    CCC = 2 s_xy / (s_x² + s_y² + (m_x - m_y)²), the concordance correlation coefficient (Lin, 1989,
    "A concordance correlation coefficient to evaluate reproducibility"), over the global batch.
    """
    known, true, predicted = _masked(true, predicted)
    count = tf.maximum(_all_sum(tf.reduce_sum(known, axis=0)), 1.0)
    mean_true, mean_predicted = (
        _all_sum(tf.reduce_sum(known * values, axis=0)) / count for values in (true, predicted)
    )
    # Centred before they are squared: the digits of a float32 would not do otherwise.
    a, b = known * (true - mean_true), known * (predicted - mean_predicted)
    covariance, variances = (
        _all_sum(tf.reduce_sum(values, axis=0)) / count for values in (a * b, a * a + b * b)
    )
    distance = (mean_true - mean_predicted) ** 2
    concordance = 2 * covariance / (variances + distance + EPSILON)
    return tf.reduce_mean(1 - concordance) / tf.cast(_replicas(), tf.float32)


def _masked(true: Any, predicted: Any) -> tuple[Any, Any, Any]:
    """1.0 where the true value is known, and both with 0 elsewhere."""
    known = tf.math.is_finite(true)
    zeros = tf.zeros_like(true)
    return tf.cast(known, tf.float32), tf.where(known, true, zeros), predicted


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return int(context.num_replicas_in_sync)


def _all_sum(value: Any) -> Any:
    """The sum over all replicas; gradients flow through it."""
    return tf.distribute.get_replica_context().all_reduce("SUM", value)
