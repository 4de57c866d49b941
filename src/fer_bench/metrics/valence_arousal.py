"""Metrics of valence and arousal, each over the samples whose true value is known.

The two are never pooled: a correlation over both would mostly show that their means differ.
"""

from collections.abc import Callable

import numpy as np

from fer_bench.metrics.arrays import FloatArray
from fer_bench.metrics.weighting import WeightedAxis, ratio, weigh_axis, without_rounding


def _rmse(weighted: WeightedAxis) -> FloatArray:
    """Root mean squared error, in [0, 2]; `root_mean_squared_error`."""
    return np.sqrt(weighted.mean((weighted.true - weighted.predicted) ** 2))


def _ccc(weighted: WeightedAxis) -> FloatArray:
    """Concordance correlation, in [-1, 1], with population moments (Lin 1989).

    2 s_xy / (s_x² + s_y² + (m_x - m_y)²). A constant prediction has 0; NaN only where all true and
    predicted values are one number.
    """
    distance = weighted.mean(weighted.true - weighted.predicted)
    denominator = sum(weighted.variances) + distance**2
    return ratio(2 * weighted.covariance, without_rounding(denominator), otherwise=np.nan)


def _pcc(weighted: WeightedAxis) -> FloatArray:
    """Pearson's correlation, in [-1, 1]; NaN where either side is constant; `pearsonr`."""
    true, predicted = weighted.variances
    correlation = ratio(weighted.covariance, np.sqrt(true * predicted), otherwise=np.nan)
    return np.clip(correlation, -1, 1)


def _sagr(weighted: WeightedAxis) -> FloatArray:
    """Sign agreement, in [0, 1]: proportion of samples predicted on the correct side of 0.

    As in the literature (Nicolaou et al. 2011), signs are those of `np.sign`, with 0 as a sign of
    its own: where the true value is exactly 0, only a prediction of exactly 0 agrees, which a
    network almost never makes. Every model loses such samples, mostly neutral faces.
    """
    return weighted.mean(np.sign(weighted.true) == np.sign(weighted.predicted))


AXIS_METRICS: dict[str, Callable[[WeightedAxis], FloatArray]] = {
    "rmse": _rmse,
    "ccc": _ccc,
    "pcc": _pcc,
    "sagr": _sagr,
}


def concordance(true: FloatArray, predicted: FloatArray) -> FloatArray:
    """Concordance correlation of valence and of arousal, shape (2,); NaN where not defined.

    Args:
        true: shape (n, 2), in [-1, 1]; samples with NaN are left out of that axis.
        predicted: shape (n, 2).
    """
    weights = np.ones((1, len(true)))
    columns = zip(true.T, predicted.T, strict=True)
    return np.concatenate([_ccc(weigh_axis(*axis, weights)) for axis in columns])
