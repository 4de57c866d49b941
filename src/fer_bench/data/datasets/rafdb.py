"""RAF-DB: the official release of the single-label part, and two copies of it on Kaggle.

All three hold the same 15,339 aligned faces under the same numbers. A sample has the same id in all
of them, so that predictions from one copy can be compared with those from another.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.folders import (
    CONVERT,
    INCOMPLETE,
    contents,
    find,
    has_file,
    has_folder,
    image_names,
    inside,
    listed,
    missing_folder,
    read_table,
    reading_download,
    subfolders,
    unpack_advice,
    visible,
)
from fer_bench.data.manifest import (
    COLUMNS,
    Manifest,
    Problem,
    Severity,
    has_unsupported,
    left_out,
    problem_of,
)
from fer_bench.data.releases import counts, with_release
from fer_bench.data.spec import DatasetSpec, preparation
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS, decode
from fer_bench.registry import DATASETS
from fer_bench.storage.delimited import TableFormatError, decode_text
from fer_bench.storage.files import read_bounded, why_unreadable

NAME = "rafdb"
# Five landmarks and three codes take a hundredth of this.
LARGEST_ATTRIBUTES = 2**16
CLASSES = EXPRESSIONS[:7]
SPLITS = ("train", "test")
# Names of their folders in copies. RAF-DB has two parts, so a folder called validation is its test
# split.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "valid", "val", "validation"),
}
_ORDER = "surprise fear disgust happiness sadness anger neutral"
_COUNTS = {
    "train": counts(_ORDER, "1290 281 717 4772 1982 705 2524"),
    "test": counts(_ORDER, "329 74 160 1185 478 162 680"),
}
# By layout: the Kaggle copies hold the official images in other folders.
RELEASES = dict.fromkeys(("rafdb-official", "rafdb-shuvoalok", "rafdb-tanishmittal"), _COUNTS)

# The folder of a split in the copies, by the name of the split.
_CLASSES_OF = "{0}"
_IMAGES_OF = "{0}/{0}_images"

# The release spells it the first way; its readme also has the second.
LABEL_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
# Between a name and its label; some copies use commas.
_SEPARATORS = re.compile(r"\s*,\s*|\s+")
MANUAL = "Annotation/manual"
# The meaning of the last three lines of a file of manual attributes, in order.
ATTRIBUTE_CODES = {
    "gender": {"0": "male", "1": "female", "2": "unsure"},
    "race": {"0": "Caucasian", "1": "African-American", "2": "Asian"},
    "age": {"0": "0-3", "1": "4-19", "2": "20-39", "3": "40-69", "4": "70+"},
}


@dataclass(frozen=True)
class _Layout:
    """The folder structure of one release.

    Attributes:
        places: where the folder with all its images may be, relative to the unpacked folder.
        marks: folders in it; any of them distinguishes this layout from the others.
        read: (section `dataset`, that folder, dropped) → samples with `COLUMNS`, and problems.
        outline: a description for messages.
    """

    places: tuple[str, ...]
    marks: tuple[str, ...]
    read: Callable[[Dataset, Path, Counter[str]], tuple[pd.DataFrame, list[Problem]]]
    outline: str

    def folder(self, root: Path) -> Path | None:
        """The folder with all the images, `root` or below; None if it is not this layout."""

        def holds(place: Path) -> bool:
            return any(has_folder(place, mark) for mark in self.marks)

        def places(wrapper: Path) -> Iterator[Path]:
            return (wrapper / place for place in self.places if has_folder(wrapper, place))

        wrapper = find(root, lambda wrapper: any(map(holds, places(wrapper))))
        return None if wrapper is None else next(filter(holds, places(wrapper)))


def read(config: Dataset) -> Manifest:
    """The faces below the root, in any of the three layouts.

    Raises: DataError when the root has none of them, or is incomplete.
    """
    root, dropped = config.root, Counter[str]()
    with reading_download(NAME, root) as links:
        layout, folder = _recognise_layout(root)
        samples, problems = LAYOUTS[layout].read(config, folder, dropped)
        samples = links.without_copies(samples, dropped)
        _check(samples, dropped)
        samples, incomplete = _with_attributes(samples, root, folder, dropped)
        problems += [*links.problems(), *incomplete]
    # The same order for all layouts.
    samples = samples.sort_values("sample_id", ignore_index=True)
    size = None if config.images == "original" else (100, 100)
    manifest = Manifest(
        NAME, "", root, CLASSES, 3, samples, dict(dropped), tuple(problems), image_size=size
    )
    return with_release(manifest, layout, {layout: RELEASES[layout]})


def _recognise_layout(root: Path) -> tuple[str, Path]:
    found = {name: layout.folder(root) for name, layout in LAYOUTS.items()}
    folders = [(name, folder) for name, folder in found.items() if folder is not None]
    if len(folders) == 1:
        return folders[0]
    if folders:
        places = listed(f"{name} in '{folder.relative_to(root)}'" for name, folder in folders)
        raise DataError(f"contains several releases: {places}.\nSet dataset.root to one of them.")
    outlines = "\n".join(f"  {name}: {layout.outline}" for name, layout in LAYOUTS.items())
    raise DataError(
        f"no layout of RAF-DB recognised; found {contents(root)}.\n"
        f"{unpack_advice(root, NAME)}Expected one of\n{outlines}"
    )


def _official(
    config: Dataset, folder: Path, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    images = config.images or "aligned"
    pictures = folder / "Image" / images
    if not has_folder(folder, f"Image/{images}"):
        present = contents(folder / "Image") if has_folder(folder, "Image") else "no folder Image"
        raise DataError(
            f"'Image/{images}' is missing; found {present}.\n"
            "Unpack these images there, or set dataset.images to the images that you have."
        )
    label_list = _label_list(folder)
    names = image_names(pictures, dropped)
    table = _checked(_read_label_list(label_list), label_list.name, SPLITS, dropped)
    table = _named_like_files(table, names)
    prefix = pictures.relative_to(config.root).as_posix()
    files = [f"{prefix}/{name}" for name in names]
    return _joined(table.assign(path=f"{prefix}/" + table["image"]), files, dropped)


def _named_like_files(table: pd.DataFrame, files: Collection[str]) -> pd.DataFrame:
    """`table` with the names of files in `image`, which may or may not end in `_aligned`."""
    present = set(files)

    def as_file(image: str) -> str:
        path = PurePosixPath(image)
        stem = path.stem.removesuffix("_aligned")
        others = (path.with_name(f"{stem}{end}{path.suffix}") for end in ("_aligned", ""))
        return next((str(other) for other in others if str(other) in present), image)

    names = [image if image in present else as_file(image) for image in table["image"]]
    return table.assign(image=pd.Series(names, table.index, dtype=str))


def _label_list(folder: Path) -> Path:
    present = [name for name in LABEL_LISTS if has_file(folder, f"EmoLabel/{name}")]
    if len(present) == 1:
        return folder / "EmoLabel" / present[0]
    if present:
        raise DataError(f"'EmoLabel' contains both {' and '.join(present)}.\nRemove one of them.")
    found = contents(folder / "EmoLabel") if has_folder(folder, "EmoLabel") else "no such folder"
    raise DataError(f"'EmoLabel/{LABEL_LISTS[0]}' is missing; found {found}.\n{INCOMPLETE}")


def _read_label_list(path: Path) -> pd.DataFrame:
    """Columns `image` and `label`, as text. Raises: DataError for a line that is not a pair."""
    try:
        lines = decode_text(read_bounded(path)).split("\n")
    except TableFormatError as error:
        raise DataError(f"'{path.name}' {error}\n{INCOMPLETE}") from error
    except ValueError as error:
        raise DataError(
            f"'{path.name}' cannot be read ({why_unreadable(error)}).\n{INCOMPLETE}"
        ) from error
    pairs = []
    for number, line in enumerate(lines, 1):
        values = _SEPARATORS.split(line.strip())
        if len(values) == 2:
            pairs.append(values)
        elif values != [""]:
            found = f"{len(values)} value{'s' if len(values) > 1 else ''} ({line.strip()[:80]!r})"
            raise DataError(
                f"'{path.name}', line {number}: expected a name and a label, found {found}.\n"
                "Use the list of the release, with lines such as: train_00001.jpg 5"
            )
    return pd.DataFrame(pairs, columns=["image", "label"], dtype=str)


def _shuvoalok(
    config: Dataset, folder: Path, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    _only_aligned(config)
    names, problems = _split_names(folder, _CLASSES_OF)
    rows = [
        row for split in SPLITS for row in _class_rows(config.root, folder, split, names, dropped)
    ]
    samples = pd.DataFrame(rows, columns=list(COLUMNS))
    lists = {split: _csv_list(config.root, folder, split, names[split]) for split in SPLITS}
    missing = [f"{split}_labels.csv" for split in SPLITS if lists[split] is None]
    problems += problem_of(
        "list_missing", "info", missing, "the labels of the folders cannot be checked"
    )
    for split, path in lists.items():
        if path is not None:
            table = _checked(read_table(path, ("image", "label")), path.name, (split,), dropped)
            problems += _compared(samples[samples["split"] == split], table, path.name, dropped)
    return samples, problems


def _split_names(folder: Path, place: str) -> tuple[dict[str, str], list[Problem]]:
    """The names of the splits in the copy in `folder`: those with a folder at `place`.

    Raises: DataError for a split without a folder.
    """
    found = {
        split: [name for name in names if has_folder(folder, place.format(name))]
        for split, names in SPLIT_NAMES.items()
    }
    for split, spellings in found.items():
        if not spellings:
            raise missing_folder(folder, place.format(split), SPLITS)
    chosen = {split: spellings[0] for split, spellings in found.items()}
    others = [place.format(name) for spellings in found.values() for name in spellings[1:]]
    text = "RAF-DB has two parts, train and test; these further folders are not read"
    problems = problem_of("folder_not_used", "warning", others, text)
    if chosen["test"].startswith("val"):
        text = f"there is no test folder: '{chosen['test']}' is the test split"
        problems.append(Problem("validation_is_test", "info", 1, (chosen["test"],), text))
    return chosen, problems


def _class_rows(
    root: Path, folder: Path, split: str, names: Mapping[str, str], dropped: Counter[str]
) -> Iterator[tuple[str, str, str, str]]:
    """The values of `COLUMNS` for every image of one split; its folders are named by codes."""
    for inner in subfolders(folder / names[split], dropped):
        shown = f"{names[split]}/{inner.name}"
        label = decode(inner.name, NAME)
        if label is None:
            raise DataError(
                f"unknown class folder '{shown}'; known: 1 to 7.\nRename it, or move it away."
            )
        prefix = inner.relative_to(root).as_posix()
        for name in image_names(inner, dropped):
            _check_split(name, (split,), f"'{shown}'")
            yield _sample_id(name), f"{prefix}/{name}", split, label


def _compared(
    samples: pd.DataFrame, table: pd.DataFrame, list_name: str, dropped: Counter[str]
) -> list[Problem]:
    """Where the list of one split disagrees with its folders."""
    table = _named_like_files(table, [PurePosixPath(path).name for path in samples["path"]])
    labels = {
        PurePosixPath(path).name: label
        for path, label in zip(samples["path"], samples["label"], strict=True)
    }
    present = table[table["image"].isin(labels)]
    differing = [
        f"{name}: folder {labels[name]}, list {code!r}"
        for name, code in zip(present["image"], present["label"], strict=True)
        if decode(code, NAME) != labels[name]
    ]
    share = len(differing) / max(len(present), 1)
    absent = table.loc[~table["image"].isin(labels), "image"]
    unlisted = sorted(set(labels) - set(table["image"]))
    return [
        *problem_of(
            "label_disagreement",
            "error",
            differing,
            f"{list_name} has another label than the folder for {share:.2%} of the images; the "
            "folder counts",
        ),
        *_without_file(absent, dropped),
        *problem_of(
            "file_not_listed",
            "warning",
            unlisted,
            f"{list_name} does not name some images; they get the label of their folder",
        ),
    ]


def _tanishmittal(
    config: Dataset, folder: Path, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    _only_aligned(config)
    tables, files = [], []
    spellings, problems = _split_names(folder, _IMAGES_OF)
    for split, spelling in spellings.items():
        place = _IMAGES_OF.format(spelling)
        path = _csv_list(config.root, folder, split, spelling)
        if path is None:
            raise DataError(
                f"'{spelling}_labels.csv' is missing; found {contents(folder)}. Looked in "
                f"'{folder.relative_to(config.root)}', in its '{spelling}' and in the folders "
                f"around it.\n{INCOMPLETE}"
            )
        names = image_names(folder / place, dropped)
        for name in names:
            _check_split(name, (split, None), f"'{place}'")
        prefix = (folder / place).relative_to(config.root).as_posix()
        files += [f"{prefix}/{name}" for name in names]
        table = _checked(read_table(path, ("image", "label")), path.name, (split,), dropped)
        table = _named_like_files(table, names)
        tables.append(table.assign(path=f"{prefix}/" + table["image"]))
    samples, found = _joined(pd.concat(tables, ignore_index=True), files, dropped)
    return samples, [*problems, *found]


def _only_aligned(config: Dataset) -> None:
    if config.images == "original":
        raise DataError(
            "this release has aligned images only, no original ones.\nRemove dataset.images."
        )


def _csv_list(root: Path, folder: Path, split: str, spelling: str) -> Path | None:
    """The list of labels of one split, if there is one. Raises: DataError for two."""
    names = dict.fromkeys(f"{name}_labels.csv" for name in (split, spelling))
    around = [folder / spelling, *_outwards(folder, root)]
    found = [place / name for place in around for name in names if has_file(place, name)]
    if len(found) > 1:
        shown = " and ".join(f"'{path.relative_to(root)}'" for path in found)
        raise DataError(f"found both {shown}.\nRemove the one that does not belong there.")
    return found[0] if found else None


def _checked(
    table: pd.DataFrame, list_name: str, splits: Sequence[str], dropped: Counter[str]
) -> pd.DataFrame:
    """A list of images and labels with a column `split`, each image once.

    Raises: DataError for an image outside the folder, one whose name belongs to none of `splits`,
        or one with two labels.
    """
    table = table[(table["image"] != "") | (table["label"] != "")]
    names = [inside(name, list_name) for name in table["image"]]
    found = [_check_split(name, splits, f"'{list_name}'") for name in names]
    table = table.assign(image=names, split=pd.Series(found, index=table.index, dtype=str))
    again = table.duplicated(["image", "label"])
    if again.any():
        dropped["listed twice"] += int(again.sum())
    table = table[~again].reset_index(drop=True)
    twice = table.loc[table["image"].duplicated(), "image"]
    if len(twice):
        codes = table.loc[table["image"] == twice.iloc[0], "label"]
        raise DataError(
            f"'{list_name}' gives {len(twice)} images two labels, first {twice.iloc[0]!r}: "
            f"{' and '.join(map(repr, codes))}.\nGet the list from its official source."
        )
    return table


def _check_split(name: str, splits: Collection[str | None], where: str) -> str | None:
    """The split in the name of an image. Raises: DataError when it is not one of `splits`."""
    split = next((split for split in SPLITS if name.startswith(f"{split}_")), None)
    if split not in splits:
        expected = " or ".join(f"{known}_" for known in splits if known)
        raise DataError(
            f"{where} has the image {name!r}, whose name should start with {expected}.\n"
            "Move or rename it, or get the release again."
        )
    return split


def _joined(
    table: pd.DataFrame, files: Collection[str], dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows of `table` (columns `path`, `split`, `label`: a code) whose file exists."""
    labels = [decode(code, NAME) for code in table["label"]]
    rows = table.assign(
        sample_id=[_sample_id(path) for path in table["path"]],
        label=pd.Series(labels, index=table.index, dtype=object),
    )
    known, present = rows["label"].notna(), rows["path"].isin(set(files))
    unknown = rows["image"] + ": " + table["label"].map(repr)
    unlisted = sorted(set(files) - set(rows["path"]))
    problems = [
        *_left_out(unknown[~known], "label outside the map", dropped, "label_unknown", "error"),
        *_without_file(rows.loc[known & ~present, "image"], dropped),
        *_left_out(unlisted, "not listed", dropped, "file_not_listed", "warning"),
    ]
    return rows.loc[known & present, list(COLUMNS)].astype(str), problems


