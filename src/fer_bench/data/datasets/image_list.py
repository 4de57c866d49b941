"""Your own images with a table: a row per image with path, label and whatever else is known."""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from fer_bench.registry import DATASETS, did_you_mean

NAME = "list"
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
# What a column may be called; case does not matter, and blanks and hyphens count as `_`.
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
    """A line of the table: its number, and the text under each header that is known."""

    line: int
    cells: Mapping[str, str]

    def error(self, message: str) -> DataError:
        return DataError(f"line {self.line}: {message}")


def read(config: Dataset) -> Manifest:
    """The images that the table names. Without a column `split`, all are `train`.

    Raises: DataError when the table is missing or cannot be read, a line is wrong (it is named),
        no image is there, or all have one label.
    """
    root = config.root
    advice = "Set dataset.root to the folder that has the images and the table."
    with reading(root, advice) as links:
        path = _table(config)
        dropped = Counter[str]()
        present = set(file_paths(root, dropped))
        try:
            rows = [_sample(row, config) for row in _rows(path)]
            _refuse_twice(rows)
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
            f"{root}: '{path.name}' gives all images the label {classes[0]}, and there is nothing "
            "to tell apart.\nName at least two classes."
        )
    shares = {SOFT + name: samples.get(SOFT + name, 0.0) for name in classes} if names else {}
    samples = samples.assign(**shares)
    return Manifest(NAME, NAME, root, classes, 3, samples, dict(+dropped), (*problems, *more))


# The table -------------------------------------------------------------------------------------


def _table(config: Dataset) -> Path:
    """The table that the key names, or the only one in the root."""
    if config.table:
        path = config.root / config.table
        if not path.is_file():
            raise DataError(
                f"no file '{config.table}'; found {contents(config.root)}.\n"
                "Set dataset.table to the CSV file, from dataset.root on."
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


def _rows(path: Path) -> Iterator[_Row]:
    """The lines below the first one that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            lines = csv.reader(file, delimiter=max(DELIMITERS, key=first.count))
            places = _places(next(lines, []))
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    yield _row(lines.line_num, cells, places)
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8 ({error}).\nSave it as CSV UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"it cannot be read as CSV ({error}).\nSave it again as CSV.") from error


def _places(header: Sequence[str]) -> dict[str, int]:
    """Where each known column is."""
    found: dict[str, int] = {}
    for place, text in enumerate(header):
        name = text.strip().casefold().replace(" ", "_").replace("-", "_")
        known = next((column for column, names in HEADERS.items() if name in names), None)
        if name.startswith(SOFT):
            known = SOFT + key(text.strip()[len(SOFT) :])
        if known and known in found:
            raise DataError(
                f"line 1: {header[found[known]]!r} and {text!r} are both the {known}.\n"
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


def _row(line: int, cells: Sequence[str], places: Mapping[str, int]) -> _Row:
    if len(cells) <= max(places.values()):
        raise DataError(
            f"line {line}: {len(cells)} values, and column {max(places.values()) + 1} is wanted.\n"
            "Every line needs as many values as the first one; a comma in a value needs quotes."
        )
    return _Row(line, {name: cells[place].strip() for name, place in places.items()})


# A line ----------------------------------------------------------------------------------------


def _sample(row: _Row, config: Dataset) -> dict[str, Any]:
    """The row of the manifest, and its `line`; `split` and `label` are empty where nothing is."""
    cells = row.cells
    path = _inside(row, config.root)
    box = {name: int(_number(row, name, 0, 2**31)) for name in BOX if name in cells}
    if box and len(box) < len(BOX):
        raise DataError(f"line 1: a box needs {', '.join(BOX)}; found {', '.join(box)}.")
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
    """The path from the root on, with forward slashes."""
    text = row.cells["path"]
    try:
        return inside(_relative(text, root) if text.startswith("/") else text, NAME)
    except DataError as error:
        raise row.error(
            f"the path {text!r} leads out of {root}.\n"
            "Give paths from dataset.root on, or set dataset.root to the folder that has them."
        ) from error


def _relative(text: str, root: Path) -> str:
    """An absolute path from the root on, if it leads there."""
    for place in (root.absolute(), root.resolve()):
        if Path(text).is_relative_to(place):
            return Path(text).relative_to(place).as_posix()
    return text


def _split(row: _Row) -> str:
    text = row.cells.get("split", "")
    split = split_of(text, SPLIT_NAMES) if text else ""
    if split is None:
        known = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
        raise row.error(f"the split {text!r} is unknown; known are {known}.")
    return split


def _known_label(row: _Row, config: Dataset) -> str:
    """The label in one spelling. Without `classes`, it must be an expression."""
    text = row.cells["label"]
    if config.classes or canonical(text):
        return key(text)
    hint = did_you_mean(text.casefold(), SPELLINGS)
    raise row.error(
        f"the label {text!r} is no expression; known are {', '.join(EXPRESSIONS)}. {hint}".rstrip()
        + f"\nSay what it means with dataset.classes, for example {{happiness: ['{text}'], ...}}."
    )


def _number(row: _Row, name: str, low: float, high: float) -> float:
    """The number in a column; NaN where it is empty."""
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
    """The columns of the soft label, which add up to 1; votes are divided by their sum."""
    names = [name for name in row.cells if name.startswith(SOFT)]
    numbers = [_number(row, name, 0, 2**31) for name in names]
    total = sum(numbers)
    if names and not total:
        raise row.error(f"nothing is above 0 of {', '.join(names)}.")
    return {name: number / total for name, number in zip(names, numbers, strict=True)}


# All lines -------------------------------------------------------------------------------------


def _refuse_twice(rows: Sequence[Mapping[str, Any]]) -> None:
    line_of: dict[str, int] = {}
    twice = [
        f"{line_of[name]} and {row['line']} ({name})"
        for row in rows
        if line_of.setdefault(name := row["sample_id"], row["line"]) != row["line"]
    ]
    if twice:
        raise DataError(f"lines {listed(twice)} name the same image.\nRemove one of each two.")


def _present(
    rows: pd.DataFrame, present: set[str], table: str, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The samples that are there, and what else was found."""
    if rows.empty:
        raise DataError(f"'{table}' has no row below its first line.\nWrite a line per image.")
    rows = _placed(rows, present)
    there, named = rows["path"].isin(present), rows["label"] != ""
    absent = _lines(rows[~there])
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
            f"none of the {len(rows):,} images of '{table}' is there, first {first!r}.\n"
            "Give paths from dataset.root on, or set dataset.root to the folder that has them."
        )
    problems = [
        *problem_of(
            "listed_without_file", "error", absent, f"'{table}' names files that are not here"
        ),
        *problem_of("file_not_listed", "warning", unlisted, f"'{table}' does not name some images"),
    ]
    return rows[stays].drop(columns="line").reset_index(drop=True), problems


