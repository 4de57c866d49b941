"""Where what can be computed again is kept, each entry complete or not there at all."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fer_bench.errors import DataError

VARIABLE = "FER_BENCH_CACHE"
_MAKING = ".making-"
_DAY = 24 * 60 * 60


def cache_root() -> Path:
    """`$FER_BENCH_CACHE`, or `fer-bench` in the user's cache folder (XDG base directories)."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fer-bench"


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of one entry, filled by `make` when it is not there yet.

    `make` gets an empty folder; what it leaves becomes the entry in one step, so that a killed
    process leaves no part of one. When two processes make the same entry, one of them wins.

    Args:
        kind: what sort of entry, a folder of the cache.
        key: everything that the content depends on.
        make: fills the folder; what it raises passes through, and no entry is made.

    Raises: DataError when the cache cannot be written.
    """
    entry = cache_root() / kind / hashlib.sha256(key.encode()).hexdigest()[:32]
    if entry.is_dir():
        return entry
    try:
        _make(entry, make)
    except OSError as error:
        if not str(error.filename or "").startswith(str(cache_root())):
            raise
        raise DataError(
            f"the cache {cache_root()} cannot be written ({error.strerror}).\n"
            f"Make room there, or name another folder in {VARIABLE}."
        ) from error
    return entry


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(entry.parent)
    fresh = Path(tempfile.mkdtemp(prefix=_MAKING, dir=entry.parent))
    try:
        make(fresh)
        fresh.chmod(0o755)  # mkdtemp's is for its owner only; a cache may be shared
        try:
            fresh.rename(entry)
        except OSError:
            if not entry.is_dir():  # not merely made by another process meanwhile
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left behind; nothing takes a day to make."""
    for leftover in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):  # another process may be removing it too
            if time.time() - leftover.stat().st_mtime > _DAY:
                shutil.rmtree(leftover, ignore_errors=True)
