"""How long AffectNet's 2021 release takes to open: the first time, and every time after.

Makes a tree of as many images and npy files as the release has, all of them tiny, in a temporary
folder; the files are in the memory of the system when they are read. A start is `load_manifest`
and the fingerprint. With `--profile`, what the second start spends its time on is printed too.
"""

import argparse
import cProfile
import itertools
import os
import pstats
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest
from fer_bench.storage.cache import VARIABLE

LINKS = 60_000  # of one file; ext4 allows 65,000
TEST_IMAGES = 4_000


class Source:
    """A file of which any number of copies is made, as hard links where that is possible."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.folder, self.content = folder, content
        self.files = self._files()

    def _files(self) -> Iterator[Path]:
        for number in itertools.count():
            file = self.folder / f"{id(self)}_{number}"
            file.write_bytes(self.content)
            yield from itertools.repeat(file, LINKS)

    def link(self, path: str) -> None:
        """One more copy, as `path`."""
        os.link(next(self.files), path)


def npy(folder: Path, value: str | np.ndarray) -> Source:
    """A file as `numpy.save` writes it."""
    path = folder / "value.npy"
    np.save(path, np.array(value))
    return Source(folder, path.read_bytes())


def make_tree(root: Path, images: int) -> None:
    """Write the release with `images` images, all of eight expressions in turn."""
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


def start(root: Path) -> float:
    """Seconds until the manifest and its fingerprint are there."""
    before = time.perf_counter()
    manifest = load_manifest(Dataset(name="affectnet", root=root))
    assert manifest.fingerprint
    seconds = time.perf_counter() - before
    assert set(manifest.split_sizes()) == {"train", "validation", "test"}
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=290_000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = f"{folder}/cache"
        root = Path(folder, "affectnet")
        root.mkdir()
        make_tree(root, arguments.images)
        seconds = {name: start(root) for name in ("first", "second", "third")}
        print(f"| start | seconds for {arguments.images:,} images |\n|---|---|")
        for name, value in seconds.items():
            print(f"| {name} | {value:.2f} |")
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(start, root)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(35)


if __name__ == "__main__":
    main()
