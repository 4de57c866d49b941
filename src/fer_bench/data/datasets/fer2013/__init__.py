"""FER2013: 35,887 grey faces of 48 px, as one table of pixels or as folders of images.

The challenge had three parts: Training, PublicTest and PrivateTest. Scores are compared on
PrivateTest, so the part of every image is kept in `usage` wherever the layout tells it. The table
may have the votes of FERPlus beside it (see `ferplus`).
"""

import csv
import json
import logging
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.fer2013 import ferplus
from fer_bench.data.files.archive_formats import format_of
from fer_bench.data.files.folders import (
    INCOMPLETE,
    class_folders,
    class_images,
    contents,
    find,
    listed,
    reading,
    split_of,
    subfolders,
    unpack_advice,
    visible,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import COLUMNS, Manifest, Problem, problem_of
from fer_bench.data.releases import FER2013, recognise
from fer_bench.data.spec import DatasetSpec, check_release, preparation
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS, canonical, decode
from fer_bench.registry import DATASETS
from fer_bench.storage.cache import cache_root, cached
from fer_bench.storage.folder_swap import check_place, check_vacant, replacing

NAME = "fer2013"
CLASSES = EXPRESSIONS[:7]
SIDE = 48
SPLIT_OF_USAGE = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}

# The challenge offers its table under two names, with the columns in two orders.
TABLES = ("fer2013.csv", "icml_face_data.csv")
TABLE_COLUMNS = ("emotion", "pixels", "Usage")
SAMPLE_COLUMNS = (*COLUMNS, "usage", "bytes")
# Raised when what the cache holds changes, so that older entries are made again.
FORMAT = 1
ORIGINAL_NAME = re.compile(r"^(Training|PublicTest|PrivateTest)_[0-9]+$")

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

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """What a layout holds; `root` is the folder that `path` is relative to."""

    layout: str
    root: Path
    samples: pd.DataFrame
    dropped: Mapping[str, int]
    problems: tuple[Problem, ...]


def read(config: Dataset) -> Manifest:
    """The images of whichever layout is below the root; those of a table lie in the cache.

    With `labels`, those of FERPlus.

    Raises: DataError when there is none of the layouts, more than one, or a damaged one; or no
        votes for its rows.
    """
    root = config.root
    advice = f"Unpack the download: fer data prepare {NAME} ARCHIVE --root {root}"
    with reading(root, advice) as links:
        found = _read_layout(root, links)
    manifest = Manifest(
        NAME,
        found.layout,
        found.root,
        CLASSES,
        1,
        found.samples,
        found.dropped,
        found.problems,
        image_size=(SIDE, SIDE),
    )
    release, problems = recognise(manifest.counts(), {found.layout: RELEASES[found.layout]})
    manifest = replace(
        manifest,
        release=release or f"{found.layout}-unrecognised",
        problems=(*problems, *manifest.problems, *links.problems()),
    )
    return _with_votes(manifest, found, config) if config.labels else manifest


def _with_votes(manifest: Manifest, found: _Found, config: Dataset) -> Manifest:
    rule = next(rule for rule in ferplus.RULES if rule == config.labels)
    with reading(config.root):
        if found.layout != "fer2013-csv":
            raise DataError(
                f"dataset.labels: {rule} needs {TABLES[0]}, whose rows FERPlus labels; found "
                f"folders of images ({found.layout}).\nGive the folder of the table, or remove it."
            )
        rows_of_table = len(found.samples) + sum(found.dropped.values())
        return ferplus.relabelled(manifest, ferplus.find_table(config.root), rule, rows_of_table)


def _read_layout(root: Path, links: Links) -> _Found:
    tree = find(root, lambda folder: bool(_parts(folder)))
    table = find(root, lambda folder: _table(folder) is not None)
    if table and tree:
        raise DataError(
            f"holds both a table and folders of images: '{table}' and '{tree}'.\n"
            "Give one of them as dataset.root, or move the other away."
        )
    if table:
        return _read_table(_table(table) or table)
    if tree:
        return _read_tree(root, tree, links)
    raise DataError(
        f"no FER2013 here; found {contents(root)}.\n"
        f"{_table_advice(root)}{unpack_advice(root, NAME)}"
        f"Expected {TABLES[0]} (or {TABLES[1]}), "
        "or train/<class>/ and test/<class>/, or images named Training_1.jpg, PublicTest_1.jpg "
        "and PrivateTest_1.jpg in <any folder>/<class>/."
    )


def _table_advice(folder: Path) -> str:
    """The line that says what tables of other names in `folder` are; empty without one."""
    tables = [entry for entry in visible(folder, Counter()) if entry.is_file()]
    headers = {
        entry.name: set(_header(Path(entry.path)))
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
        f"Without the column Usage, the rows of {listed(pixels)} belong to no split: take "
        f"{TABLES[1]} of the same download.\n"
    )


