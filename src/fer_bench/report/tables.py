"""Tables for the terminal: the metrics of one run, and the comparison of many."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_bench.compare import Comparison, Group, LeftOut, Pair, Row
from fer_bench.report import (
    LABELS,
    MISSING,
    write_count,
    write_duration,
    write_interval,
    write_p,
    write_percent,
    write_points,
    write_spread,
    write_value,
)

_COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}
PAIRS_SHOWN = 20
# Columns that a terminal of at least this width has room for.
MEDIUM, WIDE = 110, 160


def metrics_tables(metrics: Mapping[str, Any], title: str) -> RenderableType:
    """The content of one `metrics/<split>.json`: headline metrics, then one row a class.

    Args:
        metrics: the document, as `metrics.compute` returns it.
        title: what it is about, for example `<run_id>, test`.
    """
    headline = _table(["metric", ">value", ">95% interval"])
    for name, label in LABELS.items():
        cell = metrics[name]
        _row(headline, label, write_value(name, cell["value"]), write_interval(name, cell))
    classes = _table(["class", ">precision", ">recall", ">F1", ">AUC", ">samples"])
    for entry in metrics["per_class"]:
        shares = [f"{entry[part]:.2%}" for part in ("precision", "recall", "f1")]
        auc = MISSING if entry["auc"] is None else f"{entry['auc']:.4f}"
        _row(classes, entry["name"], *shares, auc, str(entry["support"]))
    return Renderables(_heading(f"{title}, n = {metrics['n']}"), headline, classes)


def comparison_tables(comparison: Comparison, width: int = 80) -> RenderableType:
    """All groups of a comparison, then what was left out.

    Args:
        comparison: what `compare.collect` returns.
        width: columns of the terminal; more of them show more about each run.
    """
    parts: list[RenderableType] = []
    if len(comparison.groups) > 1:
        parts.append(
            _note(
                f"{len(comparison.groups)} groups: their test sets differ, so rows of different "
                "groups are not comparable."
            )
        )
    for group in comparison.groups:
        parts += _group(group, comparison.split, width)
    if comparison.left_out:
        parts += [_heading("Left out"), _left_out(comparison.left_out)]
    return Renderables(*parts)


def dataset_tables(document: Mapping[str, Any]) -> RenderableType:
    """What `fer data stats` or `fer data audit` found: counts, what is left out, problems.

    Args:
        document: the document that the command prints with `--json`.
    """
    counts: Mapping[str, Mapping[str, int]] = document["counts"]
    heading = f"{document['dataset']}, {document['release']}"
    parts: list[RenderableType] = [
        Text(f"{heading}, fingerprint {document['fingerprint'][:8]}", style="bold"),
        _class_counts(document["classes"], counts),
        _facts(document),
    ]
    for axis in ("valence", "arousal"):
        if axis in document:
            parts.append(_axis(axis, document[axis]))
    if document["problems"]:
        parts += [_heading("Findings"), *map(_problem, document["problems"])]
    return Renderables(*parts)


def _class_counts(classes: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Table:
    table = _table(["class", *(part for split in counts for part in (f">{split}", ">share"))])
    totals = {split: sum(of.values()) for split, of in counts.items()}
    for name in classes:
        numbers = [(of[name], totals[split]) for split, of in counts.items()]
        _row(
            table, name, *(cell for n, total in numbers for cell in (f"{n:,}", f"{n / total:.1%}"))
        )
    table.add_section()
    _row(table, "all", *(cell for total in totals.values() for cell in (f"{total:,}", "")))
    return table


def _facts(document: Mapping[str, Any]) -> RenderableType:
    sizes = document["image_sizes"]
    shown = ", ".join(f"{size} ({n:,})" for size, n in list(sizes.items())[:6])
    if len(sizes) > 6:
        shown += f" and {len(sizes) - 6:,} more sizes"
    lines = [f"image sizes: {shown}"]
    for name, values in document.get("attributes", {}).items():
        lines.append(f"{name}: " + ", ".join(f"{value} ({n:,})" for value, n in values.items()))
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in document["dropped"].items() if n)
    return Text("\n".join([*lines, f"left out: {left_out or 'nothing'}"]))


def _axis(name: str, histogram: Mapping[str, Any]) -> Text:
    """One line: a histogram from -1 to 1, its mean, and how many samples have no value."""
    blocks, counts = " ▁▂▃▄▅▆▇█", histogram["counts"]
    highest = max(counts) or 1
    bars = "".join(blocks[-(-n * 8 // highest)] for n in counts)
    mean = MISSING if histogram["mean"] is None else f"{histogram['mean']:+.3f}"
    return Text(f"{name}: -1 {bars} +1, mean {mean}, missing {histogram['missing']:,}")


def _problem(problem: Mapping[str, Any]) -> RenderableType:
    """What was found, what it means, and examples, each of these on a line of its own."""
    severity, kind = problem["severity"], problem["kind"].replace("_", " ")
    head = Text.assemble((f"{severity:<8}", _COLOURS[severity]), f"{kind}: {problem['count']:,}")
    body = Text("\n".join([problem["text"], *problem["examples"][:3]]), overflow="fold")
    return Renderables(head, Padding(body, (0, 0, 0, 8)))


def _group(group: Group, split: str, width: int) -> list[RenderableType]:
    dataset = group.runs[0].dataset or "unnamed dataset"
    parts: list[RenderableType] = [
        _heading(f"{dataset}, {split}, n = {group.n}, fingerprint {group.test_fingerprint[:8]}"),
        _runs(group.runs, width),
        _note(
            f"Brackets: 95% interval. The best accuracy is known to ± {100 * group.half_width:.2f} "
            "percentage points; a lead smaller than that says little by itself."
        ),
    ]
    if group.seeds:
        parts += [_heading("Mean ± standard deviation over seeds"), _seeds(group)]
    if group.published:
        parts += [_heading("Published elsewhere, not computed here"), _published(group)]
    if group.pairs:
        parts += _pairs(group)
    return parts


def _runs(rows: Sequence[Row], width: int) -> Table:
    columns = ["#", "run", ">accuracy, %", ">macro F1, %"]
    medium = ["backbone", "weights", ">size"] if width >= MEDIUM else []
    wide = [">parameters", "chosen by", ">images/s", ">time"] if width >= WIDE else []
    table = _table([*columns, *medium, *wide])
    for number, row in enumerate(rows, start=1):
        shares = [write_percent(row.metrics[name]) for name in ("accuracy", "macro_f1")]
        about = [row.backbone, row.weights, row.image_size and str(row.image_size)]
        speed = row.images_per_second
        cost = [
            write_count(row.parameters),
            row.selection_metric,
            None if speed is None else f"{speed:.0f}",
            write_duration(row.seconds),
        ]
        more = [*about[: len(medium)], *cost[: len(wide)]]
        _row(table, str(number), row.run_id, *shares, *(text or MISSING for text in more))
    return table


def _seeds(group: Group) -> Table:
    table = _table(["experiment", ">seeds", ">accuracy, %", ">macro F1, %"])
    for entry in group.seeds:
        spreads = [
            write_spread(entry.metrics[name]["mean"], entry.metrics[name]["sd"])
            for name in ("accuracy", "macro_f1")
        ]
        _row(table, entry.name, str(len(entry.seeds)), *spreads)
    return table


def _published(group: Group) -> Table:
    table = _table(["experiment", "source", "metric", ">value", "caveat"])
    for entry in group.published:
        value = MISSING if entry["value"] is None else f"{entry['value']:g}"
        about = [entry["name"], entry["source"], entry["metric"]]
        _row(table, *about, value, entry["caveat"] or MISSING)
    return table


def _pairs(group: Group) -> list[RenderableType]:
    number = {row.run_id: str(index) for index, row in enumerate(group.runs, start=1)}
    table = _table(["pair", "metric", ">points", ">p", ">p, Holm"])
    for pair in group.pairs[:PAIRS_SHOWN]:
        _row(table, *_pair_cells(pair, number))
    note = (
        "Accuracy: exact McNemar; macro F1: paired bootstrap; Holm over all tests of the group. "
        "They speak of these trained models, not of other seeds."
    )
    if len(group.pairs) > PAIRS_SHOWN:
        note += f" {len(group.pairs) - PAIRS_SHOWN} more with --json."
    return [_heading("Differences"), table, _note(note)]


def _pair_cells(pair: Pair, number: Mapping[str, str]) -> list[str]:
    return [
        f"#{number[pair.a]} - #{number[pair.b]}",
        LABELS[pair.metric],
        write_points(pair.difference, pair.low, pair.high),
        write_p(pair.p),
        write_p(pair.p_holm),
    ]


def _left_out(runs: Sequence[LeftOut]) -> Table:
    table = _table(["run", "reason"])
    for run in runs:
        _row(table, run.run_id, run.reason)
    return table


def _table(columns: Sequence[str]) -> Table:
    """An empty table; a column whose name begins with `>` holds numbers, kept on one line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if numeric else "left",
            no_wrap=numeric or column == "#",
            overflow="fold",
        )
    return table


def _row(table: Table, *cells: str) -> None:
    # As Text: a name with brackets must not be read as markup.
    table.add_row(*map(Text, cells))


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def _note(text: str) -> Text:
    return Text(text, style="italic")
