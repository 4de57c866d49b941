"""Metrics of the validation split, cheap enough for every epoch."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fer_bench.config.training import LESS_IS_BETTER, Training
from fer_bench.metrics.valence_arousal import concordance

Row = dict[str, float | None]


def validate(
    outputs: dict[str, NDArray[np.float32]],
    codes: NDArray[np.int32],
    valence_arousal: NDArray[np.float32],
    training: Training,
) -> Row:
    """The columns of `history.csv` that begin with `val_`.

    `val_loss` is the loss without smoothing, class weights and penalties: it can be compared
    between runs. Values are None for what is not a target, and for an undefined concordance.

    Args:
        outputs: `expression`: logits (n, C); `valence_arousal`: (n, 2) in [-1, 1]; or one of them.
        codes: true class indices, shape (n,).
        valence_arousal: true values, shape (n, 2), NaN where unknown.
        training: has the loss of valence and arousal, and its weight.
    """
    row: Row = {"val_loss": 0.0, "val_accuracy": None, "val_macro_f1": None}
    loss = 0.0
    if "expression" in outputs:
        cross_entropy, scores = _expression(outputs["expression"], codes)
        loss, row = loss + cross_entropy, row | scores
    if "valence_arousal" in outputs:
        predicted = outputs["valence_arousal"].astype(np.float64)
        per_axis = concordance(valence_arousal.astype(np.float64), predicted)
        error = np.nanmean((valence_arousal - predicted) ** 2)
        part = error if training.valence_arousal_loss == "mse" else 1 - np.nanmean(per_axis)
        loss += training.valence_arousal_weight * float(part)
        names = ("val_valence_ccc", "val_arousal_ccc", "val_mean_ccc")
        values = (*per_axis, per_axis.mean())
        numbers = (float(value) if np.isfinite(value) else None for value in values)
        row |= dict(zip(names, numbers, strict=True))
    return row | {"val_loss": loss}


def _expression(logits: NDArray[np.float32], codes: NDArray[np.int32]) -> tuple[float, Row]:
    from sklearn.metrics import f1_score  # takes a second to import; steps are trained by then

    predicted, classes = logits.argmax(axis=1), range(logits.shape[1])
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    cross_entropy = -float(log_probabilities[np.arange(len(codes)), codes].mean())
    macro_f1 = f1_score(codes, predicted, labels=classes, average="macro", zero_division=0)
    accuracy = float((codes == predicted).mean())
    return cross_entropy, {"val_accuracy": accuracy, "val_macro_f1": float(macro_f1)}


def is_better(value: float | None, best: float | None, metric: str) -> bool:
    """Whether `value` of a `val_` metric is better than `best`; None is worse than any number."""
    if value is None or best is None:
        return value is not None or best is None
    return value < best if metric in LESS_IS_BETTER else value > best