# a table of pixels -----------------------------------------------------------------------------


def _table(folder: Path) -> Path | None:
    # Any link is followed here: such a large file often lies on another disk.
    with os.scandir(folder) as entries:
        present = {entry.name.casefold(): entry.path for entry in entries if entry.is_file()}
    return next((Path(present[name]) for name in TABLES if name in present), None)


def _read_table(path: Path) -> _Found:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
    # The file itself and not its path, so that unpacking, which moves the folder into place when
    # it is complete, does not write the images twice.
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def make(folder: Path) -> None:
        _logger.info("%s: its images are written to %s, once", path, cache_root())
        _write_images(path, folder)

    entry = cached("fer2013-csv", f"{FORMAT} {identity}", make)
    samples = pd.read_csv(entry / "samples.csv", dtype=str, keep_default_na=False)
    samples["bytes"] = samples["bytes"].astype(int)
    bad = json.loads((entry / "bad_rows.json").read_text())
    text = "rows of the table cannot be used (counted from 0); download it again"
    count, examples = sum(bad["dropped"].values()), tuple(bad["examples"])
    problems = (Problem("bad_rows", "error", count, examples, text),) if count else ()
    return _Found("fer2013-csv", entry, samples, bad["dropped"], problems)


def _write_images(path: Path, folder: Path) -> None:
    """Fill `folder`: a PNG file for every good row, a list of them, and what is wrong with others.

    Raises: DataError when the table is none, or has no good row.
    """
    for split in SPLIT_OF_USAGE.values():
        (folder / split).mkdir()
    rows, dropped, examples = [], Counter[str](), []
    for number, cells in enumerate(_cells(path)):
        try:
            label, image = _sample(cells)
        except ValueError as fault:
            dropped[str(fault)] += 1
            examples.append(f"row {number}: {fault}")
            continue
        name, split = f"{cells.usage}_{number}", SPLIT_OF_USAGE[cells.usage]
        image.save(folder / split / f"{name}.png")
        rows.append((name, f"{split}/{name}.png", split, label, cells.usage, len(cells.pixels)))
    if not rows:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in dropped.items())
        raise DataError(
            f"'{path.name}' has no usable row: {reasons or 'it is empty'}.\n{INCOMPLETE}"
        )
    pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).to_csv(folder / "samples.csv", index=False)
    bad = {"dropped": dropped, "examples": examples[:5]}
    (folder / "bad_rows.json").write_text(json.dumps(bad))


class _Cells(NamedTuple):
    emotion: str
    pixels: str
    usage: str


def _cells(path: Path) -> Iterator[_Cells]:
    """The rows of the table, one at a time, since it has 290 MB. Raises: DataError."""
    if kind := format_of(path):
        raise DataError(
            f"'{path.name}' is a {kind} archive and no table.\n"
            f"Unpack it: fer data prepare {NAME} {path} --root NEW_FOLDER"
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        try:
            header = [name.strip() for name in next(rows, [])]
            if missing := _missing(header):
                raise DataError(
                    f"'{path.name}' lacks the columns {missing}; its first line is "
                    f"{','.join(header)[:80]!r}.\n{INCOMPLETE}"
                )
            places = [header.index(name) for name in TABLE_COLUMNS]
            for row in rows:
                if row:  # a blank line is no row
                    yield _Cells(*(row[i].strip() if i < len(row) else "" for i in places))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"'{path.name}' cannot be read as CSV (after line {rows.line_num}: {error}).\n"
                f"{INCOMPLETE}"
            ) from error


