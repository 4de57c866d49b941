"""Charts of the saved predictions: calibration, ROC curves, valence and arousal."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fer_bench.comparison.member import look_up
from fer_bench.metrics.calibration import CALIBRATION_METRICS, reliability, rescale
from fer_bench.metrics.predictions import Expression, Predictions
from fer_bench.report import wording
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import DASHES
from fer_bench.report.pages.evaluation import Document, is_cell
from fer_bench.report.pages.scales import Scale, percent
from fer_bench.report.pages.svg import Key, Series
from fer_bench.report.palette import BLUE, ORANGE, class_colours

# A curve of this many points is as smooth as a page can show.
CURVE_POINTS = 80


def calibration_chart(predictions: Predictions, metrics: Document) -> Markup | None:
    """Confidence against accuracy, before and after temperature scaling if there is one."""
    if predictions.expression is None:
        return None
    series = [(Key("as predicted", BLUE), _bins(predictions.expression))]
    temperature = look_up(metrics, "temperature", "value")
    if temperature:
        scaled = rescale(predictions, temperature).expression
        if scaled is not None:
            name = f"after temperature {temperature:.2f}"
            series.append((Key(name, ORANGE, DASHES[1]), _bins(scaled)))
    errors = [
        f"{key.name}, calibration error (15 bins) "
        f"{wording.write_value('ece', _calibration_error(bins))}"
        for key, bins in series
    ]
    text = "Accuracy against confidence in 15 bins, with the number of images in each: "
    return charts.reliability_chart(
        series, "Confidence and accuracy", text + "; ".join(errors) + "."
    )


def _bins(expression: Expression) -> list[tuple[float, float, int]]:
    confidence, accuracy, count = reliability(expression)
    return [
        (float(x), float(y), int(n)) for x, y, n in zip(confidence, accuracy, count, strict=True)
    ]


def _calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    total = sum(n for *_, n in bins)
    return sum(n * abs(confidence - accuracy) for confidence, accuracy, n in bins if n) / total


def temperature_rows(metrics: Document) -> list[dict[str, str]]:
    """The calibration metrics before and after temperature scaling."""
    temperature = metrics.get("temperature") or {}
    return [
        {"label": wording.write_label(name)}
        | {
            side: wording.write_cell(name, look_up(temperature, side, name))
            for side in ("before", "after")
        }
        for name in CALIBRATION_METRICS
        if look_up(temperature, "before", name)
    ]


def roc_chart(predictions: Predictions, per_class: Sequence[Document]) -> Markup | None:
    """One-vs-rest ROC curves of the classes that occur."""
    expression = predictions.expression
    if expression is None:
        return None
    colours = class_colours(expression.classes)
    known = {entry["name"]: entry for entry in per_class}
    series, names = [], []
    for code, name in enumerate(expression.classes):
        positive = expression.labels == code
        if not 0 < positive.sum() < len(positive):
            continue
        area = look_up(known, name, "auc")
        written = f"{name}, AUC {wording.write_value('auc', area)}"
        points = roc_curve(expression.probabilities[:, code], positive)
        series.append(Series(written, points, colours[name], DASHES[code % len(DASHES)]))
        names.append(written)
    if not series:
        return None
    scales = (
        Scale(0, 1, "false positive rate", percent),
        Scale(0, 1, "true positive rate", percent),
    )
    text = f"Receiver operating characteristic of each class against the rest: {'; '.join(names)}."
    return charts.line_chart(series, scales, "ROC, each class against the rest", text, height=300)


def roc_curve(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), at most `CURVE_POINTS`.

    Args:
        scores: a higher one is more confident of the class; shape (n,).
        positive: which samples are of the class, shape (n,); neither all nor none.
    """
    order = np.argsort(-scores, kind="stable")
    hits, total = np.cumsum(positive[order]), np.arange(1, len(order) + 1)
    # Samples with equal scores make one point: that of the last of them.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.concatenate([[0.0], hits[ends] / hits[-1]])
    false = np.concatenate([[0.0], (total - hits)[ends] / (len(order) - hits[-1])])
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(true)) + np.abs(np.diff(false)))])
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
    chosen = np.unique(np.append(np.minimum(chosen, len(length) - 1), len(length) - 1))
    return list(zip(false[chosen].tolist(), true[chosen].tolist(), strict=True))


def axis_charts(predictions: Predictions, metrics: Document) -> list[Markup]:
    """Predicted against true valence, and arousal."""
    if predictions.valence_arousal is None:
        return []
    drawn = []
    for name, true, predicted in predictions.valence_arousal.axes():
        known = ~np.isnan(true)
        cell = look_up(metrics, name, "ccc")
        ccc = f"CCC {wording.write_cell('ccc', cell)}" if is_cell(cell) else ""
        title = f"{name.capitalize()}, n = {known.sum():,}"
        text = f"Predicted against true {name} of {known.sum()} images. {ccc}".strip()
        labels = (f"true {name}", f"predicted {name}")
        drawn.append(charts.density_chart(true[known], predicted[known], labels, title, text))
    return drawn
