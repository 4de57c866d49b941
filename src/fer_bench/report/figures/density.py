"""How many images lie where in the plane of valence and arousal."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from fer_bench.report import plots
from fer_bench.report.palette import GREY


def draw_density(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Draw the number of images by place in the square from -1 to 1, with a colour bar.

    Args:
        axes: where to draw.
        x: shape (n,), in [-1, 1].
        y: the same for the other axis.
    """
    counts, edges = plots.density(x, y)
    most = max(counts.max(), 1)
    mesh = axes.pcolormesh(
        edges,
        edges,
        np.ma.masked_equal(counts.T, 0),
        cmap="Blues",
        norm=LogNorm(vmin=0.5, vmax=most),
    )
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set(aspect="equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    steps = (1,) if most > 100 else (1, 2, 5)
    ticks = [step * 10**power for power in range(7) for step in steps if step * 10**power <= most]
    bar = axes.figure.colorbar(
        mesh, ax=axes, shrink=0.8, label="images", ticks=ticks, format="{x:,g}"
    )
    bar.minorticks_off()
