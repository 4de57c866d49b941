"""Reading the files of a run that its page shows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fer_bench.errors import RunError
from fer_bench.report.plots import CURVE_COLUMNS
from fer_bench.runs.directory import RunDirectory

# Where a page needs numbers: in `run.json` by all keys that lead there, elsewhere by the last key.
_OF_RECORD = {
    *(("seconds",), ("images_per_second",), ("trunk_views",), ("model", "parameters")),
    *(("best", "epoch"), ("best", "value")),
}
_OF_METRICS = {
    *("value", "low", "high", "n", "support", "left_out", "severity", "least"),
    *("precision", "recall", "f1", "auc", "average_precision"),
}
_OF_INTERVAL = {"level", "resamples"}


def read_record(run: RunDirectory) -> dict[str, Any]:
    """The `run.json` of a run. Raises: RunError if it, or a number in it, cannot be read."""
    record = run.read_json(run.run_json)
    for keys, value in _texts(record, ()):
        if keys in _OF_RECORD or keys[:2] == ("dataset", "counts"):
            raise _not_a_number(run.run_json, keys, value, "Restore the file.")
    return record


def read_results(run: RunDirectory, path: Path) -> dict[str, Any]:
    """A file of metrics. Raises: RunError if it, or a number in it, cannot be read."""
    document = run.read_json(path)
    for keys, value in _texts(document, ()):
        first, last = keys[0], keys[-1]
        if first in ("protocol", "warnings"):
            continue
        numbers = _OF_INTERVAL if first == "interval" else _OF_METRICS
        if (last in numbers and "methods" not in keys) or first == "confusion_matrix":
            raise _not_a_number(path, keys, value, f"Compute it again: fer evaluate {run.run_id}")
    return document


def _not_a_number(path: Path, keys: Sequence[str], value: str, advice: str) -> RunError:
    return RunError(f"{path}: {'.'.join(keys)} is {value!r}, expected a number.\n{advice}")


def _texts(document: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in a document, with the keys that lead to it; positions in lists are left out."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _texts(value, (*keys, key))
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value, keys)
    elif isinstance(document, str):
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
