"""Runs two at a time, on the same samples: which differences are real."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_bench.comparison.draws import expression_draws
from fer_bench.comparison.member import Member
from fer_bench.comparison.result import CONCORDANCE, EXPRESSION_METRICS, Pair
from fer_bench.metrics.measure import resampled
from fer_bench.metrics.significance import exact_mcnemar_counts, holm, paired_bootstrap
from fer_bench.runs.predictions import TOLERANCE

# The smallest p is 2 / (R + 1), and Holm multiplies it by the number of tests.
PAIR_RESAMPLES = 9_999
PAIR_SEED = 0
BOOTSTRAP = "paired stratified bootstrap"

MCNEMAR = "exact McNemar"

# With more runs than this, `auto` tests only the pairs with the best of them: the number of pairs
# grows with the square, and Holm takes from each what it gives to the others.
ALL_PAIRS_UP_TO = 15
PairsWith = Literal["all", "best"]

Draws = Mapping[str, Mapping[str, NDArray[np.float64]]]

# Two positions in a sequence of runs, the better first.
_Two = tuple[int, int]


def draw(members: Sequence[Member]) -> Draws:
    """{metric: {run id: its values on the resamples, shape (R,)}} of every metric of the pairs."""
    draws: dict[str, dict[str, Any]] = {name: {} for name in (*EXPRESSION_METRICS, *CONCORDANCE)}
    tellers = [member for member in members if member.predictions.expression]
    if tellers:
        expressions = [member.predictions.expression for member in tellers]
        found = expression_draws([one for one in expressions if one], PAIR_RESAMPLES, PAIR_SEED)
        for name, values in found.items():
            draws[name] = {
                member.row.run_id: own for member, own in zip(tellers, values, strict=True)
            }
    raters = [member for member in members if member.predictions.valence_arousal]
    if raters:
        runs = [member.predictions for member in raters]
        drawn = resampled(runs, CONCORDANCE, seed=PAIR_SEED, resamples=PAIR_RESAMPLES)
        for member, own in zip(raters, drawn, strict=True):
            for name in CONCORDANCE:
                draws[name][member.row.run_id] = own[name]
    return draws


def compare_pairs(members: Sequence[Member], draws: Draws, pairs_with: PairsWith) -> list[Pair]:
    """Pairs of runs on every metric that both have, p adjusted over all of them.

    Args:
        members: runs on the same samples with the same classes, best accuracy first.
        draws: of these runs, as `draw` gives them.
        pairs_with: all pairs, or only those with the best run: of the metrics of expression the
            first one, of valence and arousal the one with the highest sum of correlations.
    """
    untested: list[tuple[_Two, dict[str, Any]]] = []
    for kind in (EXPRESSION_METRICS, CONCORDANCE):
        for metric in kind:
            chosen = [
                (first, second)
                for first, second in _positions(members, kind, pairs_with)
                if _is_testable(metric, members[first], members[second])
            ]
            tested = _test(metric, members, chosen, draws[metric])
            untested += zip(chosen, tested, strict=True)
    # By pair, then by metric: the sort keeps the order of what is equal.
    ordered = [pair for _, pair in sorted(untested, key=lambda item: item[0])]
    adjusted = holm([pair["p"] for pair in ordered])
    return [Pair(**pair, p_holm=p_holm) for pair, p_holm in zip(ordered, adjusted, strict=True)]


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
) -> list[dict[str, Any]]:
    """Each pair's difference, interval and p, without the adjustment."""
    mcnemar = _mcnemar(members, pairs) if metric == "accuracy" else None
    tested = []
    for index, (first, second) in enumerate(pairs):
        a, b = members[first].row, members[second].row
        low, high, p = paired_bootstrap(draws[a.run_id], draws[b.run_id])
        tested.append(
            {
                "a": a.run_id,
                "b": b.run_id,
                "metric": metric,
                "difference": a.value(metric) - b.value(metric),
                "low": low,
                "high": high,
                "p": p if mcnemar is None else float(mcnemar[index]),
                "test": BOOTSTRAP if mcnemar is None else MCNEMAR,
            }
        )
    return tested


def _mcnemar(members: Sequence[Member], pairs: Sequence[_Two]) -> NDArray[np.float64]:
    """The p of each pair; who is right where the other is wrong, of all pairs at once."""
    if not pairs:
        return np.empty(0)
    first, second = np.array(pairs).T
    right = np.stack(
        [
            member.predictions.expression.correct
            if member.predictions.expression
            else np.zeros(len(member.predictions), bool)
            for member in members
        ]
    ).astype(np.float32)
    both = (right @ right.T)[first, second].astype(np.int64)
    alone = right.sum(axis=1).astype(np.int64)
    return exact_mcnemar_counts(alone[first] - both, alone[second] - both)
