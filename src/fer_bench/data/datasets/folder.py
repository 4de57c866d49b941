"""Your own images of any size: one folder per class, optionally within one folder per split."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.file_names import IMAGE_SUFFIXES
from fer_bench.data.files.folders import (
    CONVERT,
    class_folders,
    contents,
    find,
    image_paths,
    listed,
    reading,
    split_folders,
    split_of,
    subfolders,
    visible,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import (
    COLUMNS,
    Manifest,
    Problem,
    has_unsupported,
    left_out,
    problem_of,
)
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS, canonical, key, ordered
from fer_bench.registry import DATASETS

NAME = "folder"
ADVICE = "Rename it, move it away, or assign it with dataset.classes: {happiness: [NAME]}."


class _Image(NamedTuple):
    path: str
    group: str | None


# By split and class; a class folder without images has an empty list.
_Images = Mapping[str, Mapping[str, list[_Image]]]


def read(config: Dataset) -> Manifest:
    """The images below the root, at any depth inside their class folder.

    The first folder inside a class folder is the group: `happy/anna/1.jpg` is in group `anna`.

    Raises: DataError when there are fewer than two classes or, without `classes`, a folder is not
        named after one.
    """
    root, wanted = config.root, _wanted(config)
    with reading(root, "Set dataset.root to a folder with one folder per class.") as links:
        tree = find(root, lambda folder: _is_tree(folder, wanted)) or root
        dropped = Counter[str]()
        place = tree.relative_to(root).as_posix()
        images = _without_copies(_images(tree, config, dropped), links, place, dropped)
        images, problems = _test_split(images)
        classes = _classes(images, tree, dropped)
        problems += _missing(images, wanted)
        samples = _samples(images, place)
        problems += links.problems()
    return Manifest(NAME, NAME, root, classes, 3, samples, dict(dropped), tuple(problems))


def _wanted(config: Dataset) -> tuple[str, ...]:
    """The labels by which the folders of this dataset are recognised."""
    named = [key(text) for texts in (config.classes or {}).values() for text in texts]
    return ordered([*EXPRESSIONS, *named])


def _is_tree(folder: Path, wanted: Collection[str]) -> bool:
    names = [inner.name for inner in subfolders(folder, Counter())]
    return any(key(name) in wanted or split_of(name) for name in names)


def _images(tree: Path, config: Dataset, dropped: Counter[str]) -> _Images:
    """The paths of all images relative to `tree`."""
    found: dict[str, dict[str, list[_Image]]] = {}
    for split, part in _splits(tree, _wanted(config), dropped).items():
        labels = found.setdefault(split, {})
        for label, folder in _class_folders(part, config, dropped):
            images = _images_below(folder, folder.relative_to(tree).as_posix(), dropped)
            labels.setdefault(label, []).extend(images)
    if "train" not in found:
        raise DataError(
            f"no train folder beside {listed(found)}; found {contents(tree)}.\n"
            "Rename a split folder, or remove that level and set dataset.split."
        )
    return found


def _class_folders(
    part: Path, config: Dataset, dropped: Counter[str]
) -> Iterable[tuple[str, Path]]:
    """Label and folder of every class. Raises: DataError for other folders, without `classes`."""
    if config.classes:
        return [(key(folder.name), folder) for folder in subfolders(part, dropped)]
    return class_folders(part, EXPRESSIONS, dropped, complete=False, advice=ADVICE).items()


def _images_below(folder: Path, name: str, dropped: Counter[str]) -> list[_Image]:
    """The images of a class folder; `name` is its path from the top of the tree."""
    images = []
    for path in image_paths(folder, dropped):
        group, inside, _ = path.partition("/")
        images.append(_Image(f"{name}/{path}", group if inside else None))
    return images


def _without_copies(images: _Images, links: Links, tree: str, dropped: Counter[str]) -> _Images:
    """One name of every file; `tree` is the path from the root to the folder of the paths."""
    every = [image for labels in images.values() for inside in labels.values() for image in inside]
    paths = links.drop_copies([f"{tree}/{image.path}" for image in every], dropped)
    if len(paths) == len(every):
        return images
    kept = set(paths)
    return {
        split: {
            label: [image for image in inside if f"{tree}/{image.path}" in kept]
            for label, inside in labels.items()
        }
        for split, labels in images.items()
    }


def _splits(tree: Path, wanted: Collection[str], dropped: Counter[str]) -> Mapping[str, Path]:
    names = [inner.name for inner in subfolders(tree, Counter())]
    splits = [name for name in names if split_of(name)]
    if not splits:
        return {"train": tree}
    if labels := [name for name in names if key(name) in wanted]:
        raise DataError(
            f"contains split folders ({listed(splits)}) beside class folders "
            f"({listed(labels)}).\nPut all class folders into split folders, or none."
        )
    return split_folders(tree, dropped)


def _test_split(images: _Images) -> tuple[_Images, list[Problem]]:
    """Make held-out images the test split if they are the only ones.

    They must not be used for model selection then.
    """
    if "validation" not in images or "test" in images:
        return images, []
    held_out = images["validation"]
    text = "there is no test folder: the validation folder is the test split"
    count = sum(map(len, held_out.values()))
    problem = Problem("validation_is_test", "info", count, (), text)
    return {"train": images["train"], "test": held_out}, [problem]


def _classes(images: _Images, tree: Path, dropped: Mapping[str, int]) -> tuple[str, ...]:
    """The classes that have images. Raises: DataError when there is only one, or none."""
    present = {label for classes in images.values() for label, inside in classes.items() if inside}
    if len(present) < 2:
        raise DataError(
            f"{len(present)} class{'' if present else 'es'} with images "
            f"({', '.join(present) or 'none'}), but training needs two; found {contents(tree)}; "
            f"left out: {left_out(dropped)}.\n{_advice(tree, dropped)}"
        )
    return ordered(sorted(present))


def _advice(tree: Path, dropped: Mapping[str, int]) -> str:
    """What to do when there are fewer than two classes with images."""
    if has_unsupported(dropped):
        return CONVERT
    entries = visible(tree, Counter())
    if files := [entry.name for entry in entries if entry.is_file() and canonical(entry.name)]:
        return (
            f"{listed(files)}: files in place of class folders, perhaps links that were copied as "
            "text; put the folders there."
        )
    return (
        "Every class needs a folder of its own, for example happy/ and sad/, with images "
        f"({', '.join(IMAGE_SUFFIXES)})."
    )


def _missing(images: _Images, wanted: Collection[str]) -> list[Problem]:
    """The classes that a split lacks."""
    # An empty folder is meant to be a class.
    named = {label for labels in images.values() for label in labels}
    missing = [
        f"{split} {label}"
        for split, labels in images.items()
        for label in wanted
        if label in named and not labels.get(label)
    ]
    text = "classes without an image; their recall in that split is unknown"
    return problem_of("class_missing", "warning", missing, text)


def _samples(images: _Images, tree: str) -> pd.DataFrame:
    """One row per image; `tree` is the path from the root to the folder of the paths."""
    rows = [
        (path, f"{tree}/{path}" if tree != "." else path, split, label, group)
        for split, labels in images.items()
        for label, of_label in labels.items()
        for path, group in of_label
    ]
    samples = pd.DataFrame(rows, columns=[*COLUMNS, "group"])
    return samples if samples["group"].notna().any() else samples[list(COLUMNS)]


DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=None,
        source="Your own images; make sure that you may use them.",
        classes=EXPRESSIONS,
    ),
)
