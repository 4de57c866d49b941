"""Reading one run: what it is, what it predicts, and whether the two belong together."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fer_bench.comparison.filter import Condition
from fer_bench.comparison.result import PAIR_METRICS, Row
from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.measure import values
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.runs.answers import read_answers
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.runs.record import RunRecord

# The C implementation reads a configuration ten times as fast, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Member:
    """A run with what the comparison needs once and doesn't keep.

    Attributes:
        record: its `run.json`.
        path: the file of its predictions.
    """

    row: Row
    config: Mapping[str, Any]
    predictions: Predictions
    fingerprint: str
    record: RunRecord = field(default_factory=RunRecord)
    path: Path = Path()

    @property
    def recorded_id(self) -> str:
        """The id with which the run was made, whatever its folder is called now."""
        return self.record.run_id or self.row.run_id

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it may answer, sorted; empty where it predicts no expression."""
        expression = self.predictions.expression
        return tuple(sorted(expression.classes)) if expression else ()


def read_run(directory: RunDirectory, evaluation: str, chosen: Condition | None) -> Member | None:
    """One run with its predictions, or None where `chosen` does not hold for it.

    Raises:
        RunError: this run cannot be compared, and why.
    """
    record = directory.read_record()
    status = record.status
    if status != "finished":
        if directory.is_locked():
            raise RunError("it is being trained; it is shown once it is evaluated")
        raise RunError(f"not finished (status: {status}); go on with `fer train`")
    if not directory.metrics(evaluation).exists():
        advice = f"`fer evaluate {directory.run_id}{_options(evaluation)}`"
        raise RunError(f"no metrics for the split '{evaluation}'; compute them with {advice}")
    document = directory.read_json(directory.metrics(evaluation))
    config = _read_config(directory.config)
    row = _row(directory.run_id, record, config, document)
    if chosen and not chosen(row.columns()):
        return None
    path = directory.predictions(evaluation)
    predictions, fingerprint = read_answers(path) or _read_all(path)
    computed = values(predictions, PAIR_METRICS)
    _check_cells(row.metrics, computed, evaluation)
    if not _is_of(document, row, len(predictions), fingerprint, computed):
        raise RunError(
            f"metrics/{evaluation}.json was not computed from predictions/{evaluation}.csv; "
            "evaluate the run again"
        )
    return Member(row, config, predictions, fingerprint, record, path)


def _read_all(path: Path) -> tuple[Predictions, str]:
    predictions = read_predictions(path)
    return predictions, predictions.fingerprint


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


def _is_of(
    document: Mapping[str, Any],
    row: Row,
    n: int,
    fingerprint: str,
    computed: Mapping[str, float],
) -> bool:
    """Whether metrics are of the saved predictions, of which n, fingerprint and some are given."""
    expected = _rounded(number(value) for value in computed.values())
    found = _rounded(row.metrics[name]["value"] for name in computed)
    same_samples = document.get("fingerprint", fingerprint) == fingerprint
    return document.get("n") == n and same_samples and found == expected


def _rounded(numbers: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in numbers]


# The row ---------------------------------------------------------------------------------------


def _row(
    run_id: str, record: RunRecord, config: Mapping[str, Any], document: Mapping[str, Any]
) -> Row:
    protocol = document.get("protocol")
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
        n=whole(document.get("n")) or 0,
        metrics=_cells(document),
        images_per_second=record.images_per_second,
        seconds=record.seconds,
        # A file from before there was a protocol: one view, own dataset, chosen on validation.
        views=text(look_up(protocol, "views")) or "none",
        class_rule=text(look_up(protocol, "class_rule")),
        selection=text(look_up(protocol, "selection")) or "validation",
        parent=record.parent.run_id if record.parent else None,
        resamples=whole(look_up(document, "interval", "resamples")),
        per_class={
            str(entry["name"]): {part: number(entry.get(part)) for part in ("recall", "f1")}
            for entry in document.get("per_class") or ()
            if isinstance(entry, dict) and "name" in entry
        },
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
