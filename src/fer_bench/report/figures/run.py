"""PNG figures, drawn without any global state and without a display."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_bench.data.manifest import Manifest
from fer_bench.metrics.predictions import ValenceArousal
from fer_bench.report.palette import BLUE as BLUE
from fer_bench.report.palette import GREEN as GREEN
from fer_bench.report.palette import GREY as GREY
from fer_bench.report.palette import ORANGE as ORANGE
from fer_bench.report.palette import PURPLE as PURPLE
from fer_bench.report.palette import SPLITS
from fer_bench.storage.files import write_atomically

Target = Path | BinaryIO
# A value and the bounds of its interval.
Interval = tuple[float, float, float]

DOTS_PER_INCH = 150


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
    support = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, support, out=np.zeros(matrix.shape), where=support > 0)
    size = 2.2 + 0.85 * len(classes)
    figure = Figure(figsize=(size + 0.9, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(
            column,
            row,
            f"{share[row, column]:.0%}\n{count}" if support[row, 0] else "-",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share[row, column] > 0.5 else "black",
        )
    labels = [f"{name}\n(n = {n})" for name, n in zip(classes, support[:, 0], strict=True)]
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
        best_epoch: the epoch whose model was kept, marked when given.
    """
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    loss, score, rate = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1.6])
    _curves(loss, history, {"loss": ("training", GREY), "val_loss": ("validation", BLUE)})
    loss.set_ylabel("loss")
    _curves(
        score,
        history,
        {
            "accuracy": ("training accuracy", GREY),
            "val_accuracy": ("validation accuracy", BLUE),
            "val_macro_f1": ("validation macro F1", ORANGE),
            "val_valence_ccc": ("validation valence CCC", GREEN),
            "val_arousal_ccc": ("validation arousal CCC", PURPLE),
        },
    )
    if "val_valence_ccc" not in history or history["val_valence_ccc"].isna().all():
        score.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    score.set_ylabel("score")
    steps = rate.plot(history["epoch"], history["learning_rate"], "o-", markersize=3, color=GREEN)
    steps[0].set_drawstyle("steps-mid")
    rate.set(yscale="log", ylabel="learning rate", xlabel="epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rate.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    for axes in (loss, score, rate):
        _mark_epochs(axes, history, best_epoch)
    _name_stages(loss, history)
    for axes in (loss, score):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9)
    save_figure(figure, target)


def accuracy_intervals(
    rows: Sequence[tuple[str, float, float, float]], target: Target, title: str
) -> None:
    """Draw one accuracy a line with its 95% interval, first row on top.

    Args:
        rows: (name, value, low, high) of each run, in [0, 1]; at least one.
        target: the PNG to write, as a path or an open file.
        title: one line above the figure.
    """
    figure = Figure(figsize=(8.5, 1.3 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    _name_rows(axes, [name for name, *_ in rows])
    cells = [row[1:] for row in rows]
    axes.axvspan(*cells[0][1:], color=BLUE, alpha=0.1, linewidth=0)
    _intervals(axes, np.arange(len(rows)), cells, BLUE)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set(xlabel="accuracy with 95% interval (band: the first row's)", title=title)
    save_figure(figure, target)


def concordance_intervals(
    names: Sequence[str], axes_cells: Mapping[str, Sequence[Interval]], target: Target, title: str
) -> None:
    """Draw the concordance correlation of each axis, a line for each name, first name on top.

    Args:
        names: of the runs; at least one.
        axes_cells: for `valence` and `arousal`, the (value, low, high) of each run, in [-1, 1];
            NaN where it is not defined.
        target: the PNG to write, as a path or an open file.
        title: one line above the figure.
    """
    figure = Figure(figsize=(8.5, 1.5 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    _name_rows(axes, names)
    for (axis, cells), colour, shift in zip(
        axes_cells.items(), (BLUE, ORANGE), (-0.14, 0.14), strict=True
    ):
        _intervals(axes, np.arange(len(names)) + shift, cells, colour, label=axis)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False
    )
    axes.set(xlabel="concordance correlation (CCC) with 95% interval", title=title)
    save_figure(figure, target)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 44) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def _intervals(
    axes: Axes,
    places: NDArray[np.floating[Any] | np.integer[Any]],
    cells: Sequence[Interval],
    colour: str,
    label: str | None = None,
) -> None:
    value, low, high = np.array(cells).T
    axes.errorbar(
        value,
        places,
        xerr=[value - low, high - value],
        fmt="o",
        color=colour,
        capsize=3,
        markersize=5,
        label=label,
    )


def valence_arousal_scatter(
    valence_arousal: ValenceArousal, captions: Sequence[str], target: Target, title: str
) -> None:
    """Draw predicted against true values, valence beside arousal, as a density of samples.

    Args:
        valence_arousal: of n samples; those without a true value are not drawn.
        captions: what stands above valence and above arousal.
        target: the PNG to write, as a path or an open file.
        title: one line above both.
    """
    figure = Figure(figsize=(9.4, 4.8), layout="compressed")
    figure.suptitle(textwrap.fill(title, 90))
    drawn = zip(figure.subplots(1, 2), valence_arousal.axes(), captions, strict=True)
    for axes, (name, true, predicted), caption in drawn:
        known = ~np.isnan(true)
        axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=0.8, linestyle="--")
        _density(axes, true[known], predicted[known])
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
        axes.set_title(caption, fontsize=10)
    save_figure(figure, target)


def dataset_counts(manifest: Manifest, target: Target) -> None:
    """Draw the number of images by class and split and, where known, valence against arousal.

    Args:
        manifest: what is drawn; its name and release stand above.
        target: the PNG to write, as a path or an open file.
    """
    counts, samples = manifest.counts(), manifest.samples
    circumplex = "valence" in samples and bool(samples["valence"].notna().any())
    figure = Figure(figsize=(11 if circumplex else 7.5, 4.4), layout="constrained")
    ratios = [1.4, 1] if circumplex else [1]
    bars, *others = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    width = 0.8 / len(counts)
    for place, (split, of) in enumerate(counts.items()):
        colour = SPLITS[split]
        left = np.arange(len(of)) + (place - (len(counts) - 1) / 2) * width
        drawn = bars.bar(left, list(of.values()), width, color=colour, label=split)
        bars.bar_label(drawn, [f"{n:,}" for n in of.values()], fontsize=7, rotation=90, padding=3)
    bars.set_xticks(range(len(manifest.classes)), manifest.classes, rotation=30, ha="right")
    bars.margins(y=0.18)
    bars.set(ylabel="images", title=f"{manifest.name}, {manifest.release}")
    bars.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *bars.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False
    )
    for axes in others:
        _circumplex(axes, samples)
    save_figure(figure, target)


