"""Where what can be computed again is kept, each entry complete or not there at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "FER_BENCH_CACHE"


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
    """
    entry = cache_root() / kind / hashlib.sha256(key.encode()).hexdigest()[:32]
    if entry.is_dir():
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".making-", dir=entry.parent))
    try:
        make(fresh)
        try:
            fresh.rename(entry)
        except OSError:
            if not entry.is_dir():  # not merely made by another process meanwhile
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return entry
