"""Tests often run as root, whom no permissions hold."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def forbidden(path: Path, inside: Path) -> Iterator[None]:
    """Within, nobody may open `path`, and `inside` is the current folder.

    The folders above `inside` are closed too, so that only relative paths fail for that reason.
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
