"""Results on corrupted images as a terminal table."""

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fer_bench.report.figures.robustness import SEVERITIES, Document
from fer_bench.report.wording import MISSING, write_cell


def robustness_table(document: Document) -> RenderableType:
    """The accuracy under every corruption in percent, one row a corruption, for 80 columns.

    Args:
        document: as `robustness.summarise` returns it.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("accuracy, %", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for heading in map(str, SEVERITIES):
        table.add_column(heading, justify="right", no_wrap=True)
    for family, conditions in groupby(document["conditions"], lambda entry: str(entry["family"])):
        table.add_row(Text(family, style="bold"))
        for name, entries in groupby(conditions, lambda entry: str(entry["corruption"])):
            _row(table, f"  {name.replace('_', ' ')}", *_numbers(document, name, list(entries)))
    return Group(_headline(document), table, _note(document))


def _headline(document: Document) -> Table:
    rows = {
        "without corruption": document["clean"],
        "mean corruption accuracy": document["mean_corruption_accuracy"],
        "relative drop": document["relative_drop"],
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"n = {document['n']:,}")
    table.add_column("% [95% interval]", justify="right", no_wrap=True)
    for label, cell in rows.items():
        _row(table, label, write_cell("accuracy", cell))
    return table


def _numbers(document: Document, name: str, entries: Sequence[Document]) -> list[str]:
    """What stands behind the name of a corruption: its mean, and the value at each severity."""
    if name not in document["by_corruption"]:
        return [write_cell("accuracy", entries[0]["accuracy"])]
    at = {entry["severity"]: f"{100 * entry['accuracy']['value']:.1f}" for entry in entries}
    mean = write_cell("accuracy", document["by_corruption"][name])
    return [mean, *(at.get(severity, MISSING) for severity in SEVERITIES)]


def _note(document: Document) -> Text:
    note = (
        "1 to 5: severity. Brackets: 95% interval. Occlusions are in no mean; they suppose "
        "aligned faces."
    )
    if not document["complete"]:
        note += " Means are over the conditions asked for, not over all 15 × 5."
    return Text(note, style="italic")


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))
