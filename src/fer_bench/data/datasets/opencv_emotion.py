"""OpenCV Emotion (Kaggle): a repack of FER2013 as two folders of seven class folders.

FER2013 has three parts; the repack holds the first and one of the other two. Each of those has
3,589 images, so only the numbers per class show which one it is, and whether a score can be
compared with a published one.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.folders import (
    class_folders,
    class_images,
    contents,
    find,
    reading_download,
    split_folders,
    split_of,
    subfolders,
    unpack_advice,
)
from fer_bench.data.manifest import COLUMNS, Manifest
from fer_bench.data.releases import FER2013, with_release
from fer_bench.data.spec import DatasetSpec, preparation
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

NAME = "opencv_emotion"
CLASSES = EXPRESSIONS[:7]
# The second folder is called validation, but it is the only one that is not for training.
SPLIT_FOLDERS = {
    "train": ("training", "train"),
    "test": ("validation", "val", "valid", "testing", "test"),
}
RELEASES = {
    "opencv-emotion-public": {"train": FER2013["Training"], "test": FER2013["PublicTest"]},
    "opencv-emotion-private": {"train": FER2013["Training"], "test": FER2013["PrivateTest"]},
}


def read(config: Dataset) -> Manifest:
    """The images below the root. Raises: DataError when the layout is not the expected one."""
    root, dropped = config.root, Counter[str]()
    with reading_download(NAME, root) as links:
        samples = pd.DataFrame(_rows(root, dropped), columns=list(COLUMNS))
        samples = links.without_copies(samples, dropped)
        problems = tuple(links.problems())
    manifest = Manifest(NAME, "", root, CLASSES, 1, samples, dict(dropped), problems, (48, 48))
    return with_release(manifest, NAME, RELEASES)


def _rows(root: Path, dropped: Counter[str]) -> Iterator[tuple[str, str, str, str]]:
    """The values of `COLUMNS` for every image; other files are counted in `dropped`."""
    for split, split_folder in _split_folders(root, dropped).items():
        for label, folder in class_folders(split_folder, CLASSES, dropped).items():
            shown = folder.relative_to(root).as_posix()
            for name in class_images(folder, dropped):
                yield f"{split}/{label}/{name}", f"{shown}/{name}", split, label


def _split_folders(root: Path, dropped: Counter[str]) -> dict[str, Path]:
    """The folder of each split, in `root` or in a wrapper that the archive has."""

    def holds_splits(folder: Path) -> bool:
        inner = subfolders(folder, Counter())
        return any(split_of(path.name, SPLIT_FOLDERS) for path in inner)

    folder = find(root, holds_splits) or root
    found = split_folders(folder, dropped, SPLIT_FOLDERS)
    for split, names in SPLIT_FOLDERS.items():
        if split not in found:
            raise DataError(
                f"no {names[0]} folder; found {contents(folder)}.\n"
                f"{unpack_advice(folder, NAME)}"
                f"Expected a folder '{names[0]}' ({', '.join(names[1:])}) of seven class folders."
            )
    return found


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=preparation(NAME, "kaggle.com/datasets/juniorbueno/rating-opencv-emotion-images"),
        source=(
            "Kaggle juniorbueno/rating-opencv-emotion-images, a repack of FER2013; see that page "
            "for its terms, and do not share the images."
        ),
        classes=CLASSES,
        overlaps={"fer2013": "its images are the Training and one test part of FER2013"},
    ),
)
