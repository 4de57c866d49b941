"""File permissions that also apply when the tests run as root."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def forbidden(path: Path, inside: Path) -> Iterator[None]:
    """Make `path` inaccessible, and `inside` the current folder, for the duration of the context.

    Root becomes the user `nobody`, who may not enter the folders above `inside` either: use
    relative paths.
    """
    before, user, mode = Path.cwd(), os.geteuid(), path.stat().st_mode
    inside.chmod(0o755)
    path.chmod(0)
    os.chdir(inside)
    try:
        if user == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(user)
        os.chdir(before)
        path.chmod(mode)
