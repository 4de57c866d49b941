"""The child's side of taking turns: it works after each line `go` and answers in JSON lines.

    child                                               driver
    {"ready": "imports", ...}                           go
    {"epoch": 1, "seconds": 9.1, "images": 192, ...}    go
    {"epoch": 2, ...}                                   stop
    {"peak_rss_bytes": 2147483648}

A child that trains without pauses answers the first `go` with {"seconds": ..., "images": ...,
"epochs": [seconds of each], ...}. The clock runs from `go` to the answer.

Standard library only: the PyTorch child runs in another interpreter, without fer-bench.
"""

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, TextIO

STATUS = Path("/proc/self/status")


class Turns:
    """Waits for the turns of a child, and sends its answers."""

    def __init__(self, source: TextIO, output: TextIO, *, whole: bool) -> None:
        self.source, self.output, self.whole = source, output, whole
        self.stopped = False
        self.epochs: list[float] = []
        self.images = self.parameters = 0
        self.assumed_seconds = 0.0
        self.began = self.epoch_began = 0.0

    def ready(self, **facts: Any) -> None:
        """Report that everything is imported; wait for the first turn."""
        self._say(ready="imports", **facts)
        self._wait()

    def end_epoch(self, images: int, parameters: int) -> None:
        """End an epoch over `images` training images; wait for the next turn, unless `whole`.

        `parameters` counts all numbers that are saved with the network, including the statistics
        of BatchNorm.
        """
        now = time.perf_counter()
        self.epochs.append(now - self.epoch_began)
        self.images += images
        self.epoch_began = now
        self.parameters = parameters
        if not self.whole:
            seconds = self.epochs[-1]
            number = len(self.epochs)
            self._say(epoch=number, seconds=seconds, images=images, parameters=parameters)
            self._wait()

    def assume(self, epochs: int, measured: int) -> None:
        """Count `epochs` more, each as long as the median of the last `measured` epochs.

        The first of these is left out, because it also traced the network.
        """
        typical = statistics.median(self.epochs[-measured:][1:])
        self.assumed_seconds += epochs * typical
        self.images += epochs * (self.images // len(self.epochs))
        self.epochs += [typical] * epochs

    def end(self) -> None:
        """End training; the child ends when the driver stops it."""
        if self.whole:
            seconds = time.perf_counter() - self.began + self.assumed_seconds
            self._say(
                seconds=seconds,
                assumed_seconds=self.assumed_seconds,
                images=self.images,
                epochs=self.epochs,
                parameters=self.parameters,
            )
            self._wait()
        self._say(peak_rss_bytes=peak_memory())

    def _wait(self) -> None:
        """Wait for the driver; a driver that has ended means stop."""
        self.stopped = self.source.readline().strip() != "go"
        self.began = self.epoch_began = time.perf_counter()

    def _say(self, **message: Any) -> None:
        print(json.dumps(message), file=self.output, flush=True)


def open_turns(*, whole: bool) -> Turns:
    """Turns over standard input and output; all other output goes to standard error."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return Turns(sys.stdin, messages, whole=whole)


def peak_memory() -> int:
    """The peak memory of this process in bytes, without worker processes."""
    # The kernel's peak starts anew with each program; that of getrusage includes the parent's.
    for line in STATUS.read_text().splitlines() if STATUS.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
