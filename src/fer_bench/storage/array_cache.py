"""Arrays that are computed once and kept: decoded images, and what a frozen trunk makes of them."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.storage import array_file, cache
from fer_bench.storage.array_file import DamagedArray, StoredArray

# Left free on the disk for whatever else happens there.
RESERVE = 10**9
Blocks = Callable[[], Iterable[NDArray[Any]]]


@dataclass(frozen=True)
class Wanted:
    """An array that may be in the cache.

    Attributes:
        kind: `images` or `trunk`.
        key: everything that its values depend on.
        shape: rows first.
        dtype: the name of its type, for example `uint8` or `bfloat16`.
        note: what a user is told about it.
    """

    kind: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    note: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """What its values take."""
        item = 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize
        return int(np.prod(self.shape, dtype=np.int64)) * item


@dataclass(frozen=True)
class Store:
    """Where a command keeps its arrays.

    Attributes:
        limit: bytes that all arrays of the cache may take.
        say: tells the user one thing.
    """

    limit: int
    say: Callable[[str], None]

    def keep(self, wanted: Wanted, blocks: Blocks, beside: Sequence[StoredArray] = ()) -> Any:
        """The `StoredArray` that is wanted: found, or else made. None where there is no room.

        What is damaged is made again, with a warning. Two processes that want the same array make
        it once. When there is not room enough, those arrays go whose last use is longest ago.

        Args:
            wanted: what it is.
            blocks: makes its rows, block by block, in their order; what it raises passes through.
            beside: arrays that must not go for it.

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
                    return replace(made, path=entry.path / made.path.name)
            try:
                return array_file.read(entry.path)
            except DamagedArray as damage:
                self.say(f"warning: a cached array is damaged and is made again: {damage}")
            cache.remove(entry.path)
            return self.keep(wanted, blocks, beside)
        return None

    def _make_room(self, wanted: Wanted, beside: Sequence[StoredArray]) -> None:
        """Raises: _NoRoomError when the array is too large for the limit or for the disk."""
        kept = [array.path.parent for array in beside]
        cache.make_room(wanted.bytes, self.limit, kept)
        stored = sum(entry.bytes for entry in cache.entries(cache.ARRAYS))
        free = shutil.disk_usage(cache.cache_root()).free
        if stored + wanted.bytes > self.limit or wanted.bytes + RESERVE > free:
            raise _NoRoomError


class _NoRoomError(Exception):
    """An array is not made, because it would not fit."""


_WAITING = "waiting for another process, which is just making what is needed here too"
