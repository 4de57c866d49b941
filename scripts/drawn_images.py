"""Files of drawn faces, for benchmarks that read images."""

import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from measuring import progress
from PIL import Image

from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.labels import EXPRESSIONS

QUALITY = 85  # of JPEG


def scaled(sizes: Mapping[str, int], scale: float) -> dict[str, int]:
    """Images per split, at least one per expression."""
    return {split: max(len(EXPRESSIONS), round(scale * size)) for split, size in sizes.items()}


def write_images(
    root: Path,
    numbers: Mapping[str, int],
    size: int,
    *,
    faces: int | None = None,
    link: bool = False,
    grey: bool = False,
    seed: int = 0,
) -> None:
    """Write `<root>/<split>/<class>/<number>.jpg`; the classes take turns.

    Args:
        root: the folder to create.
        numbers: images per split.
        size: height and width in pixels.
        faces: number of different faces, rounded up to a multiple of the number of expressions, so
            that a repeated face keeps its class; None: no face is repeated.
        link: whether a repeated image is a hard link to the first one, instead of its own file.
        grey: whether the files have one channel.
        seed: seed of the faces.
    """
    for split, label in itertools.product(numbers, EXPRESSIONS):
        (root / split / label).mkdir(parents=True)
    total = sum(numbers.values())
    faces = total if faces is None else -(-faces // len(EXPRESSIONS)) * len(EXPRESSIONS)
    originals: list[Path] = []
    report = progress("images written")
    for index, split in enumerate(s for s, number in numbers.items() for _ in range(number)):
        path = root / split / EXPRESSIONS[index % len(EXPRESSIONS)] / f"{index:06d}.jpg"
        if index < faces:
            image = Image.fromarray(draw_face(seed, index, size).image)
            content = io.BytesIO()
            (image.convert("L") if grey else image).save(content, "JPEG", quality=QUALITY)
            path.write_bytes(content.getvalue())
            originals.append(path)
        elif link:
            os.link(originals[index % faces], path)
        else:
            path.write_bytes(originals[index % faces].read_bytes())
        report(index + 1, total)
