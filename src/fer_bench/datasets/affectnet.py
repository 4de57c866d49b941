"""AffectNet, in the three forms in which it is passed on.

- 2017: two lists in CSV and whole photographs, in which the lists say where the face is.
- 2021: faces of 224 px, and for every face four tiny npy files; the same number names one face in
  `train_set` and another one in `val_set`.
- Kaggle, by noamsegal: 29,042 faces of 96 px in class folders, and a list that contradicts them.

There is no public test split: everyone reports on the official validation split, which therefore
is `test` here.
"""

import io
import json
import logging
import math
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fer_bench import links
from fer_bench.cachedir import cached
from fer_bench.config import Dataset
from fer_bench.datasets import DatasetSpec, preparation
from fer_bench.errors import DataError
from fer_bench.filenames import is_image_name, reason_left_out
from fer_bench.labels import CODES, canonical
from fer_bench.layout import (
    CONVERT,
    INCOMPLETE,
    class_folders,
    class_images,
    contents,
    file_paths,
    find,
    has_file,
    has_folder,
    image_names,
    inside,
    missing_folder,
    missing_list,
    read_table,
    reading,
    subfolders,
    unpack_advice,
    visible,
)
from fer_bench.links import Links
from fer_bench.manifest import (
    BOX,
    COLUMNS,
    EXPRESSIONS,
    Manifest,
    Problem,
    Severity,
    has_unsupported,
    left_out,
    problem_of,
)
from fer_bench.registry import DATASETS
from fer_bench.releases import Counts, counts, recognise

NAME = "affectnet"
# Codes that say why a picture shows no expression.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non-face"}
OUTSIDE = "label outside the map"
UNLISTED = "not listed"
NO_FILE = "listed without a file"
MISSING = -2  # what stands for a valence or arousal that nobody gave
EMOTIONS = ("valence", "arousal")

_EIGHT = " ".join(EXPRESSIONS)
_500_EACH = dict.fromkeys(EXPRESSIONS, 500)
RELEASES: Mapping[str, Counts] = {
    "affectnet-2017-csv": {
        "train": counts(_EIGHT, "74874 134416 25459 14090 6378 3803 24882 3750"),
        "test": _500_EACH,
    },
    "affectnet-2021-npy": {
        "train": counts(_EIGHT, "74874 134415 25459 14090 6378 3803 24882 3750"),
        "test": _500_EACH | {"contempt": 499},
    },
    "affectnet-noamsegal": {"train": counts(_EIGHT, "5126 5044 3091 4039 3176 2477 3218 2871")},
}

_logger = logging.getLogger(__name__)


def read(config: Dataset) -> Manifest:
    """The images below the root, valence and arousal where the release has them.

    Raises: DataError when the layout is none of the three, or a list leads out of its folder.
    """
    root = config.root
    findings = _Findings()
    advice = f"Unpack the download: fer data prepare {NAME} ARCHIVE --root {root}"
    with reading(root, advice) as met:
        folder, form = _find_form(root)
        if config.labels and form.release != "affectnet-noamsegal":
            raise DataError(f"dataset.labels has no effect on {form.release}.\nRemove it.")
        samples, found = form.read(folder, config, findings)
        wrapper = folder.relative_to(root).as_posix()
        if wrapper != ".":
            samples["path"] = f"{wrapper}/" + samples["path"]
        samples = met.without_copies(samples, findings.dropped)
        if samples.empty:
            raise DataError(
                f"no image with a label; left out: {left_out(findings.dropped)}.\n"
                f"{CONVERT if has_unsupported(findings.dropped) else INCOMPLETE}"
            )
        findings.problems += met.problems()
    release, problems = recognise(found, {form.release: RELEASES[form.release]})
    return Manifest(
        NAME,
        release or f"{form.release}-unrecognised",
        root,
        EXPRESSIONS,
        3,
        samples.reset_index(drop=True),
        dict(findings.dropped),
        (*problems, *findings.problems),
        form.image_size,
    )


