"""What a model predicts for every sample of a split, in memory."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fer_bench.labels import AXES
from fer_bench.metrics.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Classification:
    """The true and the predicted class of n samples, without probabilities.

    Attributes:
        classes: names of the C classes.
        labels: true class codes, shape (n,), in [0, C).
        predicted: predicted class codes, shape (n,), in [0, C).
    """

    classes: tuple[str, ...]
    labels: IntArray
    predicted: IntArray

    @cached_property
    def correct(self) -> BoolArray:
        """Whether each sample is classified correctly, shape (n,)."""
        correct: BoolArray = self.labels == self.predicted
        return correct


@dataclass(frozen=True)
class Expression(Classification):
    """The expressions of n samples: true, predicted, and the probability of each class.

    Attributes:
        probabilities: shape (n, C), in [0, 1], rows summing to 1.
    """

    probabilities: FloatArray


@dataclass(frozen=True)
class ValenceArousal:
    """True and predicted valence and arousal of n samples.

    Attributes:
        true: shape (n, 2) in the order of `AXES`, in [-1, 1], NaN where unknown.
        predicted: shape (n, 2), in [-1, 1], never NaN.
    """

    true: FloatArray
    predicted: FloatArray

    def axes(self) -> Iterator[tuple[str, FloatArray, FloatArray]]:
        """The name of each axis with its true and its predicted values, shape (n,)."""
        return zip(AXES, self.true.T, self.predicted.T, strict=True)


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for each sample of a split: expression, valence and arousal, or both.

    Attributes:
        sample_ids: unique names of the n samples.
        label_names: the true class name of each sample, shape (n,).
        expression: None where the model does not predict it, or only its classes are known.
        valence_arousal: None where the model does not predict them.
        classes_only: the predicted expressions where their probabilities were not read.
    """

    sample_ids: tuple[str, ...]
    label_names: NDArray[np.str_]
    expression: Expression | None = None
    valence_arousal: ValenceArousal | None = None
    classes_only: Classification | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def classification(self) -> Classification | None:
        """The predicted expressions, with or without probabilities; None without expression."""
        return self.expression or self.classes_only

    def select(self, keep: BoolArray) -> "Predictions":
        """The samples where `keep`, of shape (n,), is true, in the same order."""
        expression, axes, only = self.expression, self.valence_arousal, self.classes_only
        return Predictions(
            sample_ids=tuple(itertools.compress(self.sample_ids, keep)),
            label_names=self.label_names[keep],
            expression=expression
            and replace(
                expression,
                labels=expression.labels[keep],
                predicted=expression.predicted[keep],
                probabilities=expression.probabilities[keep],
            ),
            valence_arousal=axes and ValenceArousal(axes.true[keep], axes.predicted[keep]),
            classes_only=only
            and replace(only, labels=only.labels[keep], predicted=only.predicted[keep]),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sample ids and labels, independent of their order."""
        rows = zip(self.sample_ids, self.label_names.tolist(), strict=True)
        lines = sorted(map("\t".join, rows))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
