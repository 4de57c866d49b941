"""A dataset's facts as terminal tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_bench.data.manifest import left_out
from fer_bench.report.terminal.table import add_row, new_table, table_heading
from fer_bench.report.wording import MISSING

_COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}


def dataset_tables(document: Mapping[str, Any]) -> RenderableType:
    """The result of `fer data stats` or `fer data audit`: counts, what is left out, findings.

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
        parts += [table_heading("Findings"), *map(_problem, document["problems"])]
    return Renderables(*parts)


def _class_counts(classes: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Table:
    table = new_table(["class", *(part for split in counts for part in (f">{split}", ">share"))])
    totals = {split: sum(of.values()) for split, of in counts.items()}
    for name in classes:
        numbers = [(of[name], totals[split]) for split, of in counts.items()]
        add_row(
            table, name, *(cell for n, total in numbers for cell in (f"{n:,}", f"{n / total:.1%}"))
        )
    table.add_section()
    add_row(table, "all", *(cell for total in totals.values() for cell in (f"{total:,}", "")))
    return table


def _facts(document: Mapping[str, Any]) -> RenderableType:
    sizes = document["image_sizes"]
    shown = ", ".join(f"{size} ({n:,})" for size, n in list(sizes.items())[:6])
    if len(sizes) > 6:
        shown += f" and {len(sizes) - 6:,} more sizes"
    lines = [f"image sizes: {shown}"]
    for name, values in document.get("attributes", {}).items():
        lines.append(f"{name}: " + ", ".join(f"{value} ({n:,})" for value, n in values.items()))
    lines.append(f"left out: {left_out(document['dropped'])}")
    if "copies" in document:
        for heading, key in (
            ("copies searched for", "looked_for"),
            ("copies not searched for", "not_looked_for"),
        ):
            lines.append(f"{heading}: " + "; ".join(document["copies"][key]))
    return Text("\n".join(lines))


def _axis(name: str, histogram: Mapping[str, Any]) -> Text:
    """One line: a histogram from -1 to 1, its mean, and how many samples have no value."""
    blocks, counts = " ▁▂▃▄▅▆▇█", histogram["counts"]
    highest = max(counts) or 1
    bars = "".join(blocks[-(-n * 8 // highest)] for n in counts)
    mean = MISSING if histogram["mean"] is None else f"{histogram['mean']:+.3f}"
    return Text(f"{name}: -1 {bars} +1, mean {mean}, missing {histogram['missing']:,}")


def _problem(problem: Mapping[str, Any]) -> RenderableType:
    """What was found, what it means, and examples, each on its own line."""
    severity, kind = problem["severity"], problem["kind"].replace("_", " ")
    head = Text.assemble((f"{severity:<8}", _COLOURS[severity]), f"{kind}: {problem['count']:,}")
    body = Text("\n".join([problem["text"], *problem["examples"][:3]]), overflow="fold")
    return Renderables(head, Padding(body, (0, 0, 0, 8)))
