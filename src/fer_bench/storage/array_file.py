"""One array on disk: written once, block by block, and memory-mapped when it is read."""

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fer_bench.storage.files import open_bounded, read_json, why_unreadable

VALUES, HEADER = "values.bin", "array.json"
KEYS = ("shape", "dtype", "bytes", "digest", "block_bytes", "checksums")
# Of what the standard library offers, zlib.crc32 was the fastest: 2.1 GiB/s on one core of a Xeon;
# adler32 1.9, SHA-1 1.1, SHA-256 1.0, BLAKE2b 0.5, MD5 0.4. It detects every single changed byte,
# and all but one in 2^32 of other changes.
BLOCK_BYTES = 2**20
VERIFIED_WHOLE = 512 * 2**20
SPOT_CHECKS = 64
_BFLOAT16 = "bfloat16"


class DamagedArray(Exception):  # noqa: N818 - named like a FerError
    """A stored array is not as it was written; the message says where. Make it again."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
        path: the file of its values, in C order.
        shape: rows first.
        dtype: a name such as `uint8`, `float32` or `bfloat16`.
        digest: SHA-256 of shape, dtype and values, in hexadecimal.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    digest: str

    def memmap(self) -> NDArray[Any]:
        """The values, read-only, paged in from the disk as they are used.

        NumPy has no bfloat16: such values are returned as uint16 with the same bits.
        """
        dtype = _numpy_dtype(self.dtype)
        if math.prod(self.shape) == 0:  # an empty file cannot be mapped
            nothing = np.empty(self.shape, dtype)
            nothing.flags.writeable = False
            return nothing
        return np.memmap(self.path, dtype, "r", shape=self.shape)


class _Checksums:
    """The CRC-32 of every block of `BLOCK_BYTES`, from pieces of any size."""

    def __init__(self) -> None:
        self._complete: list[int] = []
        self._current = 0
        self._filled = 0

    def add(self, piece: memoryview) -> None:
        while len(piece):
            part = piece[: BLOCK_BYTES - self._filled]
            piece = piece[len(part) :]
            self._current = zlib.crc32(part, self._current)
            self._filled += len(part)
            if self._filled == BLOCK_BYTES:
                self._complete.append(self._current)
                self._current = self._filled = 0

    def all(self) -> list[int]:
        return self._complete + ([self._current] if self._filled else [])


def write(
    folder: Path, shape: Sequence[int], dtype: str, blocks: Iterable[NDArray[Any]]
) -> StoredArray:
    """Write an array into a folder, with at most one block in memory at a time.

    Until the last file is written, `read` finds no array there.

    Args:
        folder: is made if it does not exist.
        shape: of the whole array, rows first; at least one axis.
        dtype: a name such as `uint8`, `float32` or `bfloat16`.
        blocks: consecutive rows, each of shape (rows, *shape[1:]) and of that dtype; for bfloat16
            any type of two bytes, whose bits are kept.

    Raises:
        ValueError: the shape or dtype is impossible, or the blocks do not add up to them.
        OSError: the folder cannot be written; the error names the file.
    """
    shape = tuple(int(size) for size in shape)
    if not shape or min(shape) < 0:
        raise ValueError(f"shape {shape}: expected at least one axis, and no negative size")
    stored_as = _numpy_dtype(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / VALUES
    digest = hashlib.sha256(json.dumps([list(shape), dtype]).encode())
    checksums, rows = _Checksums(), 0
    with path.open("wb", buffering=0) as file:  # buffered, a full disk is met at closing
        for number, block in enumerate(blocks):
            _check_block(block, number, shape, dtype)
            rows += len(block)
            if rows > shape[0]:
                raise ValueError(f"shape {shape}: the blocks have {rows} rows or more")
            values = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
            digest.update(values)
            checksums.add(values)
            _write_named(file, values, path)
    if rows != shape[0]:
        raise ValueError(f"shape {shape}: the blocks have only {rows} rows")
    header = {
        "shape": shape,
        "dtype": dtype,
        "bytes": math.prod(shape) * stored_as.itemsize,
        "digest": digest.hexdigest(),
        "block_bytes": BLOCK_BYTES,
        "checksums": checksums.all(),
    }
    document = json.dumps({**header, "header_checksum": _header_checksum(header)})
    (folder / HEADER).write_text(document, encoding="utf-8")
    return StoredArray(path, shape, dtype, digest.hexdigest())


def read(folder: Path) -> StoredArray:
    """The array that `write` left in a folder, verified.

    Up to 512 MiB every byte is verified. For larger arrays the size, the header and 64 evenly
    spaced blocks of 1 MiB are, including the first and the last. This detects a truncated or
    emptied file and damage to long ranges, but not a few changed bytes elsewhere.

    Raises: DamagedArray when it is missing, or not as it was written.
    """
    header = _read_header(folder / HEADER)
    path = folder / VALUES
    try:
        found = path.stat().st_size
        if found != header["bytes"]:
            raise DamagedArray(f"{path}: has {found:,} bytes, expected {header['bytes']:,}")
        with open_bounded(path, header["bytes"]) as file:
            _verify(file, header["checksums"], header["block_bytes"], found)
    except (OSError, ValueError) as error:
        raise DamagedArray(f"{path}: cannot be read ({why_unreadable(error)})") from error
    return StoredArray(path, tuple(header["shape"]), header["dtype"], header["digest"])


def _read_header(path: Path) -> dict[str, Any]:
    """The verified header. Raises: DamagedArray."""
    try:
        header = read_json(path)
    except (OSError, ValueError) as error:
        raise DamagedArray(f"{path}: cannot be read ({why_unreadable(error)})") from error
    if not isinstance(header, dict):
        raise DamagedArray(f"{path}: is not a JSON object")
    expected = header.pop("header_checksum", None)
    if expected != _header_checksum(header):
        raise DamagedArray(f"{path}: its checksum differs")
    if missing := [key for key in KEYS if key not in header]:
        raise DamagedArray(f"{path}: lacks {', '.join(missing)}")
    return header


def _verify(file: BinaryIO, checksums: Sequence[int], block_bytes: int, size: int) -> None:
    """Compare blocks with their checksums. Raises: DamagedArray naming the first that differs."""
    number = len(checksums)
    if size <= VERIFIED_WHOLE:
        chosen = list(range(number))
    else:
        chosen = np.linspace(0, number - 1, SPOT_CHECKS).astype(int).tolist()
    for index in chosen:
        file.seek(index * block_bytes)
        if zlib.crc32(file.read(block_bytes)) != checksums[index]:
            place = f"block {index + 1} of {number} (bytes from {index * block_bytes:,})"
            raise DamagedArray(f"{file.name}: {place} is not what was written")


def _check_block(block: NDArray[Any], number: int, shape: Sequence[int], dtype: str) -> None:
    expected = _numpy_dtype(dtype)
    fits = block.dtype.itemsize == 2 if dtype == _BFLOAT16 else block.dtype == expected
    if block.shape[1:] != tuple(shape[1:]) or not block.shape or not fits:
        rest = "".join(f", {size}" for size in shape[1:])
        raise ValueError(
            f"block {number} has shape {block.shape} and dtype {block.dtype}, "
            f"expected (rows{rest}) and {dtype}"
        )


def _write_named(file: FileIO, values: memoryview, path: Path) -> None:
    """Write all values; errors such as a full disk name the file, which Python leaves out."""
    try:
        while len(values):  # one call may write only a part
            values = values[file.write(values) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type of the values. Raises: ValueError for types other than plain numbers."""
    if name == _BFLOAT16:
        return np.dtype(np.uint16)
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufc" or dtype.name != name:
        raise ValueError(f"dtype '{name}': expected a name such as uint8, float32 or bfloat16")
    return dtype


def _header_checksum(header: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())
