"""Which augmented copies the audit finds, and how often it is wrong.

Each operation makes copies of test images of a dataset, which are saved as files and mixed with
other images of the dataset; the table shows how many of them the audit finds. The second result is
the number of false pairs: between two datasets that share no photograph, every pair is false.
`--pairs` draws these pairs for inspection.

    python scripts/augmented_copies.py configs/opencv_emotion_compact.yaml --other data/muxspace
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import affine_transform

from fer_bench.config.loading import load_experiment
from fer_bench.data.audit.duplicates import find_duplicates, inspect_images
from fer_bench.data.audit.image_files import Seen, inspect_all
from fer_bench.data.audit.perceptual_hash import SIDE
from fer_bench.data.load import read_release
from fer_bench.data.manifest import Manifest
from fer_bench.errors import FerError
from fer_bench.metrics.intervals import wilson

SEED = 0
# Number of images to search for copies, including the originals.
CROWD = 4_000
# The number of false pairs is given for this number of faces.
FACES = 10_000
SUFFIXES = {".jpg", ".jpeg", ".png"}

Picture = Image.Image
Pixels = NDArray[np.uint8]


class Pose(NamedTuple):
    """The position in the original of each pixel of a copy: linear @ position + shift.

    Positions are relative to the centre.

    Attributes:
        linear: shape (2, 2), of (row, column).
        shift: shape (2,), as fractions of the side.
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]


# How corners are filled: the name in scipy and Keras, and the name in the table.
FILLS = {"constant": "black", "nearest": "nearest", "reflect": "reflected"}


# Operations -------------------------------------------------------------------------------------


def turned(degrees: float, generator: np.random.Generator) -> Pose:
    """Rotate to either side."""
    angle = np.deg2rad(degrees) * generator.choice([-1, 1])
    cos, sin = np.cos(angle), np.sin(angle)
    return Pose(np.array([[cos, sin], [-sin, cos]]), np.zeros(2))


def zoomed(factor: float, generator: np.random.Generator) -> Pose:  # noqa: ARG001 - common signature
    """Zoom; above 1 enlarges."""
    return Pose(np.eye(2) / factor, np.zeros(2))


def shifted(share: float, generator: np.random.Generator) -> Pose:
    """Shift along one axis or both, to either side."""
    axes = np.array([(1, 0), (0, 1), (1, 1)])[generator.integers(3)]
    return Pose(np.eye(2), axes * share * generator.choice([-1, 1], 2))


def sheared(slope: float, generator: np.random.Generator) -> Pose:
    """Shear along the rows, to either side."""
    linear = np.array([[1, 0], [slope * generator.choice([-1, 1]), 1]])
    return Pose(linear, np.zeros(2))


def combined(strength: float, generator: np.random.Generator) -> Pose:
    """Rotate, zoom, shift, shear and mirror at once, each uniformly up to its limit.

    At strength 1 the limits are 20 degrees, 20 %, 10 % and 0.2; half of the copies are mirrored.
    """
    angle, zoom, slope, down, right, mirror = strength * generator.uniform(-1, 1, 6)
    linear = turned(20 * abs(angle), generator).linear @ np.array([[1, 0], [0.2 * slope, 1]])
    linear = linear * (1 + 0.2 * zoom) * np.array([1, np.sign(mirror)])
    return Pose(linear, np.array([down, right]) * 0.1)


def cropped(share: float, image: Picture) -> Picture:
    """Crop a fraction at each edge, and resize to the original size."""
    width, height = image.size
    across, down = round(share * width), round(share * height)
    cut = image.crop((across, down, width - across, height - down))
    return cut.resize(image.size, Image.Resampling.BILINEAR)


def compressed(quality: int, image: Picture) -> Picture:
    """Compress as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


MOVED: Mapping[str, tuple[Callable[[float, np.random.Generator], Pose], float]] = {
    **{f"turned by {degrees}°": (turned, degrees) for degrees in (5, 10, 15, 20, 30)},
    "zoomed by 1.1": (zoomed, 1.1),
    "zoomed by 1.2": (zoomed, 1.2),
    "zoomed by 1/1.2": (zoomed, 1 / 1.2),
    "shifted by 5 %": (shifted, 0.05),
    "shifted by 10 %": (shifted, 0.1),
    "sheared by 0.1": (sheared, 0.1),
    "sheared by 0.2": (sheared, 0.2),
    "all at once, up to half of each": (combined, 0.5),
    "all at once, up to 20°, 1.2, 10 %, 0.2": (combined, 1),
}
EDITED: Mapping[str, Callable[[Picture], Picture]] = {
    **{f"cropped by {n}/48 at each edge": partial(cropped, n / 48) for n in (1, 2, 4)},
    "mirrored": ImageOps.mirror,
    "brighter by 30 % (clipped)": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker by 30 %": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast × 1.4 (clipped)": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "contrast × 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "JPEG, quality 20": partial(compressed, 20),
}


def moved(image: Picture, pose: Pose, fill: str) -> Picture:
    """The image in another pose and the same size, as by Keras's ImageDataGenerator."""
    pixels = np.asarray(image)
    size = np.array(pixels.shape[:2])
    centre = (size - 1) / 2
    offset = centre - pose.linear @ centre + pose.shift * size
    layers = [
        affine_transform(layer.astype(np.float32), pose.linear, offset, order=1, mode=fill)
        for layer in np.atleast_3d(pixels).transpose(2, 0, 1)
    ]
    return Image.fromarray(np.rint(np.stack(layers, axis=2)).astype(np.uint8).squeeze())


# Copies that the audit finds ----------------------------------------------------------------------


