"""Your own images with a table: one row per image with its path, label and other annotations."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.file_names import NOT_AN_IMAGE, is_image_name, reason_left_out
from fer_bench.data.files.folders import (
    SPLIT_FOLDERS,
    contents,
    file_paths,
    inside,
    listed,
    reading,
    split_of,
    visible,
)
from fer_bench.data.manifest import BOX, SOFT, Manifest, Problem, problem_of
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.labels import ATTRIBUTES, AXES, EXPRESSIONS, SPELLINGS, canonical, key, ordered
from fer_bench.registry import DATASETS
from fer_bench.spelling import did_you_mean
from fer_bench.storage.delimited import LARGEST_BYTES, TableFormatError, delimited_rows
from fer_bench.storage.files import read_bounded, why_unreadable

NAME = "list"
TABLE_SUFFIXES = (".csv", ".tsv")
# The names of a column; case does not matter, and blanks and hyphens count as `_`.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "pth"),
        *("image", "image_name", "image_path", "img", "img_path"),
    ),
    "label": ("label", "labels", "emotion", "expression", "class", "target"),
    "split": ("split", "usage", "set", "subset", "partition"),
    "group": ("group", "subject", "subject_id", "person", "person_id", "identity", "actor"),
    "gender": ("gender", "sex"),
    "race": ("race", "ethnicity"),
    **{name: (name,) for name in (*AXES, "age", *BOX)},
}
SPLIT_NAMES = {
    "train": SPLIT_FOLDERS["train"],
    "validation": (*SPLIT_FOLDERS["validation"], "dev", "publictest"),
    "test": (*SPLIT_FOLDERS["test"], "privatetest"),
}


@dataclass(frozen=True)
class _Row:
    """A line of the table: its number, and the text in each known column."""

    line: int
    cells: Mapping[str, str]

    def error(self, message: str) -> DataError:
        return DataError(f"line {self.line}: {message}")


def read(config: Dataset) -> Manifest:
    """The images that the table names. Without a column `split`, all are `train`.

    Raises: DataError when the table is missing or cannot be read, a line is wrong (the message
        gives its number), no image exists, or all have the same label.
    """
    root = config.root
    advice = "Set dataset.root to the folder that has the images and the table."
    with reading(root, advice) as links:
        path = _table(config)
        dropped = Counter[str]()
        present = set(file_paths(root, dropped))
        try:
            rows = [_sample(row, config) for row in _rows(path)]
            _refuse_repeated(rows)
        except TableFormatError as error:
            raise DataError(f"'{path.name}' {error}") from error
        except DataError as error:
            raise DataError(f"'{path.name}', {error}") from error
        samples, problems = _present(pd.DataFrame(rows), present, path.name, dropped)
        samples, more = _tested(links.without_copies(samples, dropped))
        problems += links.problems()
    columns = map(str, samples)
    names = {name.removeprefix(SOFT) for name in columns if name.startswith(SOFT)}
    classes = ordered(sorted(names | set(samples["label"])))
    if len(classes) < 2:
        raise DataError(
            f"{root}: '{path.name}' gives all images the label {classes[0]}.\n"
            "Training needs at least two classes."
        )
    shares = {SOFT + name: samples.get(SOFT + name, 0.0) for name in classes} if names else {}
    samples = samples.assign(**shares)
    return Manifest(NAME, NAME, root, classes, 3, samples, dict(+dropped), (*problems, *more))


# The table -------------------------------------------------------------------------------------


def _table(config: Dataset) -> Path:
    """The table that `dataset.table` names, or the only one in the root."""
    if config.table:
        path = config.root / config.table
        if not path.is_file():
            raise DataError(
                f"no file '{config.table}'; found {contents(config.root)}.\n"
                "Set dataset.table to the path of the CSV file below dataset.root."
            )
        return path
    names = [
        entry.name
        for entry in visible(config.root, Counter())
        if entry.name.lower().endswith(TABLE_SUFFIXES) and entry.is_file()
    ]
    if len(names) != 1:
        found = listed(names) if names else contents(config.root)
        raise DataError(
            f"{len(names) or 'no'} CSV files; found {found}.\n"
            "Expected one table with path and label of every image; set dataset.table to it."
        )
    return config.root / names[0]


def _rows(path: Path) -> list[_Row]:
    """The rows below the heading. Raises: TableFormatError, DataError."""
    try:
        content = read_bounded(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        raise TableFormatError(f"cannot be read ({why_unreadable(error)}).") from error
    (_, heading), *rows = delimited_rows(content)
    places = _places(heading)
    return [
        _Row(line, {name: cells[place] for name, place in places.items()}) for line, cells in rows
    ]


def _places(header: Sequence[str]) -> dict[str, int]:
    """The position of each known column."""
    found: dict[str, int] = {}
    for place, text in enumerate(header):
        name = text.strip().casefold().replace(" ", "_").replace("-", "_")
        known = next((column for column, names in HEADERS.items() if name in names), None)
        if name.startswith(SOFT):
            known = SOFT + key(text.strip()[len(SOFT) :])
        if known and known in found:
            raise DataError(
                f"line 1: {header[found[known]]!r} and {text!r} both name the column {known}.\n"
                "Rename or remove one of the two columns."
            )
        if known:
            found[known] = place
    if missing := [name for name in ("path", "label") if name not in found]:
        known_names = "; ".join(f"{name}: {', '.join(HEADERS[name])}" for name in missing)
        raise DataError(
            f"line 1: no column for the {' and the '.join(missing)}; found "
            f"{', '.join(header)[:80] or 'nothing'!r}.\n"
            f"The first line must name the columns ({known_names})."
        )
    return found


# A line ----------------------------------------------------------------------------------------


def _sample(row: _Row, config: Dataset) -> dict[str, Any]:
    """A row of the manifest, and its `line`; `split` and `label` are empty if they are unknown."""
    cells = row.cells
    path = _inside(row, config.root)
    box = {name: int(_number(row, name, 0, 2**31)) for name in BOX if name in cells}
    if box and len(box) < len(BOX):
        raise DataError(f"line 1: a face box needs {', '.join(BOX)}; found {', '.join(box)}.")
    sample = {
        "sample_id": "#".join([path, ",".join(map(str, box.values()))]) if box else path,
        "path": path,
        "split": _split(row),
        "label": _known_label(row, config) if cells["label"] else "",
        **box,
        **{name: _number(row, name, -1, 1) for name in AXES if name in cells},
        **{name: cells[name] or None for name in ("group", *ATTRIBUTES) if name in cells},
        **_shares(row),
    }
    return sample | {"line": row.line}


def _inside(row: _Row, root: Path) -> str:
    """The path below the root, with forward slashes. Raises: DataError."""
    text = row.cells["path"]
    try:
        return inside(_relative(text, root) if text.startswith("/") else text, NAME)
    except DataError as error:
        raise row.error(
            f"the path {text!r} is outside {root}.\n"
            "Give paths below dataset.root, or set dataset.root to the folder that has them."
        ) from error


def _relative(text: str, root: Path) -> str:
    """An absolute path relative to the root, if it is below it; else unchanged."""
    for place in (root.absolute(), root.resolve()):
        if Path(text).is_relative_to(place):
            return Path(text).relative_to(place).as_posix()
    return text


def _split(row: _Row) -> str:
    text = row.cells.get("split", "")
    split = split_of(text, SPLIT_NAMES) if text else ""
    if split is None:
        known = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
        raise row.error(f"unknown split {text!r}; known: {known}.")
    return split


def _known_label(row: _Row, config: Dataset) -> str:
    """The label in one spelling. Without `classes`, it must be an expression."""
    text = row.cells["label"]
    if config.classes or canonical(text):
        return key(text)
    hint = did_you_mean(text.casefold(), SPELLINGS)
    raise row.error(
        f"unknown expression {text!r}; known: {', '.join(EXPRESSIONS)}. {hint}".rstrip()
        + f"\nAssign it with dataset.classes, for example {{happiness: ['{text}'], ...}}."
    )


def _number(row: _Row, name: str, low: float, high: float) -> float:
    """The number in a column; NaN for an empty cell. Raises: DataError unless in [low, high]."""
    text = row.cells[name]
    try:
        number = float(text) if text else math.nan
    except ValueError:
        number = math.inf
    if math.isnan(number) and name in AXES:
        return number
    if not low <= number <= high:
        raise row.error(f"{name} is {text!r}, expected a number from {low} to {high}.")
    return number


def _shares(row: _Row) -> dict[str, float]:
    """The columns of the soft label; votes are divided by their sum, so that they add up to 1."""
    names = [name for name in row.cells if name.startswith(SOFT)]
    numbers = [_number(row, name, 0, 2**31) for name in names]
    total = sum(numbers)
    if names and not total:
        raise row.error(f"all of {', '.join(names)} are 0.")
    return {name: number / total for name, number in zip(names, numbers, strict=True)}


# All lines -------------------------------------------------------------------------------------


def _refuse_repeated(rows: Sequence[Mapping[str, Any]]) -> None:
    line_of: dict[str, int] = {}
    repeated = [
        f"{line_of[name]} and {row['line']} ({name})"
        for row in rows
        if line_of.setdefault(name := row["sample_id"], row["line"]) != row["line"]
    ]
    if repeated:
        raise DataError(f"lines {listed(repeated)} name the same image.\nRemove one of each pair.")


def _present(
    rows: pd.DataFrame, present: set[str], table: str, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows with an existing image and a label, and the problems of the others."""
    if rows.empty:
        raise DataError(f"'{table}' has no row below its first line.\nWrite one row per image.")
    rows = _placed(rows, present)
    there, named = rows["path"].isin(present), rows["label"] != ""
    lines = rows.loc[~there, ["line", "path"]].itertuples(index=False)
    absent = [f"line {line}: {path}" for line, path in lines]
    dropped["listed without a file"] += len(absent)
    supported = ~rows["path"].map(_has_other_format)
    dropped["no label"] += int((there & supported & ~named).sum())
    dropped.update(reason_left_out(path) for path in present if _has_other_format(path))
    unlisted = sorted(path for path in present - set(rows["path"]) if is_image_name(path))
    dropped["not listed"] += len(unlisted)
    stays = there & named & supported
    if not stays.any():
        first = rows["path"].iloc[0]
        raise DataError(
            f"none of the {len(rows):,} images in '{table}' exists, first {first!r}.\n"
            "Give paths below dataset.root, or set dataset.root to the folder that has them."
        )
    problems = [
        *problem_of(
            "listed_without_file", "error", absent, f"'{table}' names files that do not exist"
        ),
        *problem_of("file_not_listed", "warning", unlisted, f"'{table}' does not name some images"),
    ]
    return rows[stays].drop(columns="line").reset_index(drop=True), problems


