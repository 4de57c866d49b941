"""Arrays that are computed once and kept: decoded images, and their frozen features."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.storage import array_file, cache
from fer_bench.storage.array_file import DamagedArray, StoredArray

# Bytes of the disk that are left free for other uses.
RESERVE = 10**9
Blocks = Callable[[], Iterable[NDArray[Any]]]


@dataclass(frozen=True)
class Wanted:
    """An array that may be in the cache.

    Attributes:
        kind: `images` or `trunk`.
        key: everything that the values depend on.
        shape: rows first.
        dtype: the name of its type, for example `uint8` or `bfloat16`.
        note: a description for the user.
    """

    kind: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    note: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """The size of the values."""
        item = 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize
        return int(np.prod(self.shape, dtype=np.int64)) * item


@dataclass(frozen=True)
class Sources:
    """What an array is computed from, where its key does not say everything about it.

    Attributes:
        keep: writes what identifies the sources into the folder of a new array.
        changed: given that folder later, says why the array has to be made again; None if it is up
            to date. Raises: ValueError or OSError when what was kept is damaged.
    """

    keep: Callable[[Path], None]
    changed: Callable[[Path], str | None]


@dataclass(frozen=True)
class Store:
    """Where a command keeps its arrays.

    Attributes:
        limit: bytes that all arrays of the cache may take.
        say: shows a message to the user.
    """

    limit: int
    say: Callable[[str], None]

    def keep(
        self,
        wanted: Wanted,
        blocks: Blocks,
        beside: Sequence[StoredArray] = (),
        sources: Sources | None = None,
    ) -> Any:
        """The `StoredArray` that is wanted, found or made; None if there is no room for it.

        A damaged array, or one whose sources changed, is made again, with a message. Two processes
        that want the same array make it once. If there is not enough room, the least recently used
        arrays are removed.

        Args:
            wanted: the array.
            blocks: computes its rows, block by block, in order; its exceptions pass through.
            beside: arrays that must not be removed for it.
            sources: tells whether a found array is up to date.

        Raises:
            DataError: the cache cannot be written.
        """
        with contextlib.suppress(_NoRoomError):
            with cache.filling(
                wanted.kind, wanted.key, wanted.note, lambda: self.say(_WAITING)
            ) as entry:
                if entry.fresh:
                    self._make_room(wanted, beside)
                    made = array_file.write(entry.fresh, wanted.shape, wanted.dtype, blocks())
                    if sources:
                        sources.keep(entry.fresh)
                    return replace(made, path=entry.path / made.path.name)
            try:
                array = array_file.read(entry.path)
                if not (reason := _reason_to_renew(entry.path, sources)):
                    return array
                self.say(reason)
            except DamagedArray as damage:
                self.say(f"warning: a cached array is damaged and is made again: {damage}")
            cache.remove(entry.path)
            return self.keep(wanted, blocks, beside, sources)
        return None

    def _make_room(self, wanted: Wanted, beside: Sequence[StoredArray]) -> None:
        """Raises: _NoRoomError when the array is too large for the limit or for the disk."""
        kept = [array.path.parent for array in beside]
        cache.make_room(wanted.bytes, self.limit, kept)
        stored = sum(entry.bytes for entry in cache.entries(cache.ARRAYS))
        free = shutil.disk_usage(cache.cache_root()).free
        if stored + wanted.bytes > self.limit or wanted.bytes + RESERVE > free:
            raise _NoRoomError


def _reason_to_renew(entry: Path, sources: Sources | None) -> str | None:
    """Why an array has to be made again. Raises: DamagedArray."""
    try:
        return sources.changed(entry) if sources else None
    except (OSError, ValueError) as error:
        raise DamagedArray(str(error)) from error


class _NoRoomError(Exception):
    """There is no room for an array."""


_WAITING = "waiting for another process that is computing the same array"
