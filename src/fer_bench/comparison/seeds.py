"""Experiments with several seeds: their spread, and their differences."""

import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fer_bench.comparison.identity import experiment
from fer_bench.comparison.member import Member
from fer_bench.comparison.pairs import PAIR_SEED, Draws, PairsWith, adjusted
from fer_bench.comparison.result import EXPRESSION_METRICS, PAIR_METRICS, ExperimentPair, Row, Seeds
from fer_bench.metrics.significance import seeds_difference

HIERARCHICAL = "hierarchical bootstrap (seeds x images)"


def aggregate_seeds(members: Iterable[Member]) -> list[Seeds]:
    """Mean and spread of every experiment with more than one seed, best accuracy first.

    Args:
        members: one run per seed of each experiment, see `identity.distinct_seeds`.
    """
    experiments: dict[str, list[Row]] = defaultdict(list)
    for member in members:
        experiments[experiment(member)].append(member.row)
    several = [rows for rows in experiments.values() if len(rows) > 1]
    names = Counter(rows[0].name for rows in several)
    found = [_aggregate(rows, unique=names[rows[0].name] == 1) for rows in several]
    return sorted(found, key=_rank)


def _rank(one: Seeds) -> float:
    return -one.metrics["accuracy"]["mean"] if "accuracy" in one.metrics else math.inf


def _aggregate(rows: Iterable[Row], unique: bool) -> Seeds:
    ordered = sorted(rows, key=lambda row: (row.seed or 0, row.run_id))
    metrics: dict[str, dict[str, Any]] = {}
    for name in PAIR_METRICS:
        found = [row.value(name) for row in ordered]
        if all(map(math.isfinite, found)):
            metrics[name] = {
                "mean": statistics.fmean(found),
                "sd": statistics.stdev(found),
                "values": found,
            }
    name = ordered[0].name
    return Seeds(
        name=name if unique else f"{name} (as {ordered[0].run_id})",
        run_ids=tuple(row.run_id for row in ordered),
        seeds=tuple(row.seed for row in ordered),
        metrics=metrics,
    )


def compare_experiments(
    experiments: Sequence[Seeds], draws: Draws, pairs_with: PairsWith
) -> list[ExperimentPair]:
    """Differences of the means over seeds, p adjusted over all of them.

    Args:
        experiments: on the same samples with the same classes, the best accuracy first.
        draws: of their runs.
        pairs_with: all pairs of experiments, or only those with the one of the highest mean
            accuracy.
    """
    ranked = [one for one in experiments if set(EXPRESSION_METRICS) <= set(one.metrics)]
    chosen = [
        pair
        for pair in itertools.combinations(ranked, 2)
        if pairs_with == "all" or pair[0] is ranked[0]
    ]
    return adjusted(
        [
            _difference(metric, first, second, draws)
            for first, second in chosen
            for metric in EXPRESSION_METRICS
        ]
    )


def _difference(metric: str, first: Seeds, second: Seeds, draws: Draws) -> ExperimentPair:
    arms = [np.stack([draws[metric][run_id] for run_id in arm.run_ids]) for arm in (first, second)]
    difference = first.metrics[metric]["mean"] - second.metrics[metric]["mean"]
    return ExperimentPair(
        *(first.name, second.name, metric, difference),
        *seeds_difference(arms[0], arms[1], PAIR_SEED),
        p_holm=math.nan,
        test=HIERARCHICAL,
        seeds=(len(first.run_ids), len(second.run_ids)),
    )