def _has_other_format(path: str) -> bool:
    """Whether a file is an image of an unsupported format."""
    return reason_left_out(path) != NOT_AN_IMAGE


def _placed(rows: pd.DataFrame, present: set[str]) -> pd.DataFrame:
    """The rows with paths below the root: those of a table may begin at its folder of images."""
    if rows["path"].isin(present).any():
        return rows
    first = rows["path"].iloc[0]
    folders = [path.removesuffix(first) for path in present if path.endswith(f"/{first}")]
    if len(folders) != 1:
        return rows
    return rows.assign(**{name: folders[0] + rows[name] for name in ("sample_id", "path")})


def _tested(samples: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """All rows in splits; if only validation images are held out, they are the test split."""
    splits = set(samples["split"])
    if splits == {""}:
        return samples.assign(split="train"), []
    if "" in splits:
        name = samples.loc[samples["split"] == "", "path"].iloc[0]
        raise DataError(
            f"some images have a split, others do not, for example {name!r}.\nFill it in."
        )
    if "validation" not in splits or "test" in splits:
        return samples, []
    text = "there are no test images: the validation images are the test split"
    count = int((samples["split"] == "validation").sum())
    problem = Problem("validation_is_test", "info", count, (), text)
    return samples.assign(split=samples["split"].replace("validation", "test")), [problem]


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=None,
        source="Your own images; make sure that you may use them.",
        classes=EXPRESSIONS,
        options=("table",),
    ),
)
