"""The sheets of one explanation as a terminal table."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fer_bench.report.figures.explanations import SHEETS
from fer_bench.report.terminal.table import add_row, new_table

if TYPE_CHECKING:  # importing it loads Keras
    from fer_bench.evaluation.explain import Explanation


def sheets_table(explanation: "Explanation", sheets: Mapping[str, Path]) -> Table:
    """One row per sheet: its file, what it shows, and the number of images.

    Args:
        explanation: what the sheets show.
        sheets: the files that `write_sheets` has written, by the keys of `SHEETS`.
    """
    kinds = [example.kind for example in explanation.examples]
    numbers = {
        "correct": kinds.count("correct"),
        "mistakes": kinds.count("mistake"),
        "mean_maps": sum(mean.n for mean in explanation.mean_maps),
    }
    table = new_table(["sheet", "shows", ">n"], ruled=False)
    for name, path in sheets.items():
        add_row(table, path.name, SHEETS[name], f"{numbers[name]:,}")
    return table
