"""`predictions/<evaluation>.csv`: the prediction of a model for every sample of a split.

The one writer and the one reader of these files. `answers` reads the usual ones faster.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.metrics.arrays import FloatArray, IntArray
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import evaluate_command
from fer_bench.storage.files import check_readable, why_unreadable, write_atomically

# How far written probabilities, valence and arousal may be off by rounding.
TOLERANCE = 1e-3
# Far above the largest dataset, with all its classes.
LARGEST_BYTES = 5 * 2**30
# The cells of a true valence or arousal that is not known.
UNKNOWN = ["", "nan", "NaN"]

# The columns of the predicted values; those of the true ones are `AXES`.
PREDICTED_AXES = tuple(f"{axis}_predicted" for axis in AXES)


def predictions_frame(
    rows: pd.DataFrame,
    classes: tuple[str, ...],
    probabilities: FloatArray | None,
    valence_arousal: FloatArray | None,
) -> pd.DataFrame:
    """The table of `predictions/<evaluation>.csv`.

    Args:
        rows: the n samples of a split, as `Manifest.split` gives them.
        classes: the C classes.
        probabilities: of each class, shape (n, C); None where expression is not a target.
        valence_arousal: predicted, shape (n, 2); None where they are not a target.
    """
    frame = rows[["sample_id", "label"]].copy()
    if probabilities is not None:
        frame["predicted"] = np.array(classes)[probabilities.argmax(axis=1)]
        for index, name in enumerate(classes):
            frame[f"p_{name}"] = probabilities[:, index]
    if valence_arousal is not None:
        for axis in AXES:
            frame[axis] = rows.get(axis, np.nan)
        for index, name in enumerate(PREDICTED_AXES):
            frame[name] = valence_arousal[:, index]
    return frame


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write the table of `predictions_frame`, atomically, with nine digits of each number."""
    write_atomically(path, frame.to_csv(index=False, float_format="%.9g"))