def _without_file(names: Iterable[str], dropped: Counter[str]) -> list[Problem]:
    return _left_out(names, "listed without a file", dropped, "listed_without_file", "error")


def _left_out(
    names: Iterable[str], reason: str, dropped: Counter[str], kind: str, severity: Severity
) -> list[Problem]:
    names = list(names)
    if names:
        dropped[reason] += len(names)
    return problem_of(kind, severity, names, f"images were left out: {reason}")


def _check(samples: pd.DataFrame, dropped: Counter[str]) -> None:
    """Raises: DataError when an image occurs twice or a split lacks a class."""
    repeated = samples[samples["sample_id"].duplicated(keep=False)].sort_values("sample_id")
    if len(repeated):
        first, second = repeated["path"].iloc[:2]
        raise DataError(
            f"'{first}' and '{second}' are the same image by their names.\nRemove one of them."
        )
    present = set(zip(samples["split"], samples["label"], strict=True))
    missing = [f"{split} {name}" for split in SPLITS for name in CLASSES]
    missing = [name for name in missing if tuple(name.split()) not in present]
    if missing:
        raise DataError(
            f"no image of {listed(missing)}; left out: {left_out(dropped)}.\n"
            f"{CONVERT if has_unsupported(dropped) else INCOMPLETE}"
        )


