"""Progress of training in a notebook: one output, a table and curves, that is updated in place."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from fer_bench.report.pages.curves import charts_by_epoch
from fer_bench.report.wording import write_duration

# What a notebook shows, by MIME type.
Bundle = dict[str, str]
Show = Callable[[Bundle], None]

# The newest epochs are in the table, and the best. Hundreds of rows would push the curves out of
# sight, and be slow to send with every update.
ROWS = 15
MESSAGES = 40

# Heading and format of each value of an epoch.
_COLUMNS = {
    "loss": ("loss", ".4f"),
    "accuracy": ("accuracy", ".4f"),
    "val_loss": ("validation loss", ".4f"),
    "val_accuracy": ("validation accuracy", ".4f"),
    "val_macro_f1": ("validation macro F1", ".4f"),
    "val_valence_ccc": ("validation valence CCC", ".4f"),
    "val_arousal_ccc": ("validation arousal CCC", ".4f"),
    "images_per_second": ("images/s", ",.0f"),
}

# Colours follow the theme of the notebook, light or dark: everything takes that of its text.
_STYLE = Markup("""<style>
.fer-bench { font-size: 13px; line-height: 1.45; max-width: 1100px; }
.fer-bench p { margin: 2px 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.fer-bench .state { font-weight: 600; margin: 8px 0 4px; }
.fer-bench progress { width: 220px; vertical-align: middle; margin-right: 8px; }
.fer-bench .epochs { overflow-x: auto; margin: 6px 0; }
.fer-bench table { border-collapse: collapse; margin: 0; color: inherit; font-size: 13px;
  font-variant-numeric: tabular-nums; }
.fer-bench th, .fer-bench td { padding: 2px 10px; text-align: right; white-space: nowrap;
  color: inherit; background: none; border: 0; }
.fer-bench thead th { white-space: normal; vertical-align: bottom; font-weight: 600; }
.fer-bench .name { text-align: left; }
.fer-bench tr.best td { font-weight: 700; }
.fer-bench tr.running td { opacity: 0.7; font-style: italic; }
.fer-bench .charts { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.fer-bench figure { margin: 4px 0; width: 340px; }
.fer-bench figcaption { font-weight: 600; }
.fer-bench figure > svg { width: 100%; height: auto; display: block; }
.fer-bench svg text { fill: currentColor; }
.fer-bench svg .grid { stroke: currentColor; stroke-opacity: 0.18; }
.fer-bench svg .mark { stroke: currentColor; stroke-opacity: 0.6; }
.fer-bench .legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 14px; margin: 0;
  padding: 0; }
.fer-bench .legend li { margin: 0; }
.fer-bench .legend svg { vertical-align: middle; }
</style>""")


class NotebookDisplay:
    """A table of the epochs and their curves, which stay readable in the saved notebook."""

    SECONDS_BETWEEN_UPDATES = 0.5

    def __init__(
        self, show: Show, earlier: Sequence[Mapping[str, Any]] = (), best: int | None = None
    ) -> None:
        """A display without anything yet.

        Args:
            show: shows a bundle, in place of the one before.
            earlier: the rows of `history.csv` of a run that may be resumed.
            best: the best epoch among these.
        """
        self.show = show
        self.rows = list(earlier)
        self.best = best
        self.messages: list[str] = []
        self.running: dict[str, Any] | None = None
        self.epochs, self.steps, self.step_done = 0, 0, 0
        self.began, self.epochs_before = 0.0, 0
        self.reading: tuple[str, int, int] | None = None
        self.last_update = -self.SECONDS_BETWEEN_UPDATES

    def message(self, text: str) -> None:
        """Add a message above the table."""
        self.messages = [*self.messages, text][-MESSAGES:]
        self._update()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how many images are done, and a message when all are."""
        self.reading = None if done == total else (what, done, total)
        if done == total:
            self.message(f"{what}: {total:,} done")
        else:
            self._update()

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Begin a row. Rows from this epoch on are of a training that is made again."""
        self.rows = [row for row in self.rows if row["epoch"] < epoch]
        if self.best is not None and self.best >= epoch:
            self.best = None
        if not self.began:
            self.began, self.epochs_before = time.monotonic(), epoch - 1
        self.epochs, self.steps, self.step_done = epochs, steps, 0
        self.running = {"epoch": epoch, "stage": stage}
        self._update()

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Show the means over the epoch so far."""
        values = {"loss": loss, "accuracy": accuracy, "images_per_second": images_per_second}
        self.running = (self.running or {}) | values
        self.step_done = step
        self._update()

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """Add the row of the epoch to the table and the curves."""
        self.rows.append(dict(row))
        self.running = None
        if is_best:
            self.best = row["epoch"]
        self._update()

    def close(self) -> None:
        """Show the last state, which the notebook keeps."""
        self.reading = None
        self.show(self._bundle(self._end()))

    def _update(self) -> None:
        now = time.monotonic()
        if now - self.last_update >= self.SECONDS_BETWEEN_UPDATES:
            self.last_update = now
            self.show(self._bundle(self._state()))

    # What is written above the table ----------------------------------------------------------

    def _state(self) -> Markup:
        if self.reading:
            what, done, total = self.reading
            return _bar(done / max(total, 1), f"{what}: {done:,} of {total:,}")
        if self.running is None or not self.steps:
            return Markup("")
        epoch = self.running["epoch"]
        done = epoch - 1 + self.step_done / self.steps
        text = f"epoch {epoch} of {self.epochs}, step {self.step_done:,} of {self.steps:,}"
        return _bar(done / max(self.epochs, 1), f"{text}{self._time_left(done)}")

    def _time_left(self, done: float) -> str:
        """The time for the remaining epochs, at the speed since this display began."""
        made = done - self.epochs_before
        if made <= 0:
            return ""
        left = (time.monotonic() - self.began) * (self.epochs - done) / made
        return f", about {write_duration(left)} left"

    def _end(self) -> Markup:
        if self.running is not None:
            epoch = self.running["epoch"]
            text = f"stopped in epoch {epoch} of {self.epochs}, after step {self.step_done:,}"
        elif self.rows:
            last = self.rows[-1]["epoch"]
            text = f"{last} {'epoch' if last == 1 else 'epochs'} trained"
        else:
            return Markup("")
        best = "" if self.best is None else f"; the best is epoch {self.best}"
        return Markup('<p class="state">{}</p>').format(text + best)

    # The whole output -------------------------------------------------------------------------

    def _bundle(self, state: Markup) -> Bundle:
        messages = Markup("").join(Markup("<p>{}</p>").format(text) for text in self.messages)
        parts = [messages, state, self._table(), self._charts()]
        html = Markup('{}<div class="fer-bench">{}</div>').format(_STYLE, Markup("").join(parts))
        return {"text/html": str(html), "text/plain": self._plain(state)}

    def _plain(self, state: Markup) -> str:
        """For a program that shows no HTML."""
        return "\n".join([*self.messages, *([state.striptags()] if state else [])])

    def _table(self) -> Markup:
        rows = [*self.rows, *([self.running] if self.running else [])]
        if not rows:
            return Markup("")
        shown = [row for row in rows[:-ROWS] if row["epoch"] == self.best] + rows[-ROWS:]
        columns = [key for key in _COLUMNS if any(_known(row, key) for row in shown)]
        heads = Markup("").join(Markup("<th>{}</th>").format(_COLUMNS[key][0]) for key in columns)
        # The newest first: an output that is updated is shown from its top.
        body = Markup("").join(self._row(row, columns) for row in reversed(shown))
        hidden = len(rows) - len(shown)
        rest = Markup("<p>{:,} earlier epochs are in history.csv of the run</p>").format(hidden)
        return Markup(
            '<div class="epochs"><table><thead><tr><th></th><th>epoch</th>'
            '<th class="name">stage</th>{}</tr></thead><tbody>{}</tbody></table>{}</div>'
        ).format(heads, body, rest if hidden else "")

    def _row(self, row: Mapping[str, Any], columns: Sequence[str]) -> Markup:
        kind = "best" if row["epoch"] == self.best else "running" if row is self.running else ""
        cells = Markup("").join(
            Markup("<td>{}</td>").format(
                format(row[key], _COLUMNS[key][1]) if _known(row, key) else ""
            )
            for key in columns
        )
        return Markup(
            '<tr class="{}"><td>{}</td><td>{}</td><td class="name">{}</td>{}</tr>'
        ).format(kind, "best" if kind == "best" else "", row["epoch"], row.get("stage", ""), cells)

    def _charts(self) -> Markup:
        if not self.rows:
            return Markup("")
        history = pd.DataFrame(self.rows).drop(columns="learning_rate", errors="ignore")
        charts = charts_by_epoch(history.astype({"epoch": int}), self.best)
        return Markup('<div class="charts">{}</div>').format(Markup("").join(charts))


def _known(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None


def _bar(share: float, text: str) -> Markup:
    return Markup('<p class="state"><progress value="{:.4f}"></progress>{}</p>').format(share, text)
