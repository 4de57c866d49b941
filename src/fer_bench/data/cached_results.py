"""Results that are kept in the cache as files: checked when read, made again when damaged."""

import hashlib
import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from fer_bench.errors import DataError
from fer_bench.storage.cache import cached, remove
from fer_bench.storage.delimited import LARGEST_BYTES
from fer_bench.storage.files import read_bounded

Result = TypeVar("Result")

CHECKSUMS = "checksums.json"

# The times of files are rounded by some file systems.
_SECONDS = 2.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Checksum:
    """What identifies the content of one file or folder of an entry.

    Attributes:
        digest: CRC-32 of a file; SHA-256 over the names and sizes of the files in a folder, which
            may be too many to read each time.
        latest: when the last file of a folder was changed, in seconds since 1970; 0 for a file.
    """

    digest: str
    latest: float = 0.0


_CHECKSUMS = TypeAdapter(dict[str, _Checksum])


def cached_result(
    kind: str,
    key: str,
    make: Callable[[Path], None],
    read: Callable[[Path], Result],
    changed: Callable[[Path], str | None] | None = None,
) -> Result:
    """What `read` makes of the cache entry of this kind and key, which `make` fills.

    An entry with a file that is missing, cut short or changed is made again, with a warning, and so
    is one whose sources changed. Entries of older versions have no checksums: there `read`
    alone decides.

    Args:
        kind: what sort of entry, a folder of the cache.
        key: everything that the content depends on.
        make: fills an empty folder with files, or with folders of files.
        read: reads such a folder. Raises: ValueError or OSError for content that is not what
            `make` writes.
        changed: says of an entry that was found why it has to be made again; None if it is up to
            date. Raises like `read`.

    Raises:
        DataError: the cache cannot be written.
    """
    made = False

    def make_checked(folder: Path) -> None:
        nonlocal made
        made = True
        make(folder)
        (folder / CHECKSUMS).write_bytes(_CHECKSUMS.dump_json(_checksums(folder)))

    folder = cached(kind, key, make_checked)
    try:
        _check(folder)
        result = read(folder)
        reason = changed(folder) if changed and not made else None
        if not reason:
            return result
        _logger.warning("%s", reason)
    except (OSError, ValueError) as error:
        if folder.is_dir():  # otherwise another process has just removed it
            _logger.warning("warning: %s is damaged and is made again: %s", folder, error)
    try:
        remove(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: this entry of the cache is damaged and cannot be removed ({error}).\n"
            "Remove it, or check the permissions of that folder."
        ) from error
    return read(cached(kind, key, make_checked))


def _check(folder: Path) -> None:
    """Raises: ValueError when the entry is not as it was made."""
    try:
        content = read_bounded(folder / CHECKSUMS)
    except FileNotFoundError:
        return
    found = _checksums(folder)
    for name, expected in _CHECKSUMS.validate_json(content).items():
        actual = found.get(name)
        if actual is None:
            raise ValueError(f"{name} is missing")
        if actual.digest != expected.digest or actual.latest > expected.latest + _SECONDS:
            raise ValueError(f"{name} was changed")


def _checksums(folder: Path) -> dict[str, _Checksum]:
    """The checksums of what is in `folder`, by name."""
    with os.scandir(folder) as entries:
        return {
            entry.name: _folder_checksum(entry.path)
            if entry.is_dir()
            else _Checksum(f"{zlib.crc32(read_bounded(Path(entry.path), LARGEST_BYTES)):08x}")
            for entry in entries
        }


def _folder_checksum(folder: str) -> _Checksum:
    with os.scandir(folder) as entries:
        statuses = {entry.name: entry.stat() for entry in entries}
    lines = sorted(f"{name}\t{status.st_size}" for name, status in statuses.items())
    latest = max((status.st_mtime for status in statuses.values()), default=0.0)
    return _Checksum(hashlib.sha256("\n".join(lines).encode()).hexdigest(), latest)
