"""How long the 2021 release of AffectNet takes to open: the first time, and later.

Creates as many images and npy files as the release has, all tiny, in a temporary folder; they are
in the page cache of the system when they are read. A start is `load_manifest` and the fingerprint.
`--profile` also prints a profile of one more start.
"""

import cProfile
import io
import itertools
import os
import pstats
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import parser_of, print_heading, print_row, timed

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest
from fer_bench.storage.cache import VARIABLE

LINKS = 60_000  # per file; ext4 allows 65,000
TEST_IMAGES = 4_000


def source(folder: Path, content: bytes) -> Iterator[Path]:
    """Files with this content to link to; each is yielded as often as it can be linked."""
    for number in itertools.count():
        file = folder / f"{zlib.crc32(content)}_{number}"
        file.write_bytes(content)
        yield from itertools.repeat(file, LINKS)


def npy(folder: Path, value: str | np.ndarray) -> Iterator[Path]:
    """Files of `numpy.save` to link to."""
    content = io.BytesIO()
    np.save(content, np.array(value))
    return source(folder, content.getvalue())


def make_tree(root: Path, images: int) -> None:
    """Write the release with `images` images; eight expressions take turns."""
    sources = root / "sources"
    sources.mkdir()
    image = source(sources, b"an image")
    landmarks = npy(sources, np.zeros(136))
    expressions = [npy(sources, str(code)) for code in range(8)]
    emotions = [npy(sources, str(round(value, 6))) for value in np.linspace(-1, 1, 50)]
    for name, count in (("train_set", images - TEST_IMAGES), ("val_set", TEST_IMAGES)):
        for part in ("images", "annotations"):
            (root / name / part).mkdir(parents=True)
        for number in range(count):
            os.link(next(image), f"{root}/{name}/images/{number}.jpg")
            start = f"{root}/{name}/annotations/{number}"
            os.link(next(expressions[number % 8]), f"{start}_exp.npy")
            os.link(next(emotions[number % 50]), f"{start}_val.npy")
            os.link(next(emotions[number % 49]), f"{start}_aro.npy")
            os.link(next(landmarks), f"{start}_lnd.npy")


def start(root: Path) -> None:
    """Read the manifest and compute its fingerprint."""
    manifest = load_manifest(Dataset(name="affectnet", root=root))
    assert manifest.fingerprint
    assert set(manifest.split_sizes()) == {"train", "validation", "test"}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=290_000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = f"{folder}/cache"
        root = Path(folder, "affectnet")
        root.mkdir()
        make_tree(root, arguments.images)
        print_heading(("start", f"seconds for {arguments.images:,} images"))
        for name in ("first", "second", "third"):
            print_row((name, f"{timed(lambda: start(root)).wall:.2f}"))
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(start, root)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(35)


if __name__ == "__main__":
    main()
