"""Many runs side by side: which numbers may be compared, and which differences are real.

Two runs are comparable when their predictions are about the same samples with the same labels.
Runs are grouped by that fingerprint; inside a group every pair is tested on shared samples.
"""

import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from fer_bench.errors import RunError
from fer_bench.manifest import AXES
from fer_bench.metrics import AXIS_METRICS, METRICS, NAMES, resampled, values
from fer_bench.predictions import TOLERANCE, Predictions, read_predictions
from fer_bench.rundir import RunDirectory, list_runs
from fer_bench.statistics import exact_mcnemar, holm, paired_bootstrap

# What a table of runs shows and what pairs are tested on, where the runs predict it.
EXPRESSION_METRICS = ("accuracy", "macro_f1")
CONCORDANCE = tuple(f"{axis}_ccc" for axis in AXES)
PAIR_METRICS = (*EXPRESSION_METRICS, *CONCORDANCE)
# More than for an interval: the smallest p is 2 / (R + 1), and Holm multiplies it by the tests.
PAIR_RESAMPLES = 9_999
PAIR_SEED = 0

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One run; what the run doesn't say is None.

    Attributes:
        run_id: the folder's name.
        selection_metric: what chose the epoch whose model was kept.
        n: number of samples that the metrics are about.
        metrics: {name: {`value`, `low`, `high`}}, names as in `metrics.NAMES`, with at least
            `EXPRESSION_METRICS` or `CONCORDANCE`, by what the run predicts.
    """

    run_id: str
    name: str
    seed: int | None
    status: str
    dataset: str | None
    backbone: str | None
    weights: str | None
    parameters: int | None
    image_size: int | None
    selection_metric: str | None
    n: int
    metrics: Mapping[str, Mapping[str, float | None]]
    images_per_second: float | None
    seconds: float | None

    def value(self, metric: str) -> float:
        """A metric's value; NaN where it is not defined or not predicted."""
        value = self.metrics[metric]["value"] if metric in self.metrics else None
        return math.nan if value is None else value


@dataclass(frozen=True)
class Pair:
    """The difference `a` minus `b` of two runs on the same samples.

    Attributes:
        low: lower bound of the difference's 95% interval (paired stratified bootstrap).
        high: upper bound.
        p: two-sided p of `test`.
        p_holm: p adjusted for all tests of the group.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    test: str


@dataclass(frozen=True)
class Seeds:
    """Runs of one experiment that differ in nothing but the seed.

    Attributes:
        metrics: {name: {`mean`, `sd`, `values`}} of those of `PAIR_METRICS` that every run has; sd
            is that of a sample (n - 1).
    """

    name: str
    run_ids: tuple[str, ...]
    seeds: tuple[int | None, ...]
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """Runs evaluated on the same samples with the same labels, best first.

    Best is the highest accuracy. Runs that predict no expression come after, by the mean of their
    concordance correlations.

    Attributes:
        test_fingerprint: of sample ids and labels.
        n: number of those samples.
        published: what others report for these experiments: `name` (ours), `source`, `metric`,
            `value` and `caveat` (or None).
        half_width: half the 95% interval of the best accuracy: about how large a difference must
            be to be seen on this many samples; None where no run predicts expressions.
    """

    test_fingerprint: str
    n: int
    runs: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    seeds: tuple[Seeds, ...]
    published: tuple[Mapping[str, Any], ...]
    half_width: float | None

    @property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """Which of `EXPRESSION_METRICS` and `CONCORDANCE` any of its runs have."""
        present = {name for row in self.runs for name in row.metrics}
        return tuple(
            kind for kind in (EXPRESSION_METRICS, CONCORDANCE) if present.intersection(kind)
        )


@dataclass(frozen=True)
class LeftOut:
    """A run that cannot be compared, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """All runs of a folder on one split. Rows of different groups are not comparable."""

    split: str
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `fer compare --json`."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row a run; a metric takes three columns: its name, and with `_low` and `_high`."""
        rows = [_flat(group, row) for group in self.groups for row in group.runs]
        return pd.DataFrame(rows, columns=_frame_columns(set().union(*rows)))


def collect(outputs: Path, split: str = "test") -> Comparison:
    """Read every run below `outputs` and compare those that are comparable.

    A run that is unfinished, was not evaluated on `split` or cannot be read is left out, with the
    reason; it never stops the others.

    Raises:
        RunError: the folder is missing or holds no runs.
    """
    directories = list_runs(outputs)
    if not directories:
        raise RunError(
            f"{outputs}: holds no runs (no */run.json was found).\n"
            "Give the folder that holds your runs, or train one first."
        )
    members: dict[str, list[_Member]] = defaultdict(list)
    left_out = []
    for directory in directories:
        try:
            member = _read(directory, split)
        except RunError as error:
            left_out.append(LeftOut(directory.run_id, str(error).splitlines()[0]))
        else:
            members[member.predictions.fingerprint].append(member)
    groups = sorted(map(_group, members.values()), key=_group_order)
    return Comparison(split, tuple(groups), tuple(left_out))


