"""Dataset adapters, one file each, and the way from a folder to a checked manifest."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fer_bench.config import Dataset
from fer_bench.errors import DataError
from fer_bench.manifest import Manifest
from fer_bench.registry import DATASETS
from fer_bench.splits import carve_validation, undersample


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset adapter offers.

    Attributes:
        read: folder → manifest, with the splits that the release itself has. Raises: DataError.
        prepare: makes the folder, given (root, archive or None, force); None where there is
            nothing to make. Raises: DataError.
        source: where the data comes from and what its licence allows, in one sentence.
    """

    read: Callable[[Path], Manifest]
    prepare: Callable[[Path, Path | None, bool], None] | None
    source: str


def load_manifest(config: Dataset) -> Manifest:
    """Read the folder of a dataset, take its validation split and balance its training split.

    The test split is left as the release has it.

    Raises:
        DataError: the folder is missing or incomplete, or a class is too small to be split.
    """
    spec: DatasetSpec = DATASETS[config.name]
    manifest = spec.read(config.root)
    samples, dropped = manifest.samples, dict(manifest.dropped)
    if isinstance(config.validation, float):
        samples = carve_validation(samples, config.validation, config.split_seed)
    elif config.validation not in manifest.split_sizes():
        raise DataError(
            f"{config.root}: this release of '{config.name}' has no validation split of its own; "
            f"it has {', '.join(manifest.split_sizes())}.\n"
            "Set dataset.validation to a part of the training split, for example 0.1."
        )
    if config.balance == "undersample":
        samples, dropped["undersampled"] = undersample(samples, config.split_seed)
    return replace(manifest, samples=samples, dropped=dropped)
