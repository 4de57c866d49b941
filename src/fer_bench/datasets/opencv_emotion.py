"""OpenCV Emotion (Kaggle): a repack of FER2013 as two folders of seven class folders.

FER2013 has three parts; the repack holds the first and one of the other two. Both of those have
3,589 images, so only the class counts tell which one it is, and with it whether a score can be
compared to a published one.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath

import pandas as pd

from fer_bench import labels
from fer_bench.archive import is_hidden, is_image, unpack
from fer_bench.datasets import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.manifest import COLUMNS, EXPRESSIONS, Manifest
from fer_bench.registry import DATASETS, did_you_mean

NAME = "opencv_emotion"
CLASSES = EXPRESSIONS[:7]
SPLIT_FOLDERS = {
    "train": ("training", "train"),
    "test": ("validation", "val", "valid", "testing", "test"),
}

# The counts of the three parts of FER2013, in the order of CLASSES.
_TRAINING = dict(zip(CLASSES, (4965, 7215, 4830, 3171, 4097, 436, 3995), strict=True))
_PUBLIC_TEST = dict(zip(CLASSES, (607, 895, 653, 415, 496, 56, 467), strict=True))
_PRIVATE_TEST = dict(zip(CLASSES, (626, 879, 594, 416, 528, 55, 491), strict=True))
RELEASES = {
    "opencv-emotion-public": {"train": _TRAINING, "test": _PUBLIC_TEST},
    "opencv-emotion-private": {"train": _TRAINING, "test": _PRIVATE_TEST},
}

_INCOMPLETE = "Download the whole archive and unpack it again."

_logger = logging.getLogger(__name__)


def read(root: Path) -> Manifest:
    """The images below `root`. Raises: DataError when the layout is not the expected one."""
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder.\n"
            f"Unpack the download: fer data prepare {NAME} ARCHIVE --root {root}"
        )
    return _read(root, named=root)


def prepare(root: Path, archive: Path | None, force: bool) -> None:
    """Unpack the download as `root`, unless it is not this dataset. Raises: DataError."""
    if archive is None:
        raise DataError(
            f"{NAME} is not downloaded automatically.\nDownload it from "
            "kaggle.com/datasets/juniorbueno/rating-opencv-emotion-images and give the zip file: "
            f"fer data prepare {NAME} ARCHIVE --root {root}"
        )
    unpacked = unpack(archive, root, force, check=partial(_read, named=archive))
    _logger.info("%s: %d images written, %d other files left out", root, *unpacked)


def _read(root: Path, named: Path) -> Manifest:
    """The manifest of `root`; `named` is what a message calls it."""
    dropped = Counter[str]()
    try:
        rows = list(_rows(root, dropped))
    except OSError as error:
        raise DataError(f"{named}: cannot be read ({error}).\nCheck your rights there.") from error
    except DataError as error:
        raise DataError(f"{named}: {error}") from error
    samples = pd.DataFrame(rows, columns=list(COLUMNS))
    release = _release(Counter((split, label) for _, _, split, label in rows))
    return Manifest(NAME, release, root, CLASSES, 1, samples, dict(dropped))


def _rows(root: Path, dropped: Counter[str]) -> Iterator[tuple[str, str, str, str]]:
    """The values of `COLUMNS` for every image; what is no image is counted in `dropped`."""
    for split, split_folder in _split_folders(root, dropped).items():
        for label, class_folder in _class_folders(split_folder, root, dropped).items():
            shown = class_folder.relative_to(root).as_posix()
            names = _image_names(class_folder, dropped)
            if not names:
                raise DataError(f"class folder '{shown}' holds no images.\n{_INCOMPLETE}")
            for name in names:
                yield f"{split}/{label}/{name}", f"{shown}/{name}", split, label


def _split_folders(root: Path, dropped: Counter[str]) -> dict[str, Path]:
    """The folder of each split, in `root` or in a folder that an archive was unpacked as."""
    top = _subfolders(root, dropped)
    folders = top
    if not any(_split(folder.name) for folder in top):
        folders = [inner for wrapper in top for inner in _subfolders(wrapper, dropped)]
    found: dict[str, Path] = {}
    for folder in folders:
        split = _split(folder.name)
        if split is None:
            dropped["unrelated folder"] += 1
        else:
            _refuse_second(found.get(split), folder, root)
            found[split] = folder
    for split, names in SPLIT_FOLDERS.items():
        if split not in found:
            raise DataError(
                f"no {names[0]} folder; found {_listed(folder.name for folder in top)}.\n"
                f"Expected a folder '{names[0]}' ({', '.join(names[1:])}) of seven class folders."
            )
    return {split: found[split] for split in SPLIT_FOLDERS}


def _class_folders(split_folder: Path, root: Path, dropped: Counter[str]) -> dict[str, Path]:
    """The folder of each class, in the order of `CLASSES`."""
    shown = split_folder.relative_to(root).as_posix()
    found: dict[str, Path] = {}
    for folder in _subfolders(split_folder, dropped):
        label = labels.canonical(folder.name)
        if label not in CLASSES:
            spellings = [name for name, known in labels.SPELLINGS.items() if known in CLASSES]
            hint = did_you_mean(folder.name.casefold(), spellings)
            raise DataError(
                f"unknown class folder '{shown}/{folder.name}'; known: {', '.join(CLASSES)}.\n"
                f"{hint or 'Rename it, or move it away.'}"
            )
        _refuse_second(found.get(label), folder, root)
        found[label] = folder
    missing = [label for label in CLASSES if label not in found]
    if missing:
        present = _listed(folder.name for folder in found.values())
        raise DataError(
            f"'{shown}' has no class folder for {', '.join(missing)}; found {present}.\n"
            f"{_INCOMPLETE}"
        )
    return {label: found[label] for label in CLASSES}


def _image_names(folder: Path, dropped: Counter[str]) -> list[str]:
    names = []
    for entry in _visible(folder, dropped):
        if entry.is_file(follow_symlinks=False) and is_image(PurePath(entry.name)):
            names.append(entry.name)
        else:
            dropped["symbolic link" if entry.is_symlink() else "not an image"] += 1
    return names


def _subfolders(folder: Path, dropped: Counter[str]) -> list[Path]:
    folders = []
    for entry in _visible(folder, dropped):
        if entry.is_dir(follow_symlinks=False):
            folders.append(Path(entry.path))
        else:
            dropped["symbolic link" if entry.is_symlink() else "outside a class folder"] += 1
    return folders


def _visible(folder: Path, dropped: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """What `folder` shows, by name. Links are not followed by any caller."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden(PurePath(entry.name)):
                dropped["hidden"] += 1
            else:
                yield entry


