"""FER2013: 35,887 grey faces of 48 px, as one table of pixels or as folders of images.

The challenge had three parts: Training, PublicTest and PrivateTest. Scores are compared on
PrivateTest, so the part of every image is kept in `usage` wherever the layout shows it. The table
may have the votes of FERPlus beside it (see `ferplus`).
"""

import shutil
from collections import Counter
from pathlib import Path

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.fer2013 import ferplus
from fer_bench.data.datasets.fer2013.image_folders import part_folders, read_image_folders
from fer_bench.data.datasets.fer2013.pixel_table import (
    TABLE_COLUMNS,
    TABLES,
    find_table,
    header_of,
    missing_columns,
    read_pixel_table,
    table_rows,
)
from fer_bench.data.datasets.fer2013.shared import CLASSES, NAME, SIDE, SPLIT_OF_USAGE, Found
from fer_bench.data.files.archive_formats import format_of
from fer_bench.data.files.folders import (
    contents,
    find,
    listed,
    reading,
    reading_download,
    unpack_advice,
    visible,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import Manifest
from fer_bench.data.releases import FER2013, with_release
from fer_bench.data.spec import DatasetSpec, check_release, preparation
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS
from fer_bench.storage.replacement import check_place, check_vacant, replaced_folder

_OFFICIAL = {split: FER2013[usage] for usage, split in SPLIT_OF_USAGE.items()}
_MERGED = {name: FER2013["PublicTest"][name] + FER2013["PrivateTest"][name] for name in CLASSES}
RELEASES = {
    "fer2013-csv": _OFFICIAL,
    "fer2013-msambare": {"train": FER2013["Training"], "test": _MERGED},
    "fer2013-original-names": _OFFICIAL,
}
PAGES = (
    "kaggle.com/datasets/msambare/fer2013 or kaggle.com/competitions/"
    "challenges-in-representation-learning-facial-expression-recognition-challenge"
)


def read(config: Dataset) -> Manifest:
    """The images below the root in any of the layouts; those of a table are in the cache.

    With `labels`, the labels are those of FERPlus.

    Raises: DataError when the root has none of the layouts or several of them, a layout is
        damaged, or the votes for its rows are missing.
    """
    with reading_download(NAME, config.root) as links:
        found = _read_layout(config.root, links)
    problems = (*found.problems, *links.problems())
    manifest = Manifest(
        name=NAME,
        release="",
        root=found.root,
        classes=CLASSES,
        channels=1,
        samples=found.samples,
        dropped=found.dropped,
        problems=problems,
        image_size=(SIDE, SIDE),
        source_digest=found.source_digest,
    )
    manifest = with_release(manifest, found.layout, {found.layout: RELEASES[found.layout]})
    return _with_votes(manifest, found, config) if config.labels else manifest


def _with_votes(manifest: Manifest, found: Found, config: Dataset) -> Manifest:
    rule = next(rule for rule in ferplus.RULES if rule == config.labels)
    with reading(config.root):
        if found.layout != "fer2013-csv":
            raise DataError(
                f"dataset.labels: {rule} needs {TABLES[0]}, because FERPlus labels its rows; found "
                f"folders of images ({found.layout}).\nGive the folder of the table, or remove it."
            )
        rows_of_table = len(found.samples) + sum(found.dropped.values())
        return ferplus.relabelled(manifest, ferplus.find_table(config.root), rule, rows_of_table)


def _read_layout(root: Path, links: Links) -> Found:
    tree = find(root, lambda folder: bool(part_folders(folder)))
    table = find(root, lambda folder: find_table(folder) is not None)
    if table and tree:
        raise DataError(
            f"holds both a table and folders of images: '{table}' and '{tree}'.\n"
            "Give one of them as dataset.root, or move the other away."
        )
    if table:
        return read_pixel_table(find_table(table) or table)
    if tree:
        return read_image_folders(root, tree, links)
    raise DataError(
        f"no FER2013 here; found {contents(root)}.\n"
        f"{_table_advice(root)}{unpack_advice(root, NAME)}"
        f"Expected {TABLES[0]} (or {TABLES[1]}), "
        "or train/<class>/ and test/<class>/, or images named Training_1.jpg, PublicTest_1.jpg "
        "and PrivateTest_1.jpg in <any folder>/<class>/."
    )


def _table_advice(folder: Path) -> str:
    """A line about tables in `folder` under other names; empty without one."""
    tables = [entry for entry in visible(folder, Counter()) if entry.is_file()]
    headers = {
        entry.name: set(header_of(Path(entry.path)))
        for entry in tables
        if entry.name.casefold().endswith(".csv")
    }
    whole = [name for name, header in headers.items() if header.issuperset(TABLE_COLUMNS)]
    if whole:
        return f"'{whole[0]}' is the table: rename it to {TABLES[0]}.\n"
    pixels = [name for name, header in headers.items() if "pixels" in header]
    if not pixels:
        return ""
    return (
        f"Without the column Usage, the rows of {listed(pixels)} belong to no split: use "
        f"{TABLES[1]} of the same download.\n"
    )


# preparation -----------------------------------------------------------------------------------

_unpack = preparation(NAME, PAGES)


def prepare(root: Path, archive: Path | None, force: bool) -> None:
    """Unpack `archive`, or copy it when it is the table itself.

    Raises: DataError.
    """
    if archive is None or not _is_table(archive):
        _unpack(root, archive, force)
        return
    if not archive.is_file():
        raise DataError(f"{archive}: no such file.\nGive the path of the download.")
    check_place(root, archive)
    with reading(archive.parent):
        next(table_rows(archive), None)  # checks its columns before anything is copied
    try:
        with replaced_folder(root) as fresh:
            check_vacant(root, force)
            shutil.copyfile(archive, fresh / TABLES[0])
            check_release(NAME, fresh, archive)
    except OSError as error:
        raise DataError(
            f"{root}: {archive} cannot be copied there ({error}).\n"
            "Check the free space and the permissions of that folder."
        ) from error


def _is_table(path: Path) -> bool:
    """Whether `path` is meant as the table, by its content or else by its name."""
    has_suffix = path.suffix.casefold() == ".csv"
    if not path.is_file():
        return has_suffix
    return not format_of(path) and (has_suffix or not missing_columns(header_of(path)))


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=prepare,
        source=(
            "Kaggle msambare/fer2013, or the challenge of 2013 that it was made for; see those "
            "pages for their terms, and do not share the images."
        ),
        classes=CLASSES,
        labels=dict.fromkeys(ferplus.RULES, EXPRESSIONS),
        overlaps={"opencv_emotion": "it is the Training and one test part of FER2013"},
    ),
)
