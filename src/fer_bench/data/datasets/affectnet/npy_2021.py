"""AffectNet as released in 2021: images and tiny `.npy` annotations, two sets."""

import io
import logging
import math
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from fer_bench.config.dataset import Dataset
from fer_bench.data.cached_results import cached_result
from fer_bench.data.contents import chosen, verified
from fer_bench.data.datasets.affectnet.shared import (
    EMOTIONS,
    NO_FILE,
    UNLISTED,
    Findings,
    count_labels,
    with_emotions,
    with_known_labels,
)
from fer_bench.data.files import links
from fer_bench.data.files.folders import (
    has_folder,
    image_names,
    missing_folder,
    visible,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import (
    COLUMNS,
)
from fer_bench.data.releases import Counts
from fer_bench.storage.delimited import LARGEST_BYTES
from fer_bench.storage.files import check_readable, read_bounded

_logger = logging.getLogger(__name__)

SETS = {"train_set": "train", "val_set": "test"}
NPY_FOLDERS = tuple(f"{name}/{part}" for name in SETS for part in ("images", "annotations"))

# Suffix of each annotation; the landmarks, `lnd`, are not read.
ANNOTATIONS = {"exp": "expression", "val": "valence", "aro": "arousal"}
_ANNOTATION = re.compile(r"(.+)_(exp|val|aro|lnd)\.npy")

# Increase this when the table below changes.
FORMAT = 2
COMPLETE = "complete"

TABLE_TYPES: Mapping[str, Any] = {
    "sample_id": str,
    "path": str,
    "split": str,
    "expression": float,
    "valence": float,
    "arousal": float,
    "bytes": int,
    "state": str,  # `COMPLETE`, or why this is not a sample
}

LONGEST_ANNOTATION = 4096  # bytes; one number with its header takes about 150
_UNREADABLE = (ValueError, SyntaxError, tokenize.TokenError)
READERS = 16
PART = 500  # images that a reader reads at once
_Values = tuple[tuple[float, float, float], str]


@dataclass(frozen=True)
class _Beside:
    """What was found beside the samples: numbers of other files by reason, and paths of links."""

    dropped: dict[str, int]
    links: tuple[str, ...]


_BESIDE = TypeAdapter(_Beside)


def holds_sets(folder: Path) -> bool:
    """Whether `folder` holds this release."""
    return any(has_folder(folder, name) for name in SETS)


def read_sets(folder: Path, _config: Dataset, findings: Findings) -> tuple[pd.DataFrame, Counts]:
    """The samples of this release, and its numbers of images."""
    rows = _table(folder, links.current(), findings.dropped)
    states = rows["state"]
    findings.report_unlisted(rows.loc[states == UNLISTED, "sample_id"])
    findings.report_no_file(rows.loc[states == NO_FILE, "sample_id"])
    findings.report(
        "annotation_unreadable",
        "error",
        rows.loc[states.isin(["annotation missing", "annotation unreadable"]), "sample_id"],
        "expression, valence or arousal is missing or damaged; unpack the archive again",
    )
    incomplete = states != COMPLETE
    findings.dropped.update(Counter(states[incomplete]))
    rows = with_known_labels(rows[~incomplete], findings)
    found = count_labels(rows)
    rows = with_emotions(rows, findings)
    return rows[[*COLUMNS, *EMOTIONS, "bytes"]], found


def _table(folder: Path, followed: Links, dropped: Counter[str]) -> pd.DataFrame:
    """The content of the four folders, one row per image, from the cache if it was read before.

    A million tiny files take minutes to read. Adding or removing a file changes the time of its
    folder and with it the cache key; for files that changed in place, some are read again.
    """
    missing = [name for name in NPY_FOLDERS if not has_folder(folder, name)]
    if missing:
        raise missing_folder(folder, missing[0], {"images", "annotations", *SETS})
    statuses = [(folder / name).stat() for name in NPY_FOLDERS]
    # Not the paths of the folders: unpacking moves them into place after they were read as a check,
    # and they must not be read twice.
    identities = [f"{of.st_dev} {of.st_ino} {of.st_mtime_ns}" for of in statuses]
    key = "\n".join([f"format {FORMAT}", *identities])
    make = partial(_write_table, folder, followed)
    tables: list[pd.DataFrame] = []

    def read(entry: Path) -> tuple[pd.DataFrame, _Beside]:
        table, beside = _read_entry(entry)
        tables.append(table)
        return table, beside

    table, beside = cached_result(
        "affectnet-npy", key, make, read, lambda _: _changed(folder, tables[-1])
    )
    dropped.update(beside.dropped)
    for link in beside.links:
        followed.refusal(f"{folder}/{link}")
    return table


def _changed(folder: Path, table: pd.DataFrame) -> str | None:
    """Which of the annotations that are read again the table does not have; None if it has all."""
    complete = table[table["state"] == COMPLETE]
    rows = complete.iloc[chosen(len(complete), verified())]
    starts = [_annotation_start(folder, path) for path in rows["path"].tolist()]
    kept = rows[list(ANNOTATIONS.values())].to_numpy(np.float64)
    found = [values for values, _ in _all_values([(start, set(ANNOTATIONS)) for start in starts])]
    # The table has rounded some values in their last digit.
    same = np.isclose(np.reshape(found, kept.shape), kept, rtol=0, atol=1e-6, equal_nan=True)
    wrong = np.flatnonzero(~same.all(axis=1)).tolist()
    if not wrong:
        return None
    more = f" and those of {len(wrong) - 1:,} more images" if len(wrong) > 1 else ""
    return (
        f"warning: {starts[wrong[0]]}_*.npy{more}: the content changed, though the time of the "
        "folder did not; all annotations are read again"
    )


def _annotation_start(folder: Path, path: str) -> str:
    """What the names of the annotations of an image begin with, from its path below `folder`."""
    name, _, image = path.split("/")
    return f"{folder}/{name}/annotations/{image.rpartition('.')[0]}"


def _read_entry(folder: Path) -> tuple[pd.DataFrame, _Beside]:
    """An entry of the cache. Raises: ValueError or OSError when it is damaged."""
    path = folder / "table.csv"
    check_readable(path, LARGEST_BYTES)
    table = pd.read_csv(
        path,
        dtype=dict(TABLE_TYPES),
        keep_default_na=False,
        na_values={column: [""] for column in ANNOTATIONS.values()},
        usecols=list(TABLE_TYPES),
    )
    return table, _BESIDE.validate_json(read_bounded(folder / "seen.json"))


def _write_table(folder: Path, followed: Links, entry: Path) -> None:
    dropped = Counter[str]()
    images = {name: _image_sizes(folder / name / "images", dropped) for name in SETS}
    count = sum(map(len, images.values()))
    _logger.info("%s: reading the annotations of %d images, only this time", folder, count)
    rows = [row for name in SETS for row in _rows(folder, name, images[name], dropped)]
    table = pd.DataFrame(rows, columns=list(TABLE_TYPES))
    table.to_csv(entry / "table.csv", index=False)
    beside = _Beside(dict(dropped), tuple(followed.below(folder)))
    (entry / "seen.json").write_bytes(_BESIDE.dump_json(beside))


def _image_sizes(folder: Path, dropped: Counter[str]) -> dict[str, int]:
    """The names of the images in `folder`, and their sizes in bytes."""
    return {name: (folder / name).stat().st_size for name in image_names(folder, dropped)}


def _rows(
    folder: Path, name: str, images: Mapping[str, int], dropped: Counter[str]
) -> Iterator[tuple[Any, ...]]:
    """The values of `TABLE_TYPES` for all images of one set, then for annotations without image."""
    split = SETS[name]
    annotations = folder / name / "annotations"
    kinds = _annotations(annotations, dropped)
    numbers = [image.rpartition(".")[0] for image in images]
    present = [(f"{annotations}/{number}", kinds.pop(number, set())) for number in numbers]
    found = zip(numbers, images.items(), _all_values(present), strict=True)
    for number, (image, size), (values, state) in found:
        yield f"{split}/{number}", f"{name}/images/{image}", split, *values, size, state
    for number in kinds:
        yield f"{split}/{number}", "", split, math.nan, math.nan, math.nan, 0, NO_FILE


def _annotations(folder: Path, dropped: Counter[str]) -> dict[str, set[str]]:
    """The annotations that exist for each number."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for entry in visible(folder, dropped):
        match = _ANNOTATION.fullmatch(entry.name)
        if match and entry.is_file():
            kinds[match[1]].add(match[2])
        else:
            dropped["not an annotation"] += 1
    return kinds


def _all_values(present: Sequence[tuple[str, set[str]]]) -> Iterator[_Values]:
    """`_values` of every pair, in threads because most of the time is spent waiting for files."""
    parts = [present[start : start + PART] for start in range(0, len(present), PART)]
    with ThreadPoolExecutor(READERS) as pool:
        for values in pool.map(lambda part: [_values(*one) for one in part], parts):
            yield from values


def _values(start: str, kinds: set[str]) -> _Values:
    """Expression, valence and arousal in the files that begin with `start`, and the state."""
    nothing = (math.nan, math.nan, math.nan)
    if not kinds:
        return nothing, UNLISTED
    if not kinds.issuperset(ANNOTATIONS):
        return nothing, "annotation missing"
    try:
        expression, valence, arousal = (_number(f"{start}_{kind}.npy") for kind in ANNOTATIONS)
    except _UNREADABLE:
        return nothing, "annotation unreadable"
    return (expression, valence, arousal), COMPLETE


def _number(path: str) -> float:
    """The one value in an npy file; NaN when it is not a number.

    Raises: one of `_UNREADABLE` unless it is an npy file of one value without a pickle.
    """
    # `np.load` would parse the same few headers a million times.
    with open(path, "rb") as file:  # noqa: PTH123
        header, _, data = file.read(LONGEST_ANNOTATION).partition(b"\n")
    dtype = _type_of_one(header + b"\n")
    if len(data) != dtype.itemsize:
        raise ValueError(f"{path} holds {len(data)} bytes of data instead of {dtype.itemsize}")
    value = np.frombuffer(data, dtype, 1).item()
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


@lru_cache(maxsize=256)
def _type_of_one(header: bytes) -> np.dtype[Any]:
    """The type of the one value in an npy file. Raises: one of `_UNREADABLE`."""
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject or math.prod(shape) != 1:
        raise ValueError(f"not one plain value, but {shape} of {dtype}")
    return dtype
