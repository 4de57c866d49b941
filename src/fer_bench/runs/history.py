"""The one reader of `history.csv`: a row per epoch, checked."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_bench.errors import RunError
from fer_bench.storage.files import is_there, read_bounded, why_unreadable

# A million epochs take about this much.
LARGEST_BYTES = 200 * 2**20


# The smallest and the largest value of a column; every other column may hold any number.
RANGES = {
    "learning_rate": (0, math.inf),
    "accuracy": (0, 1),
    "val_accuracy": (0, 1),
    "val_macro_f1": (0, 1),
    "images_per_second": (0, math.inf),
    "seconds": (0, math.inf),
}


@dataclass(frozen=True)
class Epoch:
    """A row of `history.csv`.

    Attributes:
        number: 1-based.
        stage: the name of the stage; None where the file has no such column.
        values: the other columns in their order; None for an empty cell, NaN and infinity.
    """

    number: int
    stage: str | None
    values: dict[str, float | None]

    @property
    def numbers(self) -> dict[str, float]:
        """The values that are known."""
        return {name: value for name, value in self.values.items() if value is not None}

    def to_row(self) -> dict[str, Any]:
        """All cells by column, in the order of the file."""
        stage = {} if self.stage is None else {"stage": self.stage}
        return {"epoch": self.number, **stage, **self.values}


def read_history(path: Path) -> list[Epoch]:
    """The epochs of a run, in order; none where the file is missing.

    A last row with fewer cells than the heading is half written and is left out.

    Raises:
        RunError: the file cannot be read, is not such a table, or a cell is not what its column
            allows; names the file, the line and the column.
    """
    if not is_there(path):
        return []
    try:
        text = read_bounded(path, LARGEST_BYTES).decode()
        return _epochs(csv.reader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        config = path.with_name("config.yaml")
        raise RunError(
            f"{path}: cannot be read as a table of epochs ({_reason(error)}).\n"
            f"Train the run again: fer train {config} --fresh"
        ) from error


def _reason(error: OSError | ValueError | csv.Error) -> str:
    return str(error) if isinstance(error, csv.Error) else why_unreadable(error)


def is_cut_off(path: Path) -> bool:
    """Whether the last row of a history that `read_history` takes is half written.

    Cells are missing, or the end of the line: then its last number may lack digits.
    """
    text = read_bounded(path, LARGEST_BYTES).decode()
    rows = [*csv.reader(io.StringIO(text, newline=""))]
    return not text.endswith("\n") or len(rows[-1]) < len(rows[0])


def _epochs(lines: Iterable[list[str]]) -> list[Epoch]:
    """Raises: ValueError naming the line and the column."""
    heading, *rows = [*lines] or [[]]
    if "epoch" not in heading or len(set(heading)) < len(heading):
        raise ValueError(f"its columns are {', '.join(heading) or 'missing'}; expected epoch, ...")
    if rows and len(rows[-1]) < len(heading):
        rows.pop()
    epochs = []
    for number, row in enumerate(rows, start=1):
        if len(row) != len(heading):
            raise ValueError(
                f"line {number + 1} has {len(row)} cells, the heading has {len(heading)}"
            )
        cells = dict(zip(heading, row, strict=True))
        if (found := cells.pop("epoch")) != str(number):
            raise ValueError(f"line {number + 1}: epoch is {found!r}, expected {number}")
        stage = cells.pop("stage", None)
        values = {name: _value(name, text, number + 1) for name, text in cells.items()}
        epochs.append(Epoch(number, stage, values))
    return epochs


def _value(column: str, text: str, line: int) -> float | None:
    least, most = RANGES.get(column, (-math.inf, math.inf))
    try:
        value = float(text or "nan")
    except ValueError:
        raise ValueError(f"line {line}: {column} is {text!r}, expected a number") from None
    if not math.isfinite(value):
        return None
    if not least <= value <= most:
        raise ValueError(f"line {line}: {column} is {text}, expected {least} to {most}")
    return value
