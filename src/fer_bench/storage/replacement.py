"""Replacing files and folders: after a failure or a kill everything is old, or everything is new.

New content is written into a hidden folder beside the old one, which the process holds locked. One
renaming decides. What a killed process has left is settled at the next call for the same place:
undone before that renaming, finished after it.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fer_bench.errors import DataError
from fer_bench.storage.files import target
from fer_bench.storage.locks import (
    LOCK,
    Lock,
    created_locked,
    is_locked,
    say_nothing,
    temporary_lock,
)

# Of renameat2(2) in Linux: paths are relative to the working directory; exchange both.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


# Files that change together ---------------------------------------------------------------------

PENDING, COMPLETE = ".pending-", ".complete-"
# A folder that nobody needs: not locked yet, or being removed. Whoever finds one may remove it.
DISCARDED = ".discarded-"
_NEW, _OLD = "new", "old"


@contextlib.contextmanager
def replaced_files(folder: Path) -> Iterator[Path]:
    """A folder to write into; at the end the files in it take the same places below `folder`.

    Where the block or the replacement fails, everything in `folder` stays as it was.
    """
    settle_files(folder)
    with working_folder(folder, PENDING) as staged:
        (staged / _NEW).mkdir()
        yield staged / _NEW
        _keep_old(staged, folder)
        complete = staged.rename(folder / staged.name.replace(PENDING, COMPLETE))
        try:
            _put_in_place(complete, folder)
        finally:
            discard(complete)


def settle_files(folder: Path) -> None:
    """Finish or undo what killed processes have left of `replaced_files` in `folder`."""
    for complete in abandoned(folder, COMPLETE):
        _put_in_place(complete, folder)
        discard(complete)
    for pending in abandoned(folder, PENDING):
        discard(pending)


def _files(folder: Path) -> list[Path]:
    """The files in `folder` at any depth, relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _keep_old(staged: Path, folder: Path) -> None:
    """Copy what will be replaced: there is room for it, or nothing begins."""
    for name in _files(staged / _NEW):
        if (folder / name).exists():
            (staged / _OLD / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, staged / _OLD / name)


