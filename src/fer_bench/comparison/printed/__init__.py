"""Printed classification reports: the counts behind a table, and the cells that must be wrong.

Precision, recall and F1 of a class are ratios of three whole numbers: its samples (support), how
many of these were found (true positives), and how often the class was predicted. Rounded cells are
consistent with few such triples, usually with one. The rows of all classes then determine the
accuracy and the averages.

The search never loses the true counts. The possible counts of each class are kept as ranges of
predicted counts. A printed cell narrows each range; a sum over classes (accuracy, averages, or that
all predictions add up to n) narrows the ranges of a class by the least and the most that the other
classes can contribute.
"""

from fer_bench.comparison.printed.counts import WHOLE as WHOLE
from fer_bench.comparison.printed.counts import Counts as Counts
from fer_bench.comparison.printed.counts import narrowed as narrowed
from fer_bench.comparison.printed.counts import possible_counts as possible_counts
from fer_bench.comparison.printed.findings import Solution as Solution
from fer_bench.comparison.printed.findings import check as check
from fer_bench.comparison.printed.findings import solve as solve
from fer_bench.comparison.printed.reading import parse_printed as parse_printed
from fer_bench.comparison.printed.reading import read_printed as read_printed
from fer_bench.comparison.printed.table import CELLS as CELLS
from fer_bench.comparison.printed.table import Cell as Cell
from fer_bench.comparison.printed.table import PrintedClass as PrintedClass
from fer_bench.comparison.printed.table import PrintedTable as PrintedTable
from fer_bench.comparison.printed.table import TableError as TableError
