"""Stops a process, with its state saved, when the process that started it ends."""

import ctypes
import os
import sys

from fer_bench.device.signals import PARENT_ENDED

# The environment variable with the process id of the parent to stop with.
PARENT = "FER_BENCH_PARENT"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def stop_with_parent() -> None:
    """Have Linux send this process `PARENT_ENDED` when its parent ends, if `PARENT` is set.

    Raises:
        SystemExit: the parent has ended already.
    """
    parent = os.environ.pop(PARENT, None)  # not for the children of this process
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, PARENT_ENDED)
    if os.getppid() != int(parent):
        sys.exit(128 + PARENT_ENDED)
