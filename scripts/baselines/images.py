"""The images of a row: files that every child reads for itself."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from baselines.rows import Row
from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.labels import EXPRESSIONS

QUALITY = 92
SPLITS = ("train", "validation")


class ImagesError(Exception):
    """The folder of images is not laid out as it must be."""


def numbers(row: Row, scale: float) -> dict[str, int]:
    """How many images each split has; at least one of each expression."""
    sizes = {"train": row.train, "validation": row.validation}
    return {split: max(len(EXPRESSIONS), round(scale * size)) for split, size in sizes.items()}


def draw_images(root: Path, row: Row, scale: float, seed: int) -> None:
    """Write drawn faces as JPEG files: `<root>/<split>/<class>/<number>.jpg`."""
    index = itertools.count()
    for split, number in numbers(row, scale).items():
        for _ in range(number):
            face = draw_face(seed, position := next(index), row.size)
            path = root / split / face.label / f"{position:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(face.image)
            (image.convert("L") if row.grey else image).save(path, quality=QUALITY)


def copy_images(root: Path, row: Row, scale: float, source: Path) -> None:
    """Copy as many images of `source` as the row has, or all, the classes in turn.

    Raises:
        ImagesError: `source` has no images below `train/<class>` or `validation/<class>`.
    """
    for split, number in numbers(row, scale).items():
        for path in itertools.islice(_in_turn(source / split), number):
            target = root / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _in_turn(split: Path) -> Iterator[Path]:
    folders = sorted(path for path in split.glob("*") if path.is_dir())
    files = [sorted(path for path in folder.iterdir() if path.is_file()) for folder in folders]
    if len(folders) < 2 or not all(files):
        raise ImagesError(
            f"{split}: expected two class folders or more with images in each, found "
            f"{', '.join(folder.name for folder in folders) or 'none'}.\n"
            f"--images needs {' and '.join(f'{name}/<class>/' for name in SPLITS)}."
        )
    turns = itertools.zip_longest(*files)
    return (path for turn in turns for path in turn if path is not None)
