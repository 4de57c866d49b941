"""Where the time of a command goes; `fer train -v` and `fer evaluate -v` end with it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: dict[str, float] = {}
# Of the parts that are being timed, the time that parts within them took.
_within: list[float] = []


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Add the time of the block to that of `part`, without that of parts within it."""
    began = time.monotonic()
    _within.append(0.0)
    try:
        yield
    finally:
        passed = time.monotonic() - began
        _seconds[part] = _seconds.get(part, 0.0) + passed - _within.pop()
        if _within:
            _within[-1] += passed


def forget_times() -> None:
    """Begin again, with the next command."""
    _seconds.clear()


def times() -> dict[str, float]:
    """The seconds of each part, in the order in which the parts ended first."""
    return dict(_seconds)
