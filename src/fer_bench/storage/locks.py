"""Who is writing what: locks of the kernel, which end with their process, however it ends."""

import contextlib
import enum
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

LOCK = "lock"  # the file in a folder that one process at a time works in
# What `flock` says on a file system that knows no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_LOCKS = ".locks"  # the folder of those on entries of the cache


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on a file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextlib.contextmanager
def created_locked(path: Path) -> Iterator[IO[bytes]]:
    """A new, empty file that is locked for as long as it is open; it tells others to leave it."""
    while True:
        with path.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            # Before the lock was ours, somebody may have found the file unlocked and removed it.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def remove_unlocked(path: Path) -> None:
    """Remove a file that no process has locked; one that cannot be locked or removed stays."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def is_alive(process: int) -> bool:
    """Whether a process of this machine has this number; 0 is that of none."""
    if not process:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


class Lock(enum.Enum):
    """What came of asking for a lock."""

    OURS = enum.auto()
    BUSY = enum.auto()
    NONE = enum.auto()  # this file system has no locks


def say_nothing() -> None:
    """Do nothing: to wait for a lock without a word."""


@contextlib.contextmanager
def asked_lock(entry: Path, wait: Callable[[], object] | None = None) -> Iterator[Lock]:
    """Ask for the lock on making an entry, which vanishes with the process, however it ends.

    Args:
        entry: its folder.
        wait: called once before waiting for another process; None: do not wait.
    """
    path = entry.parent.parent / _LOCKS / f"{entry.parent.name}-{entry.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, lock = _acquire(path, wait)
    try:
        yield lock
    finally:
        if lock is Lock.OURS and _is_open(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, wait: Callable[[], object] | None) -> tuple[int, Lock]:
    """An open file, which its closing unlocks, and what came of asking for the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock = _ask(descriptor, fcntl.LOCK_NB)
            if lock is Lock.BUSY and wait:
                wait()
                wait = say_nothing
                lock = _ask(descriptor, 0)
            # The holder removes the file before it lets go: a lock on that one keeps nobody out.
            if lock is not Lock.OURS or _is_open(path, descriptor):
                return descriptor, lock
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _ask(descriptor: int, flags: int) -> Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        return Lock.BUSY
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return Lock.NONE
    return Lock.OURS


def _is_open(path: Path, descriptor: int) -> bool:
    """Whether `path` still is the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
