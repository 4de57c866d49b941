"""How long the 2021 release of AffectNet takes to open: the first time, and later.

Creates as many images and npy files as the release has, all tiny, in a temporary folder; they are
in the page cache of the system when they are read. A start is `load_manifest` and the fingerprint.
`--profile` also prints a profile of one more start.
"""

import cProfile
import itertools
import os
import pstats
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import parser_of, print_heading, print_row, timed

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest
from fer_bench.storage.cache import VARIABLE

LINKS = 60_000  # per file; ext4 allows 65,000
TEST_IMAGES = 4_000


class Source:
    """A file with any number of copies, as hard links as far as possible."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.folder, self.content = folder, content
        self.files = self._files()

    def _files(self) -> Iterator[Path]:
        for number in itertools.count():
            file = self.folder / f"{id(self)}_{number}"
            file.write_bytes(self.content)
            yield from itertools.repeat(file, LINKS)

    def link(self, path: str) -> None:
        """Add a copy at `path`."""
        os.link(next(self.files), path)


def npy(folder: Path, value: str | np.ndarray) -> Source:
    """A file of `numpy.save`."""
    path = folder / "value.npy"
    np.save(path, np.array(value))
    return Source(folder, path.read_bytes())


def make_tree(root: Path, images: int) -> None:
    """Write the release with `images` images; eight expressions take turns."""
    sources = root / "sources"
    sources.mkdir()
    image = Source(sources, b"a picture")
    landmarks = npy(sources, np.zeros(136))
    expressions = [npy(sources, str(code)) for code in range(8)]
    emotions = [npy(sources, str(round(value, 6))) for value in np.linspace(-1, 1, 50)]
    for name, count in (("train_set", images - TEST_IMAGES), ("val_set", TEST_IMAGES)):
        for part in ("images", "annotations"):
            (root / name / part).mkdir(parents=True)
        for number in range(count):
            image.link(f"{root}/{name}/images/{number}.jpg")
            start = f"{root}/{name}/annotations/{number}"
            expressions[number % 8].link(f"{start}_exp.npy")
            emotions[number % 50].link(f"{start}_val.npy")
            emotions[number % 49].link(f"{start}_aro.npy")
            landmarks.link(f"{start}_lnd.npy")


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
