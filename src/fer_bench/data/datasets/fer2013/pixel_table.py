"""FER2013 as one table with the pixels of an image in each row, as the challenge published it."""

import csv
import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import StringConstraints, TypeAdapter

from fer_bench.data.cached_results import cached_result
from fer_bench.data.contents import label_file_changed, label_file_digest
from fer_bench.data.datasets.fer2013.shared import NAME, SIDE, SPLIT_OF_USAGE, Found
from fer_bench.data.files.archive_formats import format_of
from fer_bench.data.files.folders import INCOMPLETE
from fer_bench.data.manifest import COLUMNS, EXAMPLES, Problem
from fer_bench.errors import DataError
from fer_bench.labels import decode
from fer_bench.storage.cache import cache_root
from fer_bench.storage.delimited import LARGEST_BYTES
from fer_bench.storage.files import check_readable, read_bounded

# The challenge offers its table under two names, with the columns in two orders.
TABLES = ("fer2013.csv", "icml_face_data.csv")
TABLE_COLUMNS = ("emotion", "pixels", "Usage")

# Increase this when what the cache holds changes, so that older entries are not used.
FORMAT = 1
_TYPES = {**dict.fromkeys((*COLUMNS, "usage"), str), "bytes": int}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _BadRows:
    """Rows without an image: their number by reason, and the first few of them."""

    dropped: dict[str, int]
    examples: tuple[str, ...]


_BAD_ROWS = TypeAdapter(_BadRows)
_DIGEST = TypeAdapter(Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")])
_SOURCE = "source.json"


def find_table(folder: Path) -> Path | None:
    """The table in `folder`, whatever the case of its name."""
    # Any link is followed here: such a large file often lies on another disk.
    with os.scandir(folder) as entries:
        present = {entry.name.casefold(): entry.path for entry in entries if entry.is_file()}
    return next((Path(present[name]) for name in TABLES if name in present), None)


def read_pixel_table(path: Path) -> Found:
    """The rows of the table, whose images are written to the cache once.

    Raises: DataError when the table cannot be read, or no row of it can be used.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
    # Not the path: unpacking moves the folder into place after its table was read as a check, and
    # the images must not be written twice.
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def make(folder: Path) -> None:
        _logger.info("%s: its images are written to %s, once", path, cache_root())
        (folder / _SOURCE).write_text(json.dumps(label_file_digest(path)), encoding="utf-8")
        _write_images(path, folder)

    def changed(folder: Path) -> str | None:
        kept = _source_digest(folder)
        if kept is None or not label_file_changed(path, kept):
            return None
        return (
            f"warning: {path}: its content changed, though its size and time of change did not; "
            "its images are written again"
        )

    key = f"{FORMAT} {identity}"
    root, samples, bad = cached_result("fer2013-csv", key, make, _read_entry, changed)
    text = "rows of the table cannot be used (counted from 0); download it again"
    count = sum(bad.dropped.values())
    problems = (Problem("bad_rows", "error", count, bad.examples, text),) if count else ()
    return Found("fer2013-csv", root, samples, bad.dropped, problems, _source_digest(root))


def _read_entry(folder: Path) -> tuple[Path, pd.DataFrame, _BadRows]:
    """An entry of the cache. Raises: ValueError or OSError when it is damaged."""
    table = folder / "samples.csv"
    check_readable(table, LARGEST_BYTES)
    samples = pd.read_csv(table, dtype=_TYPES, keep_default_na=False, usecols=list(_TYPES))
    return folder, samples, _BAD_ROWS.validate_json(read_bounded(folder / "bad_rows.json"))


def _source_digest(folder: Path) -> str | None:
    """The SHA-256 of the table of an entry; None where an older version kept none."""
    try:
        return _DIGEST.validate_json(read_bounded(folder / _SOURCE))
    except FileNotFoundError:
        return None


def _write_images(path: Path, folder: Path) -> None:
    """Fill `folder`: a PNG file for every good row, a list of them, and what is wrong with others.

    Raises: DataError when the table cannot be read, or has no good row.
    """
    for split in SPLIT_OF_USAGE.values():
        (folder / split).mkdir()
    rows, dropped, examples = [], Counter[str](), []
    for number, cells in enumerate(table_rows(path)):
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
    pd.DataFrame(rows, columns=list(_TYPES)).to_csv(folder / "samples.csv", index=False)
    bad = _BadRows(dict(dropped), tuple(examples[:EXAMPLES]))
    (folder / "bad_rows.json").write_bytes(_BAD_ROWS.dump_json(bad))


class _Cells(NamedTuple):
    emotion: str
    pixels: str
    usage: str


def table_rows(path: Path) -> Iterator[_Cells]:
    """The rows of the table, one at a time because it has 290 MB. Raises: DataError."""
    if kind := format_of(path):
        raise DataError(
            f"'{path.name}' is a {kind} archive, not a table.\n"
            f"Unpack it: fer data prepare {NAME} {path} --root NEW_FOLDER"
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        try:
            header = [name.strip() for name in next(rows, [])]
            if missing := missing_columns(header):
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


def header_of(path: Path) -> list[str]:
    """The column names in the first line of a file, which may be anything."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in file.readline(1000).split(",")]


def missing_columns(header: Collection[str]) -> str:
    """The columns that a table with this header lacks, for a message; empty for none."""
    return ", ".join(name for name in TABLE_COLUMNS if name not in header)


def _sample(cells: _Cells) -> tuple[str, Image.Image]:
    """Class and image of a row. Raises: ValueError with the reason why there is none."""
    label = decode(cells.emotion, NAME)
    if label is None:
        raise ValueError("unknown emotion")
    if cells.usage not in SPLIT_OF_USAGE:
        raise ValueError("unknown usage")
    values = _grey_values(cells.pixels)
    if len(values) != SIDE * SIDE:
        raise ValueError("wrong number of pixels")
    return label, Image.fromarray(values.reshape(SIDE, SIDE))


def _grey_values(text: str) -> NDArray[np.uint8]:
    """Grey values, line by line. Raises: ValueError for anything else."""
    try:
        with warnings.catch_warnings(action="error"):  # some releases of NumPy only warn
            values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        raise ValueError("pixel that is no number") from None
    if values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise ValueError("pixel outside 0..255")
    return values.astype(np.uint8)
