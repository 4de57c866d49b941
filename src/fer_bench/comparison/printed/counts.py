"""The counts that printed cells allow, for each class and for sums over the classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_bench.comparison.printed.table import (
    CELLS,
    SLACK,
    Cell,
    PrintedClass,
    PrintedTable,
    Range,
    Reading,
)

WHOLE = ("support", "true_positives", "predicted")
# Where the support of a class is not printed, classes of up to this size are tried.
LARGEST_SEARCHED = 5_000
LARGEST_SEARCHED_WITHOUT_RECALL = 1_000
# No limit on how often a class is predicted, where the number of samples is unknown.
UNLIMITED = 10**9

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """The possible counts of one class, as S spans of predicted counts.

    A span that begins at 0 predictions also ends there, so that a ratio is either defined or
    undefined throughout a span.

    Attributes:
        support: samples of the class, shape (S,).
        true_positives: number of them predicted as the class, shape (S,).
        first: least number of predictions of the class, shape (S,).
        last: largest number, shape (S,); every number in between is possible.
        undefined: the value of a ratio with denominator 0; NaN where averages leave it out.
    """

    support: IntArray
    true_positives: IntArray
    first: IntArray
    last: IntArray
    undefined: float = 0.0

    @property
    def number(self) -> int:
        """Number of possible triples of support, true positives and predictions."""
        return int((self.last - self.first + 1).sum())

    def holds(self, support: int, true_positives: int, predicted: int) -> bool:
        """Whether these counts are among the possible ones."""
        inside = (self.first <= predicted) & (predicted <= self.last)
        same = (self.support == support) & (self.true_positives == true_positives)
        return bool((inside & same).any())

    def bounds(self, quantity: str) -> tuple[FloatArray, FloatArray]:
        """Least and largest value in each span, shape (S,).

        `quantity` is one of `CELLS`, `support`, `true_positives` or `predicted`.
        """
        found, support = self.true_positives, self.support
        match quantity:
            case "precision":
                return self._ratio(found, self.last), self._ratio(found, self.first)
            case "f1":
                low = self._ratio(2 * found, self.last + support)
                return low, self._ratio(2 * found, self.first + support)
            case "recall":
                exact = self._ratio(found, support)
            case "predicted":
                return self.first.astype(float), self.last.astype(float)
            case _:
                exact = getattr(self, quantity).astype(float)
        return exact, exact

    def _ratio(self, numerator: IntArray, denominator: IntArray) -> FloatArray:
        ratio: FloatArray = np.full(len(numerator), self.undefined)
        np.divide(numerator, denominator, out=ratio, where=np.asarray(denominator > 0))
        return ratio

    def defined(self, cell: str) -> BoolArray:
        """Whether the denominator of one of `CELLS` is above 0, shape (S,)."""
        denominator = {
            "precision": self.last,
            "recall": self.support,
            "f1": self.last + self.support,
        }[cell]
        return np.asarray(denominator > 0)

    def only(self, kept: BoolArray) -> "Counts":
        """The spans where `kept`, of shape (S,), is true."""
        return replace(
            self,
            support=self.support[kept],
            true_positives=self.true_positives[kept],
            first=self.first[kept],
            last=self.last[kept],
        )

    def within(self, quantity: str, low: FloatArray | float, high: FloatArray | float) -> "Counts":
        """The counts with `low` ≤ quantity ≤ `high`; the limits may differ between spans."""
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
        if quantity in CELLS:
            # NaN is within infinite limits only.
            allowed = (low <= self.undefined) & (self.undefined <= high)
            allowed |= np.isneginf(low) & np.isposinf(high)
            possible = np.where(self.defined(quantity), possible, allowed)
        starts = np.ceil(first - SLACK).astype(np.int64)
        ends = np.floor(last + SLACK).astype(np.int64)
        return replace(self, first=starts, last=ends).only(possible & (starts <= ends))


def possible_counts(
    row: PrintedClass, n: int | None, reading: Reading, without: str = ""
) -> Counts:
    """All counts that are consistent with the cells of one row.

    Args:
        row: as printed.
        n: number of all samples; None if unknown.
        reading: how the table was made.
        without: a cell, or `support`, to ignore.
    """
    cells = {name: cell for name, cell in row.cells.items() if name != without}
    if row.support is None or without == "support":
        largest = LARGEST_SEARCHED if "recall" in cells else LARGEST_SEARCHED_WITHOUT_RECALL
        supports = np.arange((largest if n is None else min(n, largest)) + 1)
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
    last = np.full(len(found), UNLIMITED)
    if n is not None and reading.all_classes:
        last = n - support + found
    counts = _spans(support, found, last, reading.zero_division)
    for name, cell in cells.items():
        counts = counts.within(name, *cell.range)
    for name in _undefined_cells(row, reading, without):
        counts = counts.only(~counts.defined(name))
    return counts


def _spans(support: IntArray, found: IntArray, last: IntArray, undefined: float) -> Counts:
    """From `found` to `last` predictions; 0 predictions are a separate span."""
    never = found == 0
    zeros = np.zeros(never.sum(), dtype=np.int64)
    counts = Counts(
        support=np.concatenate([support, support[never]]),
        true_positives=np.concatenate([found, zeros]),
        first=np.concatenate([np.maximum(found, 1), zeros]),
        last=np.concatenate([last, zeros]),
        undefined=undefined,
    )
    return counts.only(counts.first <= counts.last)


def _undefined_cells(row: PrintedClass, reading: Reading, without: str) -> set[str]:
    """The cells of a row with denominator 0, in a table where these show no number."""
    if not reading.leaves_out:
        return set()
    blank = set(CELLS) - set(row.cells) if reading.blank_is_undefined else set()
    return (blank | row.undefined) - {without}


def any_counts(row: PrintedClass, n: int | None, reading: Reading) -> Counts:
    """The counts of a row of which only the support is trusted, as two of its cells are wrong."""
    alone = PrintedClass(row.name, row.support, {})
    return possible_counts(alone, n, replace(reading, blank_is_undefined=False))


# Sums over classes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """A sum over the classes, and its range according to the printed cell.

    Attributes:
        name: as shown to the user, for example `macro precision`.
        quantity: the summand, as in `Counts.bounds`.
        divisor: of each term.
        by_support: whether each term is weighted by the support of its class.
        range: lowest and highest sum.
        cell: the printed cell, if there is one.
    """

    name: str
    quantity: str
    divisor: float
    by_support: bool
    range: Range
    cell: Cell | None = None

    def terms(self, counts: Counts) -> tuple[FloatArray, FloatArray]:
        """Least and largest term of a class in each of its spans, shape (S,)."""
        factor = self._factor(counts)
        low, high = (np.where(factor > 0, end, 0.0) for end in counts.bounds(self.quantity))
        return low * factor, high * factor

    def total(self, classes: Sequence[Counts]) -> Range:
        """Least and largest sum."""
        terms = [self.terms(counts) for counts in classes]
        least, most = ([term[end] for term in terms] for end in (0, 1))
        return sum(float(low.min()) for low in least), sum(float(high.max()) for high in most)

    def cut(self, counts: Counts, low: float, high: float) -> Counts:
        """The counts of a class with a term between `low` and `high`."""
        factor = self._factor(counts)
        counted = factor > 0
        limits = (
            np.divide(limit, factor, out=np.full(len(factor), otherwise), where=counted)
            for limit, otherwise in ((low, -math.inf), (high, math.inf))
        )
        return counts.within(self.quantity, *limits)

    def _factor(self, counts: Counts) -> FloatArray:
        weights = counts.support if self.by_support else np.ones(len(counts.support))
        if math.isnan(counts.undefined) and self.quantity in CELLS:
            weights = np.where(counts.defined(self.quantity), weights, 0)
        factor: FloatArray = weights / self.divisor
        return factor


def narrowed(classes: Sequence[Counts], sums: Sequence[Sum]) -> list[Counts] | None:
    """The counts of each class that the sums allow; None where they allow none of some class."""
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


@dataclass(frozen=True)
class Pooled:
    """A printed ratio of sums over the classes: precision or F1 of a micro average.

    Attributes:
        name: as shown to the user, for example `micro precision`.
        quantity: `precision` or `f1`.
        cell: as printed.
    """

    name: str
    quantity: str
    cell: Cell

    @property
    def range(self) -> Range:
        """Lowest and highest value that rounds to the printed cell."""
        return self.cell.range

    def total(self, classes: Sequence[Counts]) -> Range:
        """Bounds of the ratio: at most the least and at least the largest that the counts allow."""
        f1 = self.quantity == "f1"
        beside = [counts.support if f1 else np.zeros_like(counts.support) for counts in classes]
        pairs = list(zip(classes, beside, strict=True))
        least = sum(int((counts.first + others).min()) for counts, others in pairs)
        most = sum(int((counts.last + others).max()) for counts, others in pairs)
        low, high = Sum("", "true_positives", 0.5 if f1 else 1, False, (0, 0)).total(classes)
        return (low / most, min(high / least, 1.0)) if least else (0.0, 1.0)


def average(
    name: str, by_support: bool, classes: Sequence[Counts], n: int | None, cell: Cell | None = None
) -> Sum | None:
    """The sum behind an average over the classes; None where its divisor is unknown.

    Args:
        name: what is averaged, one of `CELLS`.
        by_support: whether the average is weighted by the number of samples.
        classes: the possible counts of each class.
        n: number of samples.
        cell: as printed.
    """
    if math.isnan(classes[0].undefined):
        divisor = _defined_weight(name, by_support, classes)
    else:
        divisor = n if by_support else len(classes)
    if not divisor:
        return None
    kind = "weighted" if by_support else "macro"
    return Sum(f"{kind} {name}", name, divisor, by_support, cell.range if cell else (0, 0), cell)


def _defined_weight(name: str, by_support: bool, classes: Sequence[Counts]) -> int | None:
    """Number of classes, or of their samples, with a defined ratio; None where undecided."""
    weight = 0
    for counts in classes:
        defined = counts.defined(name)
        supports = set(counts.support.tolist()) if by_support else {1}
        if defined.any() and not (defined.all() and len(supports) == 1):
            return None
        weight += supports.pop() if defined.any() else 0
    return weight


def printed_sums(
    table: PrintedTable, classes: Sequence[Counts], n: int | None
) -> list[Sum | Pooled]:
    """Accuracy and averages, as far as they are printed and the number of samples is known."""
    sums: list[Sum | Pooled | None] = []
    of_all = {"accuracy": table.accuracy, "micro recall": table.micro.get("recall")}
    for name, cell in of_all.items() if n else ():
        if cell is not None:
            sums.append(Sum(name, "true_positives", n or 1, False, cell.range, cell))
    for by_support, cells in ((False, table.macro), (True, table.weighted)):
        sums += [average(name, by_support, classes, n, cell) for name, cell in cells.items()]
    pooled = {name: cell for name, cell in table.micro.items() if name != "recall"}
    sums += [Pooled(f"micro {name}", name, cell) for name, cell in pooled.items()]
    return [one for one in sums if one is not None]
