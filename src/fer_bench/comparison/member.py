"""Reading one run: what it is, what it predicts, and whether the two belong together."""

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fer_bench.comparison.filter import Condition
from fer_bench.comparison.result import PAIR_METRICS, Row
from fer_bench.errors import RunError
from fer_bench.metrics.measure import values
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.schema import MetricsDocument, headline_cells
from fer_bench.runs.answers import read_answers
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import evaluate_command, is_config_of, read_config, read_metrics
from fer_bench.runs.predictions import read_predictions
from fer_bench.runs.record import RunRecord
from fer_bench.storage.files import is_there, why_unreadable

# Of `config.yaml` the comparison only checks what it uses.
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A run, with what the comparison needs but does not keep.

    Attributes:
        config: its `config.yaml`.
        record: its `run.json`.
        path: the file of its predictions.
    """

    row: Row
    config: Document
    predictions: Predictions
    fingerprint: str
    record: RunRecord = field(default_factory=RunRecord)
    path: Path = Path()

    @property
    def recorded_id(self) -> str:
        """The id under which the run was made, whatever its folder is called now."""
        return self.record.run_id or self.row.run_id

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it can predict, sorted; empty where it predicts no expression."""
        model = self.predictions.classification
        return tuple(sorted(model.classes)) if model else ()


def read_run(directory: RunDirectory, evaluation: str, chosen: Condition | None) -> Member | None:
    """Read one run with its predictions; None where the condition `chosen` does not hold.

    Raises:
        RunError: this run cannot be compared, and why.
    """
    record = directory.read_record()
    status = record.status
    if status != "finished":
        if directory.is_locked():
            raise RunError("it is being trained; it is shown once it is evaluated")
        raise RunError(f"not finished (status: {status}); resume it with `fer train`")
    if not is_there(directory.metrics(evaluation)):
        command = evaluate_command(directory, evaluation)
        raise RunError(f"no metrics for the split '{evaluation}'; compute them with `{command}`")
    document = read_metrics(directory, evaluation)
    config = _read_config(directory.config)
    row = _row(directory.run_id, record, config, document)
    if chosen and not chosen(row.columns()):
        return None
    names = (directory.run_id, record.run_id or "")
    if not record.is_adopted and not is_config_of(names, directory.config, config):
        raise RunError(
            f"{directory.config} is not the one that the run was trained with; restore it, or "
            "train the run again with `fer train --fresh`"
        )
    path = directory.predictions(evaluation)
    predictions, fingerprint = read_answers(path) or _read_all(path)
    _check_metrics(directory, evaluation, document, row, predictions, fingerprint)
    return Member(row, config, predictions, fingerprint, record, path)


def known_columns(directory: RunDirectory) -> dict[str, Any]:
    """What is known of a run that cannot be compared, by column; its metrics are not.

    Raises:
        RunError: `run.json` cannot be read, so that nothing is known.
    """
    record = directory.read_record()
    config: Document = {}
    with contextlib.suppress(RunError):
        config = _read_config(directory.config)
    return _row(directory.run_id, record, config, {}).columns()


def _read_all(path: Path) -> tuple[Predictions, str]:
    predictions = read_predictions(path)
    return predictions, predictions.fingerprint


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_config(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as YAML ({why_unreadable(error)})") from error
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected a mapping, found {type(config).__name__}")
    published = config.get("published") or []
    if not isinstance(published, list) or not all(isinstance(entry, dict) for entry in published):
        raise RunError(f"{path}: 'published' is not a list of {{source, metric, value}}")
    return config


def _check_metrics(
    directory: RunDirectory,
    evaluation: str,
    document: MetricsDocument,
    row: Row,
    predictions: Predictions,
    fingerprint: str,
) -> None:
    """Raises: RunError when the metrics are incomplete or of other predictions than the saved."""
    computed = values(predictions, PAIR_METRICS)
    again = f"evaluate the run again with `{evaluate_command(directory, evaluation)}`"
    for name, value in computed.items():
        cell = row.metrics.get(name)
        if cell is None or (math.isfinite(value) and None in cell.values()):
            raise RunError(f"metrics/{evaluation}.json lacks {name}; {again}")
    same = (
        document.get("n") == len(predictions)
        and document.get("fingerprint", fingerprint) == fingerprint
        and _rounded(row.metrics[name]["value"] for name in computed)
        == _rounded(number(value) for value in computed.values())
    )
    if not same:
        raise RunError(
            f"metrics/{evaluation}.json was not computed from predictions/{evaluation}.csv; {again}"
        )


def _rounded(numbers: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in numbers]


# The row ---------------------------------------------------------------------------------------


def _row(run_id: str, record: RunRecord, config: Document, document: MetricsDocument) -> Row:
    protocol = document.get("protocol") or {}
    return Row(
        run_id=run_id,
        name=record.name or run_id,
        seed=record.seed,
        status="finished",
        dataset=record.dataset.name,
        backbone=record.model.backbone,
        weights=record.model.weights,
        parameters=record.model.parameters,
        image_size=whole(look_up(config, "image", "size")),
        selection_metric=record.best.metric if record.best else None,
        n=document.get("n", 0),
        metrics=cast(Mapping[str, Mapping[str, float | None]], headline_cells(document)),
        images_per_second=record.images_per_second,
        seconds=record.seconds,
        # Documents older than the protocol are of one view, chosen on the validation split.
        views=protocol.get("views") or "none",
        class_rule=protocol.get("class_rule"),
        selection=protocol.get("selection") or "validation",
        parent=record.parent.run_id if record.parent else None,
        resamples=document.get("interval", {}).get("resamples"),
        per_class={
            entry["name"]: {"recall": entry.get("recall"), "f1": entry.get("f1")}
            for entry in document.get("per_class", ())
            if "name" in entry
        },
    )


def look_up(document: Any, *keys: str) -> Any:
    """The value at nested keys, or None: a run record may lack what is only displayed."""
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
    """A number without its fraction; anything else as None."""
    finite = number(value)
    return None if finite is None else int(finite)
