"""Work that several threads share, with the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from fer_bench.device.machine import usable_cores

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Part], Result], parts: Iterable[Part], threads: int | None = None
) -> Iterator[Result]:
    """Apply `function` to each of `parts`; yields the results in the same order.

    Only a few parts are in progress or waiting to be consumed at a time, so that memory does not
    grow with their number.

    Args:
        function: threads speed it up if it waits, or computes without Python's global lock.
        parts: consumed by the calling thread.
        threads: number of threads; None: one per usable core.

    Raises:
        Exception: the first one that `function` raises, in the order of `parts`.
    """
    threads = threads or usable_cores().number
    waiting = iter(parts)
    with ThreadPoolExecutor(threads) as pool:

        def start(number: int) -> list[Future[Result]]:
            return [pool.submit(function, part) for part in islice(waiting, number)]

        ahead = deque(start(2 * threads))
        try:
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(start(1))
                yield result
        finally:
            for future in ahead:
                future.cancel()
