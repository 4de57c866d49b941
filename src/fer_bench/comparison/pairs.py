"""Paired tests of runs on the same samples: which differences are real."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_bench.comparison.member import Member
from fer_bench.comparison.result import CONCORDANCE, EXPRESSION_METRICS, PAIR_METRICS, Pair
from fer_bench.device.machine import usable_cores
from fer_bench.metrics.measure import resampled
from fer_bench.metrics.significance import exact_mcnemar, holm, paired_bootstrap
from fer_bench.runs.predictions import TOLERANCE

# The smallest p is 2 / (R + 1), and Holm multiplies it by the number of tests.
PAIR_RESAMPLES = 9_999
PAIR_SEED = 0
BOOTSTRAP = "paired stratified bootstrap"
MCNEMAR = "exact McNemar"
# Each thread holds less than 40 MB for 300 runs of 7 classes.
_MOST_THREADS = 8

# In larger groups, `auto` tests only the pairs with the best run: the number of pairs grows with
# the square of the number of runs, and every further test costs the others power.
ALL_PAIRS_UP_TO = 15
PairsWith = Literal["all", "best"]

Draws = Mapping[str, Mapping[str, NDArray[np.float64]]]

AnyPair = TypeVar("AnyPair", bound=Pair)

# Two positions in a sequence of runs, the better first.
_Two = tuple[int, int]


def draw(members: Sequence[Member]) -> Draws:
    """{metric: {run id: its values on the resamples, shape (R,)}} for all of `PAIR_METRICS`.

    Entry r of every array is from the same resample of the images.
    """
    drawn = resampled(
        [member.predictions for member in members],
        PAIR_METRICS,
        seed=PAIR_SEED,
        resamples=PAIR_RESAMPLES,
        threads=min(_MOST_THREADS, usable_cores().number),
    )
    return {
        name: {
            member.row.run_id: own[name]
            for member, own in zip(members, drawn, strict=True)
            if name in own
        }
        for name in PAIR_METRICS
    }


def compare_pairs(members: Sequence[Member], draws: Draws, pairs_with: PairsWith) -> list[Pair]:
    """Test pairs of runs on every metric that both have, p adjusted over all tests.

    Args:
        members: runs on the same samples with the same classes, best accuracy first.
        draws: of these runs, from `draw`.
        pairs_with: all pairs, or only those with the best run: for the metrics of expression the
            first one, for valence and arousal the one with the highest sum of correlations.
    """
    found: list[tuple[_Two, Pair]] = []
    for kind in (EXPRESSION_METRICS, CONCORDANCE):
        for metric in kind:
            chosen = [
                (first, second)
                for first, second in _positions(members, kind, pairs_with)
                if _is_testable(metric, members[first], members[second])
            ]
            tested = _test(metric, members, chosen, draws[metric])
            found += zip(chosen, tested, strict=True)
    # By pair, then by metric, since the sort is stable.
    ordered = [pair for _, pair in sorted(found, key=lambda item: item[0])]
    return adjusted(ordered)


def adjusted(pairs: Sequence[AnyPair]) -> list[AnyPair]:
    """The same pairs with `p_holm`: p adjusted over all of them."""
    values = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p_holm) for pair, p_holm in zip(pairs, values, strict=True)]


def _positions(
    members: Sequence[Member], kind: Sequence[str], pairs_with: PairsWith
) -> Sequence[_Two]:
    having = [
        position
        for position, member in enumerate(members)
        if any(math.isfinite(member.row.value(metric)) for metric in kind)
    ]
    if pairs_with == "all" or not having:
        return list(itertools.combinations(having, 2))
    best = having[0]
    if kind == CONCORDANCE:
        best = max(having, key=lambda position: _concordance(members[position]))
    return [tuple(sorted((best, other))) for other in having if other != best]  # type: ignore[misc]


def _concordance(member: Member) -> float:
    found = map(member.row.value, CONCORDANCE)
    return sum(value for value in found if math.isfinite(value))


def _is_testable(metric: str, first: Member, second: Member) -> bool:
    """Whether both runs have the metric, and it means the same in both."""
    if not all(math.isfinite(member.row.value(metric)) for member in (first, second)):
        return False
    if metric in CONCORDANCE:
        true, other = (_true_values(member, metric) for member in (first, second))
        return np.allclose(true, other, rtol=0, atol=TOLERANCE, equal_nan=True)
    return True


def _true_values(member: Member, metric: str) -> NDArray[np.float64]:
    """Of the axis that a metric of `CONCORDANCE` is about, shape (n,)."""
    valence_arousal = member.predictions.valence_arousal
    return valence_arousal.true[:, CONCORDANCE.index(metric)] if valence_arousal else np.empty(0)


def _test(
    metric: str,
    members: Sequence[Member],
    pairs: Sequence[_Two],
    draws: Mapping[str, NDArray[np.float64]],
) -> list[Pair]:
    """Each pair's difference, interval and p; `p_holm` is not known yet."""
    mcnemar = _mcnemar(members, pairs) if metric == "accuracy" else None
    tested: list[Pair] = []
    for index, (first, second) in enumerate(pairs):
        a, b = members[first].row, members[second].row
        low, high, p = paired_bootstrap(draws[a.run_id], draws[b.run_id])
        p, test = (p, BOOTSTRAP) if mcnemar is None else (float(mcnemar[index]), MCNEMAR)
        difference = a.value(metric) - b.value(metric)
        tested.append(Pair(a.run_id, b.run_id, metric, difference, low, high, p, math.nan, test))
    return tested


def _mcnemar(members: Sequence[Member], pairs: Sequence[_Two]) -> NDArray[np.float64]:
    """The p of each pair, from the number of samples on which only one of the two is correct."""
    if not pairs:
        return np.empty(0)
    first, second = np.array(pairs).T
    correct = np.stack(
        [
            member.predictions.classification.correct
            if member.predictions.classification
            else np.zeros(len(member.predictions), bool)
            for member in members
        ]
    ).astype(np.float32)
    both = (correct @ correct.T)[first, second].astype(np.int64)
    each = correct.sum(axis=1).astype(np.int64)
    return exact_mcnemar(each[first] - both, each[second] - both)
