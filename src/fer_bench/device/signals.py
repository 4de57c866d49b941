"""How a command that takes long learns that it shall stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What Linux sends a process whose parent has ended. It may come several times: the child of one
# thread goes to the next as they end one by one.
PARENT_ENDED = signal.SIGUSR1


class Stop:
    """Whether to stop. It has no lock, unlike `threading.Event`.

    A signal handler runs between two instructions of the main thread, which may be those of the
    same handler: it must not wait for a lock that is held there.
    """

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        """Ask to stop."""
        self._asked = True

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._asked


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM ask to stop, so that what is under way can be saved; a second one kills.

    So does `PARENT_ENDED`, however often. Outside of the main thread, which alone gets signals,
    nobody asks.
    """
    stop = Stop()

    def ask_to_stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the handler's signature
        stop.set()
        if number != PARENT_ENDED:
            signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM, PARENT_ENDED)
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
