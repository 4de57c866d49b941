"""The interface of a dataset adapter, and the unpacking of its archive."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.archive import unpack
from fer_bench.data.files.file_names import is_release_file
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.registry import DATASETS

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset adapter offers.

    Attributes:
        read: section `dataset` of an experiment → manifest, with the splits that the release
            itself has; everything is `train` where it has none. Of the section it reads `root` and
            the keys that are its own. With `classes`, a label may be any text, as `labels.key`
            spells it; choosing among them is not the adapter's. Raises: DataError.
        prepare: makes the folder, given (root, archive or None, force); None where there is
            nothing to make. Raises: DataError.
        source: where the data comes from and what its licence allows, in one sentence.
        classes: what its labels can say, in the order of `EXPRESSIONS`. A folder may show fewer.
        options: which of the keys `images` and `table` it knows.
        labels: the values of the key `labels` that it knows, and the classes of each.
        overlaps: other datasets that hold some of the same images, and which these are.
    """

    read: Callable[[Dataset], Manifest]
    prepare: Callable[[Path, Path | None, bool], None] | None
    source: str
    classes: tuple[str, ...]
    options: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    overlaps: Mapping[str, str] = field(default_factory=dict)


def preparation(name: str, page: str) -> Callable[[Path, Path | None, bool], None]:
    """A `DatasetSpec.prepare` that unpacks the archive from `page`, if it is this dataset."""

    def prepare(root: Path, archive: Path | None, force: bool) -> None:
        if archive is None:
            raise DataError(
                f"{name} is not downloaded automatically.\nDownload it from {page} and give the "
                f"archive: fer data prepare {name} ARCHIVE --root {root}"
            )

        unpacked = unpack(
            archive,
            root,
            force,
            pick=is_release_file,
            check=lambda folder: check_release(name, folder, archive),
        )
        _logger.info("%s: %d files written, %d others left out", root, *unpacked)

    return prepare


def check_release(name: str, folder: Path, source: Path) -> None:
    """Raises: DataError, about `source`, when what it holds in `folder` is not the dataset."""
    try:
        DATASETS[name].read(Dataset(name=name, root=folder))
    except DataError as error:
        raise DataError(str(error).replace(str(folder), str(source))) from error
