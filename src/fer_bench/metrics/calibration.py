"""Temperature scaling and reliability diagrams, from saved predictions."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fer_bench.metrics.arrays import FloatArray, IntArray
from fer_bench.metrics.document import headline
from fer_bench.metrics.expression import CALIBRATION_BINS, calibration_bins, surprise
from fer_bench.metrics.measure import RESAMPLES
from fer_bench.metrics.predictions import Expression, Predictions
from fer_bench.metrics.schema import Cell, TemperatureEntry

# The range of the fit; for a model that is always correct it would otherwise go towards 0.
TEMPERATURES = (0.05, 20.0)
CALIBRATION_METRICS = ("nll", "brier", "ece", "ece_adaptive")


def fit_temperature(expression: Expression) -> float:
    """The temperature T at which softmax(log p / T) has the lowest negative log-likelihood.

    Guo et al. 2017, in log T within `TEMPERATURES`. The loss is the metric `nll`, in which a label
    of probability 0 costs the same at every T.

    Args:
        expression: at least 1 sample of the validation split, never of the split that is then
            reported.

    Returns:
        T; exactly 1 where no other T is better.
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
    """The same predicted classes with rescaled probabilities."""
    if temperature == 1:
        return expression
    with np.errstate(divide="ignore"):  # a probability of 0 stays 0
        logits = np.log(expression.probabilities)
    return replace(expression, probabilities=softmax(logits / temperature, axis=1))


def rescale(predictions: Predictions, temperature: float) -> Predictions:
    """Predictions with p replaced by softmax(log p / T); the predicted classes never change.

    Args:
        predictions: returned as they are if without expression.
        temperature: T above 0; a T above 1 makes a model less confident.
    """
    if predictions.expression is None:
        return predictions
    return replace(predictions, expression=_at(predictions.expression, temperature))


def temperature_report(
    validation: Predictions, evaluated: Predictions, seed: int = 0, resamples: int = RESAMPLES
) -> TemperatureEntry:
    """The key `temperature` of `metrics/<evaluation>.json`.

    Args:
        validation: what the temperature is fitted on.
        evaluated: what is measured without and with it.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        `value`, `fitted_on`, `n` (of validation), and the cells of `CALIBRATION_METRICS` `before`
        and `after`.

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
    """The points of a reliability diagram of the top label.

    Args:
        expression: n samples.
        bins: number of bins of equal width over the highest probability, closed on the right.

    Returns:
        Mean highest probability, accuracy and number of samples of each bin, each of shape
        (bins,); NaN, NaN and 0 for a bin without samples.
    """
    confidence = expression.probabilities.max(axis=1)
    bin_of = calibration_bins(expression, bins)

    def sums(values: NDArray[Any]) -> FloatArray:
        return np.bincount(bin_of, weights=values, minlength=bins).astype(np.float64)

    count: IntArray = np.bincount(bin_of, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return sums(confidence) / divisor, sums(expression.correct) / divisor, count
