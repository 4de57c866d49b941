"""Work that several threads do side by side, with the results in the order of the work."""

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
    """`function` of each of `parts`, in their order.

    Only a few parts are under way or waiting to be taken at a time, so that memory does not grow
    with their number.

    Args:
        function: gains from threads as far as it waits, or computes without Python's global lock.
        parts: are taken by the calling thread.
        threads: their number; None: as many as there are usable cores.

    Raises:
        Exception: the first one, in the order of `parts`, that `function` raises.
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