def _split(folder_name: str) -> str | None:
    for split, names in SPLIT_FOLDERS.items():
        if folder_name.casefold() in names:
            return split
    return None


def _refuse_second(first: Path | None, second: Path, root: Path) -> None:
    if first is not None:
        folders = [f"'{folder.relative_to(root).as_posix()}'" for folder in (first, second)]
        raise DataError(
            f"{' and '.join(folders)} stand for the same thing.\nMove one of them away."
        )


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) + rest) or "no folder"


def _release(counts: Counter[tuple[str, str]]) -> str:
    """Which release has these numbers of images by (split, class)."""
    differences = {
        name: [
            f"{split} {label} {counts[split, label]} instead of {number}"
            for split, numbers in known.items()
            for label, number in numbers.items()
            if counts[split, label] != number
        ]
        for name, known in RELEASES.items()
    }
    nearest = min(differences, key=lambda name: len(differences[name]))
    if not differences[nearest]:
        return nearest
    _logger.info("class counts differ from %s: %s", nearest, "; ".join(differences[nearest]))
    return "opencv-emotion-unrecognised"


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=prepare,
        source=(
            "Kaggle juniorbueno/rating-opencv-emotion-images, a repack of FER2013; see that page "
            "for its terms, and do not pass the images on."
        ),
    ),
)
