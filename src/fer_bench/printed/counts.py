"""The whole numbers that can stand behind printed cells: of each class, and of sums over all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_bench.printed.table import SLACK, Cell, PrintedClass, PrintedTable, Range

WHOLE = ("support", "true_positives", "predicted")
# Where a class prints no support, classes of up to so many samples are tried.
LARGEST_SEARCHED = 5_000
LARGEST_SEARCHED_WITHOUT_RECALL = 1_000
# Stands for no limit on how often a class is predicted, where the number of samples is unknown.
UNLIMITED = 10**9

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """What the counts of one class can be: S spans.

    Attributes:
        support: samples of the class, shape (S,).
        true_positives: how many of them were found, shape (S,).
        first: least number of predictions of the class, shape (S,).
        last: largest number, shape (S,); every number between is possible.
    """

    support: IntArray
    true_positives: IntArray
    first: IntArray
    last: IntArray

    @property
    def number(self) -> int:
        """How many triples of support, true positives and predictions are possible."""
        return int((self.last - self.first + 1).sum())

    def holds(self, support: int, true_positives: int, predicted: int) -> bool:
        """Whether these counts are among the possible ones."""
        inside = (self.first <= predicted) & (predicted <= self.last)
        same = (self.support == support) & (self.true_positives == true_positives)
        return bool((inside & same).any())

    def bounds(self, quantity: str) -> tuple[FloatArray, FloatArray]:
        """Least and largest value in each span, shape (S,).

        `quantity` is one of `CELLS`, `support`, `true_positives` or `predicted`. As in
        scikit-learn, a ratio without anything to divide by is 0.
        """
        found, support = self.true_positives, self.support
        match quantity:
            case "precision":
                return _share(found, self.last), _share(found, self.first)
            case "f1":
                return _share(2 * found, self.last + support), _share(
                    2 * found, self.first + support
                )
            case "recall":
                exact = _share(found, support)
            case "predicted":
                return self.first.astype(float), self.last.astype(float)
            case _:
                exact = getattr(self, quantity).astype(float)
        return exact, exact

    def within(self, quantity: str, low: FloatArray | float, high: FloatArray | float) -> "Counts":
        """Those for which `low` ≤ quantity ≤ `high`; the limits may differ by span."""
        found, support = self.true_positives, self.support
        first, last = self.first.astype(float), self.last.astype(float)
        low, high = np.broadcast_to(low, first.shape), np.broadcast_to(high, first.shape)
        if quantity in ("precision", "f1"):
            times, beside = (2, support) if quantity == "f1" else (1, np.zeros_like(support))
            possible = (high >= 0) & ((found > 0) | (low <= 0)) & ((found == 0) | (high > 0))
            bounded = found > 0
            most = np.divide(times * found, low, out=last + beside, where=bounded & (low > 0))
            least = np.divide(times * found, high, out=first + beside, where=bounded & (high > 0))
            first, last = np.maximum(first, least - beside), np.minimum(last, most - beside)
        elif quantity == "predicted":
            first, last, possible = np.maximum(first, low), np.minimum(last, high), first <= last
        else:
            exact = self.bounds(quantity)[0]
            possible = (low <= exact) & (exact <= high)
        starts = np.ceil(first - SLACK).astype(np.int64)
        ends = np.floor(last + SLACK).astype(np.int64)
        kept = possible & (starts <= ends)
        return Counts(support[kept], found[kept], starts[kept], ends[kept])


def _share(numerator: IntArray, denominator: IntArray) -> FloatArray:
    return np.divide(
        numerator, denominator, out=np.zeros(len(numerator)), where=np.asarray(denominator > 0)
    )


def possible_counts(row: PrintedClass, n: int | None, without: str = "") -> Counts:
    """All counts that fit the cells of one row.

    Args:
        row: as printed.
        n: number of all samples, where it is known.
        without: a cell, or `support`, that is not believed.
    """
    cells = {name: cell for name, cell in row.cells.items() if name != without}
    if row.support is None or without == "support":
        largest = LARGEST_SEARCHED if "recall" in cells else LARGEST_SEARCHED_WITHOUT_RECALL
        supports = np.arange(1, min(n or largest, largest) + 1)
    else:
        supports = np.array([row.support])
    low, high = cells["recall"].range if "recall" in cells else (0.0, 1.0)
    least = np.ceil(supports * max(low, 0.0)).astype(np.int64)
    most = np.floor(supports * min(high, 1.0)).astype(np.int64)
    if low <= 0:  # a class without a sample has recall 0
        most = np.maximum(most, least)
    each = np.maximum(most - least + 1, 0)
    support = np.repeat(supports, each)
    found = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each) + np.repeat(least, each)
    last = np.full(len(found), UNLIMITED) if n is None else n - support + found
    counts = Counts(support, found, found, last)
    for name, cell in cells.items():
        counts = counts.within(name, *cell.range)
    return counts.within("predicted", 0, math.inf)


def any_counts(row: PrintedClass, n: int | None) -> Counts:
    """Where two cells are wrong, nothing is known but the support."""
    return possible_counts(replace(row, cells={}), n)


# Sums over classes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """A number that is a sum over the classes, and the range that it is printed to lie in.

    Attributes:
        name: as a reader calls it, for example `macro precision`.
        quantity: what is summed, as in `Counts.bounds`.
        divisor: of each term.
        by_support: whether each term is weighted by the support of its class.
        range: lowest and highest sum.
        cell: the printed cell, if it is one.
    """

    name: str
    quantity: str
    divisor: float
    by_support: bool
    range: Range
    cell: Cell | None = None

    def terms(self, counts: Counts) -> tuple[FloatArray, FloatArray]:
        """Least and largest term of a class in each of its spans, shape (S,)."""
        low, high = counts.bounds(self.quantity)
        factor = self._factor(counts)
        return low * factor, high * factor

    def total(self, classes: Sequence[Counts]) -> Range:
        """Least and largest sum."""
        terms = [self.terms(counts) for counts in classes]
        least, most = ([term[end] for term in terms] for end in (0, 1))
        return sum(float(low.min()) for low in least), sum(float(high.max()) for high in most)

    def cut(self, counts: Counts, low: float, high: float) -> Counts:
        """Those of a class whose term lies between `low` and `high`."""
        factor = self._factor(counts)
        counted = factor > 0
        limits = (
            np.divide(limit, factor, out=np.full(len(factor), otherwise), where=counted)
            for limit, otherwise in ((low, -math.inf), (high, math.inf))
        )
        return counts.within(self.quantity, *limits)

    def _factor(self, counts: Counts) -> FloatArray:
        weights = counts.support if self.by_support else np.ones(len(counts.support))
        factor: FloatArray = weights / self.divisor
        return factor


def narrowed(classes: Sequence[Counts], sums: Sequence[Sum]) -> list[Counts] | None:
    """The counts of each class that the sums leave possible; None where they leave nothing."""
    current = list(classes)
    before = -1
    while (size := sum(counts.number for counts in current)) != before:
        before = size
        for one in sums:
            terms = [one.terms(counts) for counts in current]
            lows = [float(low.min()) for low, _ in terms]
            highs = [float(high.max()) for _, high in terms]
            all_lows, all_highs = sum(lows), sum(highs)
            for index, counts in enumerate(current):
                low = one.range[0] - (all_highs - highs[index]) - SLACK
                high = one.range[1] - (all_lows - lows[index]) + SLACK
                if low > lows[index] or highs[index] > high:
                    current[index] = one.cut(counts, low, high)
                if not current[index].number:
                    return None
    return current


def printed_sums(table: PrintedTable, n: int | None) -> list[Sum]:
    """Accuracy and averages, as far as they are printed and the number of samples allows."""
    sums = []
    if table.accuracy is not None and n:
        cell = table.accuracy
        sums.append(Sum("accuracy", "true_positives", n, False, cell.range, cell))
    for cell_name, cell in table.macro.items():
        divisor = len(table.classes)
        sums.append(Sum(f"macro {cell_name}", cell_name, divisor, False, cell.range, cell))
    for cell_name, cell in table.weighted.items() if n else ():
        sums.append(Sum(f"weighted {cell_name}", cell_name, n or 1, True, cell.range, cell))
    return sums
