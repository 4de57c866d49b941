"""The learning curves of a run: loss, scores and learning rate by epoch."""

import math
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from fer_bench.report import plots
from fer_bench.report.figures.png import is_current
from fer_bench.report.figures.run import learning_curves
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import Mark
from fer_bench.report.pages.scales import Scale, scale_around
from fer_bench.report.pages.svg import Series
from fer_bench.report.plots import Curve
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import RunRecord


def learning_curve_charts(run: RunDirectory, record: RunRecord) -> list[Markup]:
    """The learning curves, empty for a run without a finished epoch; also writes their PNG.

    Raises:
        RunError: the history cannot be read.
    """
    epochs_done = run.read_history()
    if not epochs_done:
        return []
    history = pd.DataFrame([epoch.to_row() for epoch in epochs_done])
    best = record.best.epoch if record.best else None
    figure = run.figures / "learning_curves.png"
    if not is_current(figure, run.history):
        learning_curves(history, figure, best)
    return charts_by_epoch(history, best)


def charts_by_epoch(history: pd.DataFrame, best: int | None) -> list[Markup]:
    """A chart of the loss, of the scores and of the learning rate, as far as they are known.

    Args:
        history: rows as of `history.csv`, at least one.
        best: the epoch whose model is kept, if there is one yet.
    """
    marks = [Mark(epoch - 0.5, stage) for epoch, stage in plots.stage_starts(history)]
    if best is not None:
        marks.append(Mark(float(best), "kept", dash=""))
    first, last = int(history["epoch"].min()), int(history["epoch"].max())
    epochs = Scale(first - 0.5, last + 0.5, "epoch", _whole)
    return [
        _chart(title, curves, epochs, marks)
        for title, curves in plots.learning_curves(history).items()
        if curves
    ]


def _chart(title: str, curves: Sequence[Curve], epochs: Scale, marks: Sequence[Mark]) -> Markup:
    lines = [Series(curve.name, curve.points, curve.colour) for curve in curves]
    values = [value for curve in curves for _, value in curve.points]
    scales = (epochs, _scale(title, values))
    return charts.line_chart(lines, scales, title, _text(title, curves, marks), marks)


def _scale(title: str, values: Sequence[float]) -> Scale:
    if title == plots.RATE:
        positive = [value for value in values if value > 0]
        # A cosine schedule ends near zero; showing all decades down to there would hide the rest.
        visible = [value for value in positive if value >= 1e-4 * max(positive)]
        return scale_around(visible, "", _power, logarithmic=True)
    if title == plots.SCORES:
        return scale_around(values, "score", lambda v: f"{v:.2f}", within=(-1, 1))
    return scale_around(values, "loss")


def _whole(value: float) -> str:
    """A tick; empty between two epochs."""
    return f"{value:.0f}" if float(value).is_integer() else ""


def _power(value: float) -> str:
    """A tick of a learning rate: `1e-5`."""
    return f"{value:.0e}".replace("e-0", "e-")


def _text(title: str, curves: Sequence[Curve], marks: Sequence[Mark]) -> str:
    """The text alternative: the first and last value of each curve, and the marks."""
    ranges = "; ".join(
        f"{curve.name} from {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}"
        for curve in curves
    )
    stages = ", ".join(f"{mark.name} at epoch {math.ceil(mark.place)}" for mark in marks)
    return f"{title} by epoch: {ranges}. Marked: {stages}."