@dataclass
class _Findings:
    """What is left out, by reason, and what a user should know."""

    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def drop(self, rows: pd.DataFrame, bad: "pd.Series[bool]", reason: str) -> pd.DataFrame:
        """The rows that are not bad."""
        if bad.any():
            self.dropped[reason] += int(bad.sum())
        return rows[~bad]

    def report(self, kind: str, severity: Severity, names: Iterable[str], text: str) -> None:
        """A problem, unless it concerns nothing."""
        self.problems += problem_of(kind, severity, names, text)

    def drop_repeated(self, rows: pd.DataFrame, name: str) -> pd.DataFrame:
        """The rows, without those whose column `name` an earlier row has as well."""
        twice = rows[name].duplicated()
        text = "a list names these more than once; the first row counts"
        self.report("listed_twice", "warning", rows.loc[twice, name], text)
        return self.drop(rows, twice, "listed twice")

    def report_no_file(self, names: Iterable[str]) -> None:
        """What is labelled, but is not there."""
        text = "these are labelled but have no image; unpack the whole archive again"
        self.report("listed_without_file", "error", names, text)

    def report_unlisted(self, names: Iterable[str], severity: Severity = "warning") -> None:
        """What is there, but is not labelled."""
        text = "these images have no label in the lists of the release"
        self.report("file_not_listed", severity, names, text)


class _Form(NamedTuple):
    """One of the forms of the dataset.

    `read` returns the samples, their paths relative to the folder that it is given, and the
    numbers by which the release is recognised.
    """

    release: str
    holds: Callable[[Path], bool]
    read: Callable[[Path, Dataset, _Findings], tuple[pd.DataFrame, Counts]]
    image_size: tuple[int, int] | None
    expected: str


def _find_form(root: Path) -> tuple[Path, _Form]:
    """The folder of the release, `root` or one that wraps it, and which of the forms it has."""

    def forms(folder: Path) -> list[_Form]:
        return [form for form in FORMS if form.holds(folder)]

    folder = find(root, lambda folder: bool(forms(folder)))
    if folder is None:
        expected = "".join(f"\n- {form.release}: {form.expected}" for form in FORMS)
        raise DataError(
            f"no release of AffectNet; found {contents(root)}.\n"
            f"{unpack_advice(root, NAME)}{_list_advice(root)}Expected one of:{expected}"
        )
    found = forms(folder)
    if len(found) > 1:
        names = " and ".join(form.release for form in found)
        raise DataError(f"'{folder.name}' holds {names} side by side.\nKeep each in its folder.")
    return folder, found[0]


def _list_advice(root: Path) -> str:
    """The line about class folders without a list; empty when there are none."""
    if any(canonical(inner.name) for inner in subfolders(root, Counter())):
        return f"Name the list beside the class folders {LIST}, or take dataset.name: folder.\n"
    return ""


