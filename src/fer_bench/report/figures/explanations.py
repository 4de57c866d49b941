"""Sheets that show where a network looks: images beside their maps, and mean maps of classes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_bench.report.figures.png import enlarged, figure_png, image_png
from fer_bench.storage.files import write_atomically

if TYPE_CHECKING:  # importing it loads Keras
    from fer_bench.evaluation.explain import Example, Explanation, MeanMap

# Readable with common colour-vision deficiencies; lighter is always more.
COLOURS = matplotlib.colormaps["viridis"]
TILE, GAP, MARGIN = 120, 4, 12  # pixels
CAPTION, BELOW, TITLE = 20, 16, 64  # heights of lines of text
WIDEST_SHEET = 1180  # pixels
KEY = 560  # width of the line that explains the colours
OPACITY = 0.5
# Pillow's own font has no arrow.
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
SHEETS = {
    "correct": "correct answers, the most confident of each class",
    "mistakes": "the most confident mistakes, with maps of both classes",
    "mean_maps": "mean map of each class over correct answers",
}


def write_sheets(explanation: "Explanation") -> dict[str, Path]:
    """Draw the sheets that are not empty; returns their PNG files by the keys of `SHEETS`.

    A sheet of an earlier call that would be empty now is removed.
    """
    heading = f"{explanation.run_id}, {explanation.split} split"
    drawn = {
        "correct": _sheet_of("correct", explanation, f"{heading}: {SHEETS['correct']}"),
        "mistakes": _sheet_of("mistake", explanation, f"{heading}: {SHEETS['mistakes']}"),
        "mean_maps": mean_map_figure(explanation.mean_maps, f"{heading}: {SHEETS['mean_maps']}"),
    }
    written = {}
    for name, content in drawn.items():
        path = explanation.folder / f"{name}.png"
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, content)
            written[name] = path
    return written


def _sheet_of(kind: str, explanation: "Explanation", title: str) -> bytes | None:
    examples = [example for example in explanation.examples if example.kind == kind]
    return example_sheet(examples, title) if examples else None


def example_sheet(examples: Sequence["Example"], title: str) -> bytes:
    """A PNG of examples in a grid: the image, and beside it one overlay for each of its maps.

    Above each: true → predicted with the probability; below each overlay: its class.
    """
    tiles = 1 + len(examples[0].maps)
    width, height = tiles * (TILE + GAP) + MARGIN, CAPTION + TILE + BELOW + MARGIN
    columns = min(len(examples), max((WIDEST_SHEET - MARGIN) // width, 1))
    rows = math.ceil(len(examples) / columns)
    least = max(math.ceil(_font(14).getlength(title)) + 2 * MARGIN, KEY)
    size = (max(columns * width + MARGIN, least), TITLE + rows * height + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 8), title, "black", _font(14))
    _draw_key(sheet, pen)
    for place, example in enumerate(examples):
        row, column = divmod(place, columns)
        _draw_example(sheet, pen, example, (MARGIN + column * width, TITLE + row * height))
    return image_png(sheet)


def _draw_example(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, example: "Example", corner: tuple[int, int]
) -> None:
    left, top = corner
    answer = f"{example.label} → {example.predicted}  {_percent(example.probability)}"
    pen.text((left, top + 2), answer, "black", _font(12))
    picture = enlarged(Image.fromarray(example.image), TILE)
    sheet.paste(picture, (left, top + CAPTION))
    for number, (name, map_) in enumerate(example.maps.items(), start=1):
        place = (left + number * (TILE + GAP), top + CAPTION)
        sheet.paste(overlay(picture, map_), place)
        caption = name if map_.any() else f"{name}: nothing"
        below = (place[0] + TILE // 2, place[1] + TILE + 1)
        pen.text(below, caption, "#444444", _font(11), anchor="ma")


def overlay(picture: Image.Image, map_: NDArray[np.float32]) -> Image.Image:
    """`picture` in grey below the colours of a map with values in [0, 1], shape (h, w)."""
    smooth = Image.fromarray(map_).resize(picture.size, Image.Resampling.BILINEAR)
    colours = np.round(COLOURS(np.asarray(smooth))[..., :3] * 255).astype(np.uint8)
    return Image.blend(picture.convert("L").convert("RGB"), Image.fromarray(colours), OPACITY)


def _draw_key(sheet: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    """Draw the key to the captions and the colours."""
    text, font, top = "true → predicted  probability;  map: 0 ", _font(11), 34
    pen.text((MARGIN, top), text, "#444444", font)
    left, width = MARGIN + math.ceil(pen.textlength(text, font)), 80
    shades = COLOURS(np.linspace(0, 1, width))[np.newaxis, :, :3].repeat(10, axis=0)
    sheet.paste(Image.fromarray(np.round(shades * 255).astype(np.uint8)), (left, top + 2))
    pen.text((left + width, top), " 1, the maximum of this image", "#444444", font)


def _percent(probability: float) -> str:
    """A probability; never 100%, which no model can know."""
    return ">99%" if probability > 0.995 else f"{probability:.0%}"


def _font(size: int) -> Any:
    return ImageFont.truetype(FONT, size)


def mean_map_figure(mean_maps: Sequence["MeanMap"], title: str) -> bytes:
    """A PNG of one heat map per class on a common scale, each with the number of its images."""
    columns = min(len(mean_maps), 4)
    rows = math.ceil(len(mean_maps) / columns)
    figure = Figure(figsize=(2.3 * columns + 1, 2.5 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    most = max([*(float(mean.map.max()) for mean in mean_maps), 1e-6])
    for axes in panels.flat:
        axes.axis("off")
    for axes, mean in zip(panels.flat, mean_maps, strict=False):
        axes.set_title(f"{mean.name}\nn = {mean.n}", fontsize=10)
        if mean.n:
            shades = axes.imshow(mean.map, cmap=COLOURS, vmin=0, vmax=most)
    if any(mean.n for mean in mean_maps):
        figure.colorbar(
            shades, ax=panels, shrink=0.8, label="mean over images\n(maximum of each: 1)"
        )
    figure.suptitle(title, fontsize=11)
    return figure_png(figure)
