"""What a model says about every sample of a split, in memory."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fer_bench.labels import AXES

IntArray = NDArray[np.int64]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Expression:
    """Which expression each of n samples shows, and which one is predicted.

    Attributes:
        classes: names of the C classes.
        labels: true class codes, shape (n,), in [0, C).
        predicted: predicted class codes, shape (n,), in [0, C).
        probabilities: shape (n, C), in [0, 1], rows summing to 1.
    """

    classes: tuple[str, ...]
    labels: IntArray
    predicted: IntArray
    probabilities: FloatArray

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each sample is classified rightly, shape (n,)."""
        correct: NDArray[np.bool_] = self.labels == self.predicted
        return correct


@dataclass(frozen=True)
class ValenceArousal:
    """True and predicted valence and arousal of n samples.

    Attributes:
        true: shape (n, 2) in the order of `AXES`, in [-1, 1], NaN where unknown.
        predicted: the same for what is predicted, which is always known.
    """

    true: FloatArray
    predicted: FloatArray

    def axes(self) -> Iterator[tuple[str, FloatArray, FloatArray]]:
        """The name of each axis, its true and its predicted values, of shape (n,)."""
        return zip(AXES, self.true.T, self.predicted.T, strict=True)


@dataclass(frozen=True)
class Predictions:
    """What a model says about each sample of a split: expression, valence and arousal, or all.

    Attributes:
        sample_ids: unique names of the n samples.
        label_names: the true class name of each sample, shape (n,).
        expression: None where the model does not predict it.
        valence_arousal: None where the model does not predict them.
    """

    sample_ids: tuple[str, ...]
    label_names: NDArray[np.str_]
    expression: Expression | None = None
    valence_arousal: ValenceArousal | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    def select(self, keep: NDArray[np.bool_]) -> "Predictions":
        """The samples where `keep`, of shape (n,), is true, in the same order."""
        expression, axes = self.expression, self.valence_arousal
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
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over sample id and label of every sample, whatever their order."""
        rows = zip(self.sample_ids, self.label_names.tolist(), strict=True)
        lines = sorted(map("\t".join, rows))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