def _has_other_format(path: str) -> bool:
    """Whether a file is an image of a format that is not read."""
    return reason_left_out(path) != NOT_AN_IMAGE


def _placed(rows: pd.DataFrame, present: set[str]) -> pd.DataFrame:
    """With paths from the root on: a table may begin at the folder of images beside it."""
    if rows["path"].isin(present).any():
        return rows
    first = rows["path"].iloc[0]
    folders = [path.removesuffix(first) for path in present if path.endswith(f"/{first}")]
    if len(folders) != 1:
        return rows
    return rows.assign(**{name: folders[0] + rows[name] for name in ("sample_id", "path")})


def _lines(rows: pd.DataFrame) -> list[str]:
    return [f"line {line}: {path}" for line, path in zip(rows["line"], rows["path"], strict=True)]


def _tested(samples: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """All rows in splits; the only images held out are the test split, as in a folder."""
    splits = set(samples["split"])
    if splits == {""}:
        return samples.assign(split="train"), []
    if "" in splits:
        name = samples.loc[samples["split"] == "", "path"].iloc[0]
        raise DataError(
            f"some images have a split and some have none, such as {name!r}.\nFill it in."
        )
    if "validation" not in splits or "test" in splits:
        return samples, []
    text = "no image is of the test split: the validation images are the test split"
    count = int((samples["split"] == "validation").sum())
    problem = Problem("validation_is_test", "info", count, (), text)
    return samples.assign(split=samples["split"].replace("validation", "test")), [problem]


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=None,
        source="Your own images; see to it that you may use them.",
        classes=EXPRESSIONS,
        options=("table",),
    ),
)
