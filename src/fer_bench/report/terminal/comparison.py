"""The comparison of many runs as terminal tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.table import Table

from fer_bench.comparison import EXPRESSION_METRICS, Comparison, Group, LeftOut, Row
from fer_bench.comparison.pairs import PAIR_RESAMPLES
from fer_bench.metrics.intervals import ALPHA
from fer_bench.report.comparison import (
    LETTERS,
    MARKS,
    MEANINGS,
    ONLY_THESE_MODELS,
    TESTS,
    pairs_by_reason,
    write_caveat,
    write_published,
    write_smallest,
    write_verdict,
)
from fer_bench.report.terminal.table import add_row, new_table, table_heading, table_note
from fer_bench.report.wording import (
    LABELS,
    MISSING,
    write_cell,
    write_count,
    write_difference,
    write_duration,
    write_heading,
    write_label,
    write_p,
    write_spread,
    write_value,
)

PAIRS_SHOWN, REASONS_SHOWN = 20, 6
# More columns about a run, for terminals that are wide enough: the heading, and the cell.
_FACTS: dict[str, Callable[[Row], str | None]] = {
    "backbone": lambda row: row.backbone,
    "weights": lambda row: row.weights,
    ">size": lambda row: str(row.image_size or MISSING),
    ">parameters": lambda row: write_count(row.parameters),
    "selected by": lambda row: row.selection_metric,
    ">images/s": lambda row: f"{row.images_per_second:.0f}" if row.images_per_second else None,
    ">time": lambda row: write_duration(row.seconds),
}

_EDGES, _GAP = 2, 2  # blanks around a table, and between two columns


def comparison_tables(comparison: Comparison, width: int = 80) -> RenderableType:
    """All groups of a comparison, then the runs that were left out.

    Args:
        comparison: what `compare.collect` returns.
        width: columns of the terminal; the more there are, the more is shown about each run.
    """
    parts: list[RenderableType] = []
    if comparison.where:
        others = f"{comparison.not_chosen} others are not shown"
        parts.append(table_note(f"Runs with {comparison.where}; {others}."))
    if len(comparison.groups) > 1:
        parts.append(_reasons(comparison))
    for number, group in enumerate(comparison.groups, start=1):
        parts += _group(group, comparison, f"{number}. " * (len(comparison.groups) > 1), width)
    if comparison.left_out:
        parts += [table_heading("Left out"), _left_out(comparison.left_out)]
    return Renderables(*parts)


def _reasons(comparison: Comparison) -> RenderableType:
    """Why there is more than one group: each reason with the pairs of groups."""
    count = len(comparison.groups)
    lines = [f"{count} groups, ranked separately: rows of different groups are not comparable."]
    for reason, found in pairs_by_reason(comparison).items():
        more = f" and {len(found) - REASONS_SHOWN} more" if len(found) > REASONS_SHOWN else ""
        lines.append(f"{reason} (groups {', '.join(found[:REASONS_SHOWN])}{more})")
    return table_note("\n".join(lines))


def _group(group: Group, comparison: Comparison, number: str, width: int) -> list[RenderableType]:
    dataset = group.runs[0].dataset or "unnamed dataset"
    first, *others = group.kinds
    about = f"{dataset}, {comparison.split}, n = {group.n}"
    parts: list[RenderableType] = [
        table_heading(f"{number}{about}, fingerprint {group.test_fingerprint[:8]}"),
        _runs(group, first, comparison.sort, width),
        *(_other_metrics(group.runs, kind) for kind in others),
        table_note(_explanations(group)),
    ]
    if group.seeds:
        parts.append(table_heading("Mean ± standard deviation over seeds"))
        parts += [_seeds(group, kind) for kind in group.kinds]
    if group.experiments:
        parts += [
            table_heading("Differences between experiments, over seeds"),
            *_experiments(group),
        ]
    if group.published:
        parts += [table_heading("Published elsewhere, not computed here"), *_published(group)]
    if group.pairs:
        parts += _pairs(group)
    return parts


def _explanations(group: Group) -> str:
    """What the marks, brackets and letters mean, and how small a difference can be shown."""
    lines = ["Brackets: 95% interval."]
    if group.half_width is not None:
        lines[0] += f" That of the best accuracy is ± {100 * group.half_width:.2f} points."
    if group.smallest_difference is not None:
        lines.append(write_smallest(group.smallest_difference))
    if _has_letters(group):
        lines.append(LETTERS[group.pairs_with])
    marked = {mark for row in group.runs if (mark := MARKS.get(row.selection))}
    lines += [f"{mark} {meaning}." for mark, meaning in MEANINGS.items() if mark in marked]
    lines += [f"{row.run_id} continues {row.parent}." for row in group.runs if row.parent]
    lines += group.remarks
    return "\n".join(lines)


def _has_letters(group: Group) -> bool:
    return len(group.runs) > 1 and any(row.letter for row in group.runs)


def _runs(group: Group, kind: Sequence[str], sort: str, width: int) -> Table:
    """All runs, with as many columns about each as fit beside its whole name."""
    lettered = kind == EXPRESSION_METRICS and _has_letters(group)
    first, *rest = (f">{write_heading(name)}" for name in kind)
    columns = ["<#", "run", first, *([""] if lettered else []), *rest]
    columns += [] if sort in ("accuracy", *kind) else [f">{sort}"]
    rows = []
    for number, row in enumerate(group.runs, start=1):
        first, *rest = _values(row, kind)
        cells = [str(number), _marked(row), first, *([row.letter] if lettered else []), *rest]
        cells += [_column(row, sort)] * (len(columns) - len(cells))
        rows.append([*cells, *(fact(row) or MISSING for fact in _FACTS.values())])
    room, shown = width - _EDGES + _GAP, len(columns)
    columns += _FACTS
    widths = [
        max(map(cell_len, (heading.lstrip("<>"), *cells))) + _GAP
        for heading, *cells in zip(columns, *rows, strict=True)
    ]
    least = sum(widths[:shown])
    while shown < len(widths) and sum(widths[: shown + 1]) <= room:
        shown += 1
    table = new_table(columns[:shown])
    for row, cells in zip(group.runs, rows, strict=True):
        over = cell_len(cells[1]) + _GAP + least - widths[1] > room
        cells[1] = _in_two_lines(row) if over else cells[1]
        add_row(table, *cells[:shown])
    return table


def _in_two_lines(row: Row) -> str:
    """A run's name on two lines: the experiment, then its seed and hash."""
    rest = _marked(row).removeprefix(row.name)
    return f"{row.name}\n  {rest}" if rest.startswith("-s") else _marked(row)


