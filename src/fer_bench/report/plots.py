"""What each plot shows, whether it is drawn as a PNG file or as SVG in a page."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.report.palette import BLUE, GREEN, GREY, ORANGE, PURPLE

Document = Mapping[str, Any]

SEVERITIES = (1, 2, 3, 4, 5)
# The colours of the corruptions of one family, in order.
FAMILY_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
DENSITY_BINS = 41

LOSS, SCORES, RATE = "Loss", "Scores", "Learning rate"
_CURVES = {
    LOSS: {"loss": ("training", GREY), "val_loss": ("validation", BLUE)},
    SCORES: {
        "accuracy": ("training accuracy", GREY),
        "val_accuracy": ("validation accuracy", BLUE),
        "val_macro_f1": ("validation macro F1", ORANGE),
        "val_valence_ccc": ("validation valence CCC", GREEN),
        "val_arousal_ccc": ("validation arousal CCC", PURPLE),
    },
    RATE: {"learning_rate": ("learning rate", GREEN)},
}
CURVE_COLUMNS = tuple(column for columns in _CURVES.values() for column in columns)


@dataclass(frozen=True)
class Curve:
    """A column of a history by epoch; only finite values."""

    name: str
    colour: str
    points: list[tuple[int, float]]


def learning_curves(history: pd.DataFrame) -> dict[str, list[Curve]]:
    """The curves of each learning plot: loss, scores and learning rate.

    Args:
        history: the rows of `history.csv`. A column that is missing or empty has no curve.
    """
    return {title: list(_curves(history, columns)) for title, columns in _CURVES.items()}


def _curves(history: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> Iterator[Curve]:
    for column, (name, colour) in columns.items():
        if column not in history:
            continue
        rows = zip(history["epoch"], history[column].astype(float), strict=True)
        points = [(int(epoch), float(value)) for epoch, value in rows if math.isfinite(value)]
        if points:
            yield Curve(name, colour, points)


def stage_starts(history: pd.DataFrame) -> list[tuple[int, str]]:
    """The first epoch of each stage, and the name of the stage; none where they have no names."""
    if "stage" not in history:
        return []
    first = history[history["stage"] != history["stage"].shift()]
    return [
        (int(epoch), str(name)) for epoch, name in zip(first["epoch"], first["stage"], strict=True)
    ]


def row_shares(matrix: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """A confusion matrix as shares of its rows, the true classes; NaN in a row without samples."""
    support = matrix.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.full(matrix.shape, np.nan)
    np.divide(matrix, support, out=shares, where=support > 0)
    return shares


def density(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The number of points in each cell of the square from -1 to 1, and the edges of the cells.

    Args:
        x: shape (n,), in [-1, 1].
        y: the same for the other axis.

    Returns:
        Counts of shape (`DENSITY_BINS`, `DENSITY_BINS`), indexed by x and then y, and the
        `DENSITY_BINS` + 1 edges, which both axes share.
    """
    counts, edges, _ = np.histogram2d(x, y, bins=DENSITY_BINS, range=[[-1, 1], [-1, 1]])
    return counts, edges


def conditions_by_family(document: Document) -> dict[str, dict[str, list[Document]]]:
    """The conditions of a corruption document by family and corruption, in its own order."""
    families: dict[str, dict[str, list[Document]]] = {}
    for condition in document.get("conditions") or []:
        family = families.setdefault(condition.get("family", ""), {})
        family.setdefault(condition["corruption"], []).append(condition)
    return families
