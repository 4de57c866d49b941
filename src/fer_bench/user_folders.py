"""Folders of the user, and what takes their place where they cannot be written.

In a container, a user may have no name, a home that is `/` or read-only, or none at all.
"""

import os
import stat
import tempfile
from pathlib import Path


def home() -> Path | None:
    """The user's home; None for a user that has none."""
    try:
        return Path.home()
    except RuntimeError:  # `HOME` is not set, and the system does not know the user
        return None


def xdg_folder(variable: str, usual: str) -> Path | None:
    """A folder of the XDG base directories: `$XDG_CACHE_HOME`, or `~/.cache`; None without home."""
    if named := os.environ.get(variable):
        return Path(named)
    at_home = home()
    return at_home / usual if at_home else None


def nearest_existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))  # noqa: PTH110 - False where it may not look


def can_write(folder: Path) -> bool:
    """Whether files can be created in `folder`, which need not exist yet."""
    nearest = nearest_existing(folder)
    effective = os.access in os.supports_effective_ids
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK, effective_ids=effective)


def has_temporary_folder() -> bool:
    """Whether some folder for temporary files can be written: `$TMPDIR`, or one of the system."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def folder_of_our_own() -> Path | None:
    """`fer-bench-<user id>` in the folder of temporary files, for this user alone.

    None where there is no folder for temporary files, or another user has taken the name.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"fer-bench-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return folder if is_ours else None