def _put_in_place(complete: Path, folder: Path) -> None:
    new, moved = complete / _NEW, []
    try:
        for name in _files(new):
            moved.append(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(folder / name)
    except BaseException:
        for name in moved:
            _put_back(name, complete, folder)
        raise


def _put_back(name: Path, complete: Path, folder: Path) -> None:
    """Undo one replacement. Its new file goes back, so that after a kill all can still be moved."""
    if not (complete / _NEW / name).exists():
        (folder / name).replace(complete / _NEW / name)
        if (complete / _OLD / name).exists():
            (complete / _OLD / name).replace(folder / name)


@contextlib.contextmanager
def working_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, held by this process and removed at the end."""
    with contextlib.ExitStack() as stack:
        folder = _make_locked(parent, prefix, stack)
        try:
            yield folder
        finally:
            discard(folder)


def _make_locked(parent: Path, prefix: str, stack: contextlib.ExitStack) -> Path:
    """A new folder that is locked before it has its name: whoever finds it, finds it locked."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=DISCARDED, dir=parent))
        try:
            stack.enter_context(created_locked(made / LOCK))
            return made.rename(made.with_name(made.name.replace(DISCARDED, prefix, 1)))
        except FileNotFoundError:  # another process took it for one that nobody needs
            continue


def discard(folder: Path) -> None:
    """Remove a folder of `working_folder`, so that a kill leaves nothing that looks complete."""
    with contextlib.suppress(OSError):
        folder = folder.rename(folder.with_name(f"{DISCARDED}{folder.name}"))
    shutil.rmtree(folder, ignore_errors=True)


def abandoned(parent: Path, prefix: str) -> list[Path]:
    """The folders of `working_folder` that killed processes left. Removes discarded ones."""
    for folder in parent.glob(f"{DISCARDED}*"):
        shutil.rmtree(folder, ignore_errors=True)
    found = sorted(parent.glob(f"{prefix}*"))
    return [folder for folder in found if (folder / LOCK).exists() and not is_locked(folder / LOCK)]


# A whole folder ---------------------------------------------------------------------------------


@contextlib.contextmanager
def replaced_folder(root: Path, *, wait: bool = False) -> Iterator[Path]:
    """A new, empty folder beside `root` that becomes `root` when the block ends without an error.

    Whether `root` may be replaced is for the block to check, since another process may just have
    made it.

    Args:
        root: the place; a link to it stays a link.
        wait: let another process that makes the same folder finish first, instead of refusing.

    Raises:
        DataError: another process makes the same folder, or the file system has no locks.
        OSError: the folder cannot be made there.
    """
    root = target(root)
    fresh, before = _beside(root, "unpacking"), _beside(root, "replaced")
    with _only_process(root, wait):
        put_back(root, before)
        for leftover in (before, fresh):
            if leftover.exists():
                shutil.rmtree(leftover)
        is_free = not _is_occupied(root)
        try:
            fresh.mkdir()
            yield fresh
            # What was free is not replaced: renaming fails if another process has filled it since.
            if is_free:
                fresh.rename(root)
            else:
                _swap(fresh, root, before)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def check_place(root: Path, source: Path | None = None) -> None:
    """Replacing deletes: a mistyped `--root data` must not delete the download.

    Raises: DataError when `source`, which `root` is made from, or the working directory is in it.
    """
    for inside in (source, Path.cwd()):
        if inside is not None and target(inside).is_relative_to(target(root)):
            raise DataError(
                f"{root}: cannot be replaced, because {target(inside)} lies inside it.\n"
                "Give a folder of its own with --root."
            )


def check_vacant(root: Path, force: bool) -> None:
    """Raises: DataError when `root` is a file, or is not empty and `force` is not given."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: expected a folder, found a file.\nGive another --root.")
    if _is_occupied(root) and not force:
        raise DataError(
            f"{root}: the folder exists and is not empty.\n"
            "Use --force to replace it, or give another --root."
        )


def _is_occupied(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


@contextlib.contextmanager
def _only_process(root: Path, wait: bool) -> Iterator[None]:
    """Keep two processes from making one folder."""
    with temporary_lock(_beside(root, LOCK), say_nothing if wait else None) as lock:
        if lock is Lock.BUSY:
            raise DataError(f"{root}: another process is making this folder.\nWait for it to end.")
        if lock is Lock.NONE:
            raise DataError(
                f"{root}: this file system has no locks, so another process may be making the "
                "same folder.\nGive a --root on another disk."
            )
        yield


def _beside(root: Path, purpose: str) -> Path:
    return root.with_name(f".{root.name}.{purpose}")


def _swap(fresh: Path, root: Path, before: Path) -> None:
    """Make the complete folder `fresh` the folder `root`; on failure, `root` is as before."""
    try:
        _exchange(fresh, root)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise
        take_place(fresh, root, before)
        shutil.rmtree(before, ignore_errors=True)


def _exchange(first: Path, second: Path) -> None:
    """Let two folders trade places, at once. Raises: OSError, with ENOSYS on other systems."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (os.fsencode(first), os.fsencode(second))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))


# Two renamings, for what cannot be exchanged at once --------------------------------------------


def take_place(fresh: Path, place: Path, before: Path) -> None:
    """Move the folder `place` to `before` and `fresh` to `place`.

    A kill in between leaves no `place`, which `put_back` puts right.

    Raises:
        OSError: they cannot be moved; `place` is as it was.
    """
    place.rename(before)
    try:
        fresh.rename(place)
    except BaseException:
        put_back(place, before)
        raise


def put_back(place: Path, *candidates: Path) -> None:
    """Where a kill has left no folder `place`, move the first of `candidates` there."""
    if not place.exists():
        found = next((path for path in candidates if path.exists()), None)
        if found:
            found.rename(place)