def _circumplex(axes: Axes, samples: pd.DataFrame) -> None:
    known = samples[samples["valence"].notna() & samples["arousal"].notna()]
    _density(axes, known["valence"].to_numpy(), known["arousal"].to_numpy())
    axes.set(xlabel="valence", ylabel="arousal", title=f"{len(known):,} images")


def _density(axes: Axes, across: NDArray[Any], up: NDArray[Any]) -> None:
    """How many images lie where in the square from -1 to 1."""
    cells, edges, _ = np.histogram2d(across, up, bins=41, range=[[-1, 1], [-1, 1]])
    shown = np.ma.masked_equal(cells.T, 0)
    mesh = axes.pcolormesh(
        edges, edges, shown, cmap="Blues", norm=LogNorm(vmin=0.5, vmax=max(cells.max(), 1))
    )
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set(aspect="equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    steps = (1,) if cells.max() > 100 else (1, 2, 5)
    ticks = [step * 10**power for power in range(7) for step in steps]
    shown_ticks = [tick for tick in ticks if tick <= max(cells.max(), 1)]
    bar = axes.figure.colorbar(
        mesh, ax=axes, shrink=0.8, label="images", ticks=shown_ticks, format="{x:,g}"
    )
    bar.minorticks_off()


def contact_sheet(
    images: NDArray[np.uint8], labels: Sequence[str], title: str, target: Target
) -> None:
    """Draw images in a grid, each with its label below.

    Args:
        images: shape (n, height, width, 3), in [0, 255].
        labels: n captions.
        title: one line above the grid.
        target: the PNG to write, as a path or an open file.
    """
    cell, caption, margin = 96, 16, 6
    columns = min(len(images), 12)
    rows = -(-len(images) // columns)
    width = max(columns * (cell + margin) + margin, 320)
    sheet = Image.new("RGB", (width, 30 + rows * (cell + caption + margin)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pen.text((margin, 8), title, "black", ImageFont.load_default(14))
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(place, columns)
        left, top = margin + column * (cell + margin), 30 + row * (cell + caption + margin)
        # A small image is enlarged without smoothing: its pixels are what the network gets.
        small = image.shape[0] < cell
        picture = Image.fromarray(image)
        way = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        sheet.paste(picture.resize((cell, cell), way), (left, top))
        pen.text((left + cell / 2, top + cell + 1), label, "black", font, anchor="ma")
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, format="png")


def _curves(axes: Axes, history: pd.DataFrame, series: dict[str, tuple[str, str]]) -> None:
    for column, (label, colour) in series.items():
        if column in history and history[column].notna().any():
            shown = history[["epoch", column]].dropna()
            axes.plot(shown["epoch"], shown[column], "o-", markersize=3, color=colour, label=label)
    axes.grid(alpha=0.3)


def _stage_starts(history: pd.DataFrame) -> pd.DataFrame:
    """The rows in which a stage begins."""
    return history[history["stage"] != history["stage"].shift()]


def _mark_epochs(axes: Axes, history: pd.DataFrame, best_epoch: int | None) -> None:
    for epoch in _stage_starts(history)["epoch"].iloc[1:]:
        axes.axvline(epoch - 0.5, color="black", linewidth=0.8, linestyle=":")
    if best_epoch is not None:
        axes.axvline(
            best_epoch, color="black", linewidth=1, linestyle="--", zorder=1, label="epoch kept"
        )


def _name_stages(axes: Axes, history: pd.DataFrame) -> None:
    starts = _stage_starts(history)
    for index, (epoch, stage) in enumerate(zip(starts["epoch"], starts["stage"], strict=True)):
        # Two heights, so that the name of a short stage doesn't run into the next.
        place = (epoch - 0.5, 1.02 + 0.07 * (index % 2))
        axes.annotate(str(stage), place, xycoords=axes.get_xaxis_transform(), fontsize=9)


def save_figure(figure: Figure, target: Target) -> None:
    """Write a figure as PNG; a file appears whole or stays as it was."""
    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    if isinstance(target, Path):
        write_atomically(target, image.getvalue())
    else:
        target.write(image.getvalue())
