"""What a user sees while a run trains: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from typing import Any, Protocol


class Display(Protocol):
    """Where training reports to."""

    def message(self, text: str) -> None:
        """Say one thing."""

    def decoding(self, split: str, done: int, total: int) -> None:
        """`done` of `total` images of a split are decoded."""

    def comparing(self, done: int, total: int) -> None:
        """`done` of `total` different images of a dataset were compared with all others."""

    def frozen(self, end: str, split: str, done: int, total: int) -> None:
        """`done` of `total` images of a split went through the layers up to `end`, to be kept."""

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """The 1-based `epoch` of at most `epochs` begins and has `steps` steps."""

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """`step` steps of the epoch are done; means over them."""

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """An epoch is over; `row` is its line of `history.csv`."""

    def close(self) -> None:
        """Leave the terminal as it was."""
