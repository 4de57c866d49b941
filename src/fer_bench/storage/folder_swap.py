"""A folder that takes the place of another one when it is complete, and not before.

Whenever the process stops, the place holds the old files or the new ones. What a killed process
left behind is put right at the next call for the same place.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fer_bench.errors import DataError

# Of renameat2(2) in Linux: paths are relative to the working directory; exchange both.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def replacing(root: Path, *, wait: bool = False) -> Iterator[Path]:
    """A new, empty folder beside `root` that becomes `root` when the block ends without an error.

    Whether `root` may be replaced is for the block to check, since another process may just have
    made it.

    Args:
        root: the place; a link to it stays a link.
        wait: let another process that makes the same folder finish first, instead of refusing.

    Raises:
        DataError: another process makes the same folder.
        OSError: the folder cannot be made there.
    """
    root = root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    with _alone(root, wait):
        _clear_leftovers(root)
        fresh = _beside(root, "unpacking")
        put_in_place = _swap if _is_occupied(root) else Path.rename
        try:
            fresh.mkdir()
            yield fresh
            # What was free is not replaced: renaming fails if somebody else has filled it since.
            put_in_place(fresh, root)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def check_place(root: Path, source: Path | None = None) -> None:
    """Replacing deletes: a mistyped `--root data` must not take the download along.

    Raises: DataError when `source`, which `root` is made from, or the working directory lies in it.
    """
    for inside in (source, Path.cwd()):
        if inside is not None and inside.resolve().is_relative_to(root.resolve()):
            raise DataError(
                f"{root}: cannot be replaced, because {inside.resolve()} lies inside it.\n"
                "Give a folder of its own with --root."
            )


def check_vacant(root: Path, force: bool) -> None:
    """Raises: DataError when `root` is a file, or holds something and `force` is not given."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: expected a folder, found a file.\nGive another --root.")
    if _is_occupied(root) and not force:
        raise DataError(
            f"{root}: the folder is there already and is not empty.\n"
            "Use --force to replace it, or give another --root."
        )


def _is_occupied(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


@contextlib.contextmanager
def _alone(root: Path, wait: bool) -> Iterator[None]:
    """Keep two processes from making one folder; the lock vanishes with its process."""
    path = _beside(root, "lock")
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataError(
                    f"{root}: another process is making this folder.\nWait for it to end."
                ) from error
            with contextlib.suppress(FileNotFoundError):  # else its last owner removed the file
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _beside(root: Path, purpose: str) -> Path:
    return root.with_name(f".{root.name}.{purpose}")


def _clear_leftovers(root: Path) -> None:
    """Undo what a killed process left behind; the lock is held, so nobody else is at work."""
    replaced = _beside(root, "replaced")
    if replaced.exists() and not root.exists():
        replaced.rename(root)
    for leftover in (replaced, _beside(root, "unpacking")):
        if leftover.exists():
            shutil.rmtree(leftover)


def _swap(fresh: Path, root: Path) -> None:
    """Make the complete folder `fresh` the folder `root`; on failure, `root` is as before."""
    try:
        _exchange(fresh, root)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise
        _swap_in_two_steps(fresh, root)


def _exchange(first: Path, second: Path) -> None:
    """Let two folders trade places, at once. Raises: OSError, with ENOSYS on other systems."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (os.fsencode(first), os.fsencode(second))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))


def _swap_in_two_steps(fresh: Path, root: Path) -> None:
    """`_exchange` where a file system cannot; a kill in between is undone at the next call."""
    replaced = _beside(root, "replaced")
    root.rename(replaced)
    try:
        fresh.rename(root)
    except BaseException:
        replaced.rename(root)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
