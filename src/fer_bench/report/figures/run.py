"""The PNG figures of a run: learning curves, confusion matrix, predicted against true axes."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from fer_bench.metrics.predictions import ValenceArousal
from fer_bench.report import plots
from fer_bench.report.figures.density import draw_density
from fer_bench.report.figures.png import Target, save_figure
from fer_bench.report.palette import GREY


def confusion_matrix(
    matrix: NDArray[np.integer[Any]], classes: Sequence[str], target: Target, title: str
) -> None:
    """Draw counts and row percentages; the diagonal is the recall of each class.

    Args:
        matrix: counts, rows true and columns predicted, shape (C, C).
        classes: C names in the same order.
        target: the PNG to write, as a path or an open file.
        title: one line above the matrix.
    """
    support, shares = matrix.sum(axis=1), plots.row_shares(matrix)
    size = 2.2 + 0.85 * len(classes)
    figure = Figure(figsize=(size + 0.9, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(
            column,
            row,
            f"{shares[row, column]:.0%}\n{count}" if support[row] else "-",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if shares[row, column] > 0.5 else "black",
        )
    labels = [f"{name}\n(n = {n})" for name, n in zip(classes, support, strict=True)]
    axes.set_yticks(range(len(classes)), labels)
    axes.set_xticks(range(len(classes)), list(classes), rotation=40, ha="right")
    axes.set(xlabel="predicted", ylabel="true", title=textwrap.fill(title, int(10 * size)))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    save_figure(figure, target)


def learning_curves(history: pd.DataFrame, target: Target, best_epoch: int | None = None) -> None:
    """Draw loss, scores and learning rate by epoch, with stage boundaries.

    Args:
        history: the rows of `history.csv`; metrics may be missing for some epochs.
        target: the PNG to write, as a path or an open file.
        best_epoch: the epoch whose model was kept; marked if given.
    """
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    panels: tuple[Axes, ...] = tuple(figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1.6]))
    loss, scores, rate = panels
    curves = plots.learning_curves(history)
    for axes, drawn in zip(panels, curves.values(), strict=True):
        for curve in drawn:
            epochs, values = zip(*curve.points, strict=True)
            axes.plot(epochs, values, "o-", markersize=3, color=curve.colour, label=curve.name)
    loss.set_ylabel("loss")
    scores.set_ylabel("score")
    if not any("CCC" in curve.name for curve in curves[plots.SCORES]):
        scores.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for line in rate.lines:
        line.set_drawstyle("steps-mid")
    rate.set(yscale="log", ylabel="learning rate", xlabel="epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rate.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    stages = plots.stage_starts(history)
    for axes in panels:
        _mark_epochs(axes, [epoch for epoch, _ in stages[1:]], best_epoch)
    _name_stages(loss, stages)
    for axes in (loss, scores):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9)
    save_figure(figure, target)


def _mark_epochs(axes: Axes, starts: Sequence[int], best_epoch: int | None) -> None:
    for epoch in starts:
        axes.axvline(epoch - 0.5, color="black", linewidth=0.8, linestyle=":")
    if best_epoch is not None:
        axes.axvline(
            best_epoch, color="black", linewidth=1, linestyle="--", zorder=1, label="epoch kept"
        )


def _name_stages(axes: Axes, stages: Sequence[tuple[int, str]]) -> None:
    for index, (epoch, stage) in enumerate(stages):
        # Two heights, so that the name of a short stage doesn't run into the next.
        place = (epoch - 0.5, 1.02 + 0.07 * (index % 2))
        axes.annotate(stage, place, xycoords=axes.get_xaxis_transform(), fontsize=9)


def valence_arousal_scatter(
    valence_arousal: ValenceArousal, captions: Sequence[str], target: Target, title: str
) -> None:
    """Draw the density of samples by true and predicted value, valence beside arousal.

    Args:
        valence_arousal: of n samples; those without a true value are not drawn.
        captions: the titles of both plots.
        target: the PNG to write, as a path or an open file.
        title: one line above both.
    """
    figure = Figure(figsize=(9.4, 4.8), layout="compressed")
    figure.suptitle(textwrap.fill(title, 90))
    panels = zip(figure.subplots(1, 2), valence_arousal.axes(), captions, strict=True)
    for axes, (name, true, predicted), caption in panels:
        known = ~np.isnan(true)
        axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=0.8, linestyle="--")
        draw_density(axes, true[known], predicted[known])
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
        axes.set_title(caption, fontsize=10)
    save_figure(figure, target)
