"""Progress of a sweep: one live table of all runs, or a line for each change."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fer_bench.report.terminal.progress import can_redraw
from fer_bench.report.terminal.table import add_row, new_table
from fer_bench.report.wording import MISSING, write_clock, write_duration
from fer_bench.spelling import visible
from fer_bench.sweep.job import Outcome
from fer_bench.sweep.progress import SUCCEEDED, UNDER_WAY, Follower, Progress, time_left

SECONDS_BETWEEN_LOOKS = 1.0
# Lines of the terminal that are not rows: heading, column names, count of hidden runs, prompt.
_OTHER_LINES = 5
_FEWEST_ROWS = 4
_HEADINGS = ("run", "state", "stage", "epoch", "best", "images/s", "time")
_NUMBERS = ("epoch", "best", "images/s", "time")
_FEWEST_COLUMNS, _WIDEST_STAGE, _NARROWEST_NAME, _GAP = 2, 8, 12, 2
_COLOURS = {"failed": "red", "interrupted": "yellow", "waiting": "dim", "skipped": "dim"}


class SweepDisplay:
    """Shows a sweep on a console; see `open_sweep_display`."""

    def __init__(self, follower: Follower, console: Console) -> None:
        self.follower, self.console = follower, console
        self.last_look = 0.0

    def look(self, outcomes: Mapping[str, Outcome]) -> None:
        """Show what has changed, about once a second."""
        if time.monotonic() - self.last_look >= SECONDS_BETWEEN_LOOKS:
            self.show(self.follower.look(outcomes))
            self.last_look = time.monotonic()

    def stopping(self) -> None:
        """Tell the user that stopping takes a moment."""
        self.say("stopping: waiting for running jobs to save their state")

    def say(self, text: str) -> None:
        """Print one line; above the table if there is one."""
        self.console.print(visible(text), soft_wrap=True, highlight=False, markup=False)

    def close(self, outcomes: Mapping[str, Outcome]) -> None:
        """Show the final state."""
        self.show(self.follower.look(outcomes))

    def show(self, runs: Sequence[Progress]) -> None:
        """Show the state of all runs."""
        raise NotImplementedError


class LiveTable(SweepDisplay):
    """A table that is updated in place."""

    def __init__(self, follower: Follower, console: Console) -> None:
        super().__init__(follower, console)
        self.live = Live(console=console, auto_refresh=False)
        self.live.start()

    def show(self, runs: Sequence[Progress]) -> None:
        """Draw the table again."""
        rows = max(_FEWEST_ROWS, self.console.height - _OTHER_LINES)
        self.live.update(sweep_table(runs, self.console.width, rows), refresh=True)

    def close(self, outcomes: Mapping[str, Outcome]) -> None:
        """Leave the last table on the terminal."""
        super().close(outcomes)
        self.live.stop()


class Lines(SweepDisplay):
    """A line for every change of state, where a table cannot be updated in place."""

    def __init__(self, follower: Follower, console: Console) -> None:
        super().__init__(follower, console)
        self.states: dict[str, str] = {}

    def show(self, runs: Sequence[Progress]) -> None:
        """Print what has changed."""
        if not self.states:
            self.states = dict.fromkeys((run.name for run in runs), "waiting")
            skipped = sum(run.state == "skipped" for run in runs)
            self.say(f"{len(runs)} runs, {skipped} of them already finished")
        ended = sum(run.state in SUCCEEDED for run in runs)
        for run in runs:
            if run.state != self.states[run.name] and run.state != "skipped":
                self.say(f"[{ended}/{len(runs)}] {change_line(run)}")
            self.states[run.name] = run.state


def open_sweep_display(follower: Follower, console: Console) -> SweepDisplay:
    """The display that suits `console`; the caller closes it."""
    return LiveTable(follower, console) if can_redraw(console) else Lines(follower, console)


def change_line(run: Progress) -> str:
    """One line about a run whose state has just changed."""
    line = f"{run.name}: {run.state}"
    if run.state == "training" and run.epoch:
        line += f", {run.epoch}/{run.epochs} epochs done"
    if run.state == "finished":
        line += f" in {write_duration(run.elapsed)}, best {_best(run)}"
    if run.message:
        line += f": {run.message.splitlines()[0]}"
    return line


def sweep_heading(runs: Sequence[Progress]) -> str:
    """The progress of the whole sweep: `3/69 finished, 1 failed, about 5 h 10 min left`."""
    parts = [f"{sum(run.state in SUCCEEDED for run in runs)}/{len(runs)} finished"]
    for state in ("failed", "interrupted"):
        if number := sum(run.state == state for run in runs):
            parts.append(f"{number} {state}")
    seconds = time_left(runs)
    if seconds and any(run.state in UNDER_WAY for run in runs):
        parts.append(f"about {write_duration(seconds)} left")
    return ", ".join(parts)


def sweep_table(runs: Sequence[Progress], width: int, rows: int) -> Any:
    """A heading, at most `rows` runs in a table, and a count of the others.

    Args:
        runs: all runs of the sweep.
        width: columns of the terminal.
        rows: most rows of the table.
    """
    chosen = _most_relevant(runs, rows)
    cells = [_cells(run) for run in chosen]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *cells, strict=True)]
    shown = len(_HEADINGS)
    while shown > _FEWEST_COLUMNS and _others_width(widths[:shown]) + _NARROWEST_NAME > width:
        shown -= 1
    for_names = max(_NARROWEST_NAME, width - _others_width(widths[:shown]))
    table = new_table([f">{h}" if h in _NUMBERS else h for h in _HEADINGS[:shown]], ruled=False)
    for run, (name, *others) in zip(chosen, cells, strict=True):
        row = [_shortened(name, for_names), *others][:shown]
        add_row(table, *row, style=_COLOURS.get(run.state, ""))
    parts: list[Any] = [Text(sweep_heading(runs), style="bold"), table]
    if len(chosen) < len(runs):
        parts.append(Text(f"and {_counted(runs, chosen)}", style="dim"))
    return Group(*parts)


def _others_width(widths: Sequence[int]) -> int:
    """The characters that all columns but the first take."""
    return sum(widths[1:]) + _GAP * (len(widths) - 1)


def _shortened(name: str, width: int) -> str:
    """A name, without its middle if it is too long: its end has the seed."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[-end:]}"


def _most_relevant(runs: Sequence[Progress], rows: int) -> list[Progress]:
    """Running, failed, last finished and next runs, in that priority and the order of the suite."""
    ended = [run for run in runs if run.state == "finished"]
    sorts = (
        [run for run in runs if run.state in UNDER_WAY],
        [run for run in runs if run.state in ("failed", "interrupted")],
        ended[::-1],
        [run for run in runs if run.state == "waiting"],
        [run for run in runs if run.state == "skipped"],
    )
    chosen = [run for sort in sorts for run in sort][:rows]
    return [run for run in runs if run in chosen]


def _counted(runs: Sequence[Progress], shown: Sequence[Progress]) -> str:
    hidden = [run.state for run in runs if run not in shown]
    return ", ".join(f"{hidden.count(state)} {state}" for state in dict.fromkeys(hidden))


def _cells(run: Progress) -> list[str]:
    speed = f"{run.images_per_second:,.0f}" if run.images_per_second else MISSING
    epoch = f"{run.epoch}/{run.epochs}"
    stage = _shortened(run.stage, _WIDEST_STAGE)
    return [run.name, run.state, stage, epoch, _best(run), speed, write_clock(run.elapsed)]


def _best(run: Progress) -> str:
    return MISSING if run.best is None else f"{run.best:.4f}"
