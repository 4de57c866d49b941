"""The audit of a printed table as terminal tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_bench.comparison.printed import CELLS, WHOLE
from fer_bench.report.terminal.table import add_row, new_table, table_heading
from fer_bench.report.wording import MISSING

_WRONG = "bold red"


def printed_tables(document: Mapping[str, Any]) -> RenderableType:
    """The counts behind a table, what follows from them, and which cells must be wrong.

    Args:
        document: the result of `compare.printed.check`.
    """
    n = MISSING if document["n"] is None else f"{document['n']:,}"
    return Renderables(
        table_heading(f"Counts behind the table, n = {n}"),
        _classes(document),
        _overall(document),
        *_accuracy(document["accuracy"]),
        *(Text(f"Note: {note}.") for note in document["notes"]),
        *_verdict(document["wrong"]),
    )


def _classes(document: Mapping[str, Any]) -> Table:
    numbers = [">support", ">found", ">predicted", ">precision", ">recall", ">F1", ">counts"]
    table = new_table(["class", *numbers])
    wrong = {entry["cell"] for entry in document["wrong"]}
    for entry in document["classes"]:
        add_row(
            table,
            entry["name"],
            *(_range(*entry["ranges"][name]) for name in WHOLE),
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
    """`52`, `50-53`, or `50+` if there is no upper bound."""
    if least == most:
        return f"{least:,}"
    return f"{least:,}+" if most is None else f"{least:,}-{most:,}"


def _first(recomputed: float | None, printed: float | None) -> float | None:
    return printed if recomputed is None else recomputed


def _candidates(number: int) -> str | Text:
    if number == 0:
        return Text("none", style=_WRONG)
    return "unique" if number == 1 else f"{number:,}"


def _overall(document: Mapping[str, Any]) -> Table:
    table = new_table(["", ">printed", ">by the counts"])
    wrong = {entry["cell"] for entry in document["wrong"]}
    accuracy = document["accuracy"]
    n = accuracy["total"]
    computed = _between(accuracy["least"] / n, accuracy["most"] / n) if n else MISSING
    add_row(table, "accuracy", _share(accuracy["printed"], "accuracy" in wrong), computed)
    for average in ("macro", "weighted"):
        for cell in CELLS:
            name, entry = f"{average} {cell}", document[average][cell]
            computed = _between(entry["least"], entry["most"])
            printed = _share(entry["printed"], name in wrong)
            add_row(table, name.replace("f1", "F1"), printed, computed)
    return table


def _accuracy(accuracy: Mapping[str, Any]) -> Iterator[Text]:
    """How many samples are correct by the counts, and the accuracy; empty if n is not known."""
    n, least, most = accuracy["total"], accuracy["least"], accuracy["most"]
    if n:
        count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        interval = f"95% interval {accuracy['low']:.4f} to {accuracy['high']:.4f}"
        shares = _between(least / n, most / n)
        yield Text(f"By the counts {count} of {n:,} are correct: {shares}, {interval}.")


def _between(least: float | None, most: float | None) -> str:
    """`0.3431`, or a range where several counts are possible: `0.3417 to 0.3452`."""
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
