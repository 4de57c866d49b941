"""What a user sees while a run trains; `report.terminal.progress` has the real displays."""

from collections.abc import Mapping
from typing import Any, Protocol


class Display(Protocol):
    """What training and evaluation report their progress to."""

    def message(self, text: str) -> None:
        """Show a message."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` images are through the step called `what`: `decoding train images`."""

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Epoch `epoch` (from 1) of at most `epochs` begins; it has `steps` steps."""

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """`step` steps of the epoch are done; loss and accuracy are the means over them."""

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """An epoch is over; `row` is its row of `history.csv`."""

    def close(self) -> None:
        """Release the terminal."""


class NoDisplay:
    """A display that shows nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Show nothing."""

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Show nothing."""

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Show nothing."""

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""
