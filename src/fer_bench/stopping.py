"""How a command that takes long learns that the user wants it to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def signals_as_event() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event, so that what is under way can be saved; a second one kills.

    Outside of the main thread, which alone gets signals, nobody sets it.
    """
    stop = threading.Event()

    def ask_to_stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the handler's signature
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
