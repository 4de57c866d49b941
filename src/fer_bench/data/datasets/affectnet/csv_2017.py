"""AffectNet as first released in 2017: two CSV lists beside folders of images."""

from collections import Counter
from pathlib import Path

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.affectnet.shared import (
    EMOTIONS,
    NO_FILE,
    UNLISTED,
    Findings,
    count_labels,
    with_emotions,
    with_known_labels,
)
from fer_bench.data.files.file_names import is_image_name, reason_left_out
from fer_bench.data.files.folders import (
    file_paths,
    has_file,
    has_folder,
    inside,
    missing_folder,
    missing_list,
    read_table,
    subfolders,
)
from fer_bench.data.manifest import BOX, COLUMNS
from fer_bench.data.releases import Counts
from fer_bench.errors import DataError

LISTS = {"training.csv": "train", "validation.csv": "test"}
UNUSED_LIST = "automatically_annotated.csv"
IMAGES = "Manually_Annotated_Images"
IMAGE_FOLDERS = (IMAGES, f"Manually_Annotated/{IMAGES}")

# All but the 68 landmarks, which are nine tenths of the lists.
LIST_COLUMNS = ("subDirectory_filePath", *BOX, "expression", *EMOTIONS)
LARGEST_PIXEL = 2**16


def holds_lists(folder: Path) -> bool:
    """Whether `folder` is that of this release."""
    listed_here = any(has_file(folder, name) for name in LISTS)
    return listed_here or any(has_folder(folder, name) for name in IMAGE_FOLDERS)


def read_lists(folder: Path, config: Dataset, findings: Findings) -> tuple[pd.DataFrame, Counts]:
    """The samples of this release, and its numbers of images."""
    images = next((name for name in IMAGE_FOLDERS if has_folder(folder, name)), None)
    if images is None:
        raise no_images(folder, config.root)
    lists = folder_of_lists(folder)
    for name in LISTS:
        if not has_file(lists, name):
            raise missing_list(lists / name)
    if has_file(lists, UNUSED_LIST):
        text = "its labels were assigned by a program and are not used"
        findings.report("list_not_used", "info", [UNUSED_LIST], text)
    rows = pd.concat([_read_list(lists / name) for name in LISTS], ignore_index=True)
    files = set(file_paths(folder / images, findings.dropped))
    _report_other_files(files - set(rows["path"]), findings)
    rows = with_known_labels(rows, findings)
    # Before rows without a file are dropped: the known numbers are those of the lists.
    found = count_labels(rows)
    rows = _with_images(rows, files, findings)
    rows = with_emotions(_with_boxes(rows, findings), findings)
    rows["path"] = f"{images}/" + rows["path"]
    return rows[[*COLUMNS, *BOX, *EMOTIONS]], found


def folder_of_lists(folder: Path) -> Path:
    """The folder of the lists: `folder`, or one in it."""
    places = [folder, *subfolders(folder, Counter())]
    return next((place for place in places if any(has_file(place, name) for name in LISTS)), folder)


def _read_list(path: Path) -> pd.DataFrame:
    """One list; all columns but the paths as numbers, NaN for cells that are not."""
    rows = read_table(path, LIST_COLUMNS).rename(columns={"subDirectory_filePath": "path"})
    for column in LIST_COLUMNS[1:]:
        rows[column] = pd.to_numeric(rows[column], errors="coerce")
    split = LISTS[path.name]
    names = [inside(name, path.name) for name in rows["path"].tolist()]
    rows["path"] = pd.Series(names, rows.index, dtype=str)
    return rows.assign(split=split, sample_id=f"{split}/" + rows["path"])


def _report_other_files(paths: set[str], findings: Findings) -> None:
    """Count and report the files that no list names."""
    images = sorted(path for path in paths if is_image_name(path.rpartition("/")[2]))
    others = (path.rpartition("/")[2] for path in paths.difference(images))
    findings.dropped.update(Counter(map(reason_left_out, others)))
    findings.dropped.update(+Counter({UNLISTED: len(images)}))
    findings.report_unlisted(images)


def _with_images(rows: pd.DataFrame, files: set[str], findings: Findings) -> pd.DataFrame:
    """The rows whose image exists, has a supported format and is named for the first time."""
    supported = [is_image_name(path) for path in rows["path"].tolist()]
    foreign = ~pd.Series(supported, rows.index, dtype=bool)
    text = "images of this format cannot be decoded; they are left out"
    findings.report("format_not_supported", "warning", rows.loc[foreign, "sample_id"], text)
    findings.dropped.update(Counter(map(reason_left_out, rows.loc[foreign, "path"])))
    rows = rows[~foreign]

    absent = ~rows["path"].isin(files)
    findings.report_no_file(rows.loc[absent, "sample_id"])
    return findings.drop_repeated(findings.drop(rows, absent, NO_FILE), "sample_id")


def _with_boxes(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The rows with a usable face box, in whole pixels."""
    boxes = rows[list(BOX)]
    possible = (boxes.abs() < LARGEST_PIXEL).all(axis=1) & (boxes[list(BOX[2:])] > 0).all(axis=1)
    text = "these have no face box, or an empty one"
    findings.report("box_unusable", "warning", rows.loc[~possible, "sample_id"], text)
    rows = findings.drop(rows, ~possible, "face box unusable")
    return rows.assign(**boxes[possible].round().astype(int))


def no_images(folder: Path, root: Path) -> DataError:
    """The error that there are no images beside the lists in `folder` or a folder in it."""
    lists = folder_of_lists(folder)
    alone = lists == folder != root and not subfolders(folder, Counter())
    return missing_folder(folder.parent if alone else folder, IMAGES, {lists.name})
