"""Losses over the global batch, whatever number of devices shares it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.data.pipeline import SOFT_LABELS

EPSILON = 1e-6
# The weight of a class without votes in the loss `multi_target`, so that there is always a gradient
# (FERPlus release, src/ferplus.py).
MULTI_TARGET_EPSILON = 1e-3


@dataclass(frozen=True)
class Objective:
    """The loss of one batch.

    Attributes:
        class_weights: factor on the loss of the samples of each class, shape (C,); a sample with a
            soft label counts as its hard label.
        label_smoothing: probability taken from the target and spread over all classes.
        valence_arousal_loss: `mse` or `ccc` (one minus the concordance correlation).
        valence_arousal_weight: factor on that loss; the loss of the expression has 1.
        expression_loss: `cross_entropy`, or `multi_target`, which needs soft labels.
    """

    class_weights: NDArray[np.float32]
    label_smoothing: float = 0.0
    valence_arousal_loss: Literal["mse", "ccc"] = "ccc"
    valence_arousal_weight: float = 1.0
    expression_loss: Literal["cross_entropy", "multi_target"] = "cross_entropy"

    def __call__(self, outputs: dict[str, Any], targets: dict[str, Any]) -> Any:
        """This replica's part of the loss; the parts of all replicas add up to the loss.

        Args:
            outputs: `expression`: logits (n, C); `valence_arousal`: (n, 2) in [-1, 1]; or one.
            targets: by the same names, class indices (n,) and (n, 2) with NaN where unknown; with
                soft labels also `SOFT_LABELS` (n, C).
        """
        loss = tf.constant(0.0)
        if "expression" in outputs:
            codes = targets["expression"]
            losses = self._of_expression(outputs["expression"], codes, targets.get(SOFT_LABELS))
            weighted = losses * tf.gather(tf.constant(self.class_weights), codes)
            count = _all_sum(tf.cast(tf.size(codes), tf.float32))
            loss += tf.reduce_sum(weighted) / count
        if "valence_arousal" in outputs:
            compute = {"mse": mean_squared_error, "ccc": discordance}[self.valence_arousal_loss]
            part = compute(targets["valence_arousal"], outputs["valence_arousal"])
            loss += self.valence_arousal_weight * part
        return loss

    def _of_expression(self, logits: Any, codes: Any, shares: Any) -> Any:
        """The loss of each sample, shape (n,)."""
        if shares is None:
            return cross_entropy(logits, codes, self.label_smoothing)
        if self.expression_loss == "multi_target":
            return multi_target(logits, shares)
        return soft_cross_entropy(logits, shares, self.label_smoothing)


def cross_entropy(logits: Any, codes: Any, label_smoothing: float) -> Any:
    """Cross-entropy of each sample, shape (n,), from float32 logits (n, C) and indices (n,).

    With smoothing s the target is 1 - s + s/C for the true class and s/C for each other one
    (Szegedy et al., 2016, "Rethinking the Inception architecture", section 7).
    """
    return soft_cross_entropy(logits, tf.one_hot(codes, logits.shape[-1]), label_smoothing)


def soft_cross_entropy(logits: Any, shares: Any, label_smoothing: float) -> Any:
    """-sum_c q_c log p_c of each sample, shape (n,), from float32 logits and shares, (n, C) each.

    q are the shares, or with smoothing s (1 - s) q + s/C.
    """
    target = shares * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def multi_target(logits: Any, shares: Any) -> Any:
    """-log max_c t_c p_c of each sample, shape (n,), from float32 logits and shares, (n, C) each.

    t is 1 where the share is positive, `MULTI_TARGET_EPSILON` elsewhere: every class with votes is
    correct (Barsoum et al., 2016, "Training deep networks for facial expression recognition with
    crowd-sourced label distribution", section 4.2, and its release).
    """
    factors = tf.where(shares > 0, 1.0, MULTI_TARGET_EPSILON)
    return -tf.reduce_max(tf.math.log(factors) + tf.nn.log_softmax(logits), axis=-1)


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
    # Centred before they are squared: float32 does not have enough digits otherwise.
    a, b = known * (true - mean_true), known * (predicted - mean_predicted)
    covariance, variances = (
        _all_sum(tf.reduce_sum(values, axis=0)) / count for values in (a * b, a * a + b * b)
    )
    distance = (mean_true - mean_predicted) ** 2
    concordance = 2 * covariance / (variances + distance + EPSILON)
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return tf.reduce_mean(1 - concordance) / tf.cast(replicas, tf.float32)


def _masked(true: Any, predicted: Any) -> tuple[Any, Any, Any]:
    """1.0 where the true value is known, and both with 0 elsewhere."""
    known = tf.math.is_finite(true)
    zeros = tf.zeros_like(true)
    return tf.cast(known, tf.float32), tf.where(known, true, zeros), predicted


def _all_sum(value: Any) -> Any:
    """The sum over all replicas; gradients flow through it."""
    return tf.distribute.get_replica_context().all_reduce("SUM", value)