def copies(images: Sequence[Picture], name: str, fill: str) -> list[Picture]:
    """One copy of each image by an operation; `fill` applies to geometric ones."""
    if name in EDITED:
        return [EDITED[name](image) for image in images]
    generator = np.random.default_rng(SEED)
    pose, strength = MOVED[name]
    return [moved(image, pose(strength, generator), fill) for image in images]


def found(crowd: list[Seen], pictures: Sequence[Picture], mode: str) -> int:
    """The number of copies that are paired with their originals, the first images of `crowd`."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{number}.png" for number in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            picture.save(file)
        seen = inspect_all([(file, None) for file in files], mode, 1)
    asked = np.arange(len(crowd) + len(seen)) >= len(crowd)
    twins = find_duplicates([*crowd, *seen], asked)
    return sum(
        len(crowd) + number in (*twins.of(number, "near"), *twins.of(number, "exact"))
        for number in range(len(seen))
    )


def crowd_of(manifest: Manifest, count: int) -> Manifest:
    """`count` random images of the test split, followed by others, CROWD images in total."""
    test = manifest.split("test").sort_values("sample_id")
    chosen = test.sample(min(count, len(test)), random_state=SEED)
    known = manifest.samples["sample_id"].isin(chosen["sample_id"])
    rest = manifest.samples[~known].sort_values("sample_id")
    others = rest.sample(min(CROWD - count, len(rest)), random_state=SEED)
    return replace(manifest, samples=pd.concat([chosen, others], ignore_index=True))


def recall(manifest: Manifest, count: int) -> Iterator[str]:
    """A Markdown table: how many of `count` copies are found, by operation and fill."""
    mode = "L" if manifest.channels == 1 else "RGB"
    crowd = crowd_of(manifest, count)
    seen = inspect_images(crowd, None)
    paths = [manifest.root / path for path in crowd.samples["path"][:count]]
    images = [Image.open(path).convert(mode) for path in paths]
    yield f"| of {count:,} copies found | {' | '.join(FILLS.values())} |"
    yield "|---" * (1 + len(FILLS)) + "|"
    for name in (*MOVED, *EDITED):
        fills = FILLS if name in MOVED else ("constant",)
        cells = [proportion(found(seen, copies(images, name, fill), mode), count) for fill in fills]
        yield f"| {name} | {' | '.join(cells)} |{'  |' * (len(FILLS) - len(cells))}"


def proportion(part: int, whole: int) -> str:
    """A proportion in percent, with its Wilson interval."""
    low, high = wilson(part, whole)
    return f"{part / whole:.1%} [{low:.1%}, {high:.1%}]"


# False pairs -------------------------------------------------------------------------------------


def false_pairs(own: list[Seen], folder: Path, sheet: Path | None) -> Iterator[str]:
    """The number of pairs between a dataset and a folder that share no photograph."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    seen = [*own, *inspect_all([(str(path), None) for path in paths], "L", None)]
    asked = np.arange(len(seen)) < len(own)
    twins = find_duplicates(seen, asked)
    first, second = twins.near.nonzero()
    thumbnails = {twins.contents[n]: file.thumbnail for n, file in enumerate(seen) if file.digest}
    ours = np.unique(twins.contents[asked & (twins.contents >= 0)])
    across = np.isin(first, ours) & ~np.isin(second, ours)
    number, pairs = int(across.sum()), len(ours) * (len(thumbnails) - len(ours))
    low, high = (bound * FACES * (FACES - 1) / 2 for bound in wilson(number, pairs))
    yield (
        f"{len(ours):,} images compared with {len(thumbnails) - len(ours):,} of {folder.name}: "
        f"{number} of {pairs:,} pairs found, {number / pairs * FACES * (FACES - 1) / 2:.2f} "
        f"[{low:.2f}, {high:.2f}] in {FACES:,} unrelated faces."
    )
    if sheet and number:
        rows = [
            np.concatenate([grey(thumbnails[content]) for content in pair], axis=1)
            for pair in zip(first[across], second[across], strict=True)
        ]
        Image.fromarray(np.concatenate(rows)).save(sheet)


def grey(thumbnail: bytes) -> Pixels:
    """The pixels of a thumbnail, shape (SIDE, SIDE)."""
    return np.frombuffer(thumbnail, dtype=np.uint8).reshape(SIDE, SIDE)


# The whole ----------------------------------------------------------------------------------------


def findings(arguments: argparse.Namespace) -> Iterator[str]:
    """The results, in Markdown."""
    manifest = read_release(load_experiment(arguments.config, arguments.set).dataset)
    began, used = time.perf_counter(), cpu_seconds()
    seen = inspect_images(manifest, None)
    read = time.perf_counter()
    twins = find_duplicates(seen)
    ended = time.perf_counter()
    yield (
        f"{len(seen):,} images, {twins.near.nnz // 2:,} near pairs of different images: read in "
        f"{read - began:.0f} s, compared in {ended - read:.0f} s; {cpu_seconds() - used:.0f} s of "
        "CPU time in all."
    )
    yield ""
    yield from recall(manifest, arguments.number)
    if arguments.other:
        yield ""
        yield from false_pairs(seen, arguments.other, arguments.pairs)


def cpu_seconds() -> float:
    """The processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="an experiment with the dataset")
    parser.add_argument("--set", action="append", default=[], help="override a key of the config")
    parser.add_argument("-n", "--number", type=int, default=1_000, help="copies per operation")
    parser.add_argument("--other", type=Path, help="a folder of other faces")
    parser.add_argument("--pairs", type=Path, help="PNG to draw the false pairs to")
    try:
        for line in findings(parser.parse_args()):
            print(line, flush=True)
    except FerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
