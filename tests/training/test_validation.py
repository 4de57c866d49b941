"""The validation columns of the history."""

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from fer_bench.config.training import Training
from fer_bench.training.validation import is_better, validate

CODES = np.array([0, 1, 2, 0, 1, 2, 2], np.int32)
UNKNOWN = np.full((7, 2), np.nan, np.float32)


def logits() -> Any:
    return np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def values() -> Any:
    return np.random.default_rng(1).uniform(-1, 1, (7, 2)).astype(np.float32)


def test_expression_alone_has_the_columns_of_the_contract() -> None:
    row = validate({"expression": logits()}, CODES, UNKNOWN, Training())
    assert list(row) == ["val_loss", "val_accuracy", "val_macro_f1"]
    probabilities, predicted = softmax(logits(), axis=1), logits().argmax(axis=1)
    assert row["val_loss"] == pytest.approx(log_loss(CODES, probabilities, labels=range(3)), 1e-5)
    assert row["val_accuracy"] == (predicted == CODES).mean()
    assert row["val_macro_f1"] == pytest.approx(f1_score(CODES, predicted, average="macro"))


def test_valence_and_arousal_alone() -> None:
    true = values()
    row = validate({"valence_arousal": 0.5 * true}, CODES, true, Training())
    assert row["val_accuracy"] is row["val_macro_f1"] is None
    assert 0 < row["val_valence_ccc"] < 1  # type: ignore[operator]
    mean = np.mean([row["val_valence_ccc"], row["val_arousal_ccc"]])
    assert row["val_mean_ccc"] == pytest.approx(mean)
    assert row["val_loss"] == pytest.approx(1 - mean)


def test_both_losses_add_up() -> None:
    true = values()
    training = Training(valence_arousal_loss="mse", valence_arousal_weight=2.0)
    outputs = {"expression": logits(), "valence_arousal": true + 0.5}
    both = validate(outputs, CODES, true, training)
    one = validate({"expression": logits()}, CODES, true, training)
    assert both["val_loss"] == pytest.approx(one["val_loss"] + 2 * 0.25)  # type: ignore[operator]
    assert both["val_accuracy"] == one["val_accuracy"]


def test_samples_without_values_do_not_count() -> None:
    true, holes = values(), values()
    holes[2:4] = np.nan
    known = [0, 1, 4, 5, 6]
    outputs = {"valence_arousal": 0.5 * true}
    part = {"valence_arousal": 0.5 * true[known]}
    whole = validate(outputs, CODES, holes, Training())
    assert whole == pytest.approx(validate(part, CODES[known], true[known], Training()))


def test_an_undefined_concordance_has_no_value() -> None:
    true = values()
    true[:, 1] = np.nan
    row = validate({"valence_arousal": 0.5 * values()}, CODES, true, Training())
    assert row["val_arousal_ccc"] is row["val_mean_ccc"] is None
    assert np.isfinite(row["val_loss"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "best", "metric", "better"),
    [
        (0.5, 0.4, "val_accuracy", True),
        (0.4, 0.4, "val_accuracy", False),
        (0.5, 0.4, "val_loss", False),
        (0.3, 0.4, "val_loss", True),
        (None, 0.4, "val_mean_ccc", False),
        (0.1, None, "val_mean_ccc", True),
        (None, None, "val_mean_ccc", True),
    ],
)
def test_comparing_validation_values(value: Any, best: Any, metric: str, better: bool) -> None:
    assert is_better(value, best, metric) is better