def _header(path: Path) -> list[str]:
    """The first line of a CSV file, which may be anything."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in file.readline(1000).split(",")]


def _missing(header: Collection[str]) -> str:
    return ", ".join(name for name in TABLE_COLUMNS if name not in header)


def _sample(cells: _Cells) -> tuple[str, Image.Image]:
    """Class and picture of a row. Raises: ValueError saying why there are none."""
    label = decode(cells.emotion, "fer2013")
    if label is None:
        raise ValueError("unknown emotion")
    if cells.usage not in SPLIT_OF_USAGE:
        raise ValueError("unknown usage")
    values = _values(cells.pixels)
    if len(values) != SIDE * SIDE:
        raise ValueError("wrong number of pixels")
    return label, Image.fromarray(values.reshape(SIDE, SIDE))


def _values(text: str) -> NDArray[np.uint8]:
    """Grey values, line by line. Raises: ValueError when they are none."""
    try:
        with warnings.catch_warnings(action="error"):  # some releases of NumPy only warn
            values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        raise ValueError("pixel that is no number") from None
    if values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise ValueError("pixel outside 0..255")
    return values.astype(np.uint8)


# folders of images -----------------------------------------------------------------------------


def _parts(folder: Path) -> list[Path]:
    """The folders in `folder` that hold class folders, whatever they are called."""
    return [
        part
        for part in subfolders(folder, Counter())
        if any(canonical(inner.name) in CLASSES for inner in subfolders(part, Counter()))
    ]


def _read_tree(root: Path, tree: Path, links: Links) -> _Found:
    dropped = Counter[str]()
    files = pd.DataFrame(_files(root, tree, dropped), columns=["path", "folder", "label"])
    files = links.without_copies(files, dropped)
    files["stem"] = files["path"].map(lambda path: PurePosixPath(path).stem)
    files["usage"] = files["stem"].str.extract(ORIGINAL_NAME, expand=False)
    # Nobody names most of the images so by chance; a few others were added later.
    if files["usage"].notna().mean() > 0.5:
        return _by_name(root, files, dropped)
    return _by_folder(root, files, dropped)


def _files(root: Path, tree: Path, dropped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Path relative to `root`, folder in `tree` and class of every image."""
    parts = _parts(tree)
    dropped["unrelated folder"] += len(subfolders(tree, dropped)) - len(parts)
    for part in parts:
        for label, folder in class_folders(part, CLASSES, dropped).items():
            shown = folder.relative_to(root).as_posix()
            for name in class_images(folder, dropped):
                yield f"{shown}/{name}", part.name, label


def _by_name(root: Path, files: pd.DataFrame, dropped: Counter[str]) -> _Found:
    """The original names tell the split, whatever the folder is called."""
    foreign = files.loc[files["usage"].isna(), "path"]
    dropped["no original name"] += len(foreign)
    files = files.dropna(subset="usage")
    files["split"] = files["usage"].map(SPLIT_OF_USAGE)
    # The release has two names that stand for an image of one class and for one of another.
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
            "images lie in the folder of another split than their names say; the names count",
        ),
        *problem_of(
            "merged_test",
            "info",
            files.loc[merged, "path"],
            "images of PublicTest lie in the test folder; by their names, they are validation here",
        ),
    )
    return _Found(
        "fer2013-original-names",
        root,
        files[[*COLUMNS, "usage"]].reset_index(drop=True),
        dict(+dropped),
        problems,
    )


def _by_folder(root: Path, files: pd.DataFrame, dropped: Counter[str]) -> _Found:
    """Two folders, the second of which holds both test parts of the challenge."""
    folders = list(dict.fromkeys(files["folder"]))
    splits = [split_of(name) for name in folders]
    if sorted(map(str, splits)) != ["test", "train"]:
        raise DataError(
            f"the folders of classes are in {listed(folders)}, and the images have no original "
            "names (Training_1.jpg).\nExpected the folders train and test. For another copy of "
            "FER2013, take dataset.name: folder."
        )
    names = files["path"].map(lambda path: PurePosixPath(path).name)
    samples = files.assign(split=files["folder"].map(split_of))
    samples["sample_id"] = samples["split"] + "/" + samples["label"] + "/" + names
    text = "the test split merges PublicTest and PrivateTest: its scores are not PrivateTest scores"
    merged = Problem("merged_test", "info", int((samples["split"] == "test").sum()), (), text)
    return _Found("fer2013-msambare", root, samples[list(COLUMNS)], dict(+dropped), (merged,))


# preparation -----------------------------------------------------------------------------------

_unpack = preparation(NAME, PAGES)


def prepare(root: Path, archive: Path | None, force: bool) -> None:
    """Unpack `archive`, or copy the table that was taken out of it before.

    Raises: DataError.
    """
    if archive is None or not _is_table(archive):
        _unpack(root, archive, force)
        return
    if not archive.is_file():
        raise DataError(f"{archive}: no such file.\nGive the path of the download.")
    check_place(root, archive)
    with reading(archive.parent):
        next(_cells(archive), None)  # its columns are there, before anything is copied
    try:
        with replacing(root) as fresh:
            check_vacant(root, force)
            shutil.copyfile(archive, fresh / TABLES[0])
            check_release(NAME, fresh, archive)
    except OSError as error:
        raise DataError(
            f"{root}: {archive} cannot be copied there ({error}).\nCheck the room and your rights."
        ) from error


def _is_table(path: Path) -> bool:
    """Whether `path` is meant as the table: by its content, whatever it is called, or its name."""
    is_called_so = path.suffix.casefold() == ".csv"
    if not path.is_file():
        return is_called_so
    return not format_of(path) and (is_called_so or not _missing(_header(path)))


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=prepare,
        source=(
            "Kaggle msambare/fer2013, or the challenge of 2013 that it was made for; see those "
            "pages for their terms, and do not pass the images on."
        ),
        classes=CLASSES,
        labels=dict.fromkeys(ferplus.RULES, EXPRESSIONS),
        overlaps={"opencv_emotion": "it is the Training and one test part of FER2013"},
    ),
)
