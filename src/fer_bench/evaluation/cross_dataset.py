"""A model on another dataset: which images can be measured, and what the model may predict."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_bench.data.manifest import Manifest, regrouped
from fer_bench.errors import DataError

ClassRule = Literal["intersection", "mask_logits"]
FloatArray = NDArray[np.float64]


def shared_classes(known: Sequence[str], manifest: Manifest) -> tuple[str, ...]:
    """The classes that a model and a dataset share, in the model's order.

    Raises:
        DataError: there are fewer than two.
    """
    shared = tuple(name for name in known if name in manifest.classes)
    if len(shared) < 2:
        raise DataError(
            f"{manifest.root}: dataset '{manifest.name}' has the classes "
            f"{', '.join(manifest.classes)}; the model has {', '.join(known)}.\n"
            "At least two shared classes are needed: use another dataset or another run."
        )
    return shared


def restricted(manifest: Manifest, shared: Sequence[str]) -> Manifest:
    """The images of a dataset with a class that the model has; the others count as dropped."""
    groups = {name: [name] for name in manifest.classes if name in shared}
    return regrouped(manifest, groups, "class unknown to the model")


def answers(
    probabilities: FloatArray, known: Sequence[str], shared: Sequence[str], rule: ClassRule
) -> tuple[tuple[str, ...], FloatArray]:
    """The classes that a model may predict, and the probability of each.

    With `intersection` it keeps all its classes, and is wrong when it predicts one that the dataset
    does not have. With `mask_logits` it predicts only shared classes: the logits of the others
    count as minus infinity.

    Args:
        probabilities: softmax of all logits, shape (n, len(known)).
        known: the classes of the model.
        shared: the classes that the dataset has too.
        rule: `intersection` or `mask_logits`.

    Returns:
        The classes, and probabilities of shape (n, classes) whose rows sum to 1.
    """
    if rule == "intersection":
        return tuple(known), probabilities
    columns = [known.index(name) for name in shared]
    # A tiny number, so that a model that is certain of a masked class still predicts another one.
    kept = np.maximum(probabilities[:, columns], np.finfo(np.float64).tiny)
    return tuple(shared), kept / kept.sum(axis=1, keepdims=True)
