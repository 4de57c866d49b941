"""Reading the files of a run that its page shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fer_bench.errors import RunError
from fer_bench.report.plots import CURVE_COLUMNS
from fer_bench.runs.directory import RunDirectory

# Keys whose values are written as numbers, wherever they are in a document.
_NUMBERS = frozenset(
    {
        *("value", "low", "high", "n", "count", "support", "left_out", "severity", "epoch"),
        *("precision", "recall", "f1", "auc", "average_precision", "least", "level", "resamples"),
        *("parameters", "images_per_second", "seconds", "trunk_views"),
    }
)


def _is_number(keys: Sequence[str]) -> bool:
    if "methods" in keys:  # of intervals, by metric
        return False
    names = [key for key in keys if not key.isdecimal()]
    return bool({*names[-1:]} & _NUMBERS) or bool({*names} & {"confusion_matrix", "counts"})


def read_document(run: RunDirectory, path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises: RunError if it, or a number in it, cannot be read."""
    document = run.read_json(path)
    for keys, value in _entries(document, ()):
        if isinstance(value, str) and _is_number(keys):
            raise RunError(
                f"{path}: {'.'.join(keys)} is {value!r}, expected a number.\n"
                f"Restore the file, or compute it again: fer evaluate {run.run_id}"
            )
    return document


def _entries(document: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a document, with the keys that lead to it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _entries(value, (*keys, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _entries(value, (*keys, str(index)))
    else:
        yield keys, document


def read_history(run: RunDirectory) -> pd.DataFrame | None:
    """The rows of `history.csv`; None for a run without a finished epoch.

    Raises:
        RunError: the file, or a number in it, cannot be read.
    """
    if not run.history.exists():
        return None
    try:
        history = pd.read_csv(run.history)
        for column in history.columns.intersection(["epoch", *CURVE_COLUMNS]):
            history[column] = pd.to_numeric(history[column])
    except ValueError as error:  # the reading errors of pandas are ValueErrors
        raise RunError(f"{run.history}: cannot be read as a table ({error}).") from error
    return None if history.empty else history


def is_current(figure: Path, source: Path) -> bool:
    """Whether a figure is newer than the file that it shows: drawing takes half a second."""
    return figure.exists() and figure.stat().st_mtime_ns > source.stat().st_mtime_ns
