"""`fer check-table`: whether a published table of results can be correct."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.options import Json


def check_table(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The output of scikit-learn's classification_report as text, JSON, CSV or "
            "Markdown, or a CSV file with the columns class, precision, recall, f1, support.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Check a published table: the counts behind it, and the cells that cannot be correct.

    Precision, recall and F1 of a class are ratios of whole numbers. Even when
    rounded, they usually allow only one set of counts, and therefore only one
    accuracy and one value of each average.

    Values may be given as 0.3791, 37.91 or 37.91%, with any number of decimals;
    a missing value is empty or a dash. The rows accuracy, macro avg and
    weighted avg are optional. The exit code is 0 even if cells are wrong.
    """
    from fer_bench.comparison.printed import check, read_printed

    document = check(read_printed(file))
    if as_json:
        say(json.dumps(document, indent=2, allow_nan=False))
        return
    from fer_bench.report.terminal.printed import printed_tables

    results().print(printed_tables(document))