def _with_attributes(
    samples: pd.DataFrame, root: Path, folder: Path, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """`samples` with the columns of `ATTRIBUTE_CODES`, if a folder of attributes exists."""
    manual = next((place for place in _outwards(folder, root) if has_folder(place, MANUAL)), None)
    if manual is None:
        return samples, []
    files = {entry.name for entry in visible(manual / MANUAL, dropped) if entry.is_file()}
    unknown = (np.nan,) * len(ATTRIBUTE_CODES)
    values, missing = [], []
    for name in samples["sample_id"]:
        file = f"{name}_manu_attri.txt"
        found = _attributes(manual / MANUAL / file) if file in files else None
        values.append(found or unknown)
        if found is None:
            missing.append(file)
    table = pd.DataFrame(values, columns=list(ATTRIBUTE_CODES), index=samples.index, dtype=object)
    text = "gender, race and age of some faces are unknown: no file, or unknown codes"
    return samples.join(table), problem_of("attributes_missing", "warning", missing, text)


def _attributes(path: Path) -> tuple[str, ...] | None:
    """Gender, race and age; None unless it is a file that ends with three known codes."""
    try:
        text = read_bounded(path, LARGEST_ATTRIBUTES).decode(errors="replace")
    except (OSError, ValueError):
        return None
    codes = text.split()[-len(ATTRIBUTE_CODES) :]
    pairs = zip(ATTRIBUTE_CODES.values(), codes, strict=False)
    names = [known[code] for known, code in pairs if code in known]
    # All or nothing: in a truncated file, every code would be read as that of another attribute.
    return tuple(names) if len(names) == len(ATTRIBUTE_CODES) else None


def _sample_id(path: str) -> str:
    """The name of an image as in the official list, without its suffix."""
    return PurePosixPath(path).stem.removesuffix("_aligned")


def _outwards(folder: Path, root: Path) -> list[Path]:
    """`folder` and its parents, up to `root`."""
    chain = [folder, *folder.parents]
    return chain[: chain.index(root) + 1]


LAYOUTS = {
    "rafdb-official": _Layout(
        ("basic", "."),
        ("EmoLabel", "Image/aligned", "Image/original"),
        _official,
        f"basic/Image/aligned/train_00001_aligned.jpg and basic/EmoLabel/{LABEL_LISTS[0]}",
    ),
    "rafdb-shuvoalok": _Layout(
        ("DATASET", "."),
        tuple(
            f"{_CLASSES_OF.format(name)}/{code}"
            for names in SPLIT_NAMES.values()
            for name in names
            for code in range(1, 8)
        ),
        _shuvoalok,
        "DATASET/train/1 to 7 and DATASET/test/1 to 7",
    ),
    "rafdb-tanishmittal": _Layout(
        ("dataset/aligned", "aligned", "."),
        tuple(_IMAGES_OF.format(name) for names in SPLIT_NAMES.values() for name in names),
        _tanishmittal,
        "dataset/aligned/train/train_images, dataset/aligned/test/test_images and their lists "
        "train_labels.csv and test_labels.csv",
    ),
}

DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=preparation(
            NAME,
            "the official page (by application) or kaggle.com/datasets/shuvoalok/raf-db-dataset",
        ),
        source=(
            "RAF-DB, by application from its authors or as a copy on Kaggle; for non-commercial "
            "research only; the images may not be redistributed."
        ),
        classes=CLASSES,
        options=("images",),
    ),
)
