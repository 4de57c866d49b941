"""How fast image files become pixels in memory: fer-bench against a pipeline of tf.data.

The files are drawn faces. A case is the size of the files, their format, and the size that is
wanted. Both ways read every file of a case by turns, in one process with all usable cores, so that
a machine whose speed drifts slows both. Prints the median images a second of each, and as medians
with the lowest and highest of the pairs: the ratio of the speeds (above 1, fer-bench is faster) and
that of the processor time (above 1, fer-bench needs less), which other work on the machine changes
less.

    python scripts/benchmark_decoding.py
    python scripts/benchmark_decoding.py --images 2048 --pairs 9 --files 48,224
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.data.decoding import open_split
from fer_bench.data.manifest import Manifest
from fer_bench.device.machine import usable_cores

FORMATS = ("jpg", "png")
QUALITY = 85  # of JPEG; PNG has none
FACES = 256  # different ones; more files are further readings of them
BATCH = 256


class Case(NamedTuple):
    """Files of one size and format, and the size that is wanted."""

    file_size: int
    suffix: str
    size: int


def cases(file_sizes: list[int]) -> Iterator[Case]:
    """Every format in every size as it is, and the largest one halved."""
    for suffix in FORMATS:
        for size in file_sizes:
            yield Case(size, suffix, size)
        yield Case(max(file_sizes), suffix, max(file_sizes) // 2)


def faces(folder: Path, case: Case, images: int) -> Manifest:
    """Write the files of a case, where they are not there yet; each is listed several times."""
    kind = folder / f"{case.file_size}{case.suffix}"
    kind.mkdir(exist_ok=True)
    names = [f"{number}.{case.suffix}" for number in range(min(FACES, images))]
    for number, name in enumerate(names):
        if not (kind / name).exists():
            face = Image.fromarray(draw_face(0, number, case.file_size).image)
            face.save(kind / name, quality=QUALITY)
    rows = [(str(row), names[row % len(names)], "train", "fear") for row in range(images)]
    samples = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
    return Manifest("faces", "drawn", kind, ("fear",), 3, samples)


def tf_data_pixels(manifest: Manifest, size: int) -> NDArray[np.uint8]:
    """The pixels as a pipeline of tf.data decodes and resizes them, on all cores."""
    paths = tf.constant([str(manifest.root / path) for path in manifest.samples["path"]])

    def decode(path: Any) -> Any:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        if tf.reduce_any(tf.shape(image)[:2] != size):
            resized = tf.image.resize(image, (size, size), antialias=True)
            image = tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
        return tf.ensure_shape(image, (size, size, 3))

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)
    pixels = np.empty((len(manifest.samples), size, size, 3), np.uint8)
    done = 0
    for block in dataset.as_numpy_iterator():
        pixels[done : done + len(block)] = block
        done += len(block)
    return pixels


def our_pixels(manifest: Manifest, size: int) -> NDArray[np.uint8]:
    """The pixels as training and evaluation get them."""
    pixels = open_split(manifest, "train", size).pixels
    if pixels is None:
        raise SystemExit("so many images are not kept in memory; ask for fewer (--images)")
    return pixels


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(case: Case, manifest: Manifest, pairs: int) -> str:
    """A line of a Markdown table."""
    ways = [lambda: tf_data_pixels(manifest, case.size), lambda: our_pixels(manifest, case.size)]
    apart = int(np.abs(ways[0]().astype(int) - ways[1]()).max())  # and both are warm
    times = np.array([[seconds(way) for way in ways] for _ in range(pairs)])
    rates = len(manifest.samples) / np.median(times[:, :, 0], axis=0)
    wall, processor = (times[:, 0] / times[:, 1]).T
    done = f"to {case.size} px" if case.size != case.file_size else "as it is"
    return (
        f"| {case.suffix}, {case.file_size} px | {done} | {rates[0]:,.0f} | {rates[1]:,.0f} "
        f"| {_range(wall)} | {_range(processor)} | {apart} |"
    )


def _range(ratios: NDArray[np.float64]) -> str:
    return f"{np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", default="48,112,224", help="their sizes, with commas between")
    parser.add_argument("--images", type=int, default=4096, help="of 48 px; fewer of larger ones")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.files.split(",")]
    print(f"{usable_cores().number} cores; largest difference between the pixels in grey values\n")
    print(
        "| files | pixels | tf.data, images/s | fer-bench, images/s | ratio of speeds | "
        "ratio of processor times | difference |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(sizes):
            images = max(1, round(arguments.images * min(sizes) / case.file_size))
            manifest = faces(Path(folder), case, images)
            print(compare(case, manifest, arguments.pairs), flush=True)


if __name__ == "__main__":
    main()
