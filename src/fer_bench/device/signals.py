"""Graceful shutdown of long-running commands."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The signal that Linux sends to a process whose parent has ended. It may come several times: when
# the threads of the parent end one by one, each passes its children on to the next.
PARENT_ENDED = signal.SIGUSR1


class Stop:
    """A flag that requests a stop. Unlike `threading.Event`, it has no lock.

    A signal handler runs between two instructions of the main thread, possibly those of the same
    handler: it must not wait for a lock that is held there.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Request a stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self._is_set


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, so that state can be saved.

    A second one kills. `PARENT_ENDED` requests a stop however often it comes. SIGHUP, which comes
    when the terminal is closed, stays ignored where it was (`nohup`). Only the main thread receives
    signals: in any other thread, the flag is never set.
    """
    stop = Stop()

    def request_stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the handler's signature
        stop.set()
        if number != PARENT_ENDED:
            signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM, PARENT_ENDED]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
