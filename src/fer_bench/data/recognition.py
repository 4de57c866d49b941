"""Which dataset a folder holds, where only the folder is given."""

from pathlib import Path

from fer_bench.config.dataset import Dataset
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.registry import DATASETS

GENERAL = "folder"


def dataset_in(root: Path) -> str:
    """The name of the dataset whose layout a folder has.

    Several adapters may read it, since some releases are plain class folders. The one that the
    folder is called after comes first, then one that knows the release, then that for a folder per
    class.

    Raises:
        DataError: no adapter can read it; says what that for a folder per class misses.
    """
    read: dict[str, Manifest] = {}
    errors: dict[str, DataError] = {}
    for name in DATASETS.names():
        try:
            read[name] = DATASETS[name].read(Dataset(name=name, root=root))
        except DataError as error:
            errors[name] = error
    if not read:
        known = ", ".join(name for name in DATASETS.names() if name != GENERAL)
        raise DataError(
            f"{errors[GENERAL]}\nNor has it the layout of {known}. Give an experiment file whose "
            "dataset.name says which it is: it then says what is missing."
        )
    called = DATASETS.known_as(root.resolve().name)
    recognised = [name for name, manifest in read.items() if _is_recognised(name, manifest)]
    return next(name for name in (called, *recognised, GENERAL, *read) if name in read)


def _is_recognised(name: str, manifest: Manifest) -> bool:
    return name != GENERAL and not any(
        problem.kind == "release_unrecognised" for problem in manifest.problems
    )
