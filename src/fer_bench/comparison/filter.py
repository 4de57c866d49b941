"""A small language for filtering rows: `dataset=rafdb and backbone~resnet or accuracy>=65%`."""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fer_bench.errors import ConfigError
from fer_bench.spelling import did_you_mean

Condition = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(r"""\s*("[^"]*"|'[^']*'|<=|>=|!=|==|[=~<>]|[^\s=~<>!"']+)""")
_ORDERED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = ("=", "==", "!=", "~", *_ORDERED)
_EXPECTED = (
    "Write conditions such as dataset=rafdb, backbone~resnet or accuracy>=0.65, joined by `and` "
    f"and `or`; the comparisons are {' '.join(_OPERATORS)}."
)


def parse_where(text: str, known: Collection[str]) -> Condition:
    """Parse a condition into a function of one row.

    `and` binds tighter than `or`. `~` tests whether a text contains another, ignoring case. `<`,
    `<=`, `>` and `>=` compare numbers, such as `0.65` or `65%`. Values with spaces are quoted. If a
    row lacks a value, every comparison with it is false except `!=`.

    Args:
        text: the conditions.
        known: the names that a row may have.

    Raises:
        ConfigError: the text cannot be parsed, or a name is unknown.
    """
    tokens, position = [], 0
    while text[position:].strip():
        found = _TOKEN.match(text, position)
        if not found:
            raise _wrong(text, f"{text[position:].strip()!r} cannot be read")
        tokens.append(found[1])
        position = found.end()
    # A condition has three tokens; the word that joins it to the next is a fourth.
    parts = [tokens[start : start + 4] for start in range(0, max(len(tokens), 1), 4)]
    any_of: list[list[Condition]] = [[]]
    for index, part in enumerate(parts):
        any_of[-1].append(_condition(text, part[:3], known))
        last = index == len(parts) - 1
        if part[3:] not in ([[]] if last else [["and"], ["or"]]):
            raise _wrong(text, f"{' '.join(part[:3])!r} is followed by {' '.join(part[3:])!r}")
        if part[3:] == ["or"]:
            any_of.append([])
    return lambda row: any(all(condition(row) for condition in every) for every in any_of)


def _condition(text: str, tokens: list[str], known: Collection[str]) -> Condition:
    if [token in _OPERATORS for token in tokens] != [False, True, False]:
        raise _wrong(text, f"{' '.join(tokens)!r} is not a condition")
    key, sign, value = tokens[0], tokens[1].replace("==", "="), tokens[2].strip("\"'")
    if key not in known:
        hint = did_you_mean(key, known) or f"Known are {', '.join(known)}."
        raise ConfigError(f"--where {text}: no run has a column {key!r}. {hint}")
    number = _number(value)
    if sign in _ORDERED and math.isnan(number):
        raise _wrong(text, f"{value!r} is not a number, which {sign} needs")

    def holds(row: Mapping[str, Any]) -> bool:
        own = row.get(key)
        if own is None:
            return sign == "!="
        if sign == "~":
            return value.lower() in str(own).lower()
        if sign in _ORDERED:
            return _ORDERED[sign](_number(own), number)
        same = own == number if isinstance(own, int | float) else str(own) == value
        return bool(same) == (sign == "=")

    return holds


def _number(value: Any) -> float:
    """A number, or a text of one (`0.65`, `65%`); NaN for anything else."""
    text = str(value)
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return math.nan


def _wrong(text: str, found: str) -> ConfigError:
    return ConfigError(f"--where {text}: {found}.\n{_EXPECTED}")
