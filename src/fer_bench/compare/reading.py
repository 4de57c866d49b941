"""Reading one run: what it is, what it predicts, and whether the two belong together."""

import functools
import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fer_bench.compare.rows import COLUMNS, PAIR_METRICS, LeftOut, Row
from fer_bench.errors import RunError
from fer_bench.manifest import AXES
from fer_bench.metrics import AXIS_METRICS, METRICS, values
from fer_bench.predictions import Predictions, read_predictions
from fer_bench.rundir import RunDirectory
from fer_bench.where import Condition, parse_where

# The C implementation reads a configuration ten times as fast, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# From so many runs on it pays to start other processes.
MANY = 48


@dataclass(frozen=True)
class Member:
    """A run with what the comparison needs once and doesn't keep."""

    row: Row
    config: Mapping[str, Any]
    predictions: Predictions

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it may answer, sorted; empty where it predicts no expression."""
        expression = self.predictions.expression
        return tuple(sorted(expression.classes)) if expression else ()


def read_members(
    directories: Sequence[RunDirectory], evaluation: str, where: str | None
) -> list[Member | LeftOut | None]:
    """Every run with its predictions; or why it is left out; or None where `where` omits it.

    Many runs are read by several processes: to take a table of predictions apart is work for the
    processor, which the threads of one process would do one after the other.

    Raises:
        ConfigError: `where` cannot be understood.
    """
    read = functools.partial(_read, evaluation=evaluation, where=where)
    workers = min(8, os.cpu_count() or 1)
    if len(directories) < MANY or workers == 1 or sys.platform != "linux":
        return [read(directory) for directory in directories]
    with warnings.catch_warnings():
        # Python warns of threads in a forked process; the workers use none.
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            return list(pool.map(read, directories, chunksize=4))


def _read(directory: RunDirectory, evaluation: str, where: str | None) -> Member | LeftOut | None:
    chosen = parse_where(where, COLUMNS) if where else None
    try:
        return _read_member(directory, evaluation, chosen)
    except RunError as error:
        return LeftOut(directory.run_id, str(error).splitlines()[0])


def _read_member(
    directory: RunDirectory, evaluation: str, chosen: Condition | None
) -> Member | None:
    """Raises: RunError saying why this run cannot be compared."""
    record = directory.read_json(directory.run_json)
    status = record.get("status")
    if status != "finished":
        raise RunError(f"not finished (status: {status}); go on with `fer train`")
    if not directory.metrics(evaluation).exists():
        advice = f"`fer evaluate {directory.run_id}{_options(evaluation)}`"
        raise RunError(f"no metrics for the split '{evaluation}'; compute them with {advice}")
    document = directory.read_json(directory.metrics(evaluation))
    config = _read_config(directory.config)
    row = _row(directory.run_id, record, config, document)
    if chosen and not chosen(row.columns()):
        return None
    predictions = read_predictions(directory.predictions(evaluation))
    computed = values(predictions, PAIR_METRICS)
    _check_cells(row.metrics, computed, evaluation)
    _check_belongs(document, row.metrics, predictions, computed, evaluation)
    return Member(row, config, predictions)


def _options(evaluation: str) -> str:
    """What `fer evaluate` needs to hear to make an evaluation of this name."""
    rest, _, views = evaluation.partition("+")
    split, _, data = rest.partition("@")
    said = {"--split": split if split != "test" else "", "--views": views}
    options = "".join(f" {option} {value}" for option, value in said.items() if value)
    return options + (f" --data configs/{data}.yaml" if data else "")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path}: cannot be read as YAML ({reason})") from error
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected a mapping, found {type(config).__name__}")
    published = config.get("published") or []
    if not isinstance(published, list) or not all(isinstance(entry, dict) for entry in published):
        raise RunError(f"{path}: 'published' is not a list of {{source, metric, value}}")
    return config


# Metrics ---------------------------------------------------------------------------------------

_Cells = Mapping[str, Mapping[str, float | None]]


def _cells(document: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The headline metrics of a metrics file, by the names in `metrics.NAMES`."""
    entries = {name: document.get(name) for name in METRICS} | {
        f"{axis}_{name}": look_up(document, axis, name) for axis in AXES for name in AXIS_METRICS
    }
    return {
        name: {part: number(entry.get(part)) for part in ("value", "low", "high")}
        for name, entry in entries.items()
        if isinstance(entry, dict)
    }


def _check_cells(cells: _Cells, computed: Mapping[str, float], evaluation: str) -> None:
    """Raises: RunError when a metric that the saved predictions have is missing."""
    for name, value in computed.items():
        if name not in cells or (math.isfinite(value) and None in cells[name].values()):
            raise RunError(f"metrics/{evaluation}.json lacks {name}; evaluate the run again")


def _check_belongs(
    document: Mapping[str, Any],
    cells: _Cells,
    predictions: Predictions,
    computed: Mapping[str, float],
    evaluation: str,
) -> None:
    """Raises: RunError when the metrics are of other predictions than the saved ones."""
    expected = {
        "n": len(predictions),
        "fingerprint": predictions.fingerprint,
        "values": _rounded(number(value) for value in computed.values()),
    }
    found = {
        "n": document.get("n"),
        "fingerprint": document.get("fingerprint", predictions.fingerprint),
        "values": _rounded(cells[name]["value"] for name in computed),
    }
    if found != expected:
        raise RunError(
            f"metrics/{evaluation}.json was not computed from predictions/{evaluation}.csv; "
            "evaluate the run again"
        )


def _rounded(numbers: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in numbers]


# The row ---------------------------------------------------------------------------------------


def _row(
    run_id: str, record: Mapping[str, Any], config: Mapping[str, Any], document: Mapping[str, Any]
) -> Row:
    protocol = document.get("protocol")
    return Row(
        run_id=run_id,
        name=text(record.get("name")) or run_id,
        seed=whole(record.get("seed")),
        status="finished",
        dataset=text(look_up(record, "dataset", "name")),
        backbone=text(look_up(record, "model", "backbone")),
        weights=text(look_up(record, "model", "weights")),
        parameters=whole(look_up(record, "model", "parameters")),
        image_size=whole(look_up(config, "image", "size")),
        selection_metric=text(look_up(record, "best", "metric")),
        n=whole(document.get("n")) or 0,
        metrics=_cells(document),
        images_per_second=number(record.get("images_per_second")),
        seconds=number(record.get("seconds")),
        # A file from before there was a protocol: one view, own dataset, chosen on validation.
        views=text(look_up(protocol, "views")) or "none",
        class_rule=text(look_up(protocol, "class_rule")),
        selection=text(look_up(protocol, "selection")) or "validation",
        resamples=whole(look_up(document, "interval", "resamples")),
    )


def look_up(document: Any, *keys: str) -> Any:
    """The value below nested keys, or None: a run record may lack what is only shown."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def text(value: Any) -> str | None:
    """A text, anything else as None."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float | None:
    """A finite number as float, anything else as None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """A number without its fraction, anything else as None."""
    finite = number(value)
    return None if finite is None else int(finite)
