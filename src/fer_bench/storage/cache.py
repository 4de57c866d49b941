"""The cache of everything that can be computed again; an entry is complete or does not exist.

`<root>/<kind>/<name>/` is an entry: the files of its maker, and `entry.json`. The modification time
of that folder is its last use. Names with a leading dot are work in progress, or leftovers of it.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fer_bench.errors import DataError
from fer_bench.storage.files import read_json, synchronise, write_out
from fer_bench.storage.locks import Lock, say_nothing, temporary_lock
from fer_bench.user_folders import can_write, folder_of_our_own, xdg_folder

VARIABLE = "FER_BENCH_CACHE"
_logger = logging.getLogger(__name__)

# The kinds that `make_room` removes. The files of other kinds may be read one by one during a run.
ARRAYS = ("images", "trunk")

_ENTRY_JSON = "entry.json"

_MAKING, _REMOVING = ".making-", ".removing-"

_NAME = re.compile(r"[0-9a-f]{32}")

_MADE_BY = re.compile(rf"{re.escape(_MAKING)}([0-9a-f]{{32}})-\w+")

_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Filling:
    """An entry that exists, or that is being made.

    Attributes:
        path: the folder of the entry; while `fresh` is a folder, it does not exist yet.
        fresh: an empty folder to fill; None when the entry exists.
    """

    path: Path
    fresh: Path | None


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: the sort of entry.
        path: its folder.
        bytes: the total size of its files.
        used: when it was made or last found, in seconds since 1970.
        note: what its maker noted; empty for entries of older versions.
    """

    kind: str
    path: Path
    bytes: int
    used: float
    note: dict[str, Any]


def cache_root() -> Path:
    """`$FER_BENCH_CACHE`, or `fer-bench` in the user's cache folder (XDG base directories).

    Where the latter cannot be written, it is a folder for temporary files, which a message names.

    Raises: DataError when there is no folder for it.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    usual = xdg_folder("XDG_CACHE_HOME", ".cache")
    if usual and can_write(usual / "fer-bench"):
        return usual / "fer-bench"
    return _elsewhere(str(usual / "fer-bench" if usual else "~/.cache/fer-bench"))


def _elsewhere(usual: str) -> Path:
    """The folder that is used instead of the usual one, from now on and in started processes."""
    own = folder_of_our_own()
    if own is None:
        raise DataError(
            f"the cache {usual} cannot be written, nor can the folder for temporary files.\n"
            f"Name a folder for temporary files in TMPDIR, or one for the cache in {VARIABLE}."
        )
    root = own / "cache"
    _logger.warning(
        "%s: cannot be written, so the cache is in %s; name another folder in %s",
        *(usual, root, VARIABLE),
    )
    os.environ[VARIABLE] = str(root)
    return root


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of one entry, filled by `make` if it does not exist yet.

    `make` fills an empty folder, which becomes the entry in one step, so that a killed process
    leaves no partial entry. If two processes want the same entry, one of them makes it.

    Args:
        kind: the sort of entry, a folder of the cache.
        key: everything that the content depends on.
        make: fills the folder; its exceptions pass through, and no entry is made.

    Raises: DataError when the cache cannot be written.
    """
    with filling(kind, key) as entry:
        if entry.fresh:
            make(entry.fresh)
    return entry.path


@contextlib.contextmanager
def filling(
    kind: str,
    key: str,
    note: Mapping[str, Any] | None = None,
    on_wait: Callable[[], object] | None = None,
) -> Iterator[Filling]:
    """One entry: found, or to be filled inside the `with` block and put in place at its end.

    An exception in the block leaves no entry. While one process fills an entry, others that want it
    wait, and then find it; where the file system has no locks, all fill it and the first to finish
    wins. To fill several entries at once, take them in sorted order of (kind, key): otherwise two
    processes could wait for each other.

    A found entry may be removed at any time: make it again if its files cannot be opened.

    Args:
        kind: the sort of entry, a folder of the cache.
        key: everything that the content depends on.
        note: JSON that describes the entry to a user.
        on_wait: called once before waiting for another process.

    Raises: DataError when the cache cannot be written.
    """
    path = _path(kind, key)
    if not _found(path):
        with _explained(), temporary_lock(_lock_of(path), on_wait or say_nothing) as lock:
            if not _found(path):  # another process may have made it meanwhile
                path.parent.mkdir(parents=True, exist_ok=True)
                _clear_leftovers(path.parent, held=path.name if lock is Lock.OURS else "")
                with _fresh(path, {"key": key, "note": dict(note or {})}) as fresh:
                    yield Filling(path, fresh)
                return
    yield Filling(path, None)


def existing(kind: str, key: str) -> Path | None:
    """The folder of the entry of this kind and key; None where there is none."""
    path = _path(kind, key)
    return path if _found(path) else None


def entries(kinds: Collection[str] | None = None) -> list[Entry]:
    """The complete entries, all or of some kinds, least recently used first."""
    found = []
    for folder in _folders(kinds):
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name) and (used := _last_use(path)) is not None:
                found.append(Entry(folder.name, path, _size(path), used, _note(path)))
    return sorted(found, key=lambda entry: (entry.used, entry.path))


def known_kinds() -> list[str]:
    """The kinds that this cache has or has had, and those of `ARRAYS`, sorted."""
    return sorted({*ARRAYS, *(folder.name for folder in _folders(None))})


def unfinished(kinds: Collection[str] | None = None) -> list[Path]:
    """The folders that are being filled, or that a killed process was filling."""
    return sorted(path for folder in _folders(kinds) for path in folder.glob(f"{_MAKING}*"))


