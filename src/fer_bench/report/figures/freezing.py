"""A PNG figure of which layers train in which stage."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from fer_bench.report.figures.png import Target, save_figure
from fer_bench.report.palette import GREY, ORANGE

if TYPE_CHECKING:  # importing it loads Keras
    from fer_bench.models.summary import FreezePlan

FROZEN, TRAINS, NORM = "#E3E3E3", "#08519C", ORANGE
WIDTH = 11.0  # inches
POINTS = 72 * (WIDTH - 2)  # approximate width of the backbone
ROW, NORM_STRIP = 0.8, 0.22  # relative to the distance of rows
GAP, HEAD = 0.012, 0.06  # relative to the width of the backbone
ON_COLOUR: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "fontsize": 9,
    "bbox": {"boxstyle": "round,pad=0.25", "facecolor": "white", "alpha": 0.85, "linewidth": 0},
}
MOST_NAMED_LAYERS = 64  # with more, there is no room for the name of every layer
SMALLEST_SHOWN = 1e-4  # of the head's learning rate; all smaller ones have one colour
TICKS = (1, 0.5, 0.2, 0.1, 0.01, 0.001, 0.0001)
# From a tiny to the full learning rate; neither end looks like frozen.
RATES = LinearSegmentedColormap.from_list("rates", ["#FEE391", "#41AB5D", TRAINS])


def freeze_plan(plan: "FreezePlan", title: str, target: Target) -> None:
    """Draw one row per stage and one column per backbone layer, with the head on the right.

    Frozen layers are grey. Layers that train are coloured by their learning rate relative to the
    head's; layers without weights get the colour of the next layer that has some. A BatchNorm
    layer that stays frozen among layers that train has a mark at the lower edge.

    Args:
        plan: the result of `models.summary.describe_model`.
        title: one line above the figure.
        target: the PNG to write, as a path or an open file.
    """
    stages, layers = plan.scales.shape
    has_names = layers <= MOST_NAMED_LAYERS
    room = _room_for_blocks(plan)
    height = 1.3 + room / 72 + 0.5 * stages + 1.3 * has_names
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    norm = LogNorm(_smallest(plan.scales), 1)
    for row in range(stages):
        _draw_stage(axes, row, plan, norm)
    _name_blocks(axes, plan.blocks)
    _draw_head(axes, layers, stages, "neck,\nhead" if plan.has_neck else "head")
    axes.set(xlim=(0, layers * (1 + GAP + HEAD)), ylim=(stages - 0.5, -0.5))
    labels = [f"{textwrap.fill(s['name'], 20)}\n{s['learning_rate']:g}" for s in plan.stages]
    axes.set_yticks(range(stages), labels, fontsize=9)
    axes.set_xticks([])
    axes.set_xlabel("layers of the backbone, first to last", fontsize=9)
    axes.set_ylabel("stage, learning rate", fontsize=9)
    if has_names:
        axes.set_xticks(np.arange(layers) + 0.5, plan.layers, rotation=90, fontsize=7)
        axes.vlines(np.arange(1, layers), -0.5, stages - 0.5, color="white", linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(textwrap.fill(title, 100), fontsize=11, loc="left", pad=room)
    _draw_legend(figure, axes, plan, norm)
    save_figure(figure, target)


def _smallest(scales: NDArray[np.float64]) -> float:
    """The lower end of the colour scale: the smallest factor, at most 0.5."""
    return float(np.clip(scales[scales > 0].min(initial=1), SMALLEST_SHOWN, 0.5))


def _draw_stage(axes: Axes, row: int, plan: "FreezePlan", norm: LogNorm) -> None:
    """Draw the row of one stage, with the number of layers that are not frozen."""
    scales, free = plan.scales[row], plan.stages[row]["layers"]
    layers = len(scales)
    start, top, bottom = layers - free, row - ROW / 2, row + ROW / 2
    axes.add_patch(Rectangle((0, top), layers, ROW, color=FROZEN, linewidth=0))
    if free:
        colours = RATES(norm(_filled(scales[start:]), clip=True))[np.newaxis]
        extent = (start, layers, bottom, top)
        axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest", zorder=2)
    marks = [((x, bottom - NORM_STRIP), (x, bottom)) for x in 0.5 + _kept_norms(plan, row)]
    width = float(np.clip(0.8 * POINTS / layers, 0.5, 12))
    axes.add_collection(LineCollection(marks, colors=NORM, linewidths=width, zorder=3))
    text = f"all {layers:,} layers" if free == layers else f"{free:,} of {layers:,} layers"
    if start > layers / 4:
        axes.text(start, row, f"{text}  ", ha="right", va="center", fontsize=9)
    else:
        axes.text((start + layers) / 2, row, text, **ON_COLOUR)


def _kept_norms(plan: "FreezePlan", row: int) -> NDArray[np.intp]:
    """The indices of the BatchNorm layers that are frozen among layers that train."""
    start = len(plan.layers) - int(plan.stages[row]["layers"])
    frozen = np.flatnonzero(plan.norms & (plan.scales[row] == 0))
    return frozen[np.searchsorted(frozen, start) :]


def _filled(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each 0 replaced by the next factor after it, or by 1 if there is none."""
    places = np.where(scales > 0, np.arange(len(scales)), len(scales))
    nearest: NDArray[np.float64] = np.append(scales, 1.0)[np.minimum.accumulate(places[::-1])[::-1]]
    return nearest


