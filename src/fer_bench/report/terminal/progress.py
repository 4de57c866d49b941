"""Progress of training and of reading data, live or in plain lines."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fer_bench.display import Display


def open_display(console: Console) -> Display:
    """The display that suits `console`."""
    return LiveDisplay(console) if can_redraw(console) else PlainDisplay(console)


def can_redraw(console: Console) -> bool:
    """Whether lines can be updated in place: neither in a file nor with `TERM=dumb`."""
    return console.is_terminal and not console.is_dumb_terminal


_BEST = "  (* marks the best epoch so far)"

# Heading and format of each value of an epoch. A line of expression metrics fits into 80 columns,
# and so does one of valence and arousal.
_COLUMNS = {
    "loss": ("loss", "7.4f"),
    "accuracy": ("accuracy", "8.4f"),
    "val_loss": ("val_loss", "9.4f"),
    "val_accuracy": ("val_accuracy", "13.4f"),
    "val_macro_f1": ("val_macro_f1", "13.4f"),
    "val_valence_ccc": ("valence_ccc", "12.4f"),
    "val_arousal_ccc": ("arousal_ccc", "12.4f"),
    "images_per_second": ("images/s", "8.0f"),
}


def _shown(row: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Heading, format and value of each column that has a value in this row."""
    return [(*_COLUMNS[key], row[key]) for key in _COLUMNS if row.get(key) is not None]


def _heading(row: Mapping[str, Any]) -> str:
    cells = " ".join(f"{name:>{int(form.split('.')[0])}}" for name, form, _ in _shown(row))
    return f"  epoch  stage   {cells}"


def _epoch_line(row: Mapping[str, Any], epochs: int, *, is_best: bool) -> str:
    cells = " ".join(format(value, form) for _, form, value in _shown(row))
    return f"{'*' if is_best else ' '}{row['epoch']:>3}/{epochs:<3} {row['stage']:<7.7} {cells}"


class PlainDisplay:
    """One line per epoch, and some within a long epoch, at distances that grow.

    The first comes after half a minute; each distance is twice the one before, up to ten minutes.
    """

    SECONDS_BETWEEN_LINES = 30.0
    MOST_SECONDS_BETWEEN_LINES = 600.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last_line, self.distance = time.monotonic(), self.SECONDS_BETWEEN_LINES
        self.epoch, self.epochs, self.steps = 0, 0, 0
        self.has_heading = False

    def message(self, text: str) -> None:
        """Print a message."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        self.last_line = time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        """Print one line when all images are done."""
        if done == total:
            self.message(f"{what}: {total:,} done")

    def start_epoch(
        self,
        epoch: int,
        epochs: int,
        stage: str,  # noqa: ARG002 - part of the interface
        steps: int,
    ) -> None:
        """Remember the epoch for the next lines."""
        self.epoch, self.epochs, self.steps = epoch, epochs, steps
        self.distance = self.SECONDS_BETWEEN_LINES

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Print the progress within a long epoch."""
        is_due = time.monotonic() - self.last_line >= self.distance
        if is_due and step < self.steps:
            self.distance = min(2 * self.distance, self.MOST_SECONDS_BETWEEN_LINES)
            self.message(
                f" {self.epoch:>3}/{self.epochs:<3} step {step}/{self.steps}: loss {loss:.4f}, "
                f"accuracy {accuracy:.4f}, {images_per_second:.0f} images/s"
            )

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """Print the epoch's line."""
        if not self.has_heading:
            self.message(_BEST)
            self.message(_heading(row))
            self.has_heading = True
        self.message(_epoch_line(row, self.epochs, is_best=is_best))

    def close(self) -> None:
        """Do nothing: nothing is open."""


class LiveDisplay(PlainDisplay):
    """Bars for the epoch and the run, with the time left, below a line per finished epoch."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
        )
        self.task = self.bars.add_task("", total=1, figures="", visible=False)
        self.all_epochs = self.bars.add_task("", total=1, figures="", visible=False)
        self.steps_before = 0
        self.bars.start()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how many images are done."""
        self.bars.update(
            self.task, description=what, completed=done, total=total, visible=True, figures=""
        )

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Reset the bar of the epoch and update that of the run."""
        super().start_epoch(epoch, epochs, stage, steps)
        self.bars.reset(self.task, total=steps, description=f"epoch {epoch} {stage}")
        self.steps_before = (epoch - 1) * steps
        self.bars.update(
            self.all_epochs,
            description="run",
            completed=self.steps_before,
            total=epochs * steps,
            visible=epochs > 1,
        )

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Move the bars."""
        figures = f"loss {loss:.3f} accuracy {accuracy:.3f} {images_per_second:.0f} images/s"
        self.bars.update(self.task, completed=step, visible=True, figures=figures)
        self.bars.update(self.all_epochs, completed=self.steps_before + step)

    def close(self) -> None:
        """Take the bars away."""
        self.bars.stop()
