"""Which runs may be ranked together, and the statistics of each such group."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fer_bench.comparison.identity import distinct_seeds
from fer_bench.comparison.letters import letters
from fer_bench.comparison.member import Member
from fer_bench.comparison.pairs import ALL_PAIRS_UP_TO, PairsWith, compare_pairs, draw
from fer_bench.comparison.published import judge_published
from fer_bench.comparison.result import CONCORDANCE, Group, NotComparable, Row
from fer_bench.comparison.seeds import aggregate_seeds, compare_experiments
from fer_bench.errors import ConfigError
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.intervals import smallest_difference
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.spelling import did_you_mean

Pairs = Literal["auto", "all", "best"]
# Lower is better for these, higher for every other metric.
_LESS_IS_BETTER = frozenset({"nll", "brier", "ece", "ece_adaptive", "rmse"})
_RATES = frozenset({"images_per_second"})


@dataclass(frozen=True)
class _Key:
    """What must be equal for two runs to be comparable."""

    test_fingerprint: str
    classes: tuple[str, ...]
    views: str
    class_rule: str | None
    selection: str


def group_members(members: Iterable[Member]) -> list[list[Member]]:
    """Runs that may be ranked together, each group best first.

    A run that predicts no expression has no list of classes; it joins the largest group that equals
    it in everything else.
    """
    groups: dict[_Key, list[Member]] = defaultdict(list)
    # Runs without classes come last, when the groups that they may join exist.
    for member in sorted(members, key=lambda member: not member.classes):
        key = _key(member)
        if not key.classes:
            fitting = [other for other in groups if replace(other, classes=()) == key]
            key = max(fitting, key=lambda other: len(groups[other]), default=key)
        groups[key].append(member)
    return [sorted(group, key=lambda member: _rank(member.row)) for group in groups.values()]


def _key(member: Member) -> _Key:
    row = member.row
    selection = "test_split" if row.selection == "test_split" else "validation"
    return _Key(member.fingerprint, member.classes, row.views, row.class_rule, selection)


def _rank(row: Row) -> tuple[float, float, str]:
    scores = (row.value("accuracy"), sum(map(row.value, CONCORDANCE)))
    accuracy, concordance = (-math.inf if math.isnan(score) else score for score in scores)
    return -accuracy, -concordance, row.run_id


def build_group(members: Sequence[Member], evaluation: str, pairs: Pairs, sort: str) -> Group:
    """The statistics of comparable runs.

    Args:
        members: best first, as returned by `group_members`.
        evaluation: what they were measured on.
        pairs: whether all pairs are tested, or only those with the best run; `auto` decides by the
            number of runs.
        sort: the column or metric that the runs are sorted by.
    """
    best = members[0]
    key = _key(best)
    distinct = distinct_seeds(members)
    experiments = aggregate_seeds(distinct.members)
    draws = draw(members) if len(members) > 1 else {}
    pairs_with = _pairs_with(pairs, len(members))
    tested = compare_pairs(members, draws, pairs_with) if len(members) > 1 else []
    shown = letters(members, tested, pairs_with)
    rows = [
        replace(member.row, letter=letter) for member, letter in zip(members, shown, strict=True)
    ]
    accuracy = best.row.value("accuracy")
    known = math.isfinite(accuracy)
    return Group(
        test_fingerprint=key.test_fingerprint,
        n=best.row.n,
        runs=tuple(sort_rows(rows, sort)),
        pairs=tuple(tested),
        seeds=tuple(experiments),
        published=tuple(judge_published(distinct.members, evaluation)),
        half_width=_half_width(best.row),
        classes=key.classes,
        views=key.views,
        class_rule=key.class_rule,
        selection=key.selection,
        pairs_with=pairs_with,
        experiments=tuple(
            compare_experiments(experiments, draws, _pairs_with(pairs, len(experiments)))
        ),
        smallest_difference=smallest_difference(best.row.n, accuracy).difference if known else None,
        remarks=distinct.remarks,
    )


def _pairs_with(pairs: Pairs, number: int) -> PairsWith:
    if pairs != "auto":
        return pairs
    return "all" if number <= ALL_PAIRS_UP_TO else "best"


def _half_width(best: Row) -> float | None:
    cell = best.metrics.get("accuracy")
    return ((cell["high"] or 0.0) - (cell["low"] or 0.0)) / 2 if cell else None


# Order -----------------------------------------------------------------------------------------


def check_sort(sort: str, known: Sequence[str]) -> None:
    """Raises: ConfigError when there is no such column."""
    if sort not in known:
        hint = did_you_mean(sort, known) or f"Known are {', '.join(known)}."
        raise ConfigError(f"--sort {sort}: no run has such a column. {hint}")


def sort_rows(rows: Sequence[Row], by: str) -> list[Row]:
    """By a metric or a rate best first, by anything else in ascending order; missing values last.

    Args:
        rows: by accuracy, best first; equal rows keep this order.
        by: one of `result.COLUMNS`.
    """
    if by == "accuracy":
        return list(rows)
    known = [row for row in rows if row.columns().get(by) is not None]
    name = by.partition("_")[2] if by.partition("_")[2] in AXIS_METRICS else by
    descending = (name in {*METRICS, *AXIS_METRICS} or by in _RATES) and name not in _LESS_IS_BETTER
    ordered = sorted(known, key=lambda row: row.columns()[by], reverse=descending)
    return [*ordered, *(row for row in rows if row.columns().get(by) is None)]


def order_groups(groups: Iterable[Group]) -> list[Group]:
    """By dataset, the largest test set first; models chosen on the test split last."""
    return sorted(groups, key=_group_order)


def _group_order(group: Group) -> tuple[str, int, str, bool, tuple[str, ...]]:
    datasets = sorted(row.dataset or "" for row in group.runs)
    chosen_there = group.selection == "test_split"
    return datasets[0], -group.n, group.test_fingerprint, chosen_there, group.classes


# Why groups are separate ------------------------------------------------------------------------


def not_comparable(groups: Sequence[Group]) -> list[NotComparable]:
    """Every two groups, and why their runs are not ranked together."""
    return [
        NotComparable((first, second), f"not comparable: {_reason(groups[first], groups[second])}")
        for first, second in itertools.combinations(range(len(groups)), 2)
    ]


def _reason(first: Group, second: Group) -> str:
    if first.test_fingerprint != second.test_fingerprint:
        return "different test images"
    return "; ".join(_differences(first, second))


def _differences(first: Group, second: Group) -> Iterator[str]:
    """In what two groups on the same images differ; at least one difference."""
    if first.classes != second.classes:
        yield "different classes"
    if first.views != second.views:
        yield "different test-time views"
    if first.class_rule != second.class_rule:
        yield "different rules for missing classes"
    if first.selection != second.selection:
        yield "the models of one were chosen on the test split"
