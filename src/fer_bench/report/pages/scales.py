"""The scales of charts: the places of values and of ticks along an axis."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


def plain(value: float) -> str:
    """A tick as a plain number: `0.25`."""
    return f"{value:g}"


def percent(value: float) -> str:
    """A tick as a percentage: `25%`."""
    return f"{round(100 * value, 6):g}%"


@dataclass(frozen=True)
class Scale:
    """A mapping of the values from `low` to `high` to an axis.

    Attributes:
        label: what the axis shows, with its unit.
        written: writes a tick.
        logarithmic: equal steps are equal ratios; `low` must be above 0.
    """

    low: float
    high: float
    label: str
    written: Callable[[float], str] = plain
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """The place of a value: 0 at `low`, 1 at `high`, clipped to that range."""
        low, high, value = (self._measure(number) for number in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def _measure(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value

    def written_ticks(self) -> list[tuple[float, str]]:
        """The ticks, each with its text."""
        return [(tick, self.written(tick)) for tick in self.ticks()]

    def ticks(self) -> list[float]:
        """About five round values between `low` and `high`."""
        decades = self.logarithmic and self.high >= 5 * self.low
        return _powers(self.low, self.high) if decades else _steps(self.low, self.high)


def _steps(low: float, high: float) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * place for place in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 100 * low else (1,)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in values if 0.999 * low <= value <= 1.001 * high]


def scale_around(
    values: Iterable[float],
    label: str,
    written: Callable[[float], str] = plain,
    within: tuple[float, float] = (-math.inf, math.inf),
    logarithmic: bool = False,
) -> Scale:
    """A scale that holds all finite `values` with a margin, clipped to `within`."""
    known = [value for value in values if math.isfinite(value)] or [0.1 if logarithmic else 0.0]
    low, high = min(known), max(known)
    if logarithmic:
        room = max((high / low) ** 0.12, 1.25)
        return Scale(low / room, high * room, label, written, logarithmic=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(max(low - room, within[0]), min(high + room, within[1]), label, written)
