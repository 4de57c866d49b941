"""One dataset's model on another dataset: which images can be measured, and how it may answer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_bench.data.manifest import Manifest, regrouped
from fer_bench.errors import DataError

ClassRule = Literal["intersection", "mask_logits"]
FloatArray = NDArray[np.float64]


def shared_classes(known: Sequence[str], manifest: Manifest) -> tuple[str, ...]:
    """The classes of a model that a dataset has too, in the model's order.

    Raises:
        DataError: fewer than two, so that there is nothing to tell apart.
    """
    shared = tuple(name for name in known if name in manifest.classes)
    if len(shared) < 2:
        raise DataError(
            f"{manifest.root}: dataset '{manifest.name}' has the classes "
            f"{', '.join(manifest.classes)}; the model knows {', '.join(known)}.\n"
            "Two common classes are needed to measure it there."
        )
    return shared


def restricted(manifest: Manifest, shared: Sequence[str]) -> Manifest:
    """The images of a dataset that show a class which the model knows; the others are counted."""
    groups = {name: [name] for name in manifest.classes if name in shared}
    return regrouped(manifest, groups, "class unknown to the model")


def answers(
    probabilities: FloatArray, known: Sequence[str], shared: Sequence[str], rule: ClassRule
) -> tuple[tuple[str, ...], FloatArray]:
    """What a model may answer, and how probable it finds each answer.

    With `intersection` it keeps all its classes, and is wrong when it names one that the other
    dataset lacks. With `mask_logits` it answers within the classes that both have: the logits of
    the others count as minus infinity.

    Args:
        probabilities: softmax of all logits, shape (n, len(known)).
        known: the classes of the model.
        shared: those that the dataset has too.
        rule: one of the two.

    Returns:
        The classes, and probabilities of shape (n, classes) whose rows sum to 1.
    """
    if rule == "intersection":
        return tuple(known), probabilities
    columns = [known.index(name) for name in shared]
    # A tiny number, so that a model that is sure of a masked class still answers something.
    kept = np.maximum(probabilities[:, columns], np.finfo(np.float64).tiny)
    return tuple(shared), kept / kept.sum(axis=1, keepdims=True)
