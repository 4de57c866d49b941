"""How fast image files become pixels in memory: fer-bench compared with a pipeline of tf.data.

The files are drawn faces. A case is the size and format of the files, and the size of the pixels.
Both decoders read all files of a case, taking turns in one process with all usable cores. Prints
the median images per second of each, and two median ratios with their 95% intervals: of the speeds
(above 1, fer-bench is faster), and of the processor times (above 1, fer-bench needs less), which
depend less on other work on the machine. The difference is the largest one in grey values.

    python scripts/benchmark_decoding.py
    python scripts/benchmark_decoding.py --images 2048 --pairs 9 --files 48,224
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from drawn_images import QUALITY
from measuring import paired_ratio, parser_of, print_heading, print_row, take_turns
from numpy.typing import NDArray
from PIL import Image

from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.data.decoding import open_split
from fer_bench.data.manifest import Manifest

FORMATS = ("jpg", "png")
FACES = 256  # different ones; a larger number of images repeats them
BATCH = 256


class Case(NamedTuple):
    """Files of one size and format, and the size of the pixels."""

    file_size: int
    suffix: str
    size: int


def cases(file_sizes: Sequence[int]) -> Iterator[Case]:
    """Every format in every size, and the largest size halved."""
    for suffix in FORMATS:
        for size in file_sizes:
            yield Case(size, suffix, size)
        yield Case(max(file_sizes), suffix, max(file_sizes) // 2)


def faces(folder: Path, case: Case, images: int) -> Manifest:
    """Write the files of a case, unless they exist; each is listed several times."""
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
    return np.concatenate(list(dataset.as_numpy_iterator()))


def our_pixels(manifest: Manifest, size: int) -> NDArray[np.uint8]:
    """The pixels as training and evaluation get them."""
    pixels = open_split(manifest, "train", size).pixels
    if pixels is None:
        raise SystemExit("these images are too many to keep in memory; use a smaller --images")
    return pixels


def compare(case: Case, manifest: Manifest, pairs: int) -> Sequence[str]:
    """A row of the table."""
    ways = {
        "theirs": lambda: tf_data_pixels(manifest, case.size),
        "ours": lambda: our_pixels(manifest, case.size),
    }
    difference = np.abs(ways["theirs"]().astype(int) - ways["ours"]()).max()  # also a warm-up
    times = take_turns(ways, pairs, warm_up=0)
    theirs, ours = (np.array(times[way]) for way in ways)
    rates = [len(manifest.samples) / np.median(way[:, 0]) for way in (theirs, ours)]
    return (
        f"{case.suffix}, {case.file_size} px",
        f"to {case.size} px" if case.size != case.file_size else "same size",
        *(f"{rate:,.0f}" for rate in rates),
        *(str(paired_ratio(theirs[:, column], ours[:, column])) for column in (0, 1)),
        str(difference),
    )


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--files", default="48,112,224", help="comma-separated sizes of the files")
    parser.add_argument("--images", type=int, default=4096, help="at 48 px; fewer if larger")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.files.split(",")]
    print_heading(
        (
            *("files", "pixels", "tf.data, images/s", "fer-bench, images/s"),
            *("ratio of speeds [95%]", "ratio of processor times [95%]", "difference"),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(sizes):
            images = max(1, round(arguments.images * min(sizes) / case.file_size))
            print_row(compare(case, faces(Path(folder), case, images), arguments.pairs))


if __name__ == "__main__":
    main()
