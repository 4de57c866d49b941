"""What follows from the counts behind a printed report: accuracy, averages, impossible cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fer_bench.comparison.printed.counts import (
    UNLIMITED,
    WHOLE,
    Counts,
    Pooled,
    Sum,
    any_counts,
    average,
    narrowed,
    possible_counts,
    printed_sums,
)
from fer_bench.comparison.printed.table import (
    CELLS,
    SLACK,
    Cell,
    PrintedClass,
    PrintedTable,
    Range,
    Reading,
    readings,
)
from fer_bench.metrics.intervals import wilson


@dataclass(frozen=True)
class Solution:
    """What is known about the counts behind a table.

    Attributes:
        reading: how the table was probably made.
        n: number of samples; None if unknown.
        counts: the possible counts of each class, in the order of the table.
        refuted: printed sums that contradict the rows of the classes.
        notes: further remarks for the user.
        wrong: one finding per cell that must be wrong.
    """

    reading: Reading
    n: int | None
    counts: tuple[Counts, ...]
    refuted: tuple[Sum | Pooled, ...]
    notes: tuple[str, ...]
    wrong: tuple[Mapping[str, Any], ...]


def solve(table: PrintedTable) -> Solution:
    """Find the counts behind a table.

    The table is taken to be made in the first way in which no cell is wrong, or else in the way
    with the fewest wrong cells.
    """
    best: Solution | None = None
    for reading in readings(table):
        solution = _solve(table, reading)
        if best is None or len(solution.wrong) < len(best.wrong):
            best = solution
        if not solution.wrong:
            break
    assert best is not None  # `readings` is never empty
    return best


def _solve(table: PrintedTable, reading: Reading) -> Solution:
    """The counts by class, narrowed by the sums that agree with the rows."""
    n, wrong = _number_of_samples(table, reading)
    rows = [_row_counts(row, n, reading) for row in table.classes]
    counts, accepted, notes, too_many = _with_all_predictions(rows, n, reading)
    printed = printed_sums(table, counts, n)
    sums = [one for one in printed if isinstance(one, Sum)]
    alone = [one for one in sums if narrowed(counts, [one]) is not None]
    for one in alone:
        closer = narrowed(counts, [*accepted, one])
        if closer is not None:
            counts, accepted = closer, [*accepted, one]
    refuted: list[Sum | Pooled] = [one for one in sums if one not in accepted]
    refuted += [one for one in printed if isinstance(one, Pooled) and not _fits(one, counts)]
    found = Solution(reading, n, tuple(counts), tuple(refuted), (), ())
    cells = zip(table.classes, counts, strict=True)
    return replace(
        found,
        notes=(*notes, *_elsewhere(table, found), *_undefined(table, found)),
        wrong=(
            *wrong,
            *too_many,
            *(finding for row, one in cells for finding in _wrong_cells(row, one)),
            *(_wrong_sum(one, table, found) for one in refuted),
        ),
    )


def _fits(one: Pooled, counts: Sequence[Counts]) -> bool:
    low, high = one.total(counts)
    return low <= one.range[1] and one.range[0] <= high


def _number_of_samples(
    table: PrintedTable, reading: Reading
) -> tuple[int | None, list[dict[str, Any]]]:
    supports = [row.support for row in table.classes]
    known = [support for support in supports if support is not None]
    if len(known) < len(supports) or table.total in (None, sum(known)):
        return table.total if len(known) < len(supports) else sum(known), []
    # A support that contradicts its row is more likely wrong than the total.
    if any(_only_support_is_wrong(row, table.total, reading) for row in table.classes):
        return table.total, []
    text = f"support is printed as {table.total} in all; the classes add up to {sum(known)}."
    return sum(known), [_finding("support", table.total, sum(known), text)]


def _only_support_is_wrong(row: PrintedClass, n: int | None, reading: Reading) -> bool:
    if possible_counts(row, n, reading).number or any(
        possible_counts(row, n, reading, without=name).number for name in row.cells
    ):
        return False
    return bool(possible_counts(row, n, reading, without="support").number)


def _row_counts(row: PrintedClass, n: int | None, reading: Reading) -> Counts:
    """Counts that fit a row; if none do, those that fit all but one cell; else any counts."""
    counts = possible_counts(row, n, reading)
    if counts.number:
        return counts
    without = [possible_counts(row, n, reading, without=name) for name in row.cells]
    if not any(other.number for other in without):
        without = [possible_counts(row, n, reading, without="support")]
    if not any(other.number for other in without):
        return any_counts(row, n, reading)
    parts = ("support", "true_positives", "first", "last")
    joined = {part: np.concatenate([getattr(one, part) for one in without]) for part in parts}
    return Counts(**joined, undefined=reading.zero_division)


def _with_all_predictions(
    rows: list[Counts], n: int | None, reading: Reading
) -> tuple[list[Counts], list[Sum], list[str], list[dict[str, Any]]]:
    """Use that there are n samples and n predictions, if possible all of printed classes.

    Returns:
        The counts, the sums used, notes and findings.
    """
    if not n:
        unknown = ["the number of images is not printed, so accuracy is not checked"]
        return rows, [], unknown if n is None else [], []
    samples = Sum("support", "support", 1, False, (n, n))
    predicted = Sum("predicted", "predicted", 1, False, (n, n))
    if not reading.all_classes:
        return _with_other_classes(rows, samples, predicted)
    all_here = narrowed(rows, [samples, predicted])
    if all_here is not None:
        return all_here, [samples, predicted], [], []
    fewer = replace(predicted, range=(0, n))
    some_here = narrowed(rows, [samples, fewer])
    if some_here is not None:
        missing = n - round(predicted.total(some_here)[1])
        note = f"at least {missing} of {n} predictions fell in no printed class"
        return some_here, [samples, fewer], [note], []
    least = round(predicted.total(rows)[0])
    text = f"the rows need at least {least} predictions, and there are {n} images"
    if least <= n:
        text = f"the rows of the classes do not add up to {n} images"
    return rows, [], [], [_finding("support", n, least, f"{text}: a row is wrong.")]


def _with_other_classes(
    rows: list[Counts], samples: Sum, predicted: Sum
) -> tuple[list[Counts], list[Sum], list[str], list[dict[str, Any]]]:
    """As above, where images of other classes may be predicted as printed ones."""
    n = round(samples.range[0])
    here = narrowed(rows, [samples])
    if here is None:
        text = f"the rows of the classes do not add up to {n} images: a row is wrong."
        return rows, [], [], [_finding("support", n, None, text)]
    note = f"the {n} images are those of the printed classes, and there may be others"
    if (least := round(predicted.total(here)[0])) > n:
        note = f"at least {least - n} of the {least} predictions are of images of other classes"
    return here, [samples], [note], []


def _elsewhere(table: PrintedTable, solution: Solution) -> list[str]:
    """A note on predictions whose class is unknown and changes no printed cell."""
    counts, n = solution.counts, solution.n
    undecided = [
        row.name
        for row, one in zip(table.classes, counts, strict=True)
        if one.number > 1 and not one.true_positives.any()
    ]
    decided = [one for one in counts if one.number == 1]
    if not solution.reading.all_classes or not n:
        return []
    if not undecided or len(decided) + len(undecided) < len(counts):
        return []
    left = n - sum(int(one.first[0]) for one in decided)
    things = "prediction falls" if left == 1 else "predictions fall"
    names = f"{', '.join(undecided[:-1])} or {undecided[-1]}" if undecided[1:] else undecided[0]
    return [
        f"{left} {things} on {names}, which have no true positive: no printed cell depends on which"
    ]


# What makes each ratio undefined.
_NOTHING = {
    "precision": "never predicted",
    "recall": "without an image",
    "f1": "without an image and never predicted",
}


def _undefined(table: PrintedTable, solution: Solution) -> Iterator[str]:
    """A note on each ratio that is undefined for some classes, and its effect on the averages."""
    for cell, nothing in _NOTHING.items():
        names = [
            row.name
            for row, one in zip(table.classes, solution.counts, strict=True)
            if not one.defined(cell).any()
        ]
        if names:
            number = solution.reading.zero_division
            are, their = ("is", "its") if len(names) == 1 else ("are", "their")
            label = _LABELS.get(cell, cell)
            treated = (
                f"{their} {label} is not defined (zero_division=nan)"
                if solution.reading.leaves_out
                else f"{their} {label} is what zero_division={number:g} puts there"
            )
            listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
            yield f"{listed} {are} {nothing}; {treated}{_in_averages(cell, table, solution)}"


def _in_averages(cell: str, table: PrintedTable, solution: Solution) -> str:
    """`, and macro precision holds it (without: 0.5810)`."""
    reading = solution.reading
    other = 0.0 if reading.zero_division else math.nan
    counts = [replace(one, undefined=other) for one in solution.counts]
    held: dict[str, float] = {}
    for by_support, cells in ((False, table.macro), (True, table.weighted)):
        as_printed = average(cell, by_support, solution.counts, solution.n)
        instead = average(cell, by_support, counts, solution.n)
        if cell in cells and as_printed and instead:
            values = (*as_printed.total(solution.counts), *instead.total(counts))
            if _same(*values[:2]) and _same(*values[2:]) and not _same(values[0], values[2]):
                held[instead.name.split()[0]] = values[2]
    if not held:
        return ""
    verb = "leave" if reading.leaves_out else "hold"
    verb += "" if len(held) > 1 else "s"
    place = "it out (with 0 there" if reading.leaves_out else "it (without"
    shown = ", ".join(f"{value:.4f}" for value in held.values())
    label = _LABELS.get(cell, cell)
    return f", and {' and '.join(held)} {label} {verb} {place}: {shown})"


def check(table: PrintedTable) -> dict[str, Any]:
    """The audit of a printed table, ready for strict JSON.

    Returns:
        `n`; `classes`, each with its counts (None where several are possible, see `ranges`),
        `candidates` (number of triples of support, true positives and predictions that fit the
        row), the resulting cells, and the `printed` ones; `accuracy` with its Wilson interval;
        `macro` and `weighted`, each cell as {`printed`, `recomputed`, `least`, `most`}; `wrong`,
        one entry per cell that must be wrong; `notes`; `consistent`: whether nothing is wrong.
    """
    solution = solve(table)
    rows = zip(table.classes, solution.counts, strict=True)
    return {
        "n": solution.n,
        "classes": [_class_document(row, counts) for row, counts in rows],
        "accuracy": _accuracy_document(table, solution),
        "macro": _average_document(table.macro, solution, by_support=False),
        "weighted": _average_document(table.weighted, solution, by_support=True),
        "wrong": list(solution.wrong),
        "notes": list(solution.notes),
        "consistent": not solution.wrong,
    }


def _class_document(row: PrintedClass, counts: Counts) -> dict[str, Any]:
    ranges = {name: _whole_range(counts, name) for name in WHOLE}
    return {
        "name": row.name,
        **{name: least if least == most else None for name, (least, most) in ranges.items()},
        "ranges": {name: list(limits) for name, limits in ranges.items()},
        "candidates": 0 if _violated(row, counts) else counts.number,
        **{name: _exact(counts, name) for name in CELLS},
        "printed": {
            "support": row.support,
            **{name: row.cells[name].value if name in row.cells else None for name in CELLS},
        },
    }


def _whole_range(counts: Counts, quantity: str) -> tuple[int, int | None]:
    """Least and largest number; None where unlimited."""
    low, high = counts.bounds(quantity)
    most = round(high.max())
    return round(low.min()), most if most < UNLIMITED else None


def _exact(counts: Counts, quantity: str) -> float | None:
    low, high = counts.bounds(quantity)
    return float(low.min()) if low.min() == high.max() else None


def _accuracy_document(table: PrintedTable, solution: Solution) -> dict[str, Any]:
    printed = table.accuracy
    # Accuracy is not defined for only some of the classes.
    n = solution.n if solution.reading.all_classes else None
    document: dict[str, Any] = dict.fromkeys(("recomputed", "correct", "low", "high"))
    if n:
        least, most = _correct(table, solution)
        document["low"], document["high"] = wilson(least, n)[0], wilson(most, n)[1]
        if least == most:
            document |= {"recomputed": least / n, "correct": least}
        document |= {"least": least, "most": most}
    return {"printed": printed.value if printed else None, "total": n, **document}


def _correct(table: PrintedTable, solution: Solution) -> tuple[int, int]:
    """Least and largest number of correctly classified samples."""
    low, high = Sum("", "true_positives", 1, False, (0, 0)).total(solution.counts)
    refuted = {one.name for one in solution.refuted}
    if table.accuracy and solution.n and "accuracy" not in refuted:
        low = max(low, math.ceil(table.accuracy.range[0] * solution.n))
        high = min(high, math.floor(table.accuracy.range[1] * solution.n))
    return round(low), round(high)


def _average_document(
    printed: Mapping[str, Cell], solution: Solution, by_support: bool
) -> dict[str, Any]:
    document = {}
    for name in CELLS:
        least = most = None
        if one := average(name, by_support, solution.counts, solution.n):
            least, most = one.total(solution.counts)
        document[name] = {
            "printed": printed[name].value if name in printed else None,
            "recomputed": least if _same(least, most) else None,
            "least": least,
            "most": most,
        }
    return document


def _same(least: float | None, most: float | None) -> bool:
    return least is not None and most is not None and abs(most - least) < SLACK


# Wrong cells -----------------------------------------------------------------------------------


_LABELS = {"f1": "F1"}


def _finding(cell: str, printed: Any, recomputed: Any, text: str) -> dict[str, Any]:
    return {"cell": cell, "printed": printed, "recomputed": recomputed, "text": text}


def _violated(row: PrintedClass, counts: Counts) -> dict[str, bool]:
    """The cells of a row that some of the counts contradict, and whether all counts do.

    Empty where some counts fit the whole row.
    """
    ranges: dict[str, Range] = {name: cell.range for name, cell in row.cells.items()}
    if row.support is not None:
        ranges["support"] = (row.support, row.support)
    fitting = counts
    for name, limits in ranges.items():
        fitting = fitting.within(name, *limits)
    if fitting.number:
        return {}
    left = {name: counts.within(name, *limits).number for name, limits in ranges.items()}
    return {name: number == 0 for name, number in left.items() if number < counts.number}


def _wrong_cells(row: PrintedClass, counts: Counts) -> Iterator[dict[str, Any]]:
    violated = _violated(row, counts)
    certain = [name for name, by_all in violated.items() if by_all]
    for name in certain:
        cell, exact = row.cells.get(name), _exact(counts, name)
        printed, shown = (cell.value, cell.text) if cell else (row.support, row.support)
        says = "no counts fit it and the others" if exact is None else _says(counts, name)
        text = f"{_LABELS.get(name, name)} of {row.name} is printed as {shown}; {says}."
        yield _finding(f"{row.name} {name}", printed, exact, text)
    if violated and not certain:
        names = " or ".join(violated)
        together = ", ".join(_LABELS.get(name, name) for name in violated)
        text = f"no counts fit {together} of {row.name} together: one of them is wrong."
        yield _finding(f"{row.name} {names}", None, None, text)


def _says(counts: Counts, quantity: str) -> str:
    """`the counts say 16/52 = 0.3077`."""
    found, support, predicted = (
        _exact(counts, name) for name in ("true_positives", "support", "predicted")
    )
    value = _exact(counts, quantity) or 0.0
    if quantity == "support":
        return f"its other cells say {value:.0f}"
    ratio = {
        "precision": (found, predicted),
        "recall": (found, support),
        "f1": (found and 2 * found, predicted and support and predicted + support),
    }[quantity]
    if None in ratio or not ratio[1]:
        return f"the counts say {value:.4f}"
    return f"the counts say {ratio[0]:.0f}/{ratio[1]:.0f} = {value:.4f}"


def _wrong_sum(one: Sum | Pooled, table: PrintedTable, solution: Solution) -> dict[str, Any]:
    assert one.cell is not None  # only printed sums can be refuted
    least, most = one.total(solution.counts)
    says = f"the counts say {least:.4f}"
    recomputed = least if _same(least, most) else None
    # With `zero_division` 1, the rows of an altered table may imply more correct than images.
    if one.name == "accuracy" and recomputed is not None and solution.n and least <= 1:
        correct = round(least * solution.n)
        low, high = wilson(correct, solution.n)
        says = f"the counts say {correct}/{solution.n} = {least:.4f} "
        says += f"(95% interval {low:.4f} to {high:.4f})"
    elif recomputed is None:
        says = f"the counts say {least:.4f} to {most:.4f}"
        if one.range[0] <= most and least <= one.range[1]:
            says = "no counts fit it together with the other cells"
    name = one.name.replace("f1", "F1")
    text = f"{name} is printed as {one.cell.text}; {says}.{_hint(one, recomputed, table)}"
    return _finding(one.name, one.cell.value, recomputed, text)


def _hint(one: Sum | Pooled, recomputed: float | None, table: PrintedTable) -> str:
    """The likely cause of the mistake, where it can be recognised."""
    assert one.cell is not None
    if recomputed is not None and 0 <= recomputed - one.cell.value < 2 * one.cell.half_width:
        return " It is cut off there, not rounded."
    printed = {f"macro {name}": cell for name, cell in table.macro.items()}
    printed |= {f"weighted {name}": cell for name, cell in table.weighted.items()}
    if table.accuracy:
        printed["accuracy"] = table.accuracy
    same = [
        name for name, cell in printed.items() if name != one.name and cell.value == one.cell.value
    ]
    return f" It prints the same as {' and '.join(same)}." if same else ""