def read_predictions(path: Path) -> Predictions:
    """Read and check `predictions/<split>.csv`.

    Rows are sorted by sample id, so that no result depends on the order of the file, and two runs
    on the same split align. The rounding of the text is removed: probabilities are divided by their
    row sum, valence and arousal are clipped to [-1, 1].

    Raises:
        RunError: the file is missing, too large or has no rows, columns are missing, an id occurs
            twice, a class is unknown, probabilities are not numbers in [0, 1] or don't sum to 1,
            `predicted` is not the most probable class, or valence or arousal is not a number in
            [-1, 1] (a true one may be empty); numbers are compared within `TOLERANCE`.
    """
    try:
        check_readable(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read as a table ({why_unreadable(error)}).") from error
    try:
        return _check(path, _read_numbers(path))
    except (RunError, ValueError):
        # Read again as text, so that the message shows what is in the file.
        return _check(path, _read_table(path))


def _check(path: Path, table: pd.DataFrame) -> Predictions:
    """The predictions in a table, whose numbers are floats or text."""
    classes = tuple(name.removeprefix("p_") for name in map(str, table) if name.startswith("p_"))
    has_axes = any(name in table for name in (*AXES, *PREDICTED_AXES))
    has_expression = bool(classes) or "predicted" in table or not has_axes
    _check_columns(path, table, has_expression, has_axes)
    if has_expression and len(classes) < 2:
        raise _lacks(path, table, "at least two probability columns p_<class>")
    _check_rows(path, table)
    sample_ids = table["sample_id"].tolist()
    order = sorted(range(len(sample_ids)), key=sample_ids.__getitem__)
    if order != list(range(len(order))):
        table = table.take(order)
    return Predictions(
        sample_ids=tuple(table["sample_id"].tolist()),
        label_names=np.array(table["label"].tolist(), dtype=np.str_),
        expression=_read_expression(path, table, classes) if has_expression else None,
        valence_arousal=_read_valence_arousal(path, table) if has_axes else None,
    )


def _wrong(path: Path, found: str) -> RunError:
    run = RunDirectory(path.absolute().parent.parent)
    again = evaluate_command(run, path.stem)
    return RunError(f"{path}: {found}\nWrite it again with: {again}")


def _read_numbers(path: Path) -> pd.DataFrame:
    """The table with its numbers as floats, several times faster than as text.

    Raises:
        ValueError: some of them are not numbers, or there is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
        numbers = [name for name in header if name.startswith("p_")]
        numbers += [name for name in (*AXES, *PREDICTED_AXES) if name in header]
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(header, object) | dict.fromkeys(numbers, np.float64),
            keep_default_na=False,
            na_values={name: UNKNOWN for name in AXES if name in header},
            low_memory=False,
        )
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table") from error


def _read_table(path: Path) -> pd.DataFrame:
    try:
        # As text: ids such as 007 and NA are kept as they are.
        return pd.read_csv(path, dtype=object, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        raise _wrong(path, f"cannot be read as a table ({error}).") from error


def _lacks(path: Path, table: pd.DataFrame, missing: str) -> RunError:
    return _wrong(path, f"lacks {missing}; its columns are {', '.join(table.columns)}.")


def _check_columns(path: Path, table: pd.DataFrame, has_expression: bool, has_axes: bool) -> None:
    wanted = ["sample_id", "label"]
    wanted += ["predicted"] if has_expression else []
    wanted += [*AXES, *PREDICTED_AXES] if has_axes else []
    missing = [name for name in wanted if name not in table]
    if missing:
        raise _lacks(path, table, ", ".join(missing))


def _check_rows(path: Path, table: pd.DataFrame) -> None:
    if table.empty:
        raise _wrong(path, "has no rows.")
    repeated = table.loc[table["sample_id"].duplicated(), "sample_id"]
    if len(repeated):
        raise _wrong(path, f"{len(repeated)} sample ids occur twice, first {repeated.iloc[0]!r}.")


# Expression ------------------------------------------------------------------------------------


def _read_expression(path: Path, table: pd.DataFrame, classes: tuple[str, ...]) -> Expression:
    probabilities = _read_probabilities(path, table, classes)
    predicted = _codes(path, table, "predicted", classes)
    _check_most_probable(path, table, predicted, probabilities)
    return Expression(
        classes=classes,
        labels=_codes(path, table, "label", classes),
        predicted=predicted,
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
    )


def _codes(path: Path, table: pd.DataFrame, column: str, classes: Sequence[str]) -> IntArray:
    code = {name: index for index, name in enumerate(classes)}
    names = table[column].tolist()
    unknown = sorted(set(names) - set(code))
    if unknown:
        raise _wrong(path, f"{column} {unknown[0]!r} is none of {', '.join(classes)}.")
    return np.array([code[name] for name in names], dtype=np.int64)


def _read_probabilities(path: Path, table: pd.DataFrame, classes: Sequence[str]) -> FloatArray:
    columns = [f"p_{name}" for name in classes]
    probabilities = _numbers(table, columns)
    # Written so that NaN fails both tests.
    inside = (probabilities >= 0) & (probabilities <= 1)
    _check_inside(path, table, columns, inside, "not a number in [0, 1]")
    total = probabilities.sum(axis=1)
    off = np.flatnonzero(np.abs(total - 1) > TOLERANCE)
    if len(off):
        sample = table["sample_id"].iloc[off[0]]
        found = f"probabilities of {len(off)} samples don't sum to 1"
        raise _wrong(path, f"{found}, first {sample!r} with {total[off[0]]:.4f}.")
    return probabilities


def _check_most_probable(
    path: Path, table: pd.DataFrame, predicted: IntArray, probabilities: FloatArray
) -> None:
    chosen = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    off = np.flatnonzero(probabilities.max(axis=1) - chosen > TOLERANCE)
    if len(off):
        row = table.iloc[off[0]]
        raise _wrong(
            path,
            f"{len(off)} samples are not predicted as their most probable class, "
            f"first {row['sample_id']!r} as {row['predicted']!r}.",
        )


# Valence and arousal ---------------------------------------------------------------------------


def _read_valence_arousal(path: Path, table: pd.DataFrame) -> ValenceArousal:
    true = table[list(AXES)]
    unknown = (true.isin(UNKNOWN) | true.isna()).to_numpy()
    return ValenceArousal(
        true=_read_axes(path, table, AXES, unknown),
        predicted=_read_axes(path, table, PREDICTED_AXES, np.zeros_like(unknown)),
    )


def _read_axes(
    path: Path, table: pd.DataFrame, columns: Sequence[str], may_be_nan: NDArray[np.bool_]
) -> FloatArray:
    numbers = _numbers(table, columns)
    # Written so that NaN fails the first test.
    inside = (np.abs(numbers) <= 1 + TOLERANCE) | may_be_nan
    _check_inside(path, table, columns, inside, "not a number in [-1, 1]")
    return np.clip(numbers, -1, 1)


# Numbers ---------------------------------------------------------------------------------------


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> FloatArray:
    """Some columns as numbers, shape (n, columns); NaN for text that is not a number."""
    numbers = [
        table[name] if table[name].dtype == np.float64 else pd.to_numeric(table[name], "coerce")
        for name in columns
    ]
    return np.stack([column.to_numpy(dtype=np.float64) for column in numbers], axis=1)


def _check_inside(
    path: Path,
    table: pd.DataFrame,
    columns: Sequence[str],
    inside: NDArray[np.bool_],
    problem: str,
) -> None:
    if not inside.all():
        row, column = np.argwhere(~inside)[0]
        sample, text = table["sample_id"].iloc[row], table[columns[column]].iloc[row]
        raise _wrong(path, f"sample {sample!r}: {columns[column]} is {text!r}, {problem}.")
