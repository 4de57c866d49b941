"""Many runs side by side: which numbers may be compared, and which differences are significant.

Two runs are comparable when they were measured on the same samples with the same labels, over the
same classes and by the same protocol: views at test time, rule for missing classes, and the split
that chose the model. Within a group of comparable runs, pairs are tested on their shared samples.
"""

from fer_bench.comparison.collect import collect
from fer_bench.comparison.groups import Pairs
from fer_bench.comparison.result import (
    COLUMNS,
    CONCORDANCE,
    EXPRESSION_METRICS,
    PAIR_METRICS,
    Comparison,
    ExperimentPair,
    Group,
    LeftOut,
    NotComparable,
    Pair,
    Row,
    Seeds,
)

__all__ = [
    "COLUMNS",
    "CONCORDANCE",
    "EXPRESSION_METRICS",
    "PAIR_METRICS",
    "Comparison",
    "ExperimentPair",
    "Group",
    "LeftOut",
    "NotComparable",
    "Pair",
    "Pairs",
    "Row",
    "Seeds",
    "collect",
]
