"""What a user sees while a run trains: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from typing import Any, Protocol


class Display(Protocol):
    """Where training reports to."""

    def message(self, text: str) -> None:
        """Say one thing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` images are through the step called `what`: `decoding train images`."""

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """The 1-based `epoch` of at most `epochs` begins and has `steps` steps."""

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """`step` steps of the epoch are done; means over them."""

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """An epoch is over; `row` is its line of `history.csv`."""

    def close(self) -> None:
        """Leave the terminal as it was."""