def _draw_head(axes: Axes, layers: int, stages: int, label: str) -> None:
    """Draw the neck and head after the backbone: they train in every stage, at the full rate."""
    left, width = layers * (1 + GAP), layers * HEAD
    for row in range(stages):
        place = (left, row - ROW / 2)
        axes.add_patch(Rectangle(place, width, ROW, color=TRAINS, linewidth=0))
    axes.text(left + width / 2, -0.54, label, ha="center", va="bottom", fontsize=8)


def _block_spans(blocks: Sequence[str]) -> list[tuple[str, int, int]]:
    """(name, first, last + 1) of every block, including unnamed layers between its own."""
    found: list[tuple[str, int, int]] = []
    for index, block in enumerate(blocks):
        if block and found and found[-1][0] == block:
            found[-1] = (block, found[-1][1], index + 1)
        elif block:
            found.append((block, index, index + 1))
    return found


def _name_blocks(axes: Axes, blocks: Sequence[str]) -> None:
    """Draw a bracket and, where there is room, the name above every block."""
    for name, start, end in _block_spans(blocks):
        inset = min(0.15, 0.15 * (end - start)) + 0.002 * len(blocks)
        axes.plot([start + inset, end - inset], [-0.48, -0.48], color=GREY, linewidth=1.5)
        style = _name_style(name, (end - start) / len(blocks))
        if style:
            axes.text((start + end) / 2, -0.54, name, ha="center", va="bottom", **style)


def _name_style(name: str, share: float) -> dict[str, Any]:
    """The style of a name above `share` of the backbone: flat, upright, or empty for no name."""
    points = POINTS * share
    if points > 5 * len(name):
        return {"fontsize": 8}
    return {"fontsize": 7, "rotation": 90} if points > 8 else {}


def _room_for_blocks(plan: "FreezePlan") -> float:
    """The points between the rows and the title."""
    styles = [
        (name, _name_style(name, (end - start) / len(plan.layers)))
        for name, start, end in _block_spans(plan.blocks)
    ]
    upright = [len(name) for name, style in styles if "rotation" in style]
    return 8 + max(12 * (1 + plan.has_neck), 4.2 * max(upright, default=0))


def _draw_legend(figure: Figure, axes: Axes, plan: "FreezePlan", norm: LogNorm) -> None:
    """Draw the key of the colours, with a bar if learning rates differ between layers."""
    decayed = bool(((plan.scales > 0) & (plan.scales < 1)).any())
    patches = [Patch(color=FROZEN, label="frozen")]
    if not decayed:
        patches.insert(0, Patch(color=TRAINS, label="trains"))
    if any(_kept_norms(plan, row).size for row in range(len(plan.stages))):
        patches.append(Patch(color=NORM, label="BatchNorm kept frozen"))
    figure.legend(
        handles=patches, loc="outside lower left", ncols=len(patches), frameon=False, fontsize=9
    )
    if decayed:
        mappable = ScalarMappable(norm, RATES)
        below = "min" if plan.scales[plan.scales > 0].min() < SMALLEST_SHOWN else "neither"
        bar = figure.colorbar(mappable, ax=axes, extend=below, aspect=12, pad=0.02)
        ticks = [tick for tick in TICKS if tick >= _smallest(plan.scales)]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
        bar.minorticks_off()
        bar.set_label("learning rate,\nrelative to the head", fontsize=9)
        bar.ax.tick_params(labelsize=8)
