"""A classification report as it was printed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fer_bench.errors import FerError

CELLS = ("precision", "recall", "f1")
LARGEST_SUPPORT = 1_000_000
# Much larger than floating-point error, much smaller than the rounding of a printed digit.
SLACK = 1e-9

Range = tuple[float, float]


class TableError(FerError):
    """A printed table cannot be parsed."""


@dataclass(frozen=True)
class Cell:
    """A printed share.

    Attributes:
        text: as printed.
        value: in [0, 1]; percentages are divided by 100.
        half_width: the largest rounding error.
    """

    text: str
    value: float
    half_width: float

    @property
    def range(self) -> Range:
        """Lowest and highest value that rounds to this cell."""
        reach = self.half_width + SLACK
        return self.value - reach, self.value + reach


@dataclass(frozen=True)
class PrintedClass:
    """The row of one class.

    Attributes:
        name: of the class.
        support: number of its samples; None if not printed.
        cells: those of `CELLS` printed as numbers.
        undefined: those printed as `nan`.
    """

    name: str
    support: int | None
    cells: Mapping[str, Cell]
    undefined: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PrintedTable:
    """A classification report as printed; omitted parts are missing or None.

    Attributes:
        classes: at least two, with different names.
        accuracy: of all samples.
        macro: cells of the unweighted averages over classes.
        weighted: cells of the averages weighted by support.
        micro: cells of the ratios pooled over all classes.
        total: number of samples, as printed beside the averages.
    """

    classes: tuple[PrintedClass, ...]
    accuracy: Cell | None = None
    macro: Mapping[str, Cell] = field(default_factory=dict)
    weighted: Mapping[str, Cell] = field(default_factory=dict)
    micro: Mapping[str, Cell] = field(default_factory=dict)
    total: int | None = None


@dataclass(frozen=True)
class Reading:
    """A hypothesis about how a table was made.

    Attributes:
        zero_division: the value of a ratio with denominator 0, as the argument of that name in
            scikit-learn; NaN where the averages leave such a ratio out.
        blank_is_undefined: with NaN, whether a class's cell that is not printed is such a ratio.
        all_classes: whether every image is of a printed class. Otherwise images of other classes
            may be predicted as printed ones: the report covers only some `labels`, or an image may
            have several classes.
    """

    zero_division: float = 0.0
    blank_is_undefined: bool = False
    all_classes: bool = True

    @property
    def leaves_out(self) -> bool:
        """Whether averages leave out undefined ratios."""
        return math.isnan(self.zero_division)


def readings(table: PrintedTable) -> list[Reading]:
    """The ways in which a table may have been made, most likely first."""
    zeros = [Reading(0.0), Reading(1.0)]
    left_out = [Reading(math.nan, blank_is_undefined=True), Reading(math.nan)]
    some_are_nan = any(row.undefined for row in table.classes)
    ordered = left_out + zeros if some_are_nan else zeros + left_out
    some = [replace(reading, all_classes=False) for reading in ordered]
    if table.accuracy is not None:
        return ordered  # accuracy is printed only for all classes
    ratios = {cell.value for name, cell in table.micro.items() if name != "f1"}
    return some if len(ratios) > 1 else ordered + some
