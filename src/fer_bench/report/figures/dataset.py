"""The PNG figures of a dataset: its counts, and a sheet of its images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_bench.data.manifest import Manifest
from fer_bench.report.figures.density import draw_density
from fer_bench.report.figures.png import Target, enlarged, image_png, save_figure, write_png
from fer_bench.report.palette import SPLITS


def dataset_counts(manifest: Manifest, target: Target) -> None:
    """Draw the number of images by class and split and, where known, valence against arousal.

    Args:
        manifest: the dataset; its name and release are the title.
        target: the PNG to write, as a path or an open file.
    """
    counts, samples = manifest.counts(), manifest.samples
    circumplex = "valence" in samples and bool(samples["valence"].notna().any())
    figure = Figure(figsize=(11 if circumplex else 7.5, 4.4), layout="constrained")
    ratios = [1.4, 1] if circumplex else [1]
    bars, *others = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    width = 0.8 / len(counts)
    for place, (split, by_class) in enumerate(counts.items()):
        numbers = list(by_class.values())
        left = np.arange(len(numbers)) + (place - (len(counts) - 1) / 2) * width
        drawn = bars.bar(left, numbers, width, color=SPLITS[split], label=split)
        bars.bar_label(drawn, [f"{n:,}" for n in numbers], fontsize=7, rotation=90, padding=3)
    bars.set_xticks(range(len(manifest.classes)), manifest.classes, rotation=30, ha="right")
    bars.margins(y=0.18)
    bars.set(ylabel="images", title=f"{manifest.name}, {manifest.release}")
    bars.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *bars.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False
    )
    for axes in others:
        _draw_circumplex(axes, samples)
    save_figure(figure, target)


def _draw_circumplex(axes: Axes, samples: pd.DataFrame) -> None:
    known = samples[samples["valence"].notna() & samples["arousal"].notna()]
    draw_density(axes, known["valence"].to_numpy(), known["arousal"].to_numpy())
    axes.set(xlabel="valence", ylabel="arousal", title=f"{len(known):,} images")


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
        sheet.paste(enlarged(Image.fromarray(image), cell), (left, top))
        pen.text((left + cell / 2, top + cell + 1), label, "black", font, anchor="ma")
    write_png(image_png(sheet), target)
