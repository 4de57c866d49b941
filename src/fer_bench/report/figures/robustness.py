"""The PNG figure of corruption robustness, from one `corruptions/<evaluation>.json`."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_bench.report.figures.png import Target, save_figure
from fer_bench.report.palette import BLUE, GREY
from fer_bench.report.plots import (
    FAMILY_COLOURS,
    SEVERITIES,
    Document,
    conditions_by_family,
)
from fer_bench.report.wording import write_cell

# The marks of the corruptions of a family, beside their colours.
_MARKS = ("o", "s", "^", "D")

# The distance of the marks of one severity, so that their intervals don't hide each other.
_SHIFT = 0.09
_PARTS = ("value", "low", "high")


def robustness_figure(document: Document, target: Target) -> None:
    """Draw accuracy against severity, one panel per family, and one for the occlusions.

    Args:
        document: the result of `robustness.summarise`, with at least one condition.
        target: the PNG to write, as a path or an open file.
    """
    families = conditions_by_family(document)
    graded = [family for family in families if family != "occlusion"]
    across = min(len(graded), 2)
    occlusions = len(families) > len(graded)
    down = max(-(-len(graded) // 2), 1)
    width = 0.6 + 3.9 * across + 2.3 * occlusions
    figure = Figure(figsize=(width, 1.1 + 2.7 * down), layout="constrained")
    grid = figure.add_gridspec(
        down, across + occlusions, width_ratios=[2.1] * across + [1.0] * occlusions
    )
    first: Axes | None = None
    for place, family in enumerate(graded):
        axes = figure.add_subplot(grid[place // 2, place % 2], sharey=first)
        _severities(axes, families[family])
        axes.set(title=family)
        if place + across >= len(graded):
            axes.set_xlabel("severity")
        first = first or axes
    if occlusions:
        axes = figure.add_subplot(grid[0, across], sharey=first)
        _occlusions(axes, families["occlusion"])
        axes.set(title="occlusion")
    for axes in figure.axes:
        _finish(axes, document)
    figure.axes[0].set_ylim(0, np.clip(1.05 * _highest(document), 0.05, 1.02))
    figure.suptitle(textwrap.fill(_title(document), int(11 * width)), fontsize=11)
    figure.supylabel("accuracy with 95% interval", fontsize=10)
    save_figure(figure, target)


def _severities(axes: Axes, corruptions: Mapping[str, Sequence[Document]]) -> None:
    styles = zip(FAMILY_COLOURS, _MARKS, strict=True)
    for place, ((name, conditions), (colour, mark)) in enumerate(
        zip(corruptions.items(), itertools.cycle(styles), strict=False)
    ):
        shift = (place - (len(corruptions) - 1) / 2) * _SHIFT
        places = [condition["severity"] + shift for condition in conditions]
        _marks(axes, places, conditions, colour, f"{mark}-", name.replace("_", " "))
    axes.set_xticks(SEVERITIES)
    axes.set_xlim(0.6, 5.4)
    axes.legend(fontsize=8, loc="lower left", framealpha=0.8)


def _occlusions(axes: Axes, parts: Mapping[str, Sequence[Document]]) -> None:
    conditions = [condition for entries in parts.values() for condition in entries]
    _marks(axes, range(len(parts)), conditions, BLUE, "o", None)
    axes.set_xticks(range(len(parts)), [f"{name}\ncovered" for name in parts])
    axes.set_xlim(-0.6, len(parts) - 0.4)


def _marks(
    axes: Axes,
    places: Sequence[float],
    conditions: Sequence[Document],
    colour: str,
    form: str,
    label: str | None,
) -> None:
    cells = [condition["accuracy"] for condition in conditions]
    value, low, high = (np.array([cell[part] for cell in cells]) for part in _PARTS)
    axes.errorbar(
        places,
        value,
        yerr=[value - low, high - value],
        fmt=form,
        color=colour,
        label=label,
        capsize=2,
        markersize=4.5,
        linewidth=1.2,
        elinewidth=0.9,
    )


def _finish(axes: Axes, document: Document) -> None:
    clean = document["clean"]
    axes.axhspan(clean["low"], clean["high"], color=GREY, alpha=0.2, linewidth=0)
    axes.axhline(clean["value"], color="black", linewidth=1, linestyle="--")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _highest(document: Document) -> float:
    cells = [document["clean"], *(condition["accuracy"] for condition in document["conditions"])]
    return max(float(cell["high"]) for cell in cells)


def _title(document: Document) -> str:
    text = f"Without corruption (dashed) {write_cell('accuracy', document['clean'])}%"
    mean = document["mean_corruption_accuracy"]
    if mean["value"] is not None:
        which = "all corruptions" if document["complete"] else "the corruptions shown"
        text += f", mean over {which} {write_cell('accuracy', mean)}%"
    return f"{text}, n = {document['n']:,}"
