"""The audit of a printed table, for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_bench.comparison.printed import CELLS, WHOLE
from fer_bench.report.wording import MISSING

_WRONG = "bold red"


def printed_tables(document: Mapping[str, Any]) -> RenderableType:
    """The counts behind a table, what follows from them, and what is printed wrongly.

    Args:
        document: what `printed.check` returns.
    """
    n = MISSING if document["n"] is None else f"{document['n']:,}"
    return Renderables(
        Padding(Text(f"Counts behind the table, n = {n}", style="bold"), (1, 0, 0, 0)),
        _classes(document),
        _overall(document),
        *_accuracy(document["accuracy"]),
        *(Text(f"Note: {note}.") for note in document["notes"]),
        *_verdict(document["wrong"]),
    )


def _classes(document: Mapping[str, Any]) -> Table:
    table = _table("class", "support", "found", "predicted", "precision", "recall", "F1", "counts")
    wrong = {entry["cell"] for entry in document["wrong"]}
    for entry in document["classes"]:
        table.add_row(
            Text(entry["name"]),
            *(Text(_range(*entry["ranges"][name])) for name in WHOLE),
            *(
                _share(
                    _first(entry[cell], entry["printed"][cell]), f"{entry['name']} {cell}" in wrong
                )
                for cell in CELLS
            ),
            _candidates(entry["candidates"]),
        )
    return table


def _range(least: int, most: int | None) -> str:
    """`52`, `50-53`, or `50+` where nothing limits it."""
    if least == most:
        return f"{least:,}"
    return f"{least:,}+" if most is None else f"{least:,}-{most:,}"


def _first(recomputed: float | None, printed: float | None) -> float | None:
    return printed if recomputed is None else recomputed


def _candidates(number: int) -> Text:
    if number == 0:
        return Text("none", style=_WRONG)
    return Text("unique" if number == 1 else f"{number:,}")


def _overall(document: Mapping[str, Any]) -> Table:
    table = _table("", "printed", "counts say")
    wrong = {entry["cell"] for entry in document["wrong"]}
    accuracy = document["accuracy"]
    n = accuracy["total"]
    says = _between(accuracy["least"] / n, accuracy["most"] / n) if n else MISSING
    table.add_row(Text("accuracy"), _share(accuracy["printed"], "accuracy" in wrong), Text(says))
    for average in ("macro", "weighted"):
        for cell in CELLS:
            name, entry = f"{average} {cell}", document[average][cell]
            says = _between(entry["least"], entry["most"])
            label = name.replace("f1", "F1")
            table.add_row(Text(label), _share(entry["printed"], name in wrong), Text(says))
    return table


def _accuracy(accuracy: Mapping[str, Any]) -> Iterator[Text]:
    """How many samples are right by the counts, and what accuracy that makes; if n is known."""
    n, least, most = accuracy["total"], accuracy["least"], accuracy["most"]
    if n:
        count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        interval = f"95% interval {accuracy['low']:.4f} to {accuracy['high']:.4f}"
        shares = _between(least / n, most / n)
        yield Text(f"By the counts {count} of {n:,} are right: {shares}, {interval}.")


def _between(least: float | None, most: float | None) -> str:
    """`0.3431`, or the range that several counts leave: `0.3417 to 0.3452`."""
    if least is None or most is None:
        return MISSING
    low, high = f"{least:.4f}", f"{most:.4f}"
    return low if low == high else f"{low} to {high}"


def _verdict(wrong: list[Mapping[str, Any]]) -> Iterator[RenderableType]:
    if not wrong:
        yield Text("Consistent: there are counts that fit every printed cell.")
        return
    yield Text("Cannot be right", style=_WRONG)
    for entry in wrong:
        yield Padding(Text(entry["text"], overflow="fold"), (0, 0, 0, 2))


def _share(value: float | None, wrong: bool) -> Text:
    return Text(MISSING if value is None else f"{value:.4f}", style=_WRONG if wrong else "")


def _table(*columns: str) -> Table:
    """An empty table: names at the left, numbers at the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(
            column, justify="right" if place else "left", no_wrap=place > 0, overflow="fold"
        )
    return table
