"""Many runs side by side: which numbers may be compared, and which differences are real.

Two runs are comparable when their predictions are about the same samples with the same labels.
Runs are grouped by that fingerprint; inside a group every pair is tested on shared samples.
"""

import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fer_bench.errors import RunError
from fer_bench.metrics import METRICS, Predictions, read_predictions, resampled
from fer_bench.rundir import RunDirectory, list_runs
from fer_bench.statistics import exact_mcnemar, holm, paired_bootstrap

# What a table of runs shows and what pairs are tested on.
PAIR_METRICS = ("accuracy", "macro_f1")
# More than for an interval: the smallest p is 2 / (R + 1), and Holm multiplies it by the tests.
PAIR_RESAMPLES = 9_999
PAIR_SEED = 0


@dataclass(frozen=True)
class Row:
    """One run; what the run doesn't say is None.

    Attributes:
        run_id: the folder's name.
        selection_metric: what chose the epoch whose model was kept.
        n: number of samples that the metrics are about.
        metrics: {name: {`value`, `low`, `high`}}, with at least `PAIR_METRICS`.
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
        """A metric's value; NaN where it is not defined."""
        value = self.metrics[metric]["value"]
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
        metrics: {name: {`mean`, `sd`, `values`}}; sd is that of a sample (n - 1).
    """

    name: str
    run_ids: tuple[str, ...]
    seeds: tuple[int | None, ...]
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """Runs evaluated on the same samples with the same labels, best accuracy first.

    Attributes:
        test_fingerprint: of sample ids and labels.
        n: number of those samples.
        published: what others report for these experiments: `name` (ours), `source`, `metric`,
            `value` and `caveat` (or None).
        half_width: half the 95% interval of the best accuracy: about how large a difference must
            be to be seen on this many samples.
    """

    test_fingerprint: str
    n: int
    runs: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    seeds: tuple[Seeds, ...]
    published: tuple[Mapping[str, Any], ...]
    half_width: float


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
        return pd.DataFrame(
            [_flat(group, row) for group in self.groups for row in group.runs],
            columns=_frame_columns(),
        )


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
    cells = _cells(document, split)
    _check_belongs(document, cells["accuracy"]["value"], predictions, split)
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


def _check_belongs(
    document: dict[str, Any], accuracy: float | None, predictions: Predictions, split: str
) -> None:
    """Raises: RunError when the metrics are of other predictions than the saved ones."""
    expected = {
        "n": len(predictions),
        "fingerprint": predictions.fingerprint,
        "accuracy": round(float(predictions.correct.mean()), 6),
    }
    found = {
        "n": document.get("n"),
        "fingerprint": document.get("fingerprint", predictions.fingerprint),
        "accuracy": accuracy and round(accuracy, 6),
    }
    if found != expected:
        raise RunError(
            f"metrics/{split}.json was not computed from predictions/{split}.csv; "
            "evaluate the run again"
        )


def _cells(document: dict[str, Any], split: str) -> dict[str, dict[str, float | None]]:
    """The headline metrics of a metrics file. Raises: RunError when a needed one is missing."""
    cells = {
        name: {part: _number(document[name].get(part)) for part in ("value", "low", "high")}
        for name in METRICS
        if isinstance(document.get(name), dict)
    }
    for name in PAIR_METRICS:
        if name not in cells or None in cells[name].values():
            raise RunError(f"metrics/{split}.json lacks {name}; evaluate the run again")
    return cells


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
    ranked = sorted(members, key=lambda m: (-m.row.value("accuracy"), m.row.run_id))
    best = ranked[0].row.metrics["accuracy"]
    return Group(
        test_fingerprint=ranked[0].predictions.fingerprint,
        n=len(ranked[0].predictions),
        runs=tuple(member.row for member in ranked),
        pairs=tuple(_pairs(ranked)),
        seeds=tuple(_seeds(ranked)),
        published=tuple(_published(ranked)),
        half_width=((best["high"] or 0.0) - (best["low"] or 0.0)) / 2,
    )


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
        if metric != "macro_f1" or _same_classes(first, second)
    ]
    adjusted = holm([pair["p"] for pair in pairs])
    return [Pair(**pair, p_holm=p_holm) for pair, p_holm in zip(pairs, adjusted, strict=True)]


def _same_classes(first: _Member, second: _Member) -> bool:
    """Whether macro F1 averages over the same classes in both runs."""
    return set(first.predictions.classes) == set(second.predictions.classes)


_Drawn = tuple[_Member, Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]]


def _compare(metric: str, first: _Drawn, second: _Drawn) -> dict[str, Any]:
    (a, a_draws), (b, b_draws) = first, second
    low, high, p = paired_bootstrap(a_draws[metric], b_draws[metric])
    test = "paired stratified bootstrap"
    if metric == "accuracy":
        p, test = exact_mcnemar(a.predictions.correct, b.predictions.correct), "exact McNemar"
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
        values = [row.value(name) for row in ordered]
        metrics[name] = {
            "mean": statistics.fmean(values),
            "sd": statistics.stdev(values),
            "values": values,
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


def _frame_columns() -> list[str]:
    cells = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    return ["test_fingerprint", *_ROW_COLUMNS, *cells]


def _flat(group: Group, row: Row) -> dict[str, Any]:
    flat = {name: getattr(row, name) for name in _ROW_COLUMNS}
    for name, cell in row.metrics.items():
        flat |= {name: cell["value"], f"{name}_low": cell["low"], f"{name}_high": cell["high"]}
    return {"test_fingerprint": group.test_fingerprint, **flat}
