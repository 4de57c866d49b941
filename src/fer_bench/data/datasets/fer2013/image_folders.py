"""FER2013 as folders of images, with or without the names of the challenge."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from fer_bench.data.datasets.fer2013.shared import CLASSES, SPLIT_OF_USAGE, Found
from fer_bench.data.files.folders import (
    class_folders,
    class_images,
    listed,
    split_of,
    subfolders,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import COLUMNS, Problem, problem_of
from fer_bench.errors import DataError
from fer_bench.labels import canonical

_ORIGINAL_NAME = r"^(Training|PublicTest|PrivateTest)_[0-9]+$"


def part_folders(folder: Path) -> list[Path]:
    """The folders in `folder` that hold class folders, whatever their names."""
    return [
        part
        for part in subfolders(folder, Counter())
        if any(canonical(inner.name) in CLASSES for inner in subfolders(part, Counter()))
    ]


def read_image_folders(root: Path, tree: Path, links: Links) -> Found:
    """The images in `tree`, which is `root` or a folder below it. Raises: DataError."""
    dropped = Counter[str]()
    files = pd.DataFrame(_files(root, tree, dropped), columns=["path", "folder", "label"])
    files = links.without_copies(files, dropped)
    files["stem"] = files["path"].map(lambda path: PurePosixPath(path).stem)
    files["usage"] = files["stem"].str.extract(_ORIGINAL_NAME, expand=False)
    # Most images do not have such names by chance; a few others may have been added later.
    if files["usage"].notna().mean() > 0.5:
        return _by_name(root, files, dropped)
    return _by_folder(root, files, dropped)


def _files(root: Path, tree: Path, dropped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Path relative to `root`, folder in `tree` and class of every image."""
    parts = part_folders(tree)
    dropped["unrelated folder"] += len(subfolders(tree, dropped)) - len(parts)
    for part in parts:
        for label, folder in class_folders(part, CLASSES, dropped).items():
            shown = folder.relative_to(root).as_posix()
            for name in class_images(folder, dropped):
                yield f"{shown}/{name}", part.name, label


def _by_name(root: Path, files: pd.DataFrame, dropped: Counter[str]) -> Found:
    """The original names give the split, whatever the folder is called."""
    foreign = files.loc[files["usage"].isna(), "path"]
    dropped["no original name"] += len(foreign)
    files = files.dropna(subset="usage")
    files["split"] = files["usage"].map(SPLIT_OF_USAGE)
    # The release has two names that occur in two classes each, for different images.
    twice = files["stem"].duplicated(keep=False)
    files["sample_id"] = files["stem"].mask(twice, files["label"] + "/" + files["stem"])
    by_folder = files["folder"].map(split_of)
    # The Kaggle copy msambare/fer2013 has no folder for PublicTest: `test` holds both.
    merges = "validation" not in set(by_folder)
    merged = merges & (files["usage"] == "PublicTest") & (by_folder == "test")
    strange = by_folder.notna() & (by_folder != files["split"]) & ~merged
    problems = (
        *problem_of(
            "foreign_name", "warning", foreign, "images without an original name are left out"
        ),
        *problem_of(
            "split_disagreement",
            "warning",
            files.loc[strange, "path"],
            "images are in the folder of another split than their names say; the names count",
        ),
        *problem_of(
            "merged_test",
            "info",
            files.loc[merged, "path"],
            "images of PublicTest are in the test folder; by their names, they are validation here",
        ),
    )
    samples = files[[*COLUMNS, "usage"]].reset_index(drop=True)
    return Found("fer2013-original-names", root, samples, dict(+dropped), problems)


def _by_folder(root: Path, files: pd.DataFrame, dropped: Counter[str]) -> Found:
    """Two folders, the second of which holds both test parts of the challenge."""
    folders = list(dict.fromkeys(files["folder"]))
    splits = [split_of(name) for name in folders]
    if sorted(map(str, splits)) != ["test", "train"]:
        raise DataError(
            f"the folders of classes are in {listed(folders)}, and the images do not have original "
            "names (Training_1.jpg).\nExpected the folders train and test. For another copy of "
            "FER2013, use dataset.name: folder."
        )
    names = files["path"].map(lambda path: PurePosixPath(path).name)
    samples = files.assign(split=files["folder"].map(split_of))
    samples["sample_id"] = samples["split"] + "/" + samples["label"] + "/" + names
    text = "the test split merges PublicTest and PrivateTest: its scores are not PrivateTest scores"
    merged = Problem("merged_test", "info", int((samples["split"] == "test").sum()), (), text)
    return Found("fer2013-msambare", root, samples[list(COLUMNS)], dict(+dropped), (merged,))
