"""Reading one run: what it is, what it predicts, and whether the two belong together."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fer_bench.compare.rows import PAIR_METRICS, Row
from fer_bench.errors import RunError
from fer_bench.manifest import AXES
from fer_bench.metrics import AXIS_METRICS, METRICS, values
from fer_bench.predictions import Expression, Predictions, read_predictions
from fer_bench.rundir import RunDirectory
from fer_bench.where import Condition

# The C implementation reads a configuration ten times as fast, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_Bytes = NDArray[np.uint8]


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
    record: Mapping[str, Any] = field(default_factory=dict)
    path: Path = Path()

    @property
    def recorded_id(self) -> str:
        """The id with which the run was made, whatever its folder is called now."""
        return text(self.record.get("run_id")) or self.row.run_id

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
    record = directory.read_json(directory.run_json)
    status = record.get("status")
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
    predictions, fingerprint = _read_answers(path) or _read_all(path)
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


def _read_answers(path: Path) -> tuple[Predictions, str] | None:
    """What is predicted, without the probabilities, and its fingerprint; or None.

    Nothing is computed from the probabilities here, and `fer evaluate` has checked them when it
    computed the metrics; to parse them is most of the work of reading hundreds of runs. A file
    with valence and arousal, with quotes, that ends within a row, or with anything wrong in what
    is read here, is left to `read_predictions`, which knows what to say of it.
    """
    try:
        header, _, body = path.read_bytes().partition(b"\n")
        names = header.decode().split(",")
    except (OSError, ValueError):
        return None
    classes = tuple(name.removeprefix("p_") for name in names[3:])
    usual = names[:3] == ["sample_id", "label", "predicted"] and len(classes) >= 2
    usual = usual and all(name.startswith("p_") for name in names[3:])
    if not usual or any(mark in body for mark in (b'"', b"\r")):
        return None
    text = np.frombuffer(body if body.endswith(b"\n") else body + b"\n", dtype=np.uint8)
    ends = _cells_of(text, len(names))
    if ends is None:
        return None
    starts = np.concatenate([[0], ends[:-1, -1] + 1])
    shared = _same_samples(_joined(text, starts, ends[:, 1] + 1), classes)
    predicted = _codes(text, ends[:, 1] + 1, ends[:, 2], classes)
    if shared is None or (predicted < 0).any():
        return None
    samples, labels, order = shared
    unread = np.broadcast_to(np.nan, (len(order), len(classes)))
    expression = Expression(classes, labels, predicted[order], unread)
    return replace(samples, expression=expression), samples.fingerprint


def _cells_of(text: _Bytes, width: int) -> NDArray[np.intp] | None:
    """Where each cell of a table ends, shape (rows, width); None where a row has not so many."""
    found = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    if not len(found) or len(found) % width:
        return None
    ends = found.reshape(-1, width)
    rows_end = text[ends] == ord("\n")
    return ends if rows_end[:, -1].all() and not rows_end[:, :-1].any() else None


def _joined(text: _Bytes, starts: NDArray[np.intp], stops: NDArray[np.intp]) -> bytes:
    """The parts of `text` from each start to before its stop, one after the other."""
    lengths = stops - starts
    skipped = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    joined: bytes = text[skipped + np.arange(lengths.sum())].tobytes()
    return joined


def _codes(
    text: _Bytes, starts: NDArray[np.intp], stops: NDArray[np.intp], classes: tuple[str, ...]
) -> NDArray[np.int64]:
    """Which of `classes` each cell names; -1 for none of them."""
    known = [name.encode() for name in classes]
    # One more than the longest, so that a longer cell is not taken for its beginning.
    places = np.arange(max(map(len, known)) + 1)
    cells = text[np.minimum(starts[:, None] + places, len(text) - 1)]
    cells = np.where(places < (stops - starts)[:, None], cells, 0).astype(np.uint8)
    words = np.ascontiguousarray(cells).view(f"S{len(places)}")[:, 0]
    codes = np.full(len(words), -1)
    for code, name in enumerate(known):
        codes[words == name] = code
    return codes


@functools.lru_cache(maxsize=4)
def _same_samples(
    columns: bytes, classes: tuple[str, ...]
) -> tuple[Predictions, NDArray[np.int64], NDArray[np.intp]] | None:
    """Sorted samples, codes of their labels, and the rows that they stood in; or None.

    Hundreds of runs share them: they are held, sorted and summed up only once.

    Args:
        columns: the cells `sample_id` and `label` of every row, a comma after each.
        classes: what the labels may name.
    """
    try:
        cells = columns.decode().removesuffix(",").split(",")
    except ValueError:
        return None
    sample_ids, labels = cells[::2], cells[1::2]
    code = {name: index for index, name in enumerate(classes)}
    if len(set(sample_ids)) < len(sample_ids) or not set(labels) <= set(code):
        return None
    order = np.array(sorted(range(len(sample_ids)), key=sample_ids.__getitem__))
    names = tuple(sample_ids[row] for row in order)
    ordered = np.array([labels[row] for row in order])
    return Predictions(names, ordered), np.array([code[name] for name in ordered.tolist()]), order


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
        parent=text(look_up(record, "parent", "run_id")),
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
