"""Printed classification reports: the counts behind a table, and the cells that cannot be right.

Precision, recall and F1 of a class are ratios of three whole numbers: how many samples it has
(support), how many of these were found (true positives) and how often it was predicted. Rounded
cells leave few such numbers over, mostly one triple. The rows of all classes then say what the
accuracy and the averages must be.

The search never loses the true counts. What is possible is kept by class, as spans of predicted
counts; a printed cell cuts each span, and a sum over classes (accuracy, averages, all predictions
together make n) cuts the spans of one class by what the others can at most and at least add.
"""

from fer_bench.comparison.printed.counts import WHOLE, Counts, narrowed, possible_counts
from fer_bench.comparison.printed.findings import Solution, check, solve
from fer_bench.comparison.printed.reading import parse_printed, read_printed
from fer_bench.comparison.printed.table import CELLS, Cell, PrintedClass, PrintedTable, TableError

__all__ = [
    "CELLS",
    "WHOLE",
    "Cell",
    "Counts",
    "PrintedClass",
    "PrintedTable",
    "Solution",
    "TableError",
    "check",
    "narrowed",
    "parse_printed",
    "possible_counts",
    "read_printed",
    "solve",
]
