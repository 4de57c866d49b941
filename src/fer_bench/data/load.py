"""From a folder to a checked manifest: which dataset it is, its classes, its splits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.contents import Verify, verifying
from fer_bench.data.files.folders import listed, read_table, reading
from fer_bench.data.manifest import Manifest, Problem, regrouped
from fer_bench.data.spec import DatasetSpec
from fer_bench.data.splits import carve, join_groups, keep_fraction, undersample
from fer_bench.errors import DataError
from fer_bench.labels import chosen, ordered
from fer_bench.registry import DATASETS

# The adapter that reads one folder per class, whatever they hold.
_GENERAL = "folder"


def load_manifest(config: Dataset, verify: Verify = "sample") -> Manifest:
    """Read the folder of a dataset, make its splits and reduce its training split.

    A test split of the release stays as it is.

    Args:
        config: section `dataset` of an experiment.
        verify: which files of labels that the cache knows are read again, see `contents`.

    Raises:
        DataError: the folder is missing or incomplete, it does not have the splits that the
            experiment needs, or a class is too small to be split.
    """
    with verifying(verify):
        manifest = read_release(config)
    if config.groups:
        groups = _read_list(config.groups, ("sample_id", "group"))
        samples = join_groups(manifest.samples, groups[groups["group"] != ""])
        manifest = replace(manifest, samples=samples)
    samples = _divide(manifest, config)
    dropped = dict(manifest.dropped)
    if config.fraction:
        samples, dropped["not_in_fraction"] = keep_fraction(
            samples, config.fraction, config.split_seed
        )
    _check_expand(samples, config)
    if "undersample" in config.balances:
        samples, dropped["undersampled"] = undersample(samples, config.split_seed, config.per_class)
    return replace(manifest, samples=samples, dropped=dropped)


def read_release(config: Dataset) -> Manifest:
    """The dataset in its official splits, with `exclude`, `classes` and `contempt` applied.

    Raises: DataError.
    """
    spec: DatasetSpec = DATASETS[config.name]
    manifest = spec.read(config)
    if config.exclude:
        manifest = _exclude(manifest, config.exclude)
    if config.classes:
        manifest = _choose_classes(manifest, config)
    elif config.contempt != "keep":
        manifest = _without_contempt(manifest, config.contempt)
    manifest = _without_absent_classes(manifest, config.root)
    if spec.prepare is None:  # own images: no numbers of a release show what is missing
        _check_training(manifest)
    return manifest


def dataset_in(root: Path) -> str:
    """The name of the dataset whose layout `root` has.

    Several adapters may read it, since some releases are plain class folders. The one that the
    folder is named after is preferred, then one that recognises the release, then `folder`.

    Raises:
        DataError: no adapter can read it; the message says why `folder` cannot.
    """
    read: dict[str, Manifest] = {}
    errors: dict[str, DataError] = {}
    for name in DATASETS.names():
        try:
            read[name] = DATASETS[name].read(Dataset(name=name, root=root))
        except DataError as error:
            errors[name] = error
    if not read:
        known = ", ".join(name for name in DATASETS.names() if name != _GENERAL)
        raise DataError(
            f"{errors[_GENERAL]}\nIt does not have the layout of {known} either. Give an "
            "experiment file whose dataset.name says which it is: the error then says what is "
            "missing."
        )
    recognised = [
        name
        for name, manifest in read.items()
        if name != _GENERAL
        and all(problem.kind != "release_unrecognised" for problem in manifest.problems)
    ]
    named_after = DATASETS.known_as(root.resolve().name)
    return next(name for name in (named_after, *recognised, _GENERAL, *read) if name in read)


def _read_list(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    with reading(path.parent, f"It should hold {path.name}."):
        return read_table(path, columns)


def _exclude(manifest: Manifest, path: Path) -> Manifest:
    names = set(_read_list(path, ("sample_id",))["sample_id"])
    samples = manifest.samples
    if unknown := sorted(names - set(samples["sample_id"])):
        raise DataError(
            f"{path}: {len(unknown)} of its {len(names)} sample ids are not in dataset "
            f"'{manifest.name}': {listed(unknown)}.\n"
            "Give the file that `fer data audit` wrote for this dataset."
        )
    excluded = samples["sample_id"].isin(names)
    dropped = {**manifest.dropped, "excluded": int(excluded.sum())}
    return replace(manifest, samples=samples[~excluded].reset_index(drop=True), dropped=dropped)


def _without_contempt(manifest: Manifest, choice: str) -> Manifest:
    if "contempt" not in manifest.classes:
        raise DataError(
            f"{manifest.root}: dataset '{manifest.name}' has no class contempt.\n"
            "Remove dataset.contempt."
        )
    groups = {name: [name] for name in manifest.classes if name != "contempt"}
    if choice == "disgust":
        groups["disgust"] = [*groups.get("disgust", []), "contempt"]
    return regrouped(manifest, {name: groups[name] for name in ordered(groups)}, "contempt")


def _choose_classes(manifest: Manifest, config: Dataset) -> Manifest:
    assert config.classes is not None  # the caller looked
    try:
        groups = chosen(config.classes, manifest.classes, order=config.name)
    except DataError as error:
        raise DataError(f"{config.root}: {error}") from error
    return regrouped(manifest, groups, "class not chosen")


def _check_training(manifest: Manifest) -> None:
    """Raises: DataError when training lacks a class that another split has."""
    counts = manifest.counts()
    shown = set(manifest.samples["label"])
    training = counts.get("train", {})
    if unknown := [name for name, count in training.items() if name in shown and not count]:
        raise DataError(
            f"{manifest.root}: training has no image of {', '.join(unknown)}, but another "
            "split has.\nAdd such images to training, or choose other classes with "
            "dataset.classes."
        )


def _without_absent_classes(manifest: Manifest, root: Path) -> Manifest:
    """The manifest without classes that no sample shows: they cannot be learnt or measured.

    A class that occurs in soft labels only is kept.
    """
    shown = set(manifest.samples["label"].unique()) | manifest.shared_classes()
    absent = tuple(name for name in manifest.classes if name not in shown)
    if not absent:
        return manifest
    classes = tuple(name for name in manifest.classes if name in shown)
    if len(classes) < 2:
        raise DataError(
            f"{root}: all images show {classes[0]}, and training needs two classes.\n"
            "Check that dataset.root names the whole dataset."
        )
    text = "classes of this dataset have no image here and are left out"
    problem = Problem("class_absent", "warning", len(absent), absent, text)
    manifest = regrouped(manifest, {name: [name] for name in classes}, "class_absent")
    return replace(manifest, problems=(*manifest.problems, problem))


def _divide(manifest: Manifest, config: Dataset) -> pd.DataFrame:
    """The samples in the splits of the experiment."""
    samples, sizes, seed = manifest.samples, manifest.split_sizes(), config.split_seed
    if config.split:
        if set(sizes) != {"train"}:
            raise DataError(
                f"{config.root}: {manifest.release} has splits of its own ({_shown(sizes)}), which "
                "stay as they are.\nRemove dataset.split."
            )
        samples = carve(samples, "test", config.split.test, seed)
        rest = config.split.train + config.split.validation
        return carve(samples, "validation", config.split.validation / rest, seed)
    if "test" not in sizes:
        raise DataError(
            f"{config.root}: {manifest.release} has no test split; it has {_shown(sizes)}.\n"
            "Set dataset.split to divide it: {train: 0.7, validation: 0.2, test: 0.1}."
        )
    if config.validation is None:
        return samples
    return _with_validation(manifest, config, config.validation)


def _with_validation(
    manifest: Manifest, config: Dataset, wanted: float | Literal["validation"]
) -> pd.DataFrame:
    """The samples with a validation split: one of their own, or a part of the training split."""
    samples, sizes = manifest.samples, manifest.split_sizes()
    lists = config.root / config.table if config.table else config.root
    found = f"{lists}: {manifest.release} has"
    if wanted == "validation":
        if "validation" not in sizes:
            raise DataError(
                f"{found} no validation split of its own; it has {_shown(sizes)}.\n"
                "Set dataset.validation to a part of the training split, for example 0.1."
            )
        return samples
    if "validation" in sizes:
        raise DataError(
            f"{found} a validation split of its own ({sizes['validation']:,} images).\n"
            "Set dataset.validation: validation to use it."
        )
    if "train" not in sizes:
        raise DataError(
            f"{found} no training split to take a validation split from; it has {_shown(sizes)}.\n"
            "Check that it is the whole dataset."
        )
    return carve(samples, "validation", wanted, config.split_seed)


def _check_expand(samples: pd.DataFrame, config: Dataset) -> None:
    images = int((samples["split"] == "train").sum())
    if config.expand and config.expand < images:
        raise DataError(
            f"dataset.expand: {config.expand:,} is less than the number of training images "
            f"({images:,}).\nGive the number of images after expansion, or remove it."
        )


def _shown(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{split} ({count:,})" for split, count in sizes.items())
