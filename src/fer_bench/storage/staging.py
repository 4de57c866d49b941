"""Files that change together: after a failure or a kill all of them are old, or all are new.

They are written into a hidden folder first. Renaming that folder decides: before, whoever finds it
left behind throws it away; after, whoever finds it moves the files to their places.
"""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fer_bench.storage.locks import LOCK, is_locked

PENDING, COMPLETE = ".pending-", ".complete-"
_NEW, _OLD = "new", "old"


@contextlib.contextmanager
def replaced_together(folder: Path) -> Iterator[Path]:
    """A folder to write into; at the end the files in it take the same places below `folder`.

    Where the block or the replacing fails, everything in `folder` stays as it was.
    """
    finish_replacing(folder)
    with working_folder(folder, PENDING) as staged:
        (staged / _NEW).mkdir()
        yield staged / _NEW
        _keep_old(staged, folder)
        complete = staged.rename(folder / staged.name.replace(PENDING, COMPLETE))
        try:
            _put_in_place(complete, folder)
        finally:
            shutil.rmtree(complete, ignore_errors=True)


def finish_replacing(folder: Path) -> None:
    """Bring to an end what killed processes have left in `folder`, forwards or backwards."""
    for complete in abandoned(folder, COMPLETE):
        _put_in_place(complete, folder)
        shutil.rmtree(complete)
    for pending in abandoned(folder, PENDING):
        shutil.rmtree(pending)


def _files(folder: Path) -> list[Path]:
    """The files in `folder` at any depth, relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _keep_old(staged: Path, folder: Path) -> None:
    """Copy what will be replaced: there is room for it, or nothing is begun."""
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
    """Undo one replacing. Its new file goes back, so that after a kill all can still be moved."""
    if not (complete / _NEW / name).exists():
        (folder / name).replace(complete / _NEW / name)
        if (complete / _OLD / name).exists():
            (complete / _OLD / name).replace(folder / name)


# Hidden folders --------------------------------------------------------------------------------


@contextlib.contextmanager
def working_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, held by this process and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        # Held before it has its name: whoever finds the name must find it held.
        with (folder / f".{LOCK}").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            (folder / f".{LOCK}").rename(folder / LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(parent: Path, prefix: str) -> list[Path]:
    """The folders of `working_folder` that were left behind by processes which were killed."""
    found = sorted(parent.glob(f"{prefix}*"))
    return [folder for folder in found if _is_abandoned(folder)]


def _is_abandoned(folder: Path) -> bool:
    return (folder / LOCK).exists() and not is_locked(folder / LOCK)
