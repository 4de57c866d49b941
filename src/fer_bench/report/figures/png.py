"""Writing figures and images as PNG files, without any global state and without a display."""

import io
from pathlib import Path
from typing import BinaryIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fer_bench.storage.files import write_atomically

Target = Path | BinaryIO

DOTS_PER_INCH = 150


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG: the same bytes for the same figure."""
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()


def image_png(image: Image.Image) -> bytes:
    """An image as PNG."""
    file = io.BytesIO()
    image.save(file, format="png")
    return file.getvalue()


def write_png(content: bytes, target: Target) -> None:
    """Write a PNG; a file is written completely or left unchanged."""
    if isinstance(target, Path):
        write_atomically(target, content)
    else:
        target.write(content)


def save_figure(figure: Figure, target: Target) -> None:
    """Write a figure as PNG; a file is written completely or left unchanged."""
    write_png(figure_png(figure), target)


def enlarged(image: Image.Image, size: int) -> Image.Image:
    """An image resized to a square of `size` pixels.

    A small image is enlarged without smoothing: its pixels are the input of the network.
    """
    small = image.height < size
    return image.resize(
        (size, size), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    )


def is_current(figure: Path, source: Path) -> bool:
    """Whether a figure is newer than the file that it shows: drawing takes half a second."""
    return figure.exists() and figure.stat().st_mtime_ns > source.stat().st_mtime_ns
