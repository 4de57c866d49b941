"""Many runs side by side: which numbers may be compared, and which differences are significant.

Two runs are comparable when they were measured on the same samples with the same labels, over the
same classes and by the same protocol: views at test time, rule for missing classes, and the split
that chose the model. Within a group of comparable runs, pairs are tested on their shared samples.
"""

from fer_bench.comparison.collect import collect as collect
from fer_bench.comparison.groups import Pairs as Pairs
from fer_bench.comparison.result import COLUMNS as COLUMNS
from fer_bench.comparison.result import CONCORDANCE as CONCORDANCE
from fer_bench.comparison.result import EXPRESSION_METRICS as EXPRESSION_METRICS
from fer_bench.comparison.result import PAIR_METRICS as PAIR_METRICS
from fer_bench.comparison.result import Comparison as Comparison
from fer_bench.comparison.result import ExperimentPair as ExperimentPair
from fer_bench.comparison.result import Group as Group
from fer_bench.comparison.result import LeftOut as LeftOut
from fer_bench.comparison.result import NotComparable as NotComparable
from fer_bench.comparison.result import Pair as Pair
from fer_bench.comparison.result import Row as Row
from fer_bench.comparison.result import Seeds as Seeds
