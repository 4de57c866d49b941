"""Dataset adapters, one file each, and the way from a folder to a checked manifest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_bench.manifest import Manifest


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
