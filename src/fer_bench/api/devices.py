"""What computes and what shows progress, for a program, a notebook and the command line."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from fer_bench import settings
from fer_bench.device import kernels
from fer_bench.device.kernels import Kernels
from fer_bench.device.workers import Workers
from fer_bench.display import Display, NoDisplay
from fer_bench.errors import DeviceError, RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.timing import timed

if TYPE_CHECKING:
    from fer_bench.device.selection import Device

Progress = Display | Literal[False] | None


def open_device(
    wanted: str,
    threads: int | None = None,
    workers: Workers | None = None,
    *,
    begun_with: Kernels | None = None,
    message: Callable[[str], None],
) -> "Device":
    """Import TensorFlow, without what it prints at import, and choose a device.

    Args:
        wanted: `auto`, `cpu`, `gpu` or `gpu:<index>`.
        threads: threads to compute with on the CPU; None for one per usable core.
        workers: the processes that train together.
        begun_with: the kernels of the run that is resumed, see `device.kernels`.
        message: receives each setting of the user that is not used.

    Raises:
        DeviceError: there is no such device, or this process has computed on others already.
    """
    from fer_bench.device.quiet import native_messages_hidden

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # of C++, only errors concern a user
    hidden = os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0"
    quiet = native_messages_hidden() if hidden else contextlib.nullcontext()
    if unused := kernels.choose(begun_with):
        message(unused)
    with timed("importing TensorFlow, opening the device"), quiet:
        from fer_bench.device import selection

        try:
            opened = selection.open_device(wanted, threads, workers)
        except RuntimeError as error:
            raise DeviceError(
                f"device {wanted}: TensorFlow has computed on other devices in this process "
                f"({error}).\n"
                "Restart Python (in a notebook, its kernel), or keep to one device."
            ) from error
    for line in settings.overridden():
        message(line)
    return opened


@contextlib.contextmanager
def open_display(progress: Progress, run: RunDirectory | None = None) -> Iterator[Display]:
    """The display that a user asked for.

    Args:
        progress: a display, which stays open; None for a table and curves in a notebook, a live
            line on a terminal and plain lines elsewhere; False for none.
        run: the run whose epochs are done already: a notebook shows them, too.
    """
    if progress is False:
        yield NoDisplay()
    elif progress is not None:
        yield progress
    else:
        with contextlib.closing(_usual_display(run)) as display:
            yield display


def _usual_display(run: RunDirectory | None) -> Display:
    if _is_notebook():
        from fer_bench.report.notebook import NotebookDisplay

        return NotebookDisplay(_one_output(), *(_earlier(run) if run else ()))

    from rich.console import Console

    from fer_bench.report.terminal import progress

    if "ipykernel" in sys.modules:  # where standard error is shown as if it were an error
        return progress.PlainDisplay(Console(file=sys.stdout, force_jupyter=False, width=80))
    return progress.open_display(Console(stderr=True))


def _is_notebook() -> bool:
    """Whether a kernel runs this process; IPython in a terminal has none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and "ipykernel" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _one_output() -> Callable[[dict[str, str]], None]:
    """A function that shows its argument as one output of the cell, in place of the one before."""
    display = importlib.import_module("IPython.display").display  # there in every kernel
    handle: Any = None

    def show(bundle: dict[str, str]) -> None:
        nonlocal handle
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show


def _earlier(run: RunDirectory) -> tuple[list[dict[str, Any]], int | None]:
    """The epochs that a run has made, and the best of them; none where they cannot be read."""
    try:
        rows = [epoch.to_row() for epoch in run.read_history()]
        best = run.read_record().best if rows else None
    except RunError:  # training reports it, or writes the file again
        return [], None
    return rows, best.epoch if best else None