# Reading one run -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    """A run with what the comparison needs once and doesn't keep."""

    row: Row
    config: dict[str, Any]
    predictions: Predictions


def _read(directory: RunDirectory, split: str) -> _Member:
    """Raises: RunError saying why this run cannot be compared."""
    record = directory.read_json(directory.run_json)
    status = record.get("status")
    if status != "finished":
        raise RunError(f"not finished (status: {status}); go on with `fer train`")
    if not directory.metrics(split).exists():
        advice = f"`fer evaluate {directory.run_id}`"
        raise RunError(f"no metrics for the split '{split}'; compute them with {advice}")
    document = directory.read_json(directory.metrics(split))
    config = _read_config(directory.config)
    predictions = read_predictions(directory.predictions(split))
    cells = _cells(document)
    _check_cells(cells, predictions, split)
    _check_belongs(document, cells, predictions, split)
    row = _row(directory.run_id, record, config, cells, len(predictions))
    return _Member(row, config, predictions)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path}: cannot be read as YAML ({reason})") from error
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected a mapping, found {type(config).__name__}")
    published = config.get("published") or []
    if not isinstance(published, list) or not all(isinstance(entry, dict) for entry in published):
        raise RunError(f"{path}: 'published' is not a list of {{source, metric, value}}")
    return config


_Cells = Mapping[str, Mapping[str, float | None]]


