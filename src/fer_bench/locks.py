"""Who is writing what: locks of the kernel, which end with their process, however it ends."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOCK = "lock"  # the file in a folder that one process at a time works in
# What `flock` says on a file system that knows no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


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