def _count(rows: pd.DataFrame) -> Counts:
    """Numbers of rows by split and label."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    pairs = zip(rows["split"].tolist(), rows["label"].tolist(), strict=True)
    for (split, label), count in Counter(pairs).items():
        found[split][label] = count
    return found


def _labelled(rows: pd.DataFrame, findings: _Findings) -> pd.DataFrame:
    """The rows that show an expression, with a column `label` for the code in `expression`."""
    meaning = rows["expression"].map({**CODES["affectnet"], **NO_EXPRESSION})
    shown = meaning.isin(EXPRESSIONS)
    findings.dropped.update(Counter(meaning[~shown].astype(object).fillna(OUTSIDE)))
    unknown = rows[meaning.isna()]
    findings.report(
        "label_unknown",
        "error",
        [
            f"{name}: {code:g}"
            for name, code in zip(unknown["sample_id"], unknown["expression"], strict=True)
        ],
        "these expression codes are not among 0 to 10; get the annotations again",
    )
    return rows[shown].assign(label=meaning[shown].astype(str))


def _with_emotions(rows: pd.DataFrame, findings: _Findings) -> pd.DataFrame:
    """The rows, with NaN for each valence and arousal that is not in [-1, 1]."""
    values = rows[list(EMOTIONS)]
    fine = values.abs() <= 1
    missing = values == MISSING
    findings.report(
        "valence_arousal_missing",
        "info",
        rows.loc[missing.any(axis=1), "sample_id"],
        f"valence or arousal is {MISSING}, which means that nobody gave it",
    )
    findings.report(
        "valence_arousal_out_of_range",
        "error",
        rows.loc[(~fine & ~missing).any(axis=1), "sample_id"],
        "valence or arousal is no number from -1 to 1, and is not used; get the annotations again",
    )
    return rows.assign(**values.where(fine))


# 2017: lists and photographs -------------------------------------------------------------------

LISTS = {"training.csv": "train", "validation.csv": "test"}
UNUSED_LIST = "automatically_annotated.csv"
IMAGES = "Manually_Annotated_Images"
IMAGE_FOLDERS = (IMAGES, f"Manually_Annotated/{IMAGES}")
# All but the 68 landmarks, which are nine tenths of the lists.
LIST_COLUMNS = ("subDirectory_filePath", *BOX, "expression", *EMOTIONS)
LARGEST_PIXEL = 2**16


def _holds_lists(folder: Path) -> bool:
    listed_here = any(has_file(folder, name) for name in LISTS)
    return listed_here or any(has_folder(folder, name) for name in IMAGE_FOLDERS)


def _read_lists(folder: Path, config: Dataset, findings: _Findings) -> tuple[pd.DataFrame, Counts]:
    images = next((name for name in IMAGE_FOLDERS if has_folder(folder, name)), None)
    if images is None:
        raise _no_images(folder, config.root)
    lists = _folder_of_lists(folder)
    for name in LISTS:
        if not has_file(lists, name):
            raise missing_list(lists / name)
    if has_file(lists, UNUSED_LIST):
        text = "its labels were made by a program and are not used"
        findings.report("list_not_used", "info", [UNUSED_LIST], text)
    rows = pd.concat([_read_list(lists / name) for name in LISTS], ignore_index=True)
    files = set(file_paths(folder / images, findings.dropped))
    _report_other_files(files - set(rows["path"]), findings)
    rows = _labelled(rows, findings)
    # Before any row is dropped for its file: the numbers that are known are those of the lists.
    found = _count(rows)
    rows = _with_images(rows, files, findings)
    rows = _with_emotions(_with_boxes(rows, findings), findings)
    rows["path"] = f"{images}/" + rows["path"]
    return rows[[*COLUMNS, *BOX, *EMOTIONS]], found


def _no_images(folder: Path, root: Path) -> DataError:
    """What lies beside the lists, which `folder` or a folder in it holds, instead of images."""
    lists = _folder_of_lists(folder)
    alone = lists == folder != root and not subfolders(folder, Counter())
    return missing_folder(folder.parent if alone else folder, IMAGES, {lists.name})


def _folder_of_lists(folder: Path) -> Path:
    """Where the lists are: `folder`, or a folder in it."""
    places = [folder, *subfolders(folder, Counter())]
    return next((place for place in places if any(has_file(place, name) for name in LISTS)), folder)


def _read_list(path: Path) -> pd.DataFrame:
    """One list, all but its paths as numbers, NaN where it has none."""
    rows = read_table(path, LIST_COLUMNS).rename(columns={"subDirectory_filePath": "path"})
    for column in LIST_COLUMNS[1:]:
        rows[column] = pd.to_numeric(rows[column], errors="coerce")
    split = LISTS[path.name]
    names = [inside(name, path.name) for name in rows["path"].tolist()]
    rows["path"] = pd.Series(names, rows.index, dtype=str)
    return rows.assign(split=split, sample_id=f"{split}/" + rows["path"])


def _report_other_files(paths: set[str], findings: _Findings) -> None:
    """Count the files that no list names."""
    images = sorted(path for path in paths if is_image_name(path.rpartition("/")[2]))
    others = (path.rpartition("/")[2] for path in paths.difference(images))
    findings.dropped.update(Counter(map(reason_left_out, others)))
    findings.dropped.update(+Counter({UNLISTED: len(images)}))
    findings.report_unlisted(images)


def _with_images(rows: pd.DataFrame, files: set[str], findings: _Findings) -> pd.DataFrame:
    """The rows whose image is there, can be decoded and was not named before."""
    decoded = [is_image_name(path) for path in rows["path"].tolist()]
    foreign = ~pd.Series(decoded, rows.index, dtype=bool)
    text = "images of this format cannot be decoded; they are left out"
    findings.report("format_not_supported", "warning", rows.loc[foreign, "sample_id"], text)
    findings.dropped.update(Counter(map(reason_left_out, rows.loc[foreign, "path"])))
    rows = rows[~foreign]

    absent = ~rows["path"].isin(files)
    findings.report_no_file(rows.loc[absent, "sample_id"])
    return findings.drop_repeated(findings.drop(rows, absent, NO_FILE), "sample_id")


def _with_boxes(rows: pd.DataFrame, findings: _Findings) -> pd.DataFrame:
    """The rows that say where the face is, as whole pixels."""
    boxes = rows[list(BOX)]
    possible = (boxes.abs() < LARGEST_PIXEL).all(axis=1) & (boxes[list(BOX[2:])] > 0).all(axis=1)
    text = "these have no face box, or one without a size"
    findings.report("box_unusable", "warning", rows.loc[~possible, "sample_id"], text)
    rows = findings.drop(rows, ~possible, "face box unusable")
    return rows.assign(**boxes[possible].round().astype(int))


# 2021: faces and npy files ---------------------------------------------------------------------

SETS = {"train_set": "train", "val_set": "test"}
NPY_FOLDERS = tuple(f"{name}/{part}" for name in SETS for part in ("images", "annotations"))
# What an annotation is about; the landmarks, `lnd`, are not read.
ANNOTATIONS = {"exp": "expression", "val": "valence", "aro": "arousal"}
_ANNOTATION = re.compile(r"(.+)_(exp|val|aro|lnd)\.npy")
# Counted up when the table below changes.
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
    "state": str,  # `COMPLETE`, or why this is no sample
}
LONGEST_ANNOTATION = 4096  # bytes; one number with its header takes about 150
_UNREADABLE = (ValueError, SyntaxError, tokenize.TokenError)
READERS = 16
PART = 500  # images that a reader takes at once
_Values = tuple[tuple[float, float, float], str]


def _holds_sets(folder: Path) -> bool:
    return any(has_folder(folder, name) for name in SETS)


def _read_sets(folder: Path, _config: Dataset, findings: _Findings) -> tuple[pd.DataFrame, Counts]:
    rows = _table(folder, links.current(), findings.dropped)
    states = rows["state"]
    findings.report_unlisted(rows.loc[states == UNLISTED, "sample_id"])
    findings.report_no_file(rows.loc[states == NO_FILE, "sample_id"])
    findings.report(
        "annotation_unreadable",
        "error",
        rows.loc[states.isin(["annotation missing", "annotation unreadable"]), "sample_id"],
        "their expression, valence or arousal is missing or damaged; unpack the archive again",
    )
    incomplete = states != COMPLETE
    findings.dropped.update(Counter(states[incomplete]))
    rows = _labelled(rows[~incomplete], findings)
    found = _count(rows)
    rows = _with_emotions(rows, findings)
    return rows[[*COLUMNS, *EMOTIONS, "bytes"]], found


def _table(folder: Path, met: Links, dropped: Counter[str]) -> pd.DataFrame:
    """Everything in the four folders, one row an image, from the cache if it was read before.

    A million tiny files take minutes to read. A file that is added or removed changes the time of
    its folder, and with it the entry; one that is changed in place does not.
    """
    missing = [name for name in NPY_FOLDERS if not has_folder(folder, name)]
    if missing:
        raise missing_folder(folder, missing[0], {"images", "annotations", *SETS})
    statuses = [(folder / name).stat() for name in NPY_FOLDERS]
    # The folders themselves and not their paths, so that unpacking, which moves them into place
    # when they are complete, does not read everything twice.
    identities = [f"{of.st_dev} {of.st_ino} {of.st_mtime_ns}" for of in statuses]
    key = "\n".join([f"format {FORMAT}", *identities])
    entry = cached("affectnet-npy", key, partial(_write_table, folder, met))
    seen = json.loads((entry / "seen.json").read_text())
    dropped.update(seen["dropped"])
    for place in seen["links"]:
        met.refusal(f"{folder}/{place}")
    return pd.read_csv(
        entry / "table.csv",
        dtype=dict(TABLE_TYPES),
        keep_default_na=False,
        na_values={column: [""] for column in ANNOTATIONS.values()},
    )


def _write_table(folder: Path, met: Links, entry: Path) -> None:
    dropped = Counter[str]()
    images = {name: _image_sizes(folder / name / "images", dropped) for name in SETS}
    count = sum(map(len, images.values()))
    _logger.info("%s: reading the annotations of %d images, this once", folder, count)
    rows = [row for name in SETS for row in _rows(folder, name, images[name], dropped)]
    table = pd.DataFrame(rows, columns=list(TABLE_TYPES))
    table.to_csv(entry / "table.csv", index=False)
    seen = {"dropped": dropped, "links": met.below(folder)}
    (entry / "seen.json").write_text(json.dumps(seen))


def _image_sizes(folder: Path, dropped: Counter[str]) -> dict[str, int]:
    """The names of the images in `folder`, with their sizes in bytes."""
    return {name: (folder / name).stat().st_size for name in image_names(folder, dropped)}


def _rows(
    folder: Path, name: str, images: Mapping[str, int], dropped: Counter[str]
) -> Iterator[tuple[Any, ...]]:
    """The values of `TABLE_TYPES` for every image of one set, then for annotations without one."""
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
    """Which annotations there are of every number."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for entry in visible(folder, dropped):
        match = _ANNOTATION.fullmatch(entry.name)
        if match and entry.is_file():
            kinds[match[1]].add(match[2])
        else:
            dropped["not an annotation"] += 1
    return kinds


