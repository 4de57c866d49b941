"""What computes and what shows progress, for a program, a notebook and the command line."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from fer_bench import settings
from fer_bench.device.workers import Workers
from fer_bench.display import Display, NoDisplay
from fer_bench.errors import DeviceError

if TYPE_CHECKING:
    from fer_bench.device.selection import Device

Progress = Display | Literal[False] | None


def open_device(
    wanted: str,
    threads: int | None = None,
    workers: Workers | None = None,
    *,
    message: Callable[[str], None],
) -> "Device":
    """Import TensorFlow, without what it prints at import, and choose a device.

    Args:
        wanted: `auto`, `cpu`, `gpu` or `gpu:<index>`.
        threads: threads to compute with on the CPU; None for one per usable core.
        workers: the processes that train together.
        message: receives each setting of the user that is not used.

    Raises:
        DeviceError: there is no such device, or this process has computed on others already.
    """
    from fer_bench.device.quiet import native_messages_hidden

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # of C++, only errors concern a user
    hidden = os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0"
    with native_messages_hidden() if hidden else contextlib.nullcontext():
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
def open_display(progress: Progress) -> Iterator[Display]:
    """The display that a user asked for.

    Args:
        progress: a display, which stays open; None for a live line on a terminal and plain lines
            elsewhere; False for none.
    """
    if progress is False:
        yield NoDisplay()
    elif progress is not None:
        yield progress
    else:
        with contextlib.closing(_usual_display()) as display:
            yield display


def _usual_display() -> Display:
    from rich.console import Console

    from fer_bench.report.terminal import progress

    if "ipykernel" in sys.modules:  # where standard error is shown as if it were an error
        return progress.PlainDisplay(Console(file=sys.stdout, force_jupyter=False, width=100))
    return progress.open_display(Console(stderr=True))
