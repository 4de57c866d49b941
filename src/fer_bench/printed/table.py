"""A classification report as it was printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fer_bench.errors import FerError

CELLS = ("precision", "recall", "f1")
LARGEST_SUPPORT = 1_000_000
# Far more than what floating point loses, far less than what a printed digit hides.
SLACK = 1e-9

Range = tuple[float, float]


class TableError(FerError):
    """A printed table cannot be understood."""


@dataclass(frozen=True)
class Cell:
    """A printed share.

    Attributes:
        text: as it was printed.
        value: in [0, 1]; percentages are divided by 100.
        half_width: how far rounding can have moved it.
    """

    text: str
    value: float
    half_width: float

    @property
    def range(self) -> Range:
        """Lowest and highest value that would be printed like this."""
        reach = self.half_width + SLACK
        return self.value - reach, self.value + reach


@dataclass(frozen=True)
class PrintedClass:
    """The row of one class; `cells` has those of `CELLS` that are printed."""

    name: str
    support: int | None
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class PrintedTable:
    """A classification report as printed; what it leaves out is missing or None.

    Attributes:
        classes: at least two, with different names.
        accuracy: of all samples.
        macro: cells of the plain averages over classes.
        weighted: cells of the averages weighted by support.
        total: number of samples, as printed beside the averages.
    """

    classes: tuple[PrintedClass, ...]
    accuracy: Cell | None = None
    macro: Mapping[str, Cell] = field(default_factory=dict)
    weighted: Mapping[str, Cell] = field(default_factory=dict)
    total: int | None = None
