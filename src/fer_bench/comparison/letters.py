"""The compact letter display: runs whose accuracies do not differ significantly share a letter."""

import math
from collections.abc import Sequence

from fer_bench.comparison.member import Member
from fer_bench.comparison.pairs import PairsWith
from fer_bench.comparison.result import Pair
from fer_bench.metrics.intervals import ALPHA

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letters(members: Sequence[Member], pairs: Sequence[Pair], pairs_with: PairsWith) -> list[str]:
    """For each run, the letters that it shares with runs of no significantly different accuracy.

    Args:
        members: best accuracy first.
        pairs: of these runs.
        pairs_with: with `best`, runs that do not differ from the best have `a`, others nothing.

    Returns:
        One text per run; empty where a run has no accuracy, or is the only one that has.
    """
    number = {member.row.run_id: index for index, member in enumerate(members)}
    differs = {
        (number[pair.a], number[pair.b])
        for pair in pairs
        if pair.metric == "accuracy" and pair.p_holm < ALPHA
    }
    count = sum(math.isfinite(member.row.value("accuracy")) for member in members)
    if count == 1:
        shown = [""]
    elif pairs_with == "best":
        shown = ["" if (0, index) in differs else "a" for index in range(count)]
    else:
        shown = compact_letters(count, differs)
    return [*shown, *[""] * (len(members) - count)]


def compact_letters(count: int, differs: set[tuple[int, int]]) -> list[str]:
    """The compact letter display: two items share a letter exactly if they do not differ.

    Insert and absorb (Piepho 2004): starting with one letter for all, every difference splits each
    letter that both items have into one without the first and one without the second; a letter
    whose items all share another letter is dropped.

    Args:
        count: number of items, numbered 0, 1, … from the best.
        differs: the pairs that differ, the smaller number first.

    Returns:
        The letters of each item, at least one; those of the first begin with `a`.
    """
    sets = [frozenset(range(count))] if count else []
    for first, second in sorted(differs):
        kept = [one for one in sets if not {first, second} <= one]
        split = [one - {out} for one in sets if {first, second} <= one for out in (first, second)]
        for one in split:
            if not any(one <= other for other in kept):
                kept = [other for other in kept if not other < one] + [one]
        sets = kept
    ordered = sorted(map(sorted, sets))
    return [
        "".join(_letter(index) for index, one in enumerate(ordered) if item in one)
        for item in range(count)
    ]


def _letter(index: int) -> str:
    return _LETTERS[index] if index < len(_LETTERS) else f"({index + 1})"