def _marked(row: Row) -> str:
    """The run's id, with a mark if its model was not selected on validation images."""
    return f"{row.run_id} {MARKS.get(row.selection, '')}".strip()


def _column(row: Row, name: str) -> str:
    """The value of a run in any column of the comparison."""
    value = row.columns().get(name)
    if name in row.metrics:
        return write_value(name, value)
    return MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _other_metrics(rows: Sequence[Row], kind: Sequence[str]) -> Table:
    """The runs that have metrics of this kind, with the same numbers as in the first table."""
    table = new_table(["<#", "run", *(f">{write_heading(name)}" for name in kind)])
    for number, row in enumerate(rows, start=1):
        if set(kind) & set(row.metrics):
            add_row(table, str(number), _marked(row), *_values(row, kind))
    return table


def _values(row: Row, kind: Sequence[str]) -> list[str]:
    return [write_cell(name, row.metrics.get(name)) for name in kind]


def _seeds(group: Group, kind: Sequence[str]) -> Table:
    table = new_table(["experiment", ">seeds", *(f">{write_heading(name)}" for name in kind)])
    for entry in group.seeds:
        if set(kind) & set(entry.metrics):
            spreads = [_spread(name, entry.metrics.get(name)) for name in kind]
            add_row(table, entry.name, str(len(entry.seeds)), *spreads)
    return table


def _spread(metric: str, over_seeds: Mapping[str, Any] | None) -> str:
    return write_spread(metric, over_seeds["mean"], over_seeds["sd"]) if over_seeds else MISSING


def _experiments(group: Group) -> list[RenderableType]:
    table = new_table(["experiment", "minus", "metric", ">points", ">p", ">p, Holm"])
    for pair in group.experiments[:PAIRS_SHOWN]:
        add_row(
            table,
            *(pair.a, pair.b, LABELS[pair.metric]),
            write_difference(pair.metric, pair.difference, pair.low, pair.high),
            *(write_p(pair.p), write_p(pair.p_holm)),
        )
    note = "Hierarchical bootstrap over seeds and images, Holm over these tests."
    return [table, table_note(note + _cut(len(group.experiments)))]


def _published(group: Group) -> list[RenderableType]:
    """Published values, with numbered notes about their sources below."""
    table = new_table(["experiment", "metric", ">theirs", ">ours", "ours is", ">note"])
    notes: dict[str, str] = {}
    for entry in group.published:
        note = ": ".join(filter(None, (entry["source"], write_caveat(entry))))
        number = notes.setdefault(note, str(len(notes) + 1))
        cells = (*write_published(entry), write_verdict(entry) or MISSING, number)
        add_row(table, entry["name"], write_label(entry["metric"]), *cells)
    return [table, table_note("\n".join(f"{number}  {note}" for note, number in notes.items()))]


def _pairs(group: Group) -> list[RenderableType]:
    number = {row.run_id: str(index) for index, row in enumerate(group.runs, start=1)}
    difference = ">points" if group.kinds == (EXPRESSION_METRICS,) else ">difference"
    table = new_table(["pair", "metric", difference, ">p", ">p, Holm"])
    for pair in group.pairs[:PAIRS_SHOWN]:
        add_row(
            table,
            *(f"#{number[pair.a]} - #{number[pair.b]}", LABELS[pair.metric]),
            write_difference(pair.metric, pair.difference, pair.low, pair.high),
            *(write_p(pair.p), write_p(pair.p_holm)),
        )
    tests = ", ".join(TESTS[kind] for kind in group.kinds)
    note = f"Tests: {tests}; Holm over all tests of the group. {ONLY_THESE_MODELS}"
    if len(group.kinds) > 1:
        note += " Accuracy and macro F1 differ by percentage points."
    # A bootstrap p is at least 2 / (R + 1), and Holm multiplies the smallest by their number.
    bootstrapped = sum(pair.metric != "accuracy" for pair in group.pairs)
    if 2 * bootstrapped / (PAIR_RESAMPLES + 1) > ALPHA:
        note += " With so many tests, no bootstrap can show a difference after Holm."
    heading = "Differences" if group.pairs_with == "all" else "Differences from the best run"
    return [table_heading(heading), table, table_note(note + _cut(len(group.pairs)))]


def _cut(number: int) -> str:
    return f" {number - PAIRS_SHOWN} more with --json." if number > PAIRS_SHOWN else ""


def _left_out(runs: Sequence[LeftOut]) -> Table:
    table = new_table(["run", "reason"])
    for run in runs:
        add_row(table, run.run_id, run.reason)
    return table
