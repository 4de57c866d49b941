"""Metrics of groups of people: by gender, race, age or any attribute of the dataset."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from fer_bench.metrics.arrays import FloatArray
from fer_bench.metrics.document import headline, resampled_cell
from fer_bench.metrics.measure import RESAMPLES, resampled
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.schema import Cell, SubgroupEntry

# Smaller groups are named with their size, but not measured.
LEAST = 20
GROUP_METRICS = ("accuracy", "macro_f1")


def by_attribute(
    predictions: Predictions,
    attributes: pd.DataFrame,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[SubgroupEntry]:
    """The key `subgroups` of `metrics/<evaluation>.json`.

    Every group is resampled by itself and within its classes, so that resamples keep the number
    of images of each class in each group. `difference` (best minus worst) and `ratio` (worst by
    best) compare the groups with the best and the worst value. Their intervals do not account for
    this choice after the fact, which matters more, the more groups there are.

    Macro F1 is the mean over all classes of the model; a class without an image in the group counts
    as 0, and `absent` names it.

    Args:
        predictions: n samples with expression.
        attributes: one column per attribute, values as text, index `sample_id` with at least all
            samples of `predictions`; samples without a value (missing or empty) are left out.
        seed: of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        One entry per attribute that has any value, in the order of the columns.

    Raises:
        ValueError: no expression is predicted, or a sample is not in the index.
    """
    if predictions.expression is None:
        raise ValueError("by_attribute needs predictions of expression")
    ids = pd.Index(predictions.sample_ids)
    if not ids.isin(attributes.index).all():
        raise ValueError("by_attribute needs the attributes of every sample")
    rows = attributes.loc[ids]
    entries = []
    for name, column in rows.items():
        values = column.fillna("").astype(str).to_numpy(dtype=np.str_)
        groups = {
            str(value): predictions.select(values == value)
            for value in sorted(set(values.tolist()) - {""})
        }
        if groups:
            entries.append(_entry(str(name), groups, seed, resamples))
    return entries


def _entry(
    attribute: str, groups: Mapping[str, Predictions], seed: int, resamples: int
) -> SubgroupEntry:
    shown = {name: group for name, group in groups.items() if len(group) >= LEAST}
    cells: dict[str, dict[str, Cell]] = {}
    draws: dict[str, dict[str, FloatArray]] = {}
    # The groups are disjoint, so each has its own resamples.
    for index, (name, group) in enumerate(shown.items()):
        own = int(np.random.default_rng([seed, index]).integers(2**32))
        cells[name] = headline(group, own, resamples, GROUP_METRICS)
        (draws[name],) = resampled([group], GROUP_METRICS, own, resamples)
    order = {
        metric: sorted(shown, key=lambda name: cells[name][metric]["value"] or 0.0)
        for metric in GROUP_METRICS
    }
    compared = {
        metric: _compare(cells, draws, metric, ranked)
        for metric, ranked in order.items()
        if len(ranked) > 1
    }
    undefined: Cell = {"value": None, "low": None, "high": None}
    entry = {
        "attribute": attribute,
        "least": LEAST,
        "groups": [
            {"name": name, "n": len(group), **cells[name], "absent": _absent(group)}
            for name, group in shown.items()
        ],
        "suppressed": [
            {"name": name, "n": len(group)} for name, group in groups.items() if name not in shown
        ],
        "worst": {metric: ranked[0] if shown else None for metric, ranked in order.items()},
        "best": {metric: ranked[-1] if shown else None for metric, ranked in order.items()},
        **{
            kind: {metric: compared.get(metric, {}).get(kind, undefined) for metric in order}
            for kind in ("difference", "ratio")
        },
    }
    return cast(SubgroupEntry, entry)


def _compare(
    cells: Mapping[str, Mapping[str, Cell]],
    draws: Mapping[str, Mapping[str, FloatArray]],
    metric: str,
    ranked: list[str],
) -> dict[str, Cell]:
    """Best minus worst, and worst by best, of groups ranked from the worst."""
    worst, best = ranked[0], ranked[-1]
    low, high = (cells[name][metric]["value"] or 0.0 for name in (worst, best))
    low_draws, high_draws = draws[worst][metric], draws[best][metric]
    return {
        "difference": resampled_cell(high - low, high_draws - low_draws),
        "ratio": resampled_cell(
            *(_ratio(*pair) for pair in ((low, high), (low_draws, high_draws)))
        ),
    }


def _ratio(numerator: Any, denominator: Any) -> Any:
    """NaN where the denominator is 0."""
    return numerator / np.where(np.asarray(denominator) == 0, np.nan, denominator)


def _absent(group: Predictions) -> list[str]:
    """The classes of the model without an image in the group."""
    classes = group.expression.classes if group.expression is not None else ()
    return [name for name in classes if name not in set(group.label_names.tolist())]