def remove(path: Path) -> bool:
    """Remove an entry in one step; False if it no longer exists.

    A process that has mapped one of its files keeps that file's pages.

    Raises: OSError when the folder cannot be moved.
    """
    try:
        aside = Path(tempfile.mkdtemp(prefix=_REMOVING, dir=path.parent))
    except FileNotFoundError:
        return False
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def clear(kinds: Collection[str] | None = None) -> list[Entry]:
    """Remove all entries, or those of some kinds, and the leftovers of killed processes.

    Entries that a process is making right now stay; see `unfinished`.

    Returns: the removed entries.

    Raises: OSError when a folder cannot be moved.
    """
    removed = [entry for entry in entries(kinds) if remove(entry.path)]
    for folder in _folders(kinds):
        _clear_leftovers(folder)
    return removed


def make_room(needed: int, limit: int, keep: Collection[Path] = ()) -> list[Entry]:
    """Remove the least recently used entries of `ARRAYS` until there is enough room.

    Nothing is removed if that cannot succeed: if the needed and the kept bytes exceed the limit.

    Args:
        needed: bytes about to be added.
        limit: bytes that all entries of `ARRAYS` may have in total, including the new ones.
        keep: folders of entries that stay.

    Returns: the removed entries.

    Raises: OSError when a folder cannot be moved.
    """
    stored = entries(ARRAYS)
    kept = sum(entry.bytes for entry in stored if entry.path in keep)
    total = needed + sum(entry.bytes for entry in stored)
    removed: list[Entry] = []
    if needed + kept > limit:
        return removed
    for entry in stored:
        if total <= limit:
            break
        if entry.path in keep or (_last_use(entry.path) or 0) > entry.used:
            continue  # needed here, or used by another process since the entries were listed
        if remove(entry.path):
            removed.append(entry)
        total -= entry.bytes  # also if another process has removed it
    return removed


def _path(kind: str, key: str) -> Path:
    return cache_root() / kind / hashlib.sha256(key.encode()).hexdigest()[:32]


def _lock_of(entry: Path) -> Path:
    """The file whose lock a process holds while it makes an entry."""
    return entry.parent.parent / ".locks" / f"{entry.parent.name}-{entry.name}.lock"


def _folders(kinds: Collection[str] | None) -> list[Path]:
    """The existing folders of some kinds, or of all."""
    root = cache_root()
    if not root.is_dir():
        return []
    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith(".") and (kinds is None or path.name in kinds)
    ]


def _found(path: Path) -> bool:
    """Whether the entry exists; if so, this counts as a use."""
    if not path.is_dir():
        return False
    with contextlib.suppress(OSError):  # the cache may be read-only
        os.utime(path)
    return True


def _last_use(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return None


def _size(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process may be removing it
                size += (Path(parent) / name).lstat().st_size
    return size


def _note(path: Path) -> dict[str, Any]:
    try:
        note = read_json(path / _ENTRY_JSON)["note"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # only a description: the entry is usable without it
    return note if isinstance(note, dict) else {}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the file system about the cache into a DataError."""
    try:
        yield
    except OSError as error:
        if not _is_of_the_cache(error.filename):
            raise
        raise DataError(
            f"the cache {cache_root()} cannot be written ({error.strerror}).\n"
            f"Make room there, or name another folder in {VARIABLE}."
        ) from error


def _is_of_the_cache(filename: Any) -> bool:
    """Whether a path is in the cache, or is a folder above it, which could not be made."""
    path, root = Path(os.fsdecode(filename or "")), cache_root()
    return bool(filename) and (path.is_relative_to(root) or root.is_relative_to(path))


# Making ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _fresh(entry: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """An empty folder that becomes the entry at the end, unless an exception is raised."""
    fresh = Path(tempfile.mkdtemp(prefix=f"{_MAKING}{entry.name}-", dir=entry.parent))
    try:
        yield fresh
        about = {**about, "made": datetime.now(UTC).isoformat(timespec="seconds")}
        (fresh / _ENTRY_JSON).write_text(json.dumps(about, indent=2), encoding="utf-8")
        fresh.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        write_out(fresh)  # before the renaming, so that a power cut leaves no half of an entry
        try:
            fresh.rename(entry)
        except OSError:
            if not entry.is_dir():  # where locks do not work, another process may have made it
                raise
        synchronise(entry.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _clear_leftovers(folder: Path, held: str = "") -> None:
    """Remove the leftovers of killed processes in the folder of a kind.

    Args:
        folder: the folder of the kind.
        held: the name of the entry whose lock this process holds, if any.
    """
    for leftover in folder.glob(f"{_REMOVING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):  # another process may be removing it too
            _clear_if_left(leftover, held)


def _clear_if_left(making: Path, held: str) -> None:
    """Remove a folder that no process is filling any longer."""
    named = _MADE_BY.fullmatch(making.name)
    if named and named[1] == held:
        shutil.rmtree(making, ignore_errors=True)
        return
    # Older versions did not name the entry, and held no lock. No entry takes a day to make.
    entry = making.with_name(named[1]) if named else None
    with temporary_lock(_lock_of(entry)) if entry else contextlib.nullcontext(Lock.NONE) as lock:
        is_old = time.time() - making.stat().st_mtime > _DAY
        if lock is Lock.OURS or (lock is Lock.NONE and is_old):
            shutil.rmtree(making, ignore_errors=True)
