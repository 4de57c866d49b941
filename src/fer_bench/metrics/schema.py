"""The documents `metrics/<evaluation>.json` and `corruptions/<evaluation>.json`: keys and checks.

Keys that a reader does not know are left alone, and most known ones may be missing: documents of
older versions are read, and so are those of a model that does not predict everything.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NotRequired, cast

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.measure import NAMES
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.spelling import did_you_mean

# The version of both documents. Those without the key are of the same form.
SCHEMA: Final = 1

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


def _known_metric(name: str) -> str:
    if name not in NAMES:
        raise ValueError(
            f"no such metric; {did_you_mean(name, NAMES) or 'known are ' + ', '.join(NAMES)}"
        )
    return name


MetricName = Annotated[str, AfterValidator(_known_metric)]


class Bounds(TypedDict):
    """An interval; None where it is not defined."""

    low: Number | None
    high: Number | None


class Cell(TypedDict):
    """A value with its 95% interval; None where one is not defined."""

    value: Number | None
    low: Number | None
    high: Number | None


class ClassEntry(TypedDict, total=False):
    """The metrics of one class."""

    name: Name
    support: Count
    precision: Share
    recall: Share
    f1: Share
    auc: Share | None
    average_precision: Share | None
    intervals: dict[str, Bounds]


class AxisEntry(TypedDict, total=False):
    """The metrics of valence or of arousal over the `n` samples whose true value is known."""

    n: Count
    rmse: Cell
    ccc: Cell
    pcc: Cell
    sagr: Cell


class IntervalEntry(TypedDict, total=False):
    """How the intervals were computed."""

    level: Share
    methods: dict[str, str | dict[str, str]]
    resamples: Count
    seed: int


class TwinsEntry(TypedDict):
    """What was left out of the metrics beside these keys: images with a copy in another split."""

    n: Count
    left_out: Count
    exact: NotRequired[Count]
    near: NotRequired[Count]
    relation: NotRequired[str]


class TemperatureEntry(TypedDict):
    """Calibration before and after one temperature."""

    value: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    fitted_on: str
    n: Count
    before: dict[MetricName, Cell]
    after: dict[MetricName, Cell]


class GroupSize(TypedDict):
    """A group of people, and how many of the images show it."""

    name: Name
    n: Count


class GroupEntry(GroupSize, total=False):
    """The metrics of a group, and the classes of the model that it has no image of."""

    accuracy: Cell
    macro_f1: Cell
    absent: list[str]


class SubgroupEntry(TypedDict, total=False):
    """Metrics by the groups of one attribute, and the difference between the best and the worst."""

    attribute: Name
    least: Count
    groups: list[GroupEntry]
    suppressed: list[GroupSize]
    worst: dict[MetricName, str | None]
    best: dict[MetricName, str | None]
    difference: dict[MetricName, Cell]
    ratio: dict[MetricName, Cell]


class ProtocolEntry(TypedDict, total=False):
    """What numbers must share to be compared."""

    dataset: str | None
    release: str | None
    dataset_fingerprint: str | None
    split: str | None
    classes: list[Name]
    views: str | None
    class_rule: str | None
    selection: str | None


class MetricsDocument(TypedDict, total=False):
    """`metrics/<evaluation>.json`. Beside these keys, every metric of expression is one, a `Cell`.

    Attributes:
        schema: `SCHEMA`.
        n: number of samples.
        per_class: in the order of the confusion matrix.
        confusion_matrix: number of samples by true class (rows) and predicted class (columns).
        fingerprint: of sample ids and labels.
    """

    schema: int
    n: Count
    per_class: list[ClassEntry]
    confusion_matrix: list[list[Count]]
    valence: AxisEntry | None
    arousal: AxisEntry | None
    fingerprint: str
    interval: IntervalEntry
    without_twins: TwinsEntry
    temperature: TemperatureEntry
    subgroups: list[SubgroupEntry]
    protocol: ProtocolEntry | None
    warnings: list[str]


class ConditionEntry(TypedDict):
    """The accuracy under one corruption; `severity` is None for an occlusion."""

    corruption: Name
    family: Name
    severity: Annotated[int, Field(ge=1, le=5)] | None
    accuracy: Cell


class CorruptionsDocument(TypedDict):
    """`corruptions/<evaluation>.json`.

    Attributes:
        schema: `SCHEMA`.
        n: number of samples.
        clean: the accuracy without any corruption.
        conditions: the accuracy under each corruption and severity.
        mean_corruption_accuracy: over the conditions that have a severity.
        relative_drop: 1 - mean / clean.
        by_corruption: the mean over the severities of each.
        complete: whether these are all corruptions in all severities.
        fingerprint: of sample ids and labels.
        seed: of the corruptions.
        interval: how the intervals were computed.
    """

    schema: NotRequired[int]
    n: Count
    clean: Cell
    conditions: Annotated[list[ConditionEntry], Field(min_length=1)]
    mean_corruption_accuracy: Cell
    relative_drop: Cell
    by_corruption: dict[str, Cell]
    complete: bool
    fingerprint: NotRequired[str]
    seed: NotRequired[int]
    interval: NotRequired[IntervalEntry]


# Checks ----------------------------------------------------------------------------------------

# The key of each headline metric: `accuracy`, `valence.ccc`.
_KEYS = {
    **{name: (name,) for name in METRICS},
    **{f"{axis}_{name}": (axis, name) for axis in AXES for name in AXIS_METRICS},
}
# Least and largest value of metrics that are not in [0, 1].
_RANGES = {
    "kappa": (-1.0, 1.0),
    "nll": (0.0, math.inf),
    "brier": (0.0, 2.0),
    **{f"{axis}_rmse": (0.0, 2.0) for axis in AXES},
    **{f"{axis}_{name}": (-1.0, 1.0) for axis in AXES for name in ("ccc", "pcc")},
}
# How far rounding may take a value beyond its range.
_ROUNDING = 1e-6


class DocumentError(ValueError):
    """A document is damaged; the message names the key and what is wrong with it."""


def check_metrics(document: object) -> MetricsDocument:
    """The content of `metrics/<evaluation>.json`, checked. Raises: DocumentError."""
    _validate(MetricsDocument, document)
    metrics = cast(MetricsDocument, document)
    _check_version(metrics)
    for part, inside in ((metrics, ""), (metrics.get("without_twins"), "without_twins.")):
        known = {name: part[name] for name in METRICS if part and name in part}  # type: ignore[literal-required]
        _validate(dict[str, Cell], known, inside)
        _check_ranges(known, inside)
    _check_ranges(headline_cells(metrics))
    _check_ranges(dict(_further_cells(metrics)))
    names = [entry.get("name") for entry in metrics.get("per_class", ())]
    if len(set(names)) < len(names):
        raise DocumentError("per_class names a class twice")
    matrix = metrics.get("confusion_matrix")
    if matrix and {len(matrix), *map(len, matrix)} != {len(names)}:
        raise DocumentError(f"confusion_matrix is not of the {len(names)} classes of per_class")
    return metrics


def _further_cells(metrics: MetricsDocument) -> Iterator[tuple[str, Cell]]:
    """The cells of the classes, the groups and the calibration, with their keys."""
    for place, entry in enumerate(metrics.get("per_class", ())):
        for name, bounds in entry.get("intervals", {}).items():
            yield f"per_class.{place}.intervals.{name}", {"value": None, **bounds}
    for place, attribute in enumerate(metrics.get("subgroups", ())):
        for number, group in enumerate(attribute.get("groups", ())):
            yield from _cells_of(group, f"subgroups.{place}.groups.{number}.")
    if temperature := metrics.get("temperature"):
        yield from _cells_of(temperature["before"], "temperature.before.")
        yield from _cells_of(temperature["after"], "temperature.after.")


def _cells_of(entry: Mapping[str, Any], inside: str) -> Iterator[tuple[str, Cell]]:
    return ((inside + name, cell) for name, cell in entry.items() if name in NAMES)


def check_corruptions(document: object) -> CorruptionsDocument:
    """The content of `corruptions/<evaluation>.json`, checked. Raises: DocumentError."""
    _validate(CorruptionsDocument, document)
    found = cast(CorruptionsDocument, document)
    _check_version(found)
    _check_ranges({"mean_corruption_accuracy": found["mean_corruption_accuracy"]})
    _check_ranges(found["by_corruption"], "by_corruption.")
    measured = {"clean": found["clean"]}
    for place, entry in enumerate(found["conditions"]):
        measured[f"conditions.{place}.accuracy"] = entry["accuracy"]
    _check_ranges(measured)
    if unknown := [key for key, cell in measured.items() if None in cell.values()]:
        raise DocumentError(f"{unknown[0]} has no value or no interval")
    return found


def headline_cells(document: MetricsDocument) -> dict[str, Cell]:
    """The headline metrics of a checked document by the names in `NAMES`, as far as present."""
    found: dict[str, Cell] = {}
    for name, keys in _KEYS.items():
        entry: Any = document
        for key in keys:
            entry = (entry or {}).get(key)
        if entry is not None:
            found[name] = entry
    return found


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _validate(kind: Any, document: object, inside: str = "") -> None:
    try:
        _adapter(kind).validate_python(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = inside + ".".join(map(str, first["loc"]))
        found = "is missing" if first["type"] == "missing" else f"is {first['input']!r:.60}"
        what = "" if first["type"] == "missing" else f" ({first['msg'].lower()})"
        raise DocumentError(f"{key or 'the document'} {found}{what}") from error


def _check_version(document: MetricsDocument | CorruptionsDocument) -> None:
    version = document.get("schema", SCHEMA)
    if version != SCHEMA:
        raise DocumentError(f"schema is {version}, and this version of fer-bench reads {SCHEMA}")


def _check_ranges(cells: Mapping[str, Cell], inside: str = "") -> None:
    for name, cell in cells.items():
        key = inside + ".".join(_KEYS.get(name, (name,)))
        least, most = _RANGES.get(name.rpartition(".")[2], (0.0, 1.0))
        parts = {"value": cell["value"], "low": cell["low"], "high": cell["high"]}
        for part, number in parts.items():
            if number is not None and not least - _ROUNDING <= number <= most + _ROUNDING:
                raise DocumentError(f"{key}.{part} is {number:g}, outside [{least:g}, {most:g}]")
        low, high = cell["low"], cell["high"]
        if low is not None and high is not None and low > high:
            raise DocumentError(f"{key}.low is {low:g}, above {key}.high, {high:g}")
