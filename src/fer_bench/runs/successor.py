"""A run that is trained anew grows beside the one that it replaces, and then takes its place.

    <outputs>/.replacing-<run_id>/<run_id>   the successor, until its first save point; afterwards,
                                             for a moment, what is left of the predecessor
    <outputs>/.replacing-<run_id>/before     the predecessor, between the two renames

Neither is found by what looks for `<outputs>/*/run.json`. The process that trains holds the lock
of the successor too. What nobody holds is of a process that was killed: `settle` finishes or undoes
what it was about.
"""

import contextlib
import shutil
from pathlib import Path

from fer_bench.storage import replacement
from fer_bench.storage.locks import LOCK, is_locked

_PREFIX = ".replacing-"


def beside(run: Path) -> Path:
    """Where the successor of the run in the folder `run` grows."""
    return run.parent / f"{_PREFIX}{run.name}" / run.name


def outputs_of(run: Path) -> Path:
    """The folder of all runs, for the folder of one that may grow beside another."""
    return run.parent.parent if run.parent.name.startswith(_PREFIX) else run.parent


def is_replaced(run: Path) -> bool:
    """Whether a living process trains a successor of the folder `run`."""
    return is_locked(beside(run) / LOCK)


def take_place(run: Path) -> None:
    """Put what grew beside the folder `run` in its place, and remove what was there.

    Raises:
        OSError: it cannot be moved; `run` is as before.
    """
    replacement.take_place(beside(run), run, _before(run))
    with contextlib.suppress(OSError):  # the next command tries again
        _remove_predecessor(run)


def discard(run: Path) -> None:
    """Remove what grew beside the folder `run`, and did not take its place."""
    _remove(beside(run))
    with contextlib.suppress(OSError):  # the predecessor is there still
        beside(run).parent.rmdir()


def settle(run: Path) -> None:
    """Finish or undo what a killed process was about; leave alone what a living one is.

    Afterwards the folder `run` holds the predecessor as it was, or the successor with a save point,
    and nothing lies beside it.
    """
    fresh, before = beside(run), _before(run)
    if not fresh.parent.exists() or is_replaced(run):
        return
    if before.exists():
        replacement.put_back(run, fresh, before)
    discard(run)
    if before.exists():
        _remove_predecessor(run)


def settle_all(outputs: Path) -> None:
    """Settle every run below `outputs`; where they can only be read, they stay as they are."""
    for path in sorted(outputs.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            settle(outputs / path.name.removeprefix(_PREFIX))


def _before(run: Path) -> Path:
    return beside(run).with_name("before")


def _remove_predecessor(run: Path) -> None:
    """What is half removed must not lie where it would be put back."""
    _before(run).rename(beside(run))
    discard(run)


def _remove(folder: Path) -> None:
    if folder.is_symlink():  # somebody keeps his runs on another disk
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