def _all_values(present: Sequence[tuple[str, set[str]]]) -> Iterator[_Values]:
    """`_values` of every pair, many at a time, because most of it is waiting for the disk."""
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
    """The one value in an npy file; NaN when it is no number.

    Raises: one of `_UNREADABLE` when it is no npy file of one value, or when it holds a pickle.
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


# Kaggle, noamsegal: class folders and a list that contradicts them -----------------------------

LIST = "labels.csv"


def _holds_classes(folder: Path) -> bool:
    inner = subfolders(folder, Counter())
    return has_file(folder, LIST) and any(canonical(path.name) for path in inner)


def _read_classes(
    folder: Path, config: Dataset, findings: _Findings
) -> tuple[pd.DataFrame, Counts]:
    files = _class_files(folder, findings.dropped)
    rows = _class_list(folder / LIST, findings).merge(files, how="outer", on="key")
    rows = rows.assign(split="train", sample_id=rows["path"])
    _report_disagreement(rows, config.labels or "csv", findings)

    absent = rows["path"].isna()
    findings.report_no_file(rows.loc[absent, "pth"])
    rows = findings.drop(rows, absent, NO_FILE)
    found = _count(rows.assign(label=rows["folder"]))
    unlisted = rows["pth"].isna()
    if config.labels == "folder":
        findings.report_unlisted(rows.loc[unlisted, "path"], "info")
        return rows.assign(label=rows["folder"])[list(COLUMNS)], found
    findings.report_unlisted(rows.loc[unlisted, "path"])
    rows = findings.drop(rows, unlisted, UNLISTED)
    unknown = rows["label"].isna()
    names = [f"{row.path}: {row.text!r}" for row in rows[unknown].itertuples()]
    text = f"these labels in {LIST} are no known expression; get the list again"
    findings.report("label_unknown", "error", names, text)
    return findings.drop(rows, unknown, OUTSIDE)[list(COLUMNS)], found


def _class_files(folder: Path, dropped: Counter[str]) -> pd.DataFrame:
    """Every image: `path`, class of its `folder`, and the `key` that is the same in the list."""
    dropped["outside a class folder"] -= 1  # the list itself
    files = [
        (f"{label}/{name}", f"{inner.name}/{name}", label)
        for label, inner in class_folders(folder, EXPRESSIONS, dropped, complete=False).items()
        for name in class_images(inner, dropped)
    ]
    dropped += Counter[str]()  # without what is 0
    return pd.DataFrame(files, columns=["key", "path", "folder"])


def _class_list(path: Path, findings: _Findings) -> pd.DataFrame:
    """Every row of the list: `pth` and `text` as they stand there, `label` or NaN, and `key`."""
    table = read_table(path, ("pth", "label")).rename(columns={"label": "text"})
    names = [inside(name, path.name) for name in table["pth"]]
    parts = [name.rpartition("/") for name in names]
    keys = [f"{canonical(parent) or parent}/{name}" for parent, _, name in parts]
    rows = table.assign(pth=names, key=keys, label=table["text"].map(canonical))
    return findings.drop_repeated(rows, "key")


def _report_disagreement(rows: pd.DataFrame, used: str, findings: _Findings) -> None:
    both = rows[rows["folder"].notna() & rows["label"].notna()]
    other = both[both["folder"] != both["label"]]
    rate = len(other) / max(len(both), 1)
    text = (
        f"{len(other):,} of {len(both):,} images ({rate:.1%}) lie in another class folder than "
        f"{LIST} says; dataset.labels: {used} decides"
    )
    names = [f"{row.path}: {row.label}" for row in other.itertuples()]
    findings.report("label_disagreement", "warning", names, text)


FORMS = (
    _Form(
        "affectnet-2017-csv",
        _holds_lists,
        _read_lists,
        None,
        f"training.csv and validation.csv beside a folder {IMAGES} or Manually_Annotated",
    ),
    _Form(
        "affectnet-2021-npy",
        _holds_sets,
        _read_sets,
        (224, 224),
        "folders train_set and val_set, each with images and annotations",
    ),
    _Form(
        "affectnet-noamsegal",
        _holds_classes,
        _read_classes,
        (96, 96),
        f"{LIST} beside eight class folders, anger to surprise",
    ),
)

DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=preparation(
            NAME,
            "the authors' page (by application) or "
            "kaggle.com/datasets/noamsegal/affectnet-training-data",
        ),
        source=(
            "From its authors, by application and signed agreement: for research only, and the "
            "images may not be passed on."
        ),
        classes=EXPRESSIONS,
        labels=dict.fromkeys(("csv", "folder"), EXPRESSIONS),
    ),
)
