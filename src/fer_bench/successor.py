"""A run that is trained anew grows beside the one that it replaces, and then takes its place.

    <outputs>/.fresh/<run_id>      the successor, until its first save point; afterwards, for a
                                   moment, what is left of the predecessor
    <outputs>/.replaced/<run_id>   the predecessor, between the two renames

Neither is found by what looks for `<outputs>/*/run.json`. The process that trains holds the lock
of the successor too. What nobody holds is of a process that was killed: `settle` finishes or undoes
what it was about.
"""

import contextlib
import shutil
from pathlib import Path

from fer_bench.locks import LOCK, is_locked

_FRESH = ".fresh"
_REPLACED = ".replaced"


def beside(run: Path) -> Path:
    """Where the successor of the run in the folder `run` grows."""
    return run.parent / _FRESH / run.name


def outputs_of(run: Path) -> Path:
    """The folder of all runs, for the folder of one that may grow beside another."""
    return run.parent.parent if run.parent.name == _FRESH else run.parent


def _aside(run: Path) -> Path:
    return run.parent / _REPLACED / run.name


def take_place(run: Path) -> None:
    """Put what grew beside the folder `run` in its place, and remove what was there.

    Raises:
        OSError: it cannot be moved; `run` is as before.
    """
    fresh, replaced = beside(run), _aside(run)
    replaced.parent.mkdir(exist_ok=True)
    run.rename(replaced)
    try:
        fresh.rename(run)
    except BaseException:
        if not run.exists():
            replaced.rename(run)
            _remove_empty(replaced.parent)
        raise
    _remove_replaced(run)


def discard(run: Path) -> None:
    """Remove what grew beside the folder `run`, and did not take its place."""
    fresh = beside(run)
    _remove(fresh)
    _remove_empty(fresh.parent)


def is_replaced(run: Path) -> bool:
    """Whether a living process trains a successor of the folder `run`."""
    return is_locked(beside(run) / LOCK)


def settle(run: Path) -> None:
    """Finish or undo what a killed process was about; leave alone what a living one is.

    Afterwards the folder `run` holds the predecessor as it was, or the successor with a save point,
    and nothing lies beside it.
    """
    fresh, replaced = beside(run), _aside(run)
    if not (fresh.exists() or replaced.exists()) or is_replaced(run):
        return
    if replaced.exists() and not run.exists():
        (fresh if fresh.exists() else replaced).rename(run)
    discard(run)
    if replaced.exists():
        _remove_replaced(run)


def settle_all(outputs: Path) -> None:
    """Settle every run below `outputs`; where they can only be read, they stay as they are."""
    for folder in (_FRESH, _REPLACED):
        for path in sorted((outputs / folder).glob("*")):
            with contextlib.suppress(OSError):
                settle(outputs / path.name)


def _remove_replaced(run: Path) -> None:
    """Remove the predecessor. What is half removed is never found under a name that is restored."""
    fresh, replaced = beside(run), _aside(run)
    with contextlib.suppress(OSError):  # the next command tries again
        replaced.rename(fresh)
        discard(run)
    _remove_empty(replaced.parent)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
