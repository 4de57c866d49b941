"""Temperature scaling and what a reliability diagram shows, from saved predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fer_bench.metrics.document import Cell, headline
from fer_bench.metrics.expression import (
    CALIBRATION_BINS,
    FloatArray,
    IntArray,
    calibration_bins,
    surprise,
)
from fer_bench.metrics.measure import RESAMPLES
from fer_bench.metrics.predictions import Expression, Predictions

# Where the fit looks; a model that is always right would otherwise run off to 0.
TEMPERATURES = (0.05, 20.0)
CALIBRATION_METRICS = ("nll", "brier", "ece", "ece_adaptive")


def fit_temperature(expression: Expression) -> float:
    """The temperature T at which softmax(log p / T) has the lowest likelihood loss.

    Guo et al. 2017, in log T within `TEMPERATURES`. The loss is that of the metric `nll`, in which
    a label of probability 0 costs the same at every T.

    Args:
        expression: of the validation split; at least 1 sample. Never of the split that is then
            reported.

    Returns:
        T; exactly 1 where nothing found is better.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    def loss(log_temperature: float) -> float:
        return _loss(expression, float(np.exp(log_temperature)))

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    temperature = float(np.exp(found.x))
    return temperature if _loss(expression, temperature) < _loss(expression, 1.0) else 1.0


def _loss(expression: Expression, temperature: float) -> float:
    return float(surprise(_at(expression, temperature)).mean())


def _at(expression: Expression, temperature: float) -> Expression:
    """The same predictions with other probabilities; what is predicted stays."""
    if temperature == 1:
        return expression
    with np.errstate(divide="ignore"):  # a probability of 0 stays 0
        logits = np.log(expression.probabilities)
    return Expression(
        classes=expression.classes,
        labels=expression.labels,
        predicted=expression.predicted,
        probabilities=softmax(logits / temperature, axis=1),
    )


def rescale(predictions: Predictions, temperature: float) -> Predictions:
    """Predictions with p replaced by softmax(log p / T); which class is predicted never changes.

    Args:
        predictions: those without expression come back as they are.
        temperature: T above 0; above 1 makes a model less sure of itself.
    """
    if predictions.expression is None:
        return predictions
    return Predictions(
        sample_ids=predictions.sample_ids,
        label_names=predictions.label_names,
        expression=_at(predictions.expression, temperature),
        valence_arousal=predictions.valence_arousal,
    )


def temperature_report(
    validation: Predictions, evaluated: Predictions, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """What `metrics/<evaluation>.json` says under `temperature`.

    Args:
        validation: what the temperature is fitted on.
        evaluated: what is measured with and without it.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        `value`, `fitted_on`, `n` (of validation) and, `before` and `after`, the cells of
        `CALIBRATION_METRICS`.

    Raises:
        ValueError: one of them does not predict expression.
    """
    if validation.expression is None or evaluated.expression is None:
        raise ValueError("temperature_report needs predictions of expression")
    temperature = fit_temperature(validation.expression)

    def cells(predictions: Predictions) -> dict[str, Cell]:
        return headline(predictions, seed, resamples, CALIBRATION_METRICS)

    return {
        "value": temperature,
        "fitted_on": "validation",
        "n": len(validation),
        "before": cells(evaluated),
        "after": cells(rescale(evaluated, temperature)),
    }


def reliability(
    expression: Expression, bins: int = CALIBRATION_BINS
) -> tuple[FloatArray, FloatArray, IntArray]:
    """What a reliability diagram shows of the top label.

    Args:
        expression: n samples.
        bins: number of bins of equal width over the highest probability, closed on the right.

    Returns:
        Mean highest probability, accuracy and number of samples of each bin, each of shape
        (bins,); NaN and NaN where there is no sample.
    """
    confidence = expression.probabilities.max(axis=1)
    bin_of = calibration_bins(expression, bins)

    def sums(values: NDArray[Any]) -> FloatArray:
        return np.bincount(bin_of, weights=values, minlength=bins).astype(np.float64)

    count: IntArray = np.bincount(bin_of, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return sums(confidence) / divisor, sums(expression.correct) / divisor, count
