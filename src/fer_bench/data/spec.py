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
    """The interface of a dataset adapter; docs/datasets.md has an example.

    `read` is called for every command that needs the dataset, so it must be fast: it lists files
    and reads tables, and decodes no image. Its result depends on the content of the folder only:
    not on the path of the root, the order of files or the time.

    Attributes:
        read: section `dataset` of an experiment → manifest, in the splits of the release; a
            release without splits is all `train`. It uses `root` and the keys below; `exclude`,
            `groups`, `classes`, `contempt`, `split`, `validation` and `balance` are applied later
            to what it returns. If `classes` is set, a label may be any text, spelled by
            `labels.key`; otherwise it must be one of `classes` below. Files and rows that are
            left out are counted in `Manifest.dropped`; whatever makes results doubtful is one of
            `Manifest.problems`. Raises: DataError for a folder that it cannot read; the message
            begins with the root and says what was found and what to do.
        prepare: makes the folder `root` from an archive, called with (root, archive or None,
            force); an existing folder is replaced only with `force`, and stays as it was on
            failure. None if there is nothing to make. Raises: DataError.
        source: where the data comes from and what its licence allows, in one sentence.
        classes: all classes of its labels, in the order of `EXPRESSIONS`; a folder may have fewer.
        options: which of the keys `dataset.images` and `dataset.table` it supports.
        labels: the values of the key `dataset.labels` that it supports, and the classes of each.
        overlaps: names of other datasets with some of the same images → which images these are.
    """

    read: Callable[[Dataset], Manifest]
    prepare: Callable[[Path, Path | None, bool], None] | None
    source: str
    classes: tuple[str, ...]
    options: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    overlaps: Mapping[str, str] = field(default_factory=dict)


def preparation(name: str, page: str) -> Callable[[Path, Path | None, bool], None]:
    """A `DatasetSpec.prepare` that unpacks the archive from `page` and checks its content."""

    def prepare(root: Path, archive: Path | None, force: bool) -> None:
        if archive is None:
            raise DataError(
                f"{name} is not downloaded automatically.\nDownload it from {page} and give "
                f"the archive: fer data prepare {name} ARCHIVE --root {root}"
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
    """Raises: DataError, which names `source`, unless the content in `folder` is the dataset."""
    try:
        DATASETS[name].read(Dataset(name=name, root=folder))
    except DataError as error:
        raise DataError(str(error).replace(str(folder), str(source))) from error