def _cells(document: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """The headline metrics of a metrics file, by the names in `metrics.NAMES`."""
    entries = {name: document.get(name) for name in METRICS} | {
        f"{axis}_{name}": _look_up(document, axis, name) for axis in AXES for name in AXIS_METRICS
    }
    return {
        name: {part: _number(entry.get(part)) for part in ("value", "low", "high")}
        for name, entry in entries.items()
        if isinstance(entry, dict)
    }


def _check_cells(cells: _Cells, predictions: Predictions, split: str) -> None:
    """Raises: RunError when a metric that the saved predictions have is missing."""
    for name, value in values(predictions, PAIR_METRICS).items():
        if name not in cells or (math.isfinite(value) and None in cells[name].values()):
            raise RunError(f"metrics/{split}.json lacks {name}; evaluate the run again")


def _check_belongs(
    document: Mapping[str, Any], cells: _Cells, predictions: Predictions, split: str
) -> None:
    """Raises: RunError when the metrics are of other predictions than the saved ones."""
    computed = values(predictions, ("accuracy", *CONCORDANCE))
    expected = {
        "n": len(predictions),
        "fingerprint": predictions.fingerprint,
        "values": [_rounded(_number(value)) for value in computed.values()],
    }
    found = {
        "n": document.get("n"),
        "fingerprint": document.get("fingerprint", predictions.fingerprint),
        "values": [_rounded(cells[name]["value"]) for name in computed],
    }
    if found != expected:
        raise RunError(
            f"metrics/{split}.json was not computed from predictions/{split}.csv; "
            "evaluate the run again"
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _row(
    run_id: str,
    record: dict[str, Any],
    config: dict[str, Any],
    metrics: dict[str, dict[str, float | None]],
    n: int,
) -> Row:
    return Row(
        run_id=run_id,
        name=_text(record.get("name")) or run_id,
        seed=_whole(record.get("seed")),
        status="finished",
        dataset=_text(_look_up(record, "dataset", "name")),
        backbone=_text(_look_up(record, "model", "backbone")),
        weights=_text(_look_up(record, "model", "weights")),
        parameters=_whole(_look_up(record, "model", "parameters")),
        image_size=_whole(_look_up(config, "image", "size")),
        selection_metric=_text(_look_up(record, "best", "metric")),
        n=n,
        metrics=metrics,
        images_per_second=_number(record.get("images_per_second")),
        seconds=_number(record.get("seconds")),
    )


def _look_up(document: Any, *keys: str) -> Any:
    """The value below nested keys, or None: a run record may lack what is only shown."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    """A finite number as float, anything else as None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


# One group -------------------------------------------------------------------------------------


def _group(members: Sequence[_Member]) -> Group:
    ranked = sorted(members, key=lambda member: _rank(member.row))
    return Group(
        test_fingerprint=ranked[0].predictions.fingerprint,
        n=len(ranked[0].predictions),
        runs=tuple(member.row for member in ranked),
        pairs=tuple(_pairs(ranked)),
        seeds=tuple(_seeds(ranked)),
        published=tuple(_published(ranked)),
        half_width=_half_width(ranked[0].row),
    )


def _rank(row: Row) -> tuple[float, float, str]:
    scores = (row.value("accuracy"), sum(map(row.value, CONCORDANCE)))
    accuracy, concordance = (-math.inf if math.isnan(score) else score for score in scores)
    return -accuracy, -concordance, row.run_id


def _half_width(best: Row) -> float | None:
    cell = best.metrics.get("accuracy")
    return ((cell["high"] or 0.0) - (cell["low"] or 0.0)) / 2 if cell else None


def _group_order(group: Group) -> tuple[str, int, str]:
    return group.runs[0].dataset or "", -group.n, group.test_fingerprint


def _pairs(members: Sequence[_Member]) -> list[Pair]:
    """Every pair on every metric, p adjusted over all of them."""
    if len(members) < 2:
        return []
    runs = [member.predictions for member in members]
    draws = resampled(runs, PAIR_METRICS, seed=PAIR_SEED, resamples=PAIR_RESAMPLES)
    pairs = [
        _compare(metric, (first, first_draws), (second, second_draws))
        for (first, first_draws), (second, second_draws) in itertools.combinations(
            zip(members, draws, strict=True), 2
        )
        for metric in PAIR_METRICS
        if _is_testable(metric, first, second)
    ]
    adjusted = holm([pair["p"] for pair in pairs])
    return [Pair(**pair, p_holm=p_holm) for pair, p_holm in zip(pairs, adjusted, strict=True)]


def _is_testable(metric: str, first: _Member, second: _Member) -> bool:
    """Whether both runs have the metric, and it means the same in both."""
    if not all(math.isfinite(member.row.value(metric)) for member in (first, second)):
        return False
    if metric == "macro_f1":
        return _classes(first) == _classes(second)
    if metric in CONCORDANCE:
        true, other = (_true_values(member, metric) for member in (first, second))
        return np.allclose(true, other, rtol=0, atol=TOLERANCE, equal_nan=True)
    return True


def _classes(member: _Member) -> set[str]:
    expression = member.predictions.expression
    return set(expression.classes) if expression else set()


def _true_values(member: _Member, metric: str) -> _Floats:
    """Of the axis that a metric of `CONCORDANCE` is about, shape (n,)."""
    valence_arousal = member.predictions.valence_arousal
    return valence_arousal.true[:, CONCORDANCE.index(metric)] if valence_arousal else np.empty(0)


_Drawn = tuple[_Member, Mapping[str, _Floats]]


def _compare(metric: str, first: _Drawn, second: _Drawn) -> dict[str, Any]:
    (a, a_draws), (b, b_draws) = first, second
    low, high, p = paired_bootstrap(a_draws[metric], b_draws[metric])
    test = "paired stratified bootstrap"
    a_expression, b_expression = a.predictions.expression, b.predictions.expression
    if metric == "accuracy" and a_expression and b_expression:
        p, test = exact_mcnemar(a_expression.correct, b_expression.correct), "exact McNemar"
    return {
        "a": a.row.run_id,
        "b": b.row.run_id,
        "metric": metric,
        "difference": a.row.value(metric) - b.row.value(metric),
        "low": low,
        "high": high,
        "p": p,
        "test": test,
    }


def _seeds(members: Iterable[_Member]) -> list[Seeds]:
    """Mean and spread of every experiment that was run with more than one seed."""
    experiments: dict[str, list[Row]] = defaultdict(list)
    for member in members:
        rest = {key: value for key, value in member.config.items() if key != "seed"}
        experiments[json.dumps(rest, sort_keys=True, default=str)].append(member.row)
    return [_aggregate(rows) for rows in experiments.values() if len(rows) > 1]


def _aggregate(rows: Iterable[Row]) -> Seeds:
    ordered = sorted(rows, key=lambda row: (row.seed or 0, row.run_id))
    metrics = {}
    for name in PAIR_METRICS:
        found = [row.value(name) for row in ordered]
        if all(map(math.isfinite, found)):
            metrics[name] = {
                "mean": statistics.fmean(found),
                "sd": statistics.stdev(found),
                "values": found,
            }
    return Seeds(
        name=ordered[0].name,
        run_ids=tuple(row.run_id for row in ordered),
        seeds=tuple(row.seed for row in ordered),
        metrics=metrics,
    )


def _published(members: Iterable[_Member]) -> list[dict[str, Any]]:
    """The `published` entries of all configs, each once for an experiment's name."""
    entries: dict[str, dict[str, Any]] = {}
    for member in sorted(members, key=lambda member: member.row.name):
        for entry in member.config.get("published") or []:
            named = {
                "name": member.row.name,
                "source": str(entry.get("source")),
                "metric": str(entry.get("metric")),
                "value": _number(entry.get("value")),
                "caveat": _text(entry.get("caveat")),
            }
            entries.setdefault(json.dumps(named), named)
    return list(entries.values())


# One tidy table --------------------------------------------------------------------------------

_ROW_COLUMNS = [name for name in Row.__dataclass_fields__ if name != "metrics"]


def _frame_columns(present: Container[str]) -> list[str]:
    """Always those of expression; those of valence and arousal where a run predicts them."""
    names = [name for name in NAMES if name in METRICS or name in present]
    cells = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return ["test_fingerprint", *_ROW_COLUMNS, *cells]


def _flat(group: Group, row: Row) -> dict[str, Any]:
    flat = {name: getattr(row, name) for name in _ROW_COLUMNS}
    for name, cell in row.metrics.items():
        flat |= {name: cell["value"], f"{name}_low": cell["low"], f"{name}_high": cell["high"]}
    return {"test_fingerprint": group.test_fingerprint, **flat}
