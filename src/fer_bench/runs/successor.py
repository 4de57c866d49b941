"""Which folder replaces which when a run is trained again with `--fresh`.

    <outputs>/.replacing-<run_id>/<run_id>   the successor, until its first checkpoint; then briefly
                                             the rest of the predecessor
    <outputs>/.replacing-<run_id>/before     the predecessor, between the two renamings

A search for `<outputs>/*/run.json` finds neither. The training process holds the lock of the
successor too. A successor without a lock was left by a killed process: `settle` finishes or undoes
the replacement.
"""

import contextlib
import shutil
from pathlib import Path

from fer_bench.storage import replacement
from fer_bench.storage.locks import LOCK, is_locked

_PREFIX = ".replacing-"


def beside(run: Path) -> Path:
    """The folder in which the successor of the run in the folder `run` is trained."""
    return run.parent / f"{_PREFIX}{run.name}" / run.name


def outputs_of(run: Path) -> Path:
    """The folder of all runs, given the folder of a run or of a successor."""
    return run.parent.parent if run.parent.name.startswith(_PREFIX) else run.parent


def is_replaced(run: Path) -> bool:
    """Whether a process is training a successor of the run in the folder `run`."""
    return is_locked(beside(run) / LOCK)


def take_place(run: Path) -> None:
    """Replace the run in the folder `run` with its successor.

    Raises:
        OSError: it cannot be moved; `run` is unchanged.
    """
    replacement.take_place(beside(run), run, _before(run))
    with contextlib.suppress(OSError):  # the next command tries again
        _remove_predecessor(run)


def discard(run: Path) -> None:
    """Remove the successor of the run in the folder `run`, which has not taken its place."""
    _remove(beside(run))
    with contextlib.suppress(OSError):  # the predecessor is still in it
        beside(run).parent.rmdir()


def settle(run: Path) -> None:
    """Finish or undo the replacement that a killed process has begun.

    Afterwards the folder `run` is the unchanged predecessor or the successor with a checkpoint, and
    there is nothing beside it. A successor in training is left alone.
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
    """Settle every run below `outputs`; read-only ones stay as they are."""
    for path in sorted(outputs.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            settle(outputs / path.name.removeprefix(_PREFIX))


def _before(run: Path) -> Path:
    return beside(run).with_name("before")


def _remove_predecessor(run: Path) -> None:
    """Remove the predecessor, first moving it from where `settle` would put it back."""
    _before(run).rename(beside(run))
    discard(run)


def _remove(folder: Path) -> None:
    if folder.is_symlink():  # a run that is kept on another disk
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
