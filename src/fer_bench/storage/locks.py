"""Which process works on what: locks of the kernel, which vanish with their process.

This is the only module that calls `flock`. The locked file stays (`held`), exists only while it is
locked (`temporary_lock`), or is being written (`created_locked`).
"""

import contextlib
import enum
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fer_bench.errors import FerError

LOCK = "lock"  # the file in a folder that one process at a time works in
# The errors of `flock` on a file system without locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Lock(enum.Enum):
    """The outcome of asking for a lock."""

    OURS = enum.auto()
    BUSY = enum.auto()
    NONE = enum.auto()  # this file system has no locks


def ask(descriptor: int, *, wait: bool = False) -> Lock:
    """Ask for the lock on an open file, which is released when its last copy is closed.

    Processes that inherit the descriptor hold the lock too.

    Raises: OSError when asking fails for any other reason.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return Lock.BUSY
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return Lock.NONE
    return Lock.OURS


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


# Locks on files that stay -----------------------------------------------------------------------


@contextlib.contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock on a file, which names this process meanwhile.

    Args:
        path: the file; it stays.
        wait: let another process finish first, instead of refusing.

    Raises:
        BusyError: another process holds it, or the file system has no locks.
        OSError: the file cannot be opened.
    """
    with path.open("a+", encoding="utf-8") as file:
        lock = ask(file.fileno(), wait=wait)
        if lock is Lock.NONE:
            raise BusyError("an unknown process (this file system has no locks)")
        if lock is Lock.BUSY:
            raise BusyError(read_holder(path))
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


class BusyError(FerError):
    """Another process holds a lock, or it is not known whether one does.

    Attributes:
        holder: that process, as it names itself.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"locked by {holder}.\nWait for it to end.")
        self.holder = holder


def read_holder(path: Path) -> str:
    """The process that holds a lock, as it has named itself in the file."""
    return path.read_text(encoding="utf-8").strip() or "another process"


# Locks on files that are removed with them ------------------------------------------------------


def say_nothing() -> None:
    """Do nothing: to wait for a lock without a message."""


@contextlib.contextmanager
def temporary_lock(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[Lock]:
    """Ask for the lock on a file that exists only while it is locked.

    Args:
        path: the file; its folder is made.
        on_wait: called once before waiting for another process; None: do not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, lock = _acquire(path, on_wait)
    try:
        yield lock
    finally:
        if lock is Lock.OURS and _is_open(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], object] | None) -> tuple[int, Lock]:
    """An open file, and the outcome of asking for its lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock = ask(descriptor)
            if lock is Lock.BUSY and on_wait:
                on_wait()
                on_wait = say_nothing
                lock = ask(descriptor, wait=True)
            # The holder removes the file before it lets go: a lock on that one keeps nobody out.
            if lock is not Lock.OURS or _is_open(path, descriptor):
                return descriptor, lock
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_open(path: Path, descriptor: int) -> bool:
    """Whether `path` still is the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


# Locks on files that are being written ----------------------------------------------------------


@contextlib.contextmanager
def created_locked(path: Path) -> Iterator[IO[bytes]]:
    """A new, empty file that is locked while it is open, so that others do not remove it."""
    while True:
        with path.open("wb") as file:
            ask(file.fileno(), wait=True)
            # Before the lock was ours, another process may have found the file unlocked and
            # removed it.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def remove_unlocked(path: Path) -> None:
    """Remove a file that no process has locked; one that cannot be locked or removed stays."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if ask(file.fileno()) is Lock.OURS:
            path.unlink()


def is_alive(process: int) -> bool:
    """Whether a process of this machine has this number; no process has 0."""
    if not process:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
