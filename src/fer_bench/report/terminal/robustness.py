"""Accuracy on corrupted images as terminal tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fer_bench.report.plots import SEVERITIES, conditions_by_family
from fer_bench.report.terminal.table import add_row, new_table, table_note
from fer_bench.report.wording import MISSING, write_cell

Document = Mapping[str, Any]


def robustness_table(document: Document) -> RenderableType:
    """The accuracy under every corruption in percent, one row per corruption, for 80 columns.

    Args:
        document: the result of `robustness.summarise`.
    """
    table = new_table(["<accuracy, %", ">mean", *(f">{severity}" for severity in SEVERITIES)])
    for family, corruptions in conditions_by_family(document).items():
        add_row(table, Text(family, style="bold"))
        for name, entries in corruptions.items():
            add_row(table, f"  {name.replace('_', ' ')}", *_numbers(document, name, entries))
    return Group(_headline(document), table, _note(document))


def _headline(document: Document) -> Table:
    rows = {
        "without corruption": document["clean"],
        "mean corruption accuracy": document["mean_corruption_accuracy"],
        "relative drop": document["relative_drop"],
    }
    table = new_table([f"n = {document['n']:,}", ">% [95% interval]"])
    for label, cell in rows.items():
        add_row(table, label, write_cell("accuracy", cell))
    return table


def _numbers(document: Document, name: str, entries: Sequence[Document]) -> list[str]:
    """The cells of a corruption: its mean, and the value at each severity."""
    if name not in document["by_corruption"]:
        return [write_cell("accuracy", entries[0]["accuracy"])]
    at = {entry["severity"]: f"{100 * entry['accuracy']['value']:.1f}" for entry in entries}
    mean = write_cell("accuracy", document["by_corruption"][name])
    return [mean, *(at.get(severity, MISSING) for severity in SEVERITIES)]


def _note(document: Document) -> RenderableType:
    note = (
        "1 to 5: severity. Brackets: 95% interval. Means exclude occlusions, which assume "
        "aligned faces."
    )
    if not document["complete"]:
        note += " Means are over the selected conditions, not over all 15 × 5."
    return table_note(note)
